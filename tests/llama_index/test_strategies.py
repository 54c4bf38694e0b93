"""The core's strategies through LlamaIndex, each turned on by its one argument."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import CompletionResponse

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from tests.waiting import await_until
from valkey_semcache import LocalTier, Question, not_about_now

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> ValkeySemanticCache:
    options = served.options | {"on_error": "raise"} | options
    return ValkeySemanticCache(HashingEmbedding(), **options)


def tier(response: CompletionResponse) -> str | None:
    note: dict[str, Any] = response.additional_kwargs.get("semantic_cache", {})
    return note.get("tier")


async def test_rules_by_model(either_index: Served, way: Way) -> None:
    ttl = {"gpt-4o*": 600, "*": 60}
    async with cache_on(either_index, ttl=ttl, models=["gpt-4o*", "gpt-5"]) as cache:
        for name, hits, seconds in (("gpt-4o-mini", 1, 600), ("gpt-5", 1, 60), ("o3", 0, None)):
            llm = SemanticCacheLLM(CountingLLM(name=name), cache)
            before = set(either_index.entries())
            answers = [await way(llm.complete, ASKED) for _ in range(2)]
            assert [tier(answer) for answer in answers].count("exact") == hits
            stored = set(either_index.entries()) - before
            assert [round(either_index.admin.pttl(key) / 1000) for key in stored] == (
                [seconds] if seconds else []
            )


async def test_some_questions_and_some_answers_only(plain: Served, way: Way) -> None:
    seen: list[Question] = []

    def no_fish(question: Question, answer: CompletionResponse) -> bool:
        seen.append(question)
        return "fish" not in answer.text

    rules: dict[str, Any] = {"should_cache": not_about_now, "should_store": no_fish}
    async with cache_on(plain, **rules) as cache:
        inner = CountingLLM()
        llm = SemanticCacheLLM(inner, cache)
        for question, calls in (("the weather today", 2), ("wine with fish", 4), (ASKED, 5)):
            await way(llm.complete, question)
            await way(llm.complete, question)
            assert inner.calls == calls
        assert [question.text for question in seen if "fish" not in question.text] == [ASKED]
        assert cache.stats().not_stored == {
            "should_store() said no": 2,
            "should_cache() said no": 2,
        }


async def test_a_renewal_before_expiry(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=1000, refresh_after=0.0001) as cache:
        inner = CountingLLM()
        llm = SemanticCacheLLM(inner, cache)
        await way(llm.complete, ASKED)
        (key,) = either_index.entries()
        await await_until(lambda: either_index.admin.pttl(key) < 999_800)
        assert tier(await way(llm.complete, REWORDED)) is None, "who renews it asks the model"
        assert (inner.calls, cache.stats().renewed) == (2, 1)
        assert either_index.entries() == [key], "replaced, whatever wording brought it"


async def test_a_renewal_in_the_background(plain: Served, way: Way) -> None:
    asked: list[Question] = []

    def renew(question: Question) -> CompletionResponse:
        asked.append(question)
        return CompletionResponse(text="renewed")

    async with cache_on(plain, ttl=1000, refresh_after=0.0001, refresh=renew) as cache:
        inner = CountingLLM(name="gpt-4o-mini")
        llm = SemanticCacheLLM(inner, cache)
        await way(llm.complete, ASKED)
        (key,) = plain.entries()
        await await_until(lambda: plain.admin.pttl(key) < 999_800)
        assert tier(await way(llm.complete, ASKED)) == "exact", "nobody waits"
        await await_until(lambda: cache.stats().renewed == 1)
        assert (await way(llm.complete, ASKED)).text == "renewed"
        assert inner.calls == 1
        assert (asked[0].text, asked[0].model) == (ASKED, "gpt-4o-mini")


@pytest.mark.parametrize("options", [{"local": LocalTier()}, {"promote": True}], ids=str)
async def test_the_second_time_costs_no_embedding(
    either_index: Served, way: Way, options: dict[str, Any]
) -> None:
    async with cache_on(either_index, **options) as cache:
        inner = CountingLLM()
        llm = SemanticCacheLLM(inner, cache)
        await way(llm.complete, ASKED)
        assert tier(await way(llm.complete, REWORDED)) == "semantic"
        before = cache.stats().embeddings
        expected = "local" if "local" in options else "exact"
        assert tier(await way(llm.complete, REWORDED)) == expected
        assert (cache.stats().embeddings, inner.calls) == (before, 1)


async def test_a_tenant_keeps_to_its_quota(plain: Served, way: Way) -> None:
    async with cache_on(plain, max_entries_per_namespace=2) as cache:
        for tenant in ("acme", "globex"):
            llm = SemanticCacheLLM(CountingLLM(), cache, namespace=tenant)
            for question in ("the first", "a second thing", "and something third"):
                await way(llm.complete, question)
        assert len(plain.entries()) == 4
        assert cache.stats().evicted == 2


async def test_money_saved_is_that_of_the_tokens(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        llm = SemanticCacheLLM(CountingLLM(name="gpt-4o"), cache)
        for _ in range(4):
            await way(llm.complete, ASKED)
        stats = cache.stats()
    assert stats.saved_tokens == {"input_tokens": 12, "output_tokens": 6}
    assert stats.saved_usd["gpt-4o"] > 0
