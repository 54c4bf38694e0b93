"""`explain` in LangChain's terms: what the very call would find, told from the model itself."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def forms(text: str) -> list[Any]:
    """What `invoke` takes for one message of the user, in all its forms."""
    template = ChatPromptTemplate.from_messages([("human", "{question}")])
    return [text, [HumanMessage(text)], [("human", text)], template.invoke({"question": text})]


async def test_what_a_call_would_find_is_found(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.invoke, ASKED)
    for asked in (*forms(ASKED), [HumanMessage(ASKED, id="an id does not count")]):
        assert (await way(cache.explain, asked, model)).verdict == "exact hit"
    assert (await way(cache.explain, REWORDED, model)).verdict == "semantic hit"
    assert openai.calls == 1
    assert cache.stats().lookups == 1


@pytest.mark.parametrize("bound", [{"stop": ["."]}, {"temperature": 0.7}, {"n": 1, "seed": 3}])
async def test_bound_models_are_read_with_what_is_bound(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way, bound: dict[str, Any]
) -> None:
    model = chat_model(openai)
    other = model.bind(**bound)
    await way(other.invoke, ASKED)
    assert (await way(cache.explain, ASKED, other)).verdict == "exact hit"
    told = await way(cache.explain, ASKED, model)
    assert told.kept_apart is not None
    assert told.kept_apart.because == "other parameters of the model, or another corpus"


async def test_tools_and_cached_models_and_llm_strings(
    own: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = cached(chat_model(openai), own)
    await way(model.invoke, ASKED)
    assert (await way(own.explain, ASKED, model)).verdict == "exact hit"
    told = await way(own.explain, ASKED, chat_model(openai).bind_tools([add]))
    assert [near.apart for near in told.neighbours] == [("model",)]
    assert (await way(own.explain, [HumanMessage(ASKED)], "another")).verdict.startswith("miss")


async def test_completion_models(cache: ValkeySemanticCache, way: Way) -> None:
    model = FakeListLLM(responses=["x"])
    await way(model.invoke, ASKED)
    await way(model.bind(stop=["."]).invoke, f"{ASKED} now")
    assert (await way(cache.explain, ASKED, model)).verdict == "exact hit"
    assert (await way(cache.explain, f"{ASKED} now", model.bind(stop=["."]))).hit
    told = await way(cache.explain, f"{ASKED} now please", model)
    assert {near.apart for near in told.neighbours} == {(), ("model",)}


async def test_another_system_prompt_is_told_as_another_context(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.invoke, [SystemMessage("Be brief."), HumanMessage(ASKED)])
    told = await way(cache.explain, [SystemMessage("Be long."), HumanMessage(ASKED)], model)
    assert told.verdict == "miss: no_neighbour"
    assert [near.apart for near in told.neighbours] == [("context",)]
    assert told.scope is not None
    assert "Be long." in told.scope.context
    assert told.scope.model == "gpt-4o-mini"
    assert "sk-planted-secret" not in str(told)


async def test_what_is_exact_only_or_unreadable_says_so(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    model = chat_model(openai)
    told = await way(cache.explain, [HumanMessage(ASKED), AIMessage("x")], model)
    assert told.exact_reason == "the last message is not the user's"
    unreadable = '[{"lc": 1, "type": "not_implemented", "id": ["x"]}]'
    told = await way(cache.explain, unreadable, "llm")
    assert told.verdict == "miss: not_cacheable"
    for prompt, llm in (("x", 7), (7, model)):
        with pytest.raises(ConfigurationError, match="explain"):
            await way(cache.explain, prompt, llm)
    assert cache.stats().lookups == 0


async def test_a_tenants_view_explains_its_own(plain: Served, openai: OpenAIServer) -> None:
    model = chat_model(openai)
    with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        set_llm_cache(cache.with_namespace("acme"))
        model.invoke(ASKED)
        set_llm_cache(None)
        assert cache.with_namespace("acme").explain(ASKED, model).verdict == "exact hit"
        assert not cache.explain(ASKED, model).hit
        with cache.namespace("acme"):
            assert cache.explain(ASKED, model).hit
