"""The core's strategies through LangChain, each turned on by its one argument."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import chat_model
from tests.langchain.streams import ASKED, REWORDED, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served
from tests.waiting import await_until
from valkey_semcache import LocalTier, Question, not_about_now


def cache_on(served: Served, **options: Any) -> ValkeySemanticCache:
    options = served.options | {"on_error": "raise"} | options
    return ValkeySemanticCache(HashingEmbeddings(), **options)


async def test_rules_by_model(openai: OpenAIServer, either_index: Served, way: Way) -> None:
    ttl = {"gpt-4o*": 600, "*": 60}
    async with cache_on(either_index, ttl=ttl, models=["gpt-4o*", "gpt-5"]) as cache:
        for name, hits, seconds in (("gpt-4o-mini", 1, 600), ("gpt-5", 1, 60), ("o3", 0, None)):
            model = chat_model(openai, model=name, cache=cache)
            before = set(either_index.entries())
            answers = [await way(model.invoke, ASKED) for _ in range(2)]
            assert [tier(answer) for answer in answers].count("exact") == hits
            stored = set(either_index.entries()) - before
            assert [round(either_index.admin.pttl(key) / 1000) for key in stored] == (
                [seconds] if seconds else []
            )


async def test_some_questions_only(openai: OpenAIServer, plain: Served, way: Way) -> None:
    async with cache_on(plain, should_cache=not_about_now) as cache:
        model = chat_model(openai, cache=cache)
        for question in ("what is the weather today", "what is the weather today", ASKED, ASKED):
            await way(model.invoke, question)
        assert openai.calls == 3
        assert cache.stats().misses["not_cacheable"] == 2


async def test_a_renewal_before_expiry(
    openai: OpenAIServer, either_index: Served, way: Way
) -> None:
    async with cache_on(either_index, ttl=1000, refresh_after=0.0001) as cache:
        model = chat_model(openai, cache=cache)
        await way(model.invoke, ASKED)
        (key,) = either_index.entries()
        await await_until(lambda: either_index.admin.pttl(key) < 999_800)
        assert tier(await way(model.invoke, REWORDED)) is None, "who renews it asks the model"
        assert openai.calls == 2
        assert cache.stats().renewed == 1
        assert either_index.entries() == [key], "replaced, whatever wording brought it"


async def test_a_renewal_in_the_background(openai: OpenAIServer, plain: Served, way: Way) -> None:
    asked: list[Question] = []

    def renew(question: Question) -> list[ChatGeneration]:
        asked.append(question)
        return [ChatGeneration(message=AIMessage("renewed"))]

    async with cache_on(plain, ttl=1000, refresh_after=0.0001, refresh=renew) as cache:
        model = chat_model(openai, cache=cache)
        await way(model.invoke, ASKED)
        (key,) = plain.entries()
        await await_until(lambda: plain.admin.pttl(key) < 999_800)
        assert tier(await way(model.invoke, ASKED)) == "exact", "nobody waits"
        await await_until(lambda: cache.stats().renewed == 1)
        assert (await way(model.invoke, ASKED)).content == "renewed"
        assert openai.calls == 1
        assert (asked[0].text, asked[0].model) == (ASKED, "gpt-4o-mini")


@pytest.mark.parametrize("options", [{"local": LocalTier()}, {"promote": True}], ids=str)
async def test_the_second_time_costs_no_embedding(
    openai: OpenAIServer, either_index: Served, way: Way, options: dict[str, Any]
) -> None:
    async with cache_on(either_index, **options) as cache:
        model = chat_model(openai, cache=cache)
        await way(model.invoke, ASKED)
        assert tier(await way(model.invoke, REWORDED)) == "semantic"
        before = cache.stats().embeddings
        expected = "local" if "local" in options else "exact"
        assert tier(await way(model.invoke, REWORDED)) == expected
        assert (cache.stats().embeddings, openai.calls) == (before, 1)


async def test_a_tenant_keeps_to_its_quota(openai: OpenAIServer, plain: Served, way: Way) -> None:
    async with cache_on(plain, max_entries_per_namespace=2) as cache:
        for tenant in ("acme", "globex"):
            model = chat_model(openai, cache=cache.with_namespace(tenant))
            for question in ("the first", "a second thing", "and something third"):
                await way(model.invoke, question)
        assert len(plain.entries()) == 4
        assert cache.stats().evicted == 2


async def test_money_saved_is_that_of_the_tokens(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    async with cache_on(plain) as cache:
        model = chat_model(openai, model="gpt-4o", cache=cache)
        first = await way(model.invoke, ASKED)
        for _ in range(3):
            await way(model.invoke, ASKED)
        stats = cache.stats()
    spent = first.usage_metadata
    assert stats.saved_tokens["input_tokens"] == 3 * spent["input_tokens"] > 0
    assert stats.saved_tokens["output_tokens"] == 3 * spent["output_tokens"] > 0
    assert stats.saved_usd["gpt-4o"] > 0
