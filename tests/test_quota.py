"""One tenant cannot push the others out."""

from __future__ import annotations

from typing import Any

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from tests.words import word
from valkey_semcache import LocalTier, Question, SemanticCache
from valkey_semcache.server import acl


def cache_on(served: Served, **options: Any) -> SemanticCache:
    options = {"on_error": "raise", "max_entries_per_namespace": 5} | options
    return SemanticCache(HashingEmbedder(), **(served.options | options))


def of(tenant: str, number: int) -> Question:
    return Question(f"tell me about {word(number)}", namespace=tenant)


async def test_the_oldest_of_a_tenant_go_and_nobody_else_s(served: Served, way: Way) -> None:
    if served.user is not None:
        served.admin.execute_command("ACL", "SETUSER", served.user, *acl.QUOTA)
    async with cache_on(served, similarity_threshold=1, local=LocalTier()) as cache:
        for number in range(3):
            await way(cache.store, of("quiet", number), "x")
        for number in range(12):
            await way(cache.store, of("loud", number), "x")
        found = [bool(await way(cache.lookup, of("loud", number))) for number in range(12)]
        assert found == [False] * 7 + [True] * 5
        for number in range(3):
            assert await way(cache.lookup, of("quiet", number))
        assert len(served.entries()) == 8
        assert cache.stats().evicted == 7
    async with cache_on(served, similarity_threshold=0.9) as other:
        asked = Question(f"{of('loud', 11).text} please", namespace="loud")
        assert (await way(other.lookup, asked, similarity_threshold=0.7)).tier == "semantic"
        assert not await way(other.lookup, of("loud", 0))


async def test_storing_the_same_again_makes_it_new_and_no_more(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        for number in (0, 1, 2, 3, 4, 0, 0, 5):
            await way(cache.store, of("t", number), "x")
        found = [
            bool(await way(cache.lookup, of("t", n), similarity_threshold=1)) for n in range(6)
        ]
        assert found == [True, False, True, True, True, True]


async def test_many_at_once_keep_to_it(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store_many, [(of("t", number), "x") for number in range(30)])
        assert len(either_index.entries()) == 5


async def test_a_smaller_quota_takes_effect(plain: Served, way: Way) -> None:
    async with cache_on(plain, max_entries_per_namespace=1500) as cache:
        await way(cache.store_many, [(of("t", number), "x") for number in range(1400)])
    async with cache_on(plain, max_entries_per_namespace=10) as cache:
        for number in range(2000, 2003):
            await way(cache.store, of("t", number), "x")
        assert len(plain.entries()) == 10


async def test_the_list_lives_as_long_as_its_entries_and_is_cleared_with_them(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, of("t", 0), "x", ttl=100)
        (listed,) = plain.admin.scan_iter(f"{plain.name}:quota:*")
        assert 90_000 < plain.admin.pttl(listed) <= 100_000
        await way(cache.store, of("t", 1), "x", ttl=10)
        assert plain.admin.pttl(listed) > 90_000
        await way(cache.store, of("t", 2), "x", ttl=None)
        await way(cache.store, of("t", 3), "x", ttl=10)
        assert plain.admin.pttl(listed) == -1
        assert await way(cache.clear) == 4
        assert not list(plain.admin.scan_iter(f"{plain.name}:*"))


async def test_a_renewed_entry_counts_as_new(plain: Served, way: Way) -> None:
    async with cache_on(plain, refresh_after=0.001, ttl=30, similarity_threshold=1) as cache:
        for number in range(5):
            await way(cache.store, of("t", number), "x", ttl=1000 if number else None)
        first = cache._address(of("t", 0)).key
        await way(cache.store, of("t", 0), "x", ttl=30)
        for number in range(1, 5):
            await way(cache.store, of("t", number), "x", ttl=1000)
        wait_until(lambda: plain.admin.pttl(first) < 29_900)
        assert (await way(cache.lookup, of("t", 0))).reason == "refresh"
        await way(cache.store, of("t", 0), "new", ttl=1000)
        await way(cache.store, of("t", 5), "x", ttl=1000)
        assert await way(cache.lookup, of("t", 0))
        assert not await way(cache.lookup, of("t", 1))


async def test_without_the_rights_the_answer_is_stored_all_the_same(
    searching: Served, way: Way
) -> None:
    searching.admin.execute_command("ACL", "SETUSER", "few", "on", "nopass", "~*", "+@all", "-zadd")
    options = {"url": searching.url.replace("://", "://few:x@"), "on_error": "miss"}
    async with cache_on(searching, **options) as cache:
        assert await way(cache.store, of("t", 0), "x")
        assert await way(cache.lookup, of("t", 0))
        assert cache.stats().errors == {"ServerReplyError": 1}
    searching.admin.execute_command("ACL", "DELUSER", "few")
    assert set(acl.QUOTA) <= set(acl.FLAT)
