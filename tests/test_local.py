"""The local tier: copies in this process, exact, bounded by bytes and age."""

from __future__ import annotations

import os
import threading
import time
import timeit
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from valkey_semcache import LocalTier, NotStorableError, SemanticCache, UnreadableError
from valkey_semcache.local import LocalCopies
from valkey_semcache.stored.answer import Envelope

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    options = {"on_error": "raise", "local": LocalTier()} | options
    return SemanticCache(HashingEmbedder(), **(served.options | options))


class ListCodec:
    """Answers that can be changed by who gets them."""

    name = "list/1"

    def encode(self, answer: Any) -> bytes:
        if not isinstance(answer, list):
            raise NotStorableError("no list")
        return ",".join(answer).encode()

    def decode(self, content: bytes) -> Any:
        if b"!" in content:
            raise UnreadableError("damaged")
        return content.decode().split(",")


async def test_the_second_time_costs_no_command(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    async with cache_on(searching, local=None) as other:
        await way(other.store, ASKED, "x", usage={"input_tokens": 7})
    async with cache_on(searching) as cache:
        assert (await way(cache.lookup, ASKED)).tier == "exact"
        with searching.standin.counting() as seen:
            hit = await way(cache.lookup, ASKED)
        assert not seen
        assert (hit.tier, hit.answer, hit.similarity, hit.question) == ("local", "x", 1.0, ASKED)
        assert hit.usage == {"input_tokens": 7}
        stats = cache.stats()
    assert stats.hits == {"exact": 1, "local": 1}
    assert stats.saved_tokens == {"input_tokens": 14}


async def test_what_was_stored_here_is_held(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).tier == "local"
        await way(cache.store, ASKED, "y")
        hit = await way(cache.lookup, ASKED)
        assert (hit.tier, hit.answer) == ("local", "y")


@pytest.mark.parametrize("promote", [False, True])
async def test_a_wording_that_hit_by_meaning_is_held_too(
    either_index: Served, way: Way, promote: bool
) -> None:
    async with cache_on(either_index, promote=promote) as cache:
        await way(cache.store, ASKED, "x")
        semantic = await way(cache.lookup, REWORDED)
        assert semantic.tier == "semantic"
        embedded = cache.stats().embeddings
        hit = await way(cache.lookup, REWORDED)
        assert (hit.tier, hit.similarity, hit.key) == ("local", semantic.similarity, semantic.key)
        assert hit.question == ASKED
        assert cache.stats().embeddings == embedded
        assert not await way(cache.lookup, REWORDED, similarity_threshold=0.9999)
        assert (await way(cache.lookup, REWORDED)).tier == "local"


async def test_each_hit_is_a_new_object(plain: Served, way: Way) -> None:
    async with cache_on(plain, codec=ListCodec()) as cache:
        await way(cache.store, ASKED, ["a", "b"], usage={"input_tokens": 1})
        first = await way(cache.lookup, ASKED)
        first.answer.append("changed")
        first.usage["input_tokens"] = 99
        second = await way(cache.lookup, ASKED)
    assert (second.tier, second.answer, second.usage) == ("local", ["a", "b"], {"input_tokens": 1})


async def test_another_codec_s_answer_is_not_served(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "x")
        assert not await way(cache.lookup, ASKED, codec=ListCodec())
        assert (await way(cache.lookup, ASKED)).tier == "local"


async def test_a_delete_a_clear_and_a_rewrite_count_at_once(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        for end in (cache.delete, cache.clear):
            await way(cache.store, ASKED, "x")
            assert await way(cache.lookup, REWORDED)
            assert (await way(cache.lookup, REWORDED)).tier == "local"
            await (way(end, ASKED) if end == cache.delete else way(end))
            assert not await way(cache.lookup, ASKED)
            assert not await way(cache.lookup, REWORDED)
        await way(cache.store, ASKED, "x")
        await way(cache.lookup, REWORDED)
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).answer == "y"


@pytest.mark.parametrize("how", ["delete", "clear"])
async def test_a_look_up_under_way_does_not_bring_back_what_was_deleted(
    plain: Served, way: Way, how: str
) -> None:
    """The entry is read, then deleted, then served: it must not be held after that."""
    async with cache_on(plain) as writer:
        await way(writer.store, ASKED, "x")

    deleted = threading.Event()

    class Slow(ListCodec):
        name = "text/1"

        def decode(self, content: bytes) -> str:
            if not deleted.is_set():
                deleted.set()
                cache.delete(ASKED) if how == "delete" else cache.clear()
            return content.decode()

    async with cache_on(plain, codec=Slow()) as cache:
        assert (await way(cache.lookup, ASKED)).tier == "exact"
        assert deleted.is_set()
        assert not await way(cache.lookup, ASKED)


async def test_others_see_a_delete_once_the_copy_s_time_is_up(plain: Served, way: Way) -> None:
    async with cache_on(plain, local=LocalTier(ttl=0.2)) as cache, cache_on(plain) as other:
        await way(other.store, ASKED, "x")
        assert await way(cache.lookup, ASKED)
        held = time.monotonic()
        await way(other.delete, ASKED)
        outcomes = []
        while time.monotonic() - held < 0.15:
            outcomes.append((await way(cache.lookup, ASKED)).tier)
        assert set(outcomes) == {"local"}
        wait_until(lambda: time.monotonic() - held > 0.25)
        assert not await way(cache.lookup, ASKED)


async def test_a_copy_ends_with_its_entry(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "x", ttl=0.3)
        assert (await way(cache.lookup, ASKED)).tier == "local"
        wait_until(lambda: not plain.entries())
        wait_until(lambda: not cache.lookup(ASKED), seconds=0.3)


async def test_a_view_for_another_tenant_gets_nothing(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, ASKED, "x")
        assert not await way(cache.with_namespace("acme").lookup, ASKED)


# The copies by themselves


def envelope(content: bytes = b"x", created: float = 0.0) -> Envelope:
    return Envelope(b"p" * 32, "text/1", content, created)


def test_memory_stays_within_its_bound() -> None:
    copies = LocalCopies(LocalTier(max_bytes=50_000))
    for number in range(1000):
        copies.keep(f"asked{number}", f"key{number}", 0.9, envelope(b"x" * 1000), None)
    assert 5 < len(copies) < 50
    assert 20_000 < copies.nbytes <= 50_000
    assert copies.find("key999") is not None
    assert copies.find("key0") is None
    copies.keep("huge", "huge", 1.0, envelope(b"x" * 60_000), None)
    assert copies.find("huge") is None


def test_the_bound_counts_about_what_python_takes() -> None:
    import tracemalloc

    copies = LocalCopies(LocalTier(max_bytes=2**24))
    tracemalloc.start()
    for number in range(2000):
        key = f"{'k' * 100}{number}"
        own = Envelope(
            number.to_bytes(32, "big"), "text/1", bytes(500), float(number), question=key
        )
        copies.keep(f"{key}?", f"{key}", 0.9, own, None)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.5 < held / copies.nbytes < 1.2


def test_a_pointer_ends_with_its_copy() -> None:
    copies = LocalCopies(LocalTier())
    copies.keep("asked", "key", 0.9, envelope(created=1.0), None)
    assert copies.find("asked") == ("key", 0.9, envelope(created=1.0))
    copies.written("key", envelope(b"y", created=2.0), None)
    assert copies.find("asked") is None, "it was renewed"
    copies.keep("asked", "key", 0.9, envelope(created=2.0), None)
    copies.drop("key")
    assert copies.find("asked") is None


def test_an_older_copy_does_not_replace_a_newer_one() -> None:
    copies = LocalCopies(LocalTier())
    copies.written("key", envelope(b"new", created=2.0), None)
    copies.keep("key", "key", 1.0, envelope(b"old", created=1.0), None)
    found = copies.find("key")
    assert found is not None
    assert found[2].content == b"new"


def test_threads_share_it() -> None:
    copies = LocalCopies(LocalTier(max_bytes=20_000))
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(2000):
                key = f"{(number * seed) % 40}"
                copies.keep(f"w{key}", key, 0.9, envelope(b"x" * 500, float(number)), None)
                copies.find(f"w{key}")
                if number % 50 == 0:
                    copies.drop(key)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert errors == []
    assert copies.nbytes <= 20_000


def test_a_forked_worker_begins_with_none_and_can_use_it(plain: Served) -> None:
    with cache_on(plain) as cache:
        cache.store(ASKED, "x")
        pid = os.fork()
        if pid == 0:
            tiers = [getattr(cache.lookup(ASKED), "tier", "") for _ in range(2)]
            os._exit(0 if tiers == ["exact", "local"] else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert cache.lookup(ASKED).tier == "local"  # type: ignore[union-attr]


def test_a_hit_takes_less_than_30_microseconds(plain: Served) -> None:
    with cache_on(plain) as cache:
        cache.store(ASKED, "Press the button. " * 20)
        assert cache.lookup(ASKED).tier == "local"  # type: ignore[union-attr]
        runs = timeit.repeat(
            lambda: cache.lookup(ASKED), number=500, repeat=20, timer=time.process_time
        )
    assert min(runs) / 500 < 30e-6


@pytest.mark.parametrize("given", [{"max_bytes": 0}, {"max_bytes": 1.5}, {"ttl": 0}, {"ttl": "1"}])
def test_bounds_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="LocalTier"):
        LocalTier(**given)
