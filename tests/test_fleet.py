"""The figures of all processes in Valkey: what is written, when, and what is read of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.telemetry import reporter
from valkey_semcache.telemetry.histogram import LAST, bucket, quantile

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
USAGE = {"input_tokens": 1000, "output_tokens": 200}
ROOT = Path(__file__).parents[1]


def cache_on(served: Served, **options: Any) -> SemanticCache:
    options = served.options | {"fleet_stats": True, "on_error": "raise"} | options
    return SemanticCache(HashingEmbedder(), **options)


def asked(text: str, model: str = "gpt-4o") -> Question:
    return Question(text, identity=model, model=model)


def until(fact: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


async def work(way: Way, cache: SemanticCache) -> None:
    """Two misses, a store and two hits."""
    await way(cache.lookup, asked(ASKED))
    await way(cache.store, asked(ASKED), "x", usage=USAGE)
    await way(cache.lookup, asked(ASKED))
    await way(cache.lookup, asked(REWORDED))
    await way(cache.lookup, asked("which wine goes with fish", "gpt-4o-mini"))


async def test_figures_of_several_processes_add_up(served: Served, way: Way) -> None:
    async with cache_on(served) as one, cache_on(served) as other:
        empty = await way(one.fleet_stats)
        assert (empty.lookups, empty.hit_rate, empty.since, empty.processes) == (0, 0.0, None, 0)
        await work(way, one)
        assert one._reporter is not None
        await asyncio.to_thread(one._reporter.flush)  # what is told once is not told again
        await way(other.lookup, asked(ASKED))
    async with cache_on(served) as reader:
        for minutes in (None, 1, 5, 120):
            if minutes == 1 and time.time() % 60 < 20:
                continue  # a minute may have begun since
            fleet = await way(reader.fleet_stats, minutes=minutes)
            assert fleet.hits == {"exact": 2, "semantic": 1}
            assert fleet.misses == {"no_neighbour": 1, "below_threshold": 1} or fleet.lookups == 5
            assert fleet.hit_rate == 3 / 5
            assert fleet.lookups_by_model["gpt-4o"] == {"miss": 1, "exact": 2, "semantic": 1}
            assert fleet.saved_tokens == {"input_tokens": 3000, "output_tokens": 600}
            assert float(fleet.saved_usd["gpt-4o"]) == pytest.approx(3 * 0.0045)
            assert (fleet.stored, fleet.errors, fleet.processes) == (1, {}, 1)
            assert 0 < fleet.quantile(0.5) <= fleet.quantile(0.95) < 60
            assert fleet.quantile(0.5, "local") is None
        assert fleet.since == pytest.approx(time.time(), abs=60)
        with pytest.raises(ConfigurationError, match="minutes=0"):
            await way(reader.fleet_stats, minutes=0)


async def test_a_process_writes_once_a_second_and_only_if_something_happened(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    with searching.standin.counting() as seen:
        async with cache_on(searching) as cache:
            for number in range(3):
                await work(way, cache)
                if number == 0:
                    until(lambda: b"total" in written(seen))
            until(lambda: len(writes(seen)) >= 2)
            told = len(writes(seen))
            assert told == 2
            assert cache._reporter is not None
            cache._reporter.flush()
            assert len(writes(seen)) == told, "nothing happened since"


def writes(seen: list[Any]) -> list[Any]:
    """The writes of the figures, by the sums in all that each one adds to."""
    return [c for c in seen if c.name == "EVALSHA" and b":stats:total" in b" ".join(c.args)]


def written(seen: list[Any]) -> bytes:
    return b" ".join(b" ".join(command.args) for command in writes(seen))


async def test_keys_are_few_end_by_themselves_and_go_with_the_cache(
    served: Served, way: Way
) -> None:
    async with cache_on(served) as cache:
        await work(way, cache)
        assert cache._reporter is not None
        await asyncio.to_thread(cache._reporter.flush)
        keys = list(served.admin.scan_iter(f"{served.name}:stats:*", count=1000))
        assert f"{served.name}:stats:total".encode() in keys
        assert len(keys) in (2, 3), "in all, and of this minute"
        for key in keys:
            kept = 90 * 86_400_000 if key.endswith(b"total") else 7_200_000
            assert kept - 60_000 < served.admin.pttl(key) <= kept
            text = json.dumps([k.decode() for k in served.admin.hgetall(key)])
            assert "password" not in text
        await way(cache.clear)
        assert list(served.admin.scan_iter(f"{served.name}:*", count=1000)) == []


async def test_models_are_hidden_where_they_are_encrypted(plain: Served, way: Way) -> None:
    key = "a secret of sixteen letters or more"
    async with cache_on(plain, encryption_key=key) as cache:
        await work(way, cache)
    for name in plain.admin.scan_iter(f"{plain.name}:*"):
        dump = plain.admin.dump(name)
        assert b"gpt-4o" not in dump
    async with cache_on(plain, encryption_key=key) as cache:
        models = (await way(cache.fleet_stats)).lookups_by_model
    assert sorted(sum(m.values()) for m in models.values()) == [1, 3]


async def test_false_writes_nothing(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    with searching.standin.counting() as seen:
        async with cache_on(searching, fleet_stats=False) as cache:
            await work(way, cache)
    assert writes(seen) == []
    with pytest.raises(ConfigurationError, match="fleet_stats="):
        cache_on(searching, fleet_stats="yes")


async def test_who_may_not_write_them_is_told_once_and_caches_all_the_same(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    plain.admin.execute_command(
        *("ACL", "SETUSER", plain.name, "on", ">pw", "~*", "+@all", "-hincrby")
    )
    url = f"valkey://{plain.name}:pw@{plain.url.removeprefix('valkey://')}"
    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        async with cache_on(plain, url=url) as cache:
            assert cache._reporter is not None
            for _ in range(3):
                await work(way, cache)
                await asyncio.to_thread(cache._reporter.flush)
            assert cache.stats().errors == {}
    plain.admin.acl_deluser(plain.name)
    (warning,) = [r.getMessage() for r in caplog.records]
    assert "fleet_stats=False" in warning
    assert "hincrby" in warning
    assert "not kept by this process" in warning


async def test_what_could_not_be_written_is_in_the_next_write(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        assert cache._reporter is not None
        key = f"{plain.name}:stats:total"
        plain.admin.set(key, "of another type")
        await work(way, cache)
        await asyncio.to_thread(cache._reporter.flush)
        plain.admin.unlink(key)
        await way(cache.lookup, asked(ASKED))
        await asyncio.to_thread(cache._reporter.flush)
        assert (await way(cache.fleet_stats)).lookups == 5


def test_a_dead_server_holds_nobody_up() -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1", timeout=20.0)
    cache.lookup(ASKED)
    begun = time.monotonic()
    cache.close()
    assert time.monotonic() - begun < 1
    assert cache._reporter is not None
    assert cache._reporter.behind


def test_a_process_that_ends_writes_what_is_left(plain: Served) -> None:
    program = f"""
