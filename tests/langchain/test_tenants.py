"""Tenants through LangChain: an answer is stored for the tenant who asked, or for nobody."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import Says, chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache.errors import UnknownTenantError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"

Making = Callable[..., ValkeySemanticCache]


@pytest.fixture
async def making(plain: Served) -> AsyncIterator[Making]:
    made: list[ValkeySemanticCache] = []

    def make(**options: Any) -> ValkeySemanticCache:
        made.append(ValkeySemanticCache(HashingEmbeddings(), **(plain.options | options)))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()


async def test_a_block_around_a_call(openai: OpenAIServer, making: Making, way: Way) -> None:
    cache = making()
    model = chat_model(openai, cache=cache)
    for calls, tenant in enumerate(("acme", "globex"), 1):
        with cache.namespace(tenant):
            await way(model.invoke, ASKED)
            assert openai.calls == calls
            await way(model.invoke, REWORDED)
            assert openai.calls == calls
    await way(model.invoke, ASKED)
    assert openai.calls == 3
    with cache.namespace("acme"):
        assert cache.delete(dumps([HumanMessage(ASKED)]), model._get_llm_string())
    await way(cache.clear, namespace="globex")
    for tenant in ("acme", "globex"):
        with cache.namespace(tenant):
            await way(model.invoke, ASKED)
    assert openai.calls == 5


async def test_batches_of_tenants_at_the_same_time(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    """Threads of `batch` and tasks of `abatch` all see the block that they were started in."""
    cache = making()
    model = chat_model(openai, cache=cache)
    questions = [f"question {letter * 3}" for letter in "abcdefgh"]
    few: Any = {"max_concurrency": 2}  # the server in this process has a short queue

    def serve(tenant: str) -> None:
        with cache.namespace(tenant):
            model.batch(questions, few)

    async def aserve(tenant: str) -> None:
        with cache.namespace(tenant):
            await model.abatch(questions, few)

    tenants = ("acme", "globex", "initech")
    for _ in range(2):  # the second time all of them hit
        if way.name == "async":
            await asyncio.gather(*map(aserve, tenants))
        else:
            threads = [threading.Thread(target=serve, args=(tenant,)) for tenant in tenants]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert openai.calls == 24
    assert cache.stats().hits == {"exact": 24}
    model.invoke(questions[0])
    assert openai.calls == 25


async def test_the_function_is_asked_for_each_call(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
    cache = making(namespace_from=tenant.get)
    model = chat_model(openai, cache=cache)
    for name in ("acme", "globex", "acme", "globex"):
        tenant.set(name)
        await way(model.batch, [ASKED, "which wine goes with fish"])
    assert openai.calls == 4
    tenant.set(None)
    await way(model.batch, [ASKED, "which wine goes with fish"])
    assert openai.calls == 6
    assert cache.stats().misses["not_cacheable"] == 2
    assert cache.stats().not_stored == {"unknown tenant": 2}


async def test_an_error_of_the_function_does_not_break_the_call(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    cache = making(namespace_from=lambda: {}["tenant"])
    model = chat_model(openai, cache=cache)
    for _ in range(2):
        assert (await way(model.invoke, ASKED)).content.endswith(ASKED)
    assert openai.calls == 2
    assert cache.stats().misses == {"not_cacheable": 2}
    assert cache.stats().errors == {"KeyError": 4}
    strict = making(namespace_from=lambda: {}["tenant"], on_error="raise")
    with pytest.raises(UnknownTenantError):
        await way(strict.lookup, ASKED, "llm")


def test_an_answer_belongs_to_the_tenant_who_asked_even_after_the_block(making: Making) -> None:
    """The block ends while the model is at work."""
    cache = making()
    model = Says(message=AIMessage("acme's secret"), cache=cache)
    block = ExitStack()
    block.enter_context(cache.namespace("acme"))
    model.while_at_work(block.close)
    model.invoke(ASKED)
    assert cache.stats().stored == 1
    model.while_at_work(None)
    model.invoke(ASKED)
    assert model.calls == 2, "the default namespace has nothing"
    with cache.namespace("acme"):
        model.invoke(REWORDED)
    assert model.calls == 2


async def test_a_store_after_the_block_of_its_look_up(making: Making, way: Way) -> None:
    cache = making()
    with cache.namespace("acme"):
        assert await way(cache.lookup, ASKED, "llm") is None
    await way(cache.update, ASKED, "llm", [Generation(text="acme's")])
    assert await way(cache.lookup, ASKED, "llm") is None
    with cache.namespace("acme"):
        assert await way(cache.lookup, ASKED, "llm") == [Generation(text="acme's")]


async def test_an_answer_that_another_thread_stores(making: Making) -> None:
    cache = making()
    prompt = dumps([HumanMessage(ASKED)])
    with cache.namespace("acme"), cache.question("the password"):
        assert cache.lookup(prompt, "llm") is None
    thread = threading.Thread(
        target=cache.update, args=(prompt, "llm", [Generation(text="acme's")])
    )
    thread.start()
    thread.join()
    assert cache.lookup(prompt, "llm") is None
    with cache.namespace("acme"):
        assert cache.lookup(prompt, "llm") is None
        with cache.question("the password"):
            assert cache.lookup(prompt, "llm") == [Generation(text="acme's")]


async def test_an_answer_that_another_tenant_would_store_is_not_stored(
    making: Making, way: Way
) -> None:
    cache = making()
    with cache.namespace("acme"):
        assert await way(cache.lookup, ASKED, "llm") is None
    with cache.namespace("globex"):
        await way(cache.update, ASKED, "llm", [Generation(text="acme's")])
    for tenant in ("acme", "globex"):
        with cache.namespace(tenant):
            assert await way(cache.lookup, ASKED, "llm") is None
    assert cache.stats().not_stored == {"unknown tenant": 1}


async def test_tenants_who_ask_the_very_same_string_at_the_same_time(
    making: Making, way: Way
) -> None:
    """A completion model's prompt can be one object for all: a constant of the app's."""
    cache = making()
    for tenant in ("acme", "globex"):
        with cache.namespace(tenant):
            assert await way(cache.lookup, ASKED, "llm") is None
    with cache.namespace("globex"):
        await way(cache.update, ASKED, "llm", [Generation(text="globex's")])
        assert await way(cache.lookup, ASKED, "llm") == [Generation(text="globex's")]
    with cache.namespace("acme"):
        assert await way(cache.lookup, ASKED, "llm") is None
    for tenant in ("acme", "initech"):
        with cache.namespace(tenant):
            await way(cache.lookup, REWORDED, "llm")
    await way(cache.update, REWORDED, "llm", [Generation(text="whose?")])
    assert cache.stats().not_stored == {"unknown tenant": 1}


async def test_completion_models_of_two_tenants(making: Making, way: Way) -> None:
    cache = making()
    model = FakeListLLM(responses=["acme's", "globex's", "nobody's"], cache=cache)
    for tenant in ("acme", "globex", "acme"):
        with cache.namespace(tenant):
            assert (await way(model.batch, [ASKED])) == [f"{tenant}'s"]


async def test_a_view_as_a_models_own_cache(openai: OpenAIServer, making: Making, way: Way) -> None:
    cache = making()
    acme = chat_model(openai, cache=cache.with_namespace("acme"))
    await way(acme.invoke, ASKED)
    with cache.namespace("acme"):
        await way(acme.invoke, REWORDED)
    assert openai.calls == 1
    with cache.namespace("globex"):
        await way(acme.invoke, ASKED)
    assert openai.calls == 2
    assert cache.stats().misses["not_cacheable"] == 1
    await way(cache.with_namespace("globex").clear)
    await way(acme.invoke, ASKED)
    assert openai.calls == 2
    await way(acme.cache.clear)
    await way(acme.invoke, ASKED)
    assert openai.calls == 3


async def test_a_deep_copy_of_a_model_shares_its_cache(making: Making, way: Way) -> None:
    cache = making()
    model = Says(message=AIMessage("x"), cache=cache.with_namespace("acme"))
    await way(model.invoke, ASKED)
    twin = copy.deepcopy(model)
    assert twin.cache is model.cache
    await way(twin.invoke, ASKED)
    assert cache.stats().hits == {"exact": 1}
