"""A wrong answer rejected by its response: never again for this question, still for its own."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import MockLLM

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.responses import mark
from tests.conftest import Way
from tests.llama_index.models import CountingLLM
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ALSO = "how do i reset the password of my old account"


def tier(response: Any) -> str | None:
    return response.additional_kwargs.get("semantic_cache", {}).get("tier")


async def ask(way: Way, llm: SemanticCacheLLM, kind: str, text: str) -> Any:
    if kind == "chat":
        return await way(llm.chat, [ChatMessage(role="user", content=text)])
    if kind == "complete":
        return await way(llm.complete, text)
    stream = await way(llm.stream_complete, text)
    chunks = [chunk async for chunk in stream] if way.name == "async" else list(stream)
    return chunks[-1]


@pytest.mark.parametrize("kind", ["chat", "complete", "stream"])
async def test_a_rejected_response_is_not_served_for_its_question_again(
    either_cache: ValkeySemanticCache, way: Way, kind: str
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, either_cache)
    await ask(way, llm, kind, ASKED)
    hit = await ask(way, llm, kind, REWORDED)
    assert tier(hit) == "semantic"
    assert await way(either_cache.reject, hit) is True
    assert tier(await ask(way, llm, kind, REWORDED)) is None
    assert inner.calls == 2, "the model was asked"
    assert tier(await ask(way, llm, kind, ASKED)) == "exact"
    assert tier(await ask(way, llm, kind, ALSO)) == "semantic"
    again = await ask(way, llm, kind, REWORDED)
    assert (tier(again), inner.calls) == ("exact", 2)
    assert await way(either_cache.reject, again) is True
    assert tier(await ask(way, llm, kind, REWORDED)) is None, "that of the very words is deleted"


async def test_a_query_engines_response_and_a_hit_are_rejected_as_well(
    either_cache: ValkeySemanticCache, way: Way
) -> None:
    await way(either_cache.store, ASKED, "x")
    hit = await way(either_cache.lookup, REWORDED)
    from llama_index.core.base.response.schema import Response

    assert await way(either_cache.reject, mark(Response("x"), hit)) is True
    assert (await way(either_cache.lookup, REWORDED)).reason == "rejected"
    assert await way(either_cache.reject, await way(either_cache.lookup, ALSO)) is True
    assert (await way(either_cache.lookup, ALSO)).reason == "rejected"
    assert (await way(either_cache.lookup, ASKED)).tier == "exact"


async def test_what_is_no_hit_is_refused(either_cache: ValkeySemanticCache, way: Way) -> None:
    llm = SemanticCacheLLM(MockLLM(), either_cache)
    first = await way(llm.complete, ASKED)
    hit = await way(llm.complete, ASKED)
    hit.additional_kwargs["semantic_cache"]["asked"] = "other:" + "0" * 98
    for wrong in (first, ChatResponse(message=ChatMessage(content="x")), "x", None, hit):
        with pytest.raises(ConfigurationError, match=r"reject\(\) takes"):
            await way(either_cache.reject, wrong)
    assert tier(await way(llm.complete, ASKED)) == "exact"