import multiprocessing, os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.embedders import HashingEmbedder
from valkey_semcache import SemanticCache
cache = SemanticCache(HashingEmbedder(), {plain.url!r}, name={plain.name!r}, timeout=20.0)
def child(how):
    cache.lookup("asked by " + how)
cache.lookup("asked by the parent")
worker = multiprocessing.get_context("fork").Process(target=child, args=("multiprocessing",))
worker.start()
worker.join()
if (pid := os.fork()) == 0:
    child("fork")
    sys.exit()
os.waitpid(pid, 0)
"""
    # From Python 3.12 on a fork of a process with threads is warned of.
    script = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with cache_on(plain) as cache:
        fleet = cache.fleet_stats()
    assert fleet.lookups == 3, "each process told its own, and nobody another's"
    assert fleet.processes == 3


def test_a_fork_amid_counting_leaves_no_lock_held(plain: Served) -> None:
    with cache_on(plain) as cache:
        cache.lookup(asked(ASKED))
        cache._counters._lock._lock.acquire()
        try:
            reading, writing = os.pipe()
            if (pid := os.fork()) == 0:  # pragma: no cover - in the child
                try:
                    told = cache._reporter is not None and not cache._reporter.behind
                    os.write(writing, b"1" if told else b"0")
                finally:
                    os._exit(0)
        finally:
            cache._counters._lock._lock.release()
        os.waitpid(pid, 0)
        assert os.read(reading, 1) == b"1", "what the parent counted is the parent's to tell"
        os.close(reading)
        os.close(writing)


def test_the_thread_goes_when_there_is_nothing_more_to_say(
    plain: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "_SECONDS", 0.02)
    monkeypatch.setattr(reporter, "_LINGERS", 0.05)
    with cache_on(plain) as cache:
        assert cache._reporter is not None
        for number in range(1, 4):
            cache.lookup(asked(ASKED))
            until(lambda number=number: cache.fleet_stats().lookups == number)  # type: ignore[misc]
            thread = cache._reporter._thread
            until(lambda: cache._reporter._thread is None)  # type: ignore[union-attr]
            if thread is not None:
                thread.join(20)
                assert not thread.is_alive()


async def test_clients_of_the_apps_own_do_too(plain: Served, way: Way) -> None:
    import valkey.asyncio

    options = {k: v for k, v in plain.options.items() if k != "url"} | {"fleet_stats": True}
    async with (
        valkey.asyncio.Valkey.from_url(plain.url) as client,
        SemanticCache(HashingEmbedder(), async_client=client, **options) as cache,
    ):
        await way(cache.lookup, asked(ASKED))
    async with cache_on(plain) as reader:
        assert (await way(reader.fleet_stats)).lookups == 1


# The histogram


@given(st.lists(st.floats(1e-6, 900), min_size=1, max_size=50), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_off_by_a_tenth_at_most(durations: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for seconds in durations:
        counts[bucket(seconds)] = counts.get(bucket(seconds), 0) + 1
    rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations))
    assert quantile(counts, share) == pytest.approx(sorted(durations)[rank - 1], rel=0.1)


def test_the_ends_of_the_histogram() -> None:
    assert bucket(0.0) == bucket(-1.0) == bucket(1e-9) == 0
    assert bucket(1e9) == LAST
    assert quantile({}, 0.5) is None
