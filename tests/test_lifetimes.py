"""How long entries live: rules by model, functions, jitter, and lives that hits extend."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from valkey_semcache import ConfigurationError, LocalTier, Question, SemanticCache
from valkey_semcache.rules.lifetimes import Lifetimes, lifetime_rule

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


async def life_of(served: Served, way: Way, cache: SemanticCache, **question: Any) -> float | None:
    """Seconds that Valkey gives an answer stored just now; None for ever."""
    asked = Question(**({"text": "asked"} | question))
    await way(cache.store, asked, "x" * (1 + len(asked.text)))
    hit = await way(cache.lookup, asked)
    left = served.admin.pttl(hit.key)
    return None if left == -1 else left / 1000


@pytest.mark.parametrize(
    ("model", "seconds"),
    [("gpt-4o-mini", 100), ("gpt-4o", 200), ("gpt-4.1", 300), ("GPT-4o", None), ("", None)],
)
async def test_rules_by_model_take_the_most_specific_pattern(
    either_index: Served, way: Way, model: str, seconds: float | None
) -> None:
    table = {"*": None, "gpt-4*": 300, "gpt-4o-*": timedelta(seconds=100), "gpt-4o*": 200}
    async with cache_on(either_index, ttl=table) as cache:
        life = await life_of(either_index, way, cache, model=model)
    assert life == (None if seconds is None else pytest.approx(seconds, abs=5))


async def test_a_function_of_question_and_answer(either_index: Served, way: Way) -> None:
    def ttl(question: Question, answer: str) -> float | timedelta | None:
        return {"price": 30, "law": timedelta(days=1)}.get(question.text, len(answer) * 100)

    async with cache_on(either_index, ttl=ttl) as cache:
        for text, seconds in (("price", 30), ("law", 86400), ("abc", 400)):
            life = await life_of(either_index, way, cache, text=text)
            assert life == pytest.approx(seconds, abs=5)


async def test_a_store_may_say_otherwise_in_any_form(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=None) as cache:
        for ttl in (50, timedelta(seconds=50), {"*": 50}, lambda question, answer: 50):
            await way(cache.store, "asked", "x", ttl=ttl)
            (key,) = plain.entries()
            assert 45_000 < plain.admin.pttl(key) <= 50_000
        await way(cache.store, "asked", "x")
        assert plain.admin.pttl(key) == -1


@pytest.mark.parametrize("given", ["five", -5, 0, float("nan")])
async def test_a_function_that_gives_no_ttl_stores_nothing(
    plain: Served, way: Way, given: Any
) -> None:
    async with cache_on(plain, ttl=lambda question, answer: given, on_error="miss") as cache:
        assert await way(cache.store, "asked", "x") is False
        assert not await way(cache.lookup, "asked")
        assert cache.stats().errors == {"ConfigurationError": 1}


def test_rules_by_model_need_one_for_all_others() -> None:
    for ttl in ({"gpt-4o*": 600}, {}, {"*": "600"}, {"*": 600, 5: 600}):
        with pytest.raises(ConfigurationError, match="ttl="):
            SemanticCache(HashingEmbedder(), "valkey://h", ttl=ttl)  # type: ignore[arg-type]


async def test_jitter_spreads_what_was_stored_together(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=1000, ttl_jitter=0.5) as cache:
        for number in range(20):
            await way(cache.store, "asked" + "!" * number, "x")
    lives = [either_index.admin.pttl(key) / 1000 for key in either_index.entries()]
    assert len(lives) == 20
    assert all(490 < life <= 1000 for life in lives)
    assert max(lives) - min(lives) > 100


def test_jitter_only_shortens_and_by_its_share_at_most() -> None:
    lifetimes = Lifetimes(lifetime_rule(100), jitter=0.1)
    lives = [lifetimes.of(Question("a"), "x") or 0 for _ in range(1000)]
    assert all(90 < life <= 100 for life in lives)
    assert max(lives) > 99
    assert min(lives) < 91


async def test_a_hit_extends_a_sliding_life(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=4, sliding=True, promote=True) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = either_index.entries()
        for asked, tier in ((ASKED, "exact"), (REWORDED, "semantic"), (REWORDED, "exact")):
            wait_until(lambda: either_index.admin.pttl(key) < 3800)
            assert (await way(cache.lookup, asked)).tier == tier
            assert either_index.admin.pttl(key) > 3850
        (alias,) = set(either_index.entries()) - {key}
        assert either_index.admin.pttl(alias) > 3850, "the wording's alias lives as long"


async def test_the_flat_index_still_finds_what_a_hit_extended(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=1, sliding=True) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = plain.entries()
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        wait_until(lambda: plain.admin.pttl(key) < 900)
        assert await way(cache.lookup, ASKED)
        assert plain.admin.pttl(log) >= plain.admin.pttl(key) - 50
        wait_until(lambda: plain.admin.pttl(key) < 500)
    async with cache_on(plain, ttl=1, sliding=True) as other:
        assert await way(other.lookup, ASKED)
        left = plain.admin.pttl(log)
        assert left > 900, "also by a process that has not opened the index"
        assert (await way(other.lookup, REWORDED)).tier == "semantic"


async def test_a_sliding_life_ends_at_max_age(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=1, sliding=True, max_age=1.3) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = either_index.entries()
        wait_until(lambda: either_index.admin.pttl(key) < 600)
        hit = await way(cache.lookup, ASKED)
        assert 600 < either_index.admin.pttl(key) <= (1.3 - hit.age) * 1000 + 20
        wait_until(lambda: not either_index.admin.exists(key))
        assert not await way(cache.lookup, ASKED)
        await way(cache.store, ASKED, "x", ttl=100)
        assert either_index.admin.pttl(key) <= 1300, "nor does a longer TTL"


async def test_an_extension_that_gains_little_costs_no_command(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    async with cache_on(searching, ttl=3600, sliding=True) as cache:
        await way(cache.store, ASKED, "x")
        with searching.standin.counting() as seen:
            assert await way(cache.lookup, ASKED)
    assert [command.name for command in seen] == ["HMGET"]


async def test_without_sliding_a_hit_extends_nothing(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=4) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = either_index.entries()
        wait_until(lambda: either_index.admin.pttl(key) < 3900)
        assert await way(cache.lookup, ASKED)
        assert await way(cache.lookup, REWORDED)
        assert either_index.admin.pttl(key) < 3900


async def test_what_is_used_in_one_process_only_does_not_expire_meanwhile(
    plain: Served, way: Way
) -> None:
    """Hits by local copies extend nothing by themselves; the copies end in time."""
    async with cache_on(plain, local=LocalTier(), ttl=0.5, sliding=True) as cache:
        await way(cache.store, ASKED, "x")
        ends = time.monotonic() + 1.1
        while time.monotonic() < ends:
            assert await way(cache.lookup, ASKED)
            await asyncio.sleep(0.002)
        hits = cache.stats().hits
    assert hits["local"] > hits["exact"] > 1, "the most of them cost no command"
