"""`SemanticCacheMiddleware`: an agent's model calls from the cache."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_valkey_semcache import (
    SemanticCacheMiddleware,
    ValkeySemanticCache,
    cached,
)
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, REWORDED, chat_model, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served
from tests.waiting import await_until
from valkey_semcache import ConfigurationError


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


@dataclass
class Visitor:
    """An agent's context."""

    tenant: str | None


async def ask(way: Way, agent: Any, text: str, **options: Any) -> Any:
    """The agent's state after a question."""
    return await way(agent.invoke, {"messages": [("user", text)]}, **options)


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


# Tenants


async def test_the_tenant_is_taken_from_the_context(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    middleware = SemanticCacheMiddleware(own, namespace_from=lambda context: context.tenant)
    agent = create_agent(chat_model(openai), middleware=[middleware], context_schema=Visitor)
    for tenant, calls in (("acme", 1), ("acme", 1), ("corp", 2), ("acme", 2), ("corp", 2)):
        await ask(way, agent, ASKED, context=Visitor(tenant))
        assert openai.calls == calls, tenant
    await way(own.clear, namespace="acme")
    await ask(way, agent, ASKED, context=Visitor("acme"))
    assert openai.calls == 3


@pytest.mark.parametrize("context", [Visitor(None), None, Visitor(7)])  # type: ignore[arg-type]
async def test_a_tenant_that_is_not_known_is_not_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, context: Any
) -> None:
    middleware = SemanticCacheMiddleware(own, namespace_from=lambda context: context.tenant)
    agent = create_agent(chat_model(openai), middleware=[middleware], context_schema=Visitor)
    for number in (1, 2):
        await ask(way, agent, ASKED, context=context)
        assert openai.calls == number
    assert own.stats().stored == 0
    assert own.stats().misses == {"not_cacheable": 2}


# At the same time


async def test_identical_questions_at_the_same_time_cost_one_call(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    openai.gate.clear()
    agent = create_agent(chat_model(openai), middleware=[SemanticCacheMiddleware(own)])
    given: Any = {"messages": [("user", ASKED)]}
    tasks = [asyncio.create_task(agent.ainvoke(given)) for _ in range(4)]
    await await_until(
        lambda: sum(len(flight.wakers) for flight in own.core.coalescer._flights.values()) == 3
    )
    openai.gate.set()
    answers = [state["messages"][-1] for state in await asyncio.gather(*tasks)]
    assert {answer.content for answer in answers} == {ANSWER}
    assert openai.calls == 1


async def test_a_failed_call_fails_and_stores_nothing(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    agent = create_agent(
        chat_model(openai), middleware=[SemanticCacheMiddleware(own, coalesce=False)]
    )
    openai.failures.append("500")
    with pytest.raises(Exception, match="planted failure"):
        await ask(way, agent, ASKED)
    assert (await ask(way, agent, ASKED))["messages"][-1].content == ANSWER
    assert own.stats().stored == 1


async def test_a_request_that_cannot_be_written_down_is_not_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    middleware = SemanticCacheMiddleware(own)
    from langchain.agents.middleware import ModelRequest, ModelResponse

    request = ModelRequest(
        model=chat_model(openai),
        messages=[("user", ASKED)],  # type: ignore[list-item]
        model_settings={"what": object()},
    )
    response = ModelResponse(result=[AIMessage("an answer")])

    async def handler(_: Any) -> Any:
        return response

    if way.name == "sync":
        assert middleware.wrap_model_call(request, lambda _: response) is response
    else:
        assert await middleware.awrap_model_call(request, handler) is response
    assert own.stats().misses == {"not_cacheable": 1}


def test_a_cache_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be a ValkeySemanticCache, not a str"):
        SemanticCacheMiddleware("valkey://localhost")  # type: ignore[arg-type]


# `langchain` is an extra


def test_importing_the_package_does_not_import_langchain() -> None:
    code = (
        "import sys, langchain_valkey_semcache as package\n"
        "from langchain_valkey_semcache import *\n"
        "assert 'langchain' not in sys.modules and 'langgraph' not in sys.modules\n"
        "package.SemanticCacheMiddleware\n"
        "assert 'langchain' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_langchain_the_error_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['langchain.agents'] = None\n"
        "sys.modules['langchain'] = None\n"
        "from langchain_valkey_semcache import SemanticCacheMiddleware\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "MissingPackageError: SemanticCacheMiddleware needs LangChain 1.0" in done.stderr
    assert "pip install 'valkey-semcache[agents]'" in done.stderr
