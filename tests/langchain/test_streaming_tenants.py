"""Tenants of `cached(model, cache)`: it sees its own call's config."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.streams import ASKED, added_up, chat_model, streamed, tier
from tests.openai_server import OpenAIServer


def tenant_of(config: Any) -> Any:
    return config["configurable"]["tenant"]


def of(tenant: Any) -> Any:
    return {"configurable": {"tenant": tenant}}


async def test_the_tenant_is_taken_from_the_calls_config(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, namespace_from=tenant_of)
    for tenant, calls in (("acme", 1), ("acme", 1), ("corp", 2), ("acme", 2), ("corp", 2)):
        await streamed(way, model, ASKED, of(tenant))
        await way(model.invoke, ASKED, of(tenant))
        await way(model.with_config(of(tenant)).invoke, ASKED)
        assert openai.calls == calls, tenant
    await way(own.clear, namespace="acme")
    assert tier(await way(model.invoke, ASKED, of("corp"))) == "exact"
    assert tier(await way(model.invoke, ASKED, of("acme"))) is None


async def test_each_call_of_a_batch_has_its_own(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, namespace_from=tenant_of)
    await way(model.batch, [ASKED] * 6, [of("acme"), of("corp"), of("ltd")] * 2)
    assert openai.calls == 3


async def test_the_models_own_config_counts_and_not_its_parents(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    """What LangChain shows inside a look-up is the parent's, which is why no cache reads it."""
    model = cached(chat_model(openai), own, namespace_from=tenant_of)

    def inner(question: str) -> Any:
        return model.invoke(question, of("corp"))

    async def ainner(question: str) -> Any:
        return await model.ainvoke(question, of("corp"))

    chain = RunnableLambda(inner, ainner)
    await way(model.invoke, ASKED, of("acme"))
    assert tier(await way(chain.invoke, ASKED, of("acme"))) is None
    assert tier(await way(chain.invoke, ASKED, of("acme"))) == "exact"
    assert openai.calls == 2


async def test_a_call_without_a_config_has_that_of_its_parent(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, namespace_from=tenant_of)

    async def node(question: str) -> Any:
        return await model.ainvoke(question)

    chain = RunnableLambda(lambda question: model.invoke(question), node)
    await way(model.invoke, ASKED, of("acme"))
    assert tier(await way(chain.invoke, ASKED, of("acme"))) == "exact"


async def test_generate_shows_its_metadata(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, namespace_from=lambda c: c["metadata"]["tenant"])
    for tenant, calls in (("acme", 1), ("corp", 2), ("acme", 2)):
        await way(model.generate, [[HumanMessage(ASKED)]], metadata={"tenant": tenant})
        assert openai.calls == calls
    await way(model.invoke, ASKED, {"metadata": {"tenant": "acme"}})
    assert openai.calls == 2


@pytest.mark.parametrize("config", [{}, of(None), of(7)], ids=str)
async def test_a_tenant_that_is_not_known_is_not_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, config: Any
) -> None:
    model = cached(chat_model(openai), own, namespace_from=tenant_of)
    await way(cached(chat_model(openai), own).invoke, ASKED)  # the default tenant has it
    for number in (2, 4):
        assert tier(added_up(await streamed(way, model, ASKED, config))) is None
        assert tier(await way(model.invoke, ASKED, config)) is None
        assert openai.calls == number + 1
    assert own.stats().misses["not_cacheable"] == 4
    assert own.stats().stored == 1


async def test_a_block_that_names_another_tenant_is_not_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, namespace_from=tenant_of)
    with own.namespace("corp"):
        await streamed(way, model, ASKED, of("acme"))
    assert own.stats().stored == 0
    with own.namespace("acme"):
        await streamed(way, model, ASKED, of("acme"))
    assert own.stats().stored == 1


async def test_a_stream_that_is_read_on_after_its_block_is_stored_for_its_tenant(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    stream: Any = model.stream(ASKED) if way.name == "sync" else model.astream(ASKED)
    with own.namespace("acme"):
        next(stream) if way.name == "sync" else await anext(stream)
    if way.name == "sync":
        list(stream)
    else:
        [chunk async for chunk in stream]
    assert own.stats().stored == 1
    assert tier(await way(model.invoke, ASKED)) is None
    with own.namespace("acme"):
        assert tier(await way(model.invoke, ASKED)) == "exact"


async def test_a_stream_that_another_tenant_reads_on_is_not_stored(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    stream: Any = model.stream(ASKED) if way.name == "sync" else model.astream(ASKED)
    with own.namespace("acme"):
        next(stream) if way.name == "sync" else await anext(stream)
    with own.namespace("corp"):
        if way.name == "sync":
            list(stream)
        else:
            [chunk async for chunk in stream]
    assert own.stats().stored == 0
    assert own.stats().not_stored == {"unknown tenant": 1}
