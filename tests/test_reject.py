"""A wrong answer is rejected: never again for this question, still for its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import ConfigurationError, LocalTier, SemanticCache, ServerUnreachableError
from valkey_semcache.flow.storing import MOST_REJECTED

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ALSO = "how do i reset the password of my old account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


@pytest.mark.parametrize(
    "options",
    [{}, {"promote": True}, {"local": LocalTier()}, {"promote": True, "local": LocalTier()}],
    ids=["plain", "promoted", "local", "both"],
)
async def test_this_pair_never_again(served: Served, way: Way, options: dict[str, Any]) -> None:
    async with cache_on(served, **options) as cache, cache_on(served) as other:
        await way(cache.store, ASKED, "x")
        hit = await way(cache.lookup, REWORDED)
        if options:
            hit = await way(cache.lookup, REWORDED)
            assert hit.tier in ("exact", "local")
        assert await way(cache.reject, hit) is True
        for asked_of in (cache, other):
            miss = await way(asked_of.lookup, REWORDED)
            assert miss.reason == "rejected"
            assert miss.nearest.question == ASKED
            assert (await way(asked_of.lookup, ASKED)).answer == "x"
            assert (await way(asked_of.lookup, ALSO)).answer == "x"
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).reason == "rejected", "also once renewed"
        await way(cache.store, REWORDED, "z")
        assert (await way(cache.lookup, REWORDED)).answer == "z"


async def test_the_next_nearest_is_served_instead(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, similarity_threshold=0.5) as cache:
        await way(cache.store, ASKED, "x")
        await way(cache.store, ALSO, "y")
        first = await way(cache.lookup, REWORDED)
        assert await way(cache.reject, first)
        second = await way(cache.lookup, REWORDED)
        assert {first.answer, second.answer} == {"x", "y"}
        assert await way(cache.reject, second)
        assert (await way(cache.lookup, REWORDED)).reason == "rejected"


async def test_an_answer_to_these_very_words_is_deleted(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, local=LocalTier()) as cache:
        await way(cache.store, ASKED, "x")
        hit = await way(cache.lookup, ASKED)
        assert await way(cache.reject, hit) is True
        assert not await way(cache.lookup, ASKED)
        assert await way(cache.reject, hit) is False


async def test_what_is_gone_is_said_to_be(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store, ASKED, "x")
        hit = await way(cache.lookup, REWORDED)
        await way(cache.delete, ASKED)
        assert await way(cache.reject, hit) is False
        assert either_index.entries() == []


async def test_what_many_reject_is_no_longer_met_by_meaning(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, similarity_threshold=0.2) as cache:
        await way(cache.store, ASKED, "x")
        for number in range(MOST_REJECTED):
            hit = await way(cache.lookup, f"{ASKED} {word(number)}")
            assert hit, number
            await way(cache.reject, hit)
            await way(cache.reject, hit)
        miss = await way(cache.lookup, f"{ASKED} {word(number + 1)}")
        assert miss.reason == "no_neighbour"
        assert (await way(cache.lookup, ASKED)).answer == "x"


@pytest.mark.parametrize("given", [None, "x", 5])
async def test_what_is_no_hit_is_refused(plain: Served, way: Way, given: Any) -> None:
    async with cache_on(plain) as cache:
        with pytest.raises(ConfigurationError, match="reject"):
            await way(cache.reject, given)
        await way(cache.store, ASKED, "x")
        hit = await way(cache.lookup, ASKED)
    async with cache_on(plain, name="other") as other:
        with pytest.raises(ConfigurationError, match="another cache"):
            await way(other.reject, hit)


async def test_who_rejects_must_know_that_it_did_not_happen(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "x")
        hit = await way(cache.lookup, REWORDED)
    options = plain.options | {"url": "valkey://127.0.0.1:1"}
    async with SemanticCache(HashingEmbedder(), **options) as unreachable:
        with pytest.raises(ServerUnreachableError):
            await way(unreachable.reject, hit)
