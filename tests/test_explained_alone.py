"""What an explanation shows as the context of a request that is nothing but a question."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from llama_index.core.base.llms.types import ChatMessage
from rich.console import Console

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import Explanation

ASKED = "how do i reset my password"
CHAT, TEXT = FakeListChatModel(responses=["x"]), FakeListLLM(responses=["x"])


def chat(*roles: str) -> list[ChatMessage]:
    return [ChatMessage(role=role, content=ASKED) for role in roles]  # type: ignore[arg-type]


def context_shown(explained: Explanation) -> set[str]:
    """As text, in a terminal and in Jupyter."""
    console = Console(width=2000, record=True, file=io.StringIO())
    console.print(explained)
    lines = [*str(explained).splitlines(), *console.export_text().splitlines()]
    shown = {" ".join(line.split()[1:]) for line in lines if line.split()[:1] == ["context"]}
    if (
        "<td style='text-align:left;vertical-align:top'>(none)</td>"
        not in (explained._repr_html_().split(">context<")[1].split("</tr>")[0])
    ):
        shown.add("in Jupyter too")
    return shown


@pytest.mark.parametrize(
    ("ask", "alone"),
    [
        (lambda cache, llm: cache.explain(ASKED, CHAT), True),
        (lambda cache, llm: cache.explain([("human", ASKED)], CHAT), True),
        (lambda cache, llm: cache.explain(ASKED, TEXT), True),
        (lambda cache, llm: cache.explain([("system", "Be kind."), ("human", ASKED)], CHAT), False),
        (lambda cache, llm: cache.explain([("ai", ""), ("human", ASKED)], CHAT), False),
        (lambda cache, llm: llm.explain(chat("user")), True),
        (lambda cache, llm: llm.explain(ASKED), True),
        (lambda cache, llm: llm.explain(chat("system", "user")), False),
        (lambda cache, llm: llm.explain(chat("assistant", "user")), False),
    ],
)
def test_a_question_alone_has_no_context_to_show(
    plain: Served, ask: Callable[[Any, Any], Explanation], alone: bool
) -> None:
    with (
        LangChainCache(HashingEmbeddings(), **plain.options) as cache,
        LlamaIndexCache(HashingEmbedding(), **plain.options) as other,
    ):
        explained = ask(cache, SemanticCacheLLM(CountingLLM(), other))
    shown = context_shown(explained)
    assert explained.scope is not None
    if alone:
        assert shown == {"(none)"}
    else:
        assert shown == {explained.scope.context, "in Jupyter too"}
    # For programs it is as it is compared.
    assert explained.as_dict()["scope"]["context"] == explained.scope.context != "(none)"
