"""`policy=Verified(…)` behind LangChain's global cache and behind `cached()`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ASKED, REWORDED, chat_model, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import LLMJudge, Verified
from valkey_semcache.precision.verified import PROMPT

Make = Callable[..., ValkeySemanticCache]


@pytest.fixture
async def make(either_index: Served) -> AsyncIterator[Make]:
    made: list[ValkeySemanticCache] = []

    def new(**options: Any) -> ValkeySemanticCache:
        options = either_index.options | {"policy": Verified(0.3), "on_error": "raise"} | options
        made.append(ValkeySemanticCache(HashingEmbeddings(), **options))
        set_llm_cache(made[-1])
        return made[-1]

    yield new
    set_llm_cache(None)
    for cache in made:
        await cache.aclose()


async def test_an_unsure_candidate_is_a_miss_whose_answer_is_compared(
    openai: OpenAIServer, make: Make, way: Way
) -> None:
    cache, model = make(), chat_model(openai)
    await way(model.invoke, ASKED)
    assert tier(await way(model.invoke, REWORDED)) is None
    assert cache.stats().misses == {"no_neighbour": 1, "unverified": 1}
    assert cache.stats().compared == {"same": 1}
    assert tier(await way(model.invoke, REWORDED)) == "exact"


async def test_streamed_answers_are_compared(openai: OpenAIServer, make: Make, way: Way) -> None:
    cache = make()
    model = cached(chat_model(openai), cache)
    for text in (ASKED, REWORDED):
        if way.name == "sync":
            list(model.stream(text))
        else:
            [_ async for _ in model.astream(text)]
    assert cache.stats().compared == {"same": 1}


async def test_a_language_model_compares(openai: OpenAIServer, make: Make, way: Way) -> None:
    judge = LLMJudge(chat_model(openai, model="says-no"), PROMPT)
    cache = make(policy=Verified(0.3, same_answer=judge))
    await way(cache.core.store, ASKED, [ChatGeneration(message=AIMessage("Call us."))])
    await way(cache.core.lookup, REWORDED)
    await way(cache.core.store, REWORDED, [ChatGeneration(message=AIMessage("Write to us."))])
    assert cache.stats().compared == {"other": 1}
    (prompt,) = [
        body["messages"][-1]["content"] for body in openai.chats if body["model"] == "says-no"
    ]
    assert all(f'"{text}"' in prompt for text in (REWORDED, "Call us.", "Write to us."))
    again = REWORDED + " please"
    await way(cache.core.lookup, again)
    await way(cache.core.store, again, [ChatGeneration(message=AIMessage("Write  to us."))])
    assert cache.stats().compared == {"other": 1, "same": 1}, "the same text needs no judge"


async def test_an_answer_that_calls_a_tool_is_another_one(
    openai: OpenAIServer, make: Make, way: Way
) -> None:
    cache = make(cache_tool_calls=True)
    string = "one model"
    called = AIMessage(
        "", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}]
    )
    first, second = (dumps([HumanMessage(text)]) for text in (ASKED, REWORDED))
    await way(cache.lookup, first, string)
    await way(cache.update, first, string, [ChatGeneration(message=AIMessage("Press."))])
    assert await way(cache.lookup, second, string) is None
    await way(cache.update, second, string, [ChatGeneration(message=called)])
    assert cache.stats().compared == {"other": 1}
