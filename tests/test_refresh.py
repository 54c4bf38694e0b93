"""Answers are renewed before they expire: by one caller of all, or in the background."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from valkey_semcache import LocalTier, Question, SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ALSO = "how do i reset the password of my old account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    options = {"on_error": "raise", "ttl": 4, "refresh_after": 0.05} | options
    return SemanticCache(HashingEmbedder(), **(served.options | options))


def wait_until_due(served: Served, key: str, life: float = 4.0) -> None:
    """Until an entry is past a twentieth of its life."""
    wait_until(lambda: served.admin.pttl(key) < life * 950 - 10)


@pytest.mark.parametrize("asked", [ASKED, REWORDED], ids=["its own words", "other words"])
async def test_one_caller_gets_a_miss_and_its_answer_replaces_the_entry(
    served: Served, way: Way, asked: str
) -> None:
    async with (
        cache_on(served) as cache,
        cache_on(served) as other,
        cache_on(served, refresh_after=0.99) as patient,
    ):
        await way(cache.store, ASKED, "old")
        (key,) = served.entries()
        wait_until_due(served, key)
        assert await way(patient.lookup, asked), "not yet due"
        miss = await way(cache.lookup, asked)
        assert miss.reason == "refresh"
        assert miss.stale.answer == "old"
        for process in (cache, other):
            for words in (ASKED, REWORDED):
                assert (await way(process.lookup, words)).answer == "old", "others are served"
        vector = served.admin.hget(key, "v")
        await way(cache.store, asked, "new", usage={"output_tokens": 3}, ttl=100)
        assert served.entries() == [key], "it replaces the entry that asked for it"
        assert served.admin.hget(key, "v") == vector
        assert 90_000 < served.admin.pttl(key) <= 100_000
        for process in (cache, other):
            for words in (ASKED, REWORDED):
                hit = await way(process.lookup, words)
                assert (hit.answer, hit.question) == ("new", ASKED)
                assert hit.usage == {"output_tokens": 3}
        assert cache.stats().renewed == 1
        assert cache.stats().misses == {"refresh": 1}
        assert not list(served.admin.scan_iter(f"{served.name}:lock:*")), "the lock is free again"


async def test_of_many_callers_exactly_one_gets_the_miss(either_index: Served) -> None:
    caches = [cache_on(either_index) for _ in range(4)]
    caches[0].store(ASKED, "old")
    (key,) = either_index.entries()
    wait_until_due(either_index, key)
    words = [ASKED, REWORDED, ALSO] * 8
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: caches[n % 4].lookup(words[n]), range(len(words))))
    assert Counter(bool(outcome) for outcome in outcomes) == {True: 23, False: 1}
    tasks = (caches[n % 4].alookup(words[n]) for n in range(len(words)))
    assert all(await asyncio.gather(*tasks)), "one was it"
    for cache in caches:
        await cache.aclose()


async def test_if_the_renewal_fails_the_old_answer_serves_until_it_expires(
    either_index: Served, way: Way
) -> None:
    async with cache_on(either_index, ttl=1.5) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = either_index.entries()
        wait_until_due(either_index, key, 1.5)
        assert (await way(cache.lookup, ASKED)).reason == "refresh"
        assert (await way(cache.lookup, ASKED)).answer == "old"
        (lock,) = either_index.admin.scan_iter(f"{either_index.name}:lock:*")
        assert 0 < either_index.admin.pttl(lock) <= either_index.admin.pttl(key) + 20
        either_index.admin.unlink(lock)
        assert (await way(cache.lookup, ASKED)).reason == "refresh", "then another one's turn comes"
        wait_until(lambda: not either_index.admin.exists(key))
        assert not await way(cache.lookup, ASKED)


async def test_the_lock_does_not_last_longer_than_a_renewal_may_take(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain, ttl=10_000, refresh_after=1e-6) as cache:
        await way(cache.store, ASKED, "old")
        wait_until(lambda: not cache.lookup(ASKED))
        (lock,) = plain.admin.scan_iter(f"{plain.name}:lock:*")
        assert 25_000 < plain.admin.pttl(lock) <= 30_000


async def test_what_was_deleted_meanwhile_is_stored_under_the_asked_words(
    either_index: Served, way: Way
) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = either_index.entries()
        wait_until_due(either_index, key)
        assert (await way(cache.lookup, REWORDED)).reason == "refresh"
        await way(cache.delete, ASKED)
        await way(cache.store, REWORDED, "new", ttl=100)
        hit = await way(cache.lookup, REWORDED)
        assert (hit.answer, hit.question) == ("new", REWORDED)
        assert (await way(cache.lookup, ASKED)).tier == "semantic"


async def test_an_exact_only_answer_is_renewed_too(either_index: Served, way: Way) -> None:
    question = Question(ASKED, exact_only=True)
    async with cache_on(either_index) as cache:
        await way(cache.store, question, "old")
        (key,) = either_index.entries()
        wait_until_due(either_index, key)
        assert (await way(cache.lookup, question)).reason == "refresh"
        await way(cache.store, question, "new", ttl=100)
        assert (await way(cache.lookup, question)).answer == "new"
        assert cache.stats().renewed == 1
        assert not list(either_index.admin.scan_iter(f"{either_index.name}:lock:*"))


async def test_the_flat_index_finds_what_was_renewed(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=1) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = plain.entries()
        wait_until_due(plain, key, 1)
        assert (await way(cache.lookup, REWORDED)).reason == "refresh"
        await way(cache.store, REWORDED, "new", ttl=100)
    async with cache_on(plain) as other:
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        assert plain.admin.pttl(log) > 90_000
        assert (await way(other.lookup, ALSO, similarity_threshold=0.5)).answer == "new"


async def test_a_local_copy_does_not_hide_that_its_entry_is_due(plain: Served, way: Way) -> None:
    async with cache_on(plain, local=LocalTier()) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = plain.entries()
        copies = cache._flows._local
        assert copies is not None
        assert copies.find(key) is not None
        wait_until_due(plain, key)
        assert (await way(cache.lookup, ASKED)).reason == "refresh"
        await way(cache.store, ASKED, "new", ttl=100)
        hit = await way(cache.lookup, ASKED)
        assert (hit.tier, hit.answer) == ("local", "new")


async def test_what_never_expires_is_never_due(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=None) as cache:
        await way(cache.store, ASKED, "x")
        assert await way(cache.lookup, ASKED)
        assert not list(plain.admin.scan_iter(f"{plain.name}:lock:*"))


async def test_a_lock_that_cannot_be_had_serves_the_old_answer(plain: Served, way: Way) -> None:
    """Here: a user who may not set what is not there yet."""
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "old")
    (key,) = plain.entries()
    wait_until_due(plain, key)
    plain.admin.acl_setuser(
        "nolock", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-hsetnx"]
    )
    options = {"url": plain.url.replace("://", "://nolock:x@")}
    async with cache_on(plain, **options) as cache:
        assert (await way(cache.lookup, ASKED)).answer == "old"
        assert cache.stats().errors == {"ServerReplyError": 1}
    plain.admin.acl_deluser("nolock")


async def test_clear_takes_locks_along(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = plain.entries()
        wait_until_due(plain, key)
        await way(cache.lookup, ASKED)
        assert await way(cache.clear) == 1
        assert not list(plain.admin.scan_iter(f"{plain.name}:*"))


# In the background


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("asked", [ASKED, REWORDED], ids=["its own words", "other words"])
async def test_in_the_background_nobody_waits_or_misses(
    either_index: Served, way: Way, kind: str, asked: str
) -> None:
    called: list[Question] = []
    go_on = threading.Event()

    def refresh(question: Question) -> str:
        called.append(question)
        assert go_on.wait(20)
        return "new"

    async def arefresh(question: Question) -> str:
        called.append(question)
        assert await asyncio.to_thread(go_on.wait, 20)
        return "new"

    options = {"refresh": refresh if kind == "sync" else arefresh}
    async with cache_on(either_index, **options) as cache:
        question = Question(asked, context="a context", namespace="acme")
        await way(cache.store, Question(ASKED, context="a context", namespace="acme"), "old")
        (key,) = either_index.entries()
        wait_until_due(either_index, key)
        for _ in range(3):
            assert (await way(cache.lookup, question)).answer == "old"
        go_on.set()
        for _ in range(2000):
            await asyncio.sleep(0.005)
            if cache.stats().renewed:
                break
        assert called == [question]
        assert either_index.entries() == [key]
        assert (await way(cache.lookup, question)).answer == "new"
        assert cache.stats().misses == {}


async def test_a_background_renewal_that_fails_is_counted(plain: Served, way: Way) -> None:
    def refresh(question: Question) -> str:
        raise RuntimeError("the model is down")

    async with cache_on(plain, refresh=refresh) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = plain.entries()
        wait_until_due(plain, key)
        for _ in range(3):
            assert (await way(cache.lookup, ASKED)).answer == "old"
        wait_until(lambda: cache.stats().errors == {"RuntimeError": 1})


async def test_only_so_many_renewals_run_at_once(plain: Served) -> None:
    go_on = threading.Event()
    called: list[str] = []

    def refresh(question: Question) -> str:
        called.append(question.text)
        assert go_on.wait(20)
        return "new"

    with cache_on(plain, refresh=refresh, ttl=20, refresh_after=0.001) as cache:
        texts = ["word " + letter for letter in "abcdefghijkl"]
        for text in texts:
            cache.store(text, "old")
        last = cache.lookup(texts[-1]).key  # type: ignore[union-attr]
        wait_until(lambda: plain.admin.pttl(last) < 19_900)
        for text in texts:
            assert cache.lookup(text).answer == "old"  # type: ignore[union-attr]
        assert len(set(called)) <= 8
        go_on.set()
        wait_until(lambda: cache.stats().renewed >= 8)
