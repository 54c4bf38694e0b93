"""What else somebody can write to Valkey beside rewritten entries: huge values, odd keys, odd logs.

Nothing of it may raise, hang a look-up, take much memory, or stay in the way for good.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.chaos.proxy import Proxy
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import await_until
from valkey_semcache import SemanticCache, SemcacheError
from valkey_semcache.server import deadline

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ELSE = "which wine goes with fish on a warm evening"
LEEWAY = 1.0
"""Seconds that one command more may take on a busy machine."""


def strict(served: Served, **options: Any) -> SemanticCache:
    """A cache whose look-ups and stores raise what they would else count."""
    options = served.options | {"on_error": "raise"} | options
    return SemanticCache(HashingEmbedder(), **options)


async def test_a_huge_reply_is_not_read_to_its_end(
    served: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "MAX_REPLY_BYTES", 1_000_000)
    options = served.options | {"max_answer_bytes": 10_000}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        await way(cache.store, ASKED, "good")
        await way(cache.store, ELSE, "good")
        key = (await way(cache.lookup, ASKED)).key
        served.admin.hset(key, "p", b"x" * 900_000)
        assert not await way(cache.lookup, ASKED)
        assert cache.stats().errors == {"UnreadableError": 1}, "it was read, and is no envelope"
        await way(cache.store, ASKED, "good")
        served.admin.hset(key, "p", b"x" * 3_000_000)
        for text in (ASKED, REWORDED):
            miss = await way(cache.lookup, text)
            assert miss.reason == "error"
            assert "more than 1,000,000 bytes" in miss.detail
            assert await way(cache.lookup, ELSE), "the connection is in order"
        await way(cache.store, ASKED, "good again")
        assert (await way(cache.lookup, REWORDED)).answer == "good again"


SHAPES = [b"zz", b"a:b", "ä".encode(), b"\xff\xfe", b"", b"0" * 31, b"0" * 33, b"0" * 32 + b"\n"]


def logs_of(served: Served) -> list[bytes]:
    return list(served.admin.scan_iter(f"{served.name}:log:*"))


@pytest.mark.parametrize("signing_key", [None, "k" * 32], ids=["unsigned", "signed"])
async def test_entries_under_odd_keys_are_removed_when_met(
    either_index: Served, way: Way, signing_key: str | None
) -> None:
    """Copies of a good entry, as near as it, under keys that no cache gives."""
    admin = either_index.admin
    async with strict(either_index, signing_key=signing_key) as cache:
        await way(cache.store, ASKED, "good")
        (key,) = either_index.entries()
        fields = admin.hgetall(key)
        for shape in SHAPES:
            odd = key.rpartition(":")[0].encode() + b":" + shape
            admin.hset(odd, mapping=fields)
            admin.unlink(key)
            for log in logs_of(either_index):
                admin.zadd(log, {shape: 2.0**51, b"~odd": 2.0**51})
            assert not await way(cache.lookup, REWORDED), shape
            assert either_index.index == "flat" or not admin.exists(odd), shape
            admin.unlink(odd)
            await way(cache.store, ASKED, "good")
            assert (await way(cache.lookup, REWORDED)).answer == "good", shape
        assert set(cache.stats().errors) <= {"UnreadableError", "ForgedError"}


@pytest.mark.parametrize(
    "members",
    [
        {b"~a": float("inf")},
        {b"~a": float("-inf")},
        {b"~a": -5},
        {b"~a": 0.5},
        {b"0" * 32: 1e300, b"~a": 1e300},
        {b"\xff\xfe": 1, b"~a": 2},
        {b"~a": 1, b"\xff\xfe": 1},
        {b"zz": 1},
        {b"x" * 1000: 1, b"~a": 2},
    ],
    ids=str,
)
async def test_an_odd_log_is_no_more_than_a_miss_until_the_next_store(
    plain: Served, way: Way, members: dict[bytes, float]
) -> None:
    async with strict(plain) as reader, strict(plain) as writer:
        for cache in (reader, writer):
            await way(cache.store, ASKED, "good")
        (log,) = logs_of(plain)
        plain.admin.unlink(log)
        plain.admin.zadd(log, members)
        for cache in (reader, writer):
            found = await way(cache.lookup, REWORDED)
            assert not found or found.answer == "good"
        await way(writer.store, ASKED, "good")
        for cache in (reader, writer):
            assert (await way(cache.lookup, REWORDED)).answer == "good"


@pytest.mark.parametrize(
    "odd",
    [
        {"format": "1" * 5000},
        {"format": "²"},
        {"dimension": "9" * 30},
        {"generation": "9" * 30},
        {"index": b"\xff"},
        {"index": "tree"},
        {"building": "x"},
        {"building": "1e300"},
    ],
    ids=str,
)
async def test_an_odd_meta_hash_is_an_error_of_ours_or_none(
    either_index: Served, way: Way, odd: dict[str, Any]
) -> None:
    async with strict(either_index) as cache:
        await way(cache.store, ASKED, "good")
        (key,) = either_index.entries()
    ((name, value),) = odd.items()
    if name in ("dimension", "generation", "building"):
        name = f"{name}:{key.split(':')[1]}"
    either_index.admin.hset(f"{either_index.name}:meta", name, value)
    async with strict(either_index) as cache:
        try:
            assert (await way(cache.lookup, REWORDED)).answer == "good"
        except SemcacheError as error:
            assert "clear()" in str(error) or "name=" in str(error)  # noqa: PT017
        await way(cache.clear)
        await way(cache.store, ASKED, "good")
        assert (await way(cache.lookup, REWORDED)).answer == "good"


async def test_hundreds_of_forged_neighbours_do_not_hold_up_a_look_up(
    either_index: Served, way: Way
) -> None:
    """Each that is met is removed, for as long as a look-up may take; then it is a miss."""
    admin, many = either_index.admin, 300
    port = int(either_index.url.rpartition(":")[2])
    with Proxy(port) as proxy:
        options = {"signing_key": "k" * 32, "timeout": 0.3, "url": proxy.url}
        async with SemanticCache(HashingEmbedder(), **either_index.options | options) as cache:
            await way(cache.store, ASKED, "good")
            (key,) = either_index.entries()
            fields, digests = admin.hgetall(key), [f"{number:032x}" for number in range(many)]
            with admin.pipeline(transaction=False) as pipeline:
                for digest in digests:
                    pipeline.hset(key[:-32] + digest, mapping=fields)
                for log in logs_of(either_index):
                    noted = dict.fromkeys(digests, 2.0**51)
                    pipeline.zadd(log, noted | {b"~odd": 2.0**51})
                pipeline.unlink(key)
                pipeline.execute()
            # A server that takes 10 ms for each command.
            proxy.seconds, proxy.manner = 0.01, "delay"
            began = time.monotonic()
            assert not await way(cache.lookup, REWORDED)
            assert time.monotonic() - began < 0.3 + LEEWAY
            assert 0 < cache.stats().errors["ForgedError"] < many
            proxy.manner = "well"
            await way(cache.store, ASKED, "good")
            await await_until(lambda: cache.lookup(REWORDED))
