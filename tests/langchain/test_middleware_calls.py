"""`SemanticCacheMiddleware`: tenants, calls at the same time, and what goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage

from langchain_valkey_semcache import SemanticCacheMiddleware, ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.streams import ANSWER, ASKED, ask, chat_model
from tests.openai_server import OpenAIServer
from tests.waiting import await_until
from valkey_semcache import ConfigurationError


@dataclass
class Visitor:
    """An agent's context."""

    tenant: str | None


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
    with pytest.raises(
        ConfigurationError, match=r"must be a langchain_.*Cache, not builtins\.str\."
    ):
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
