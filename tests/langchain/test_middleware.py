"""`SemanticCacheMiddleware`: an agent's model calls from the cache."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_valkey_semcache import (
    SemanticCacheMiddleware,
    ValkeySemanticCache,
    cached,
)
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, REWORDED, ask, chat_model, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served


def weather(city: str) -> str:
    """Says how the weather is."""
    return "sunny"  # not the city: the model would take it for a wish


def clock() -> str:
    """Says what time it is."""
    return "noon"


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


async def test_an_answer_without_tools_is_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    agent = create_agent(
        chat_model(openai), [weather], middleware=[SemanticCacheMiddleware(own)], name="bot"
    )
    states = [await ask(way, agent, text) for text in (ASKED, ASKED, REWORDED)]
    answers = [state["messages"][-1] for state in states]
    assert {answer.content for answer in answers} == {ANSWER}
    assert [tier(answer) for answer in answers] == [None, "exact", "semantic"]
    assert {answer.name for answer in answers} == {"bot"}
    assert len({answer.id for answer in answers}) == 3
    assert openai.calls == 1


async def test_calls_for_tools_are_not_stored_and_their_results_are_met_exactly(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    """Even where the cache itself would store them."""
    options = plain.options | {"cache_tool_calls": True, "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        agent = create_agent(
            chat_model(openai), [weather], middleware=[SemanticCacheMiddleware(cache)]
        )
        states = [await ask(way, agent, "use the tool") for _ in range(2)]
        for state in states:
            assert [message.type for message in state["messages"]] == [
                *("human", "ai", "tool", "ai"),
            ]
        assert [tier(state["messages"][-1]) for state in states] == [None, "exact"]
        assert openai.calls == 3
        assert cache.stats().not_stored == {"tool calls": 2}
        # Another wording, and so another result: near, but never near enough after a tool.
        await ask(way, agent, "use the tool now")
        assert openai.calls == 5
        assert "semantic" not in cache.stats().hits


@pytest.mark.parametrize(
    "changed",
    [
        {"system_prompt": "You are somebody else."},
        {"tools": [weather, clock]},
        {"tools": []},
        {"model": "gpt-5"},
        {"temperature": 0.7},
        {"response_format": ProviderStrategy(Person)},
        {"settings": {"seed": 7}},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_request_that_differs_in_anything_else_is_another_one(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, changed: dict[str, Any]
) -> None:
    class Settings(AgentMiddleware[Any, Any]):
        def __init__(self, settings: dict[str, Any]) -> None:
            super().__init__()
            self.settings = settings

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(model_settings=self.settings))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(model_settings=self.settings))

    def agent(
        model: str = "gpt-4o-mini",
        temperature: float | None = None,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        options = {"tools": [weather], "system_prompt": "You are a bot."} | options
        chat = chat_model(openai, model=model, temperature=temperature)
        middleware = [Settings(settings or {}), SemanticCacheMiddleware(own)]
        return create_agent(chat, middleware=middleware, **options)

    await ask(way, agent(), ASKED)
    assert openai.calls == 1
    await ask(way, agent(), ASKED)
    assert openai.calls == 1
    await ask(way, agent(**changed), ASKED)
    assert openai.calls == 2
    await ask(way, agent(**changed), REWORDED)
    assert openai.calls == 2


async def test_structured_answers_come_back_structured(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    agent = create_agent(
        chat_model(openai),
        middleware=[SemanticCacheMiddleware(own)],
        response_format=ProviderStrategy(Person),
    )
    first, again = [await ask(way, agent, text) for text in (ASKED, REWORDED)]
    assert first["structured_response"] == again["structured_response"]
    assert again["structured_response"] == Person(name=ASKED, age=7)
    assert tier(again["messages"][-1]) == "semantic"
    assert openai.calls == 1


class Ship(BaseModel):
    """Something else, of the same fields."""

    name: str
    age: int


@pytest.mark.parametrize("strategy", [ProviderStrategy, lambda schema: schema])
async def test_answers_of_another_schema_are_other_answers(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, strategy: Any
) -> None:
    for calls, schema in enumerate((Person, Ship), 1):
        agent = create_agent(
            chat_model(openai),
            middleware=[SemanticCacheMiddleware(own)],
            response_format=strategy(schema),
        )
        for _ in range(2):
            state = await ask(way, agent, ASKED)
            assert openai.calls == calls
            assert type(state["structured_response"]) is schema


async def test_structured_answers_by_a_tool_are_calls_for_tools(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    agent = create_agent(
        chat_model(openai),
        middleware=[SemanticCacheMiddleware(own)],
        response_format=ToolStrategy(Person),
    )
    for number in (1, 2):
        state = await ask(way, agent, "use the tool")
        assert state["structured_response"] == Person(name="use the tool", age=7)
        assert openai.calls == number
    assert own.stats().stored == 0


async def test_memory_keeps_every_message(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    agent = create_agent(
        chat_model(openai),
        middleware=[SemanticCacheMiddleware(own)],
        checkpointer=InMemorySaver(),
    )
    for thread in ("one", "two"):
        config: Any = {"configurable": {"thread_id": thread}}
        for text in (ASKED, "and what if that fails"):
            state = await ask(way, agent, text, config=config)
        assert [message.type for message in state["messages"]] == ["human", "ai"] * 2
        assert len({message.id for message in state["messages"]}) == 4
    assert openai.calls == 2


async def test_a_cached_model_in_an_agent(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    """The other way to the same: no middleware, streams cached too."""
    agent = create_agent(cached(chat_model(openai), own), [weather])
    for wanted in (None, "exact"):
        state = await ask(way, agent, "use the tool")
        assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
        assert tier(state["messages"][-1]) == wanted
    assert openai.calls == 3
    words = []
    for stream in ([], words):
        given: Any = {"messages": [("user", ASKED)]}
        if way.name == "sync":
            stream.extend(agent.stream(given, stream_mode="messages"))
        else:
            async for part in agent.astream(given, stream_mode="messages"):
                stream.append(part)
    texts = [chunk.text for chunk, _ in words]
    assert "".join(texts) == ANSWER
    assert len(texts) > len(ANSWER.split())
    assert openai.calls == 4
