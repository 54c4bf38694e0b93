"""get_or_call: one call for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from valkey_semcache import ConfigurationError, SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


class Model:
    """Counts its calls, and answers when it is let."""

    def __init__(self, answer: Any = "x", *, waits: bool = False) -> None:
        self.answer = answer
        self.calls = 0
        self.go_on = threading.Event()
        if not waits:
            self.go_on.set()

    def __call__(self) -> Any:
        self.calls += 1
        assert self.go_on.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def acall(self) -> Any:
        return await asyncio.to_thread(self)

    def by(self, way: Way) -> Callable[[], Any]:
        return self if way.name == "sync" else self.acall


async def test_it_looks_up_calls_and_stores(either_index: Served, way: Way) -> None:
    model = Model()
    async with cache_on(either_index) as cache:
        for asked in (ASKED, ASKED, REWORDED):
            assert await way(cache.get_or_call, asked, model.by(way), ttl=50) == "x"
        assert model.calls == 1
        assert cache.stats().hits == {"exact": 1, "semantic": 1}
        (key,) = either_index.entries()
        assert 45_000 < either_index.admin.pttl(key) <= 50_000


async def test_the_tokens_it_cost_are_counted(plain: Served, way: Way) -> None:
    def broken(answer: Any) -> Any:
        raise RuntimeError

    async with cache_on(plain, on_error="miss") as cache:
        options = {"usage_of": lambda answer: {"output_tokens": len(answer)}}
        await way(cache.get_or_call, ASKED, Model("four").by(way), **options)
        assert (await way(cache.lookup, ASKED)).usage == {"output_tokens": 4}
        assert await way(cache.get_or_call, "b", Model().by(way), usage_of=broken) == "x"
        assert (await way(cache.lookup, "b")).answer == "x"
        assert cache.stats().errors == {"RuntimeError": 1}


def in_threads(cache: SemanticCache, model: Model, count: int) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(cache.get_or_call, ASKED, model) for _ in range(count)]
        wait_until(lambda: cache.stats().misses.get("no_neighbour") == count)
        wait_until(lambda: waiting(cache) == count - 1)
        model.go_on.set()
        return [future.result() for future in futures]


def waiting(cache: SemanticCache) -> int:
    return sum(len(flight.wakers) for flight in cache.coalescer._flights.values())


def test_threads_share_one_call(either_index: Served) -> None:
    model = Model(waits=True)
    with cache_on(either_index) as cache:
        assert in_threads(cache, model, 8) == ["x"] * 8
        assert model.calls == 1
        assert cache.stats().coalesced == 7


async def test_tasks_share_one_call(either_index: Served) -> None:
    model = Model(waits=True)
    async with cache_on(either_index) as cache:
        tasks = [asyncio.create_task(cache.aget_or_call(ASKED, model.acall)) for _ in range(8)]
        await asyncio.to_thread(wait_until, lambda: waiting(cache) == 7)
        model.go_on.set()
        assert await asyncio.gather(*tasks) == ["x"] * 8
        assert model.calls == 1
        assert cache.stats().coalesced == 7


def test_without_coalescing_each_calls(plain: Served) -> None:
    model = Model(waits=True)
    with cache_on(plain) as cache, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get_or_call, ASKED, model, coalesce=False) for _ in range(4)]
        wait_until(lambda: model.calls == 4)
        model.go_on.set()
        assert [future.result() for future in futures] == ["x"] * 4


class ListCodec:
    name = "list/1"

    def encode(self, answer: Any) -> bytes:
        return ",".join(answer).encode()

    def decode(self, content: bytes) -> Any:
        return content.decode().split(",")


def test_those_who_wait_get_objects_of_their_own(plain: Served) -> None:
    model = Model(["a", "b"], waits=True)
    with cache_on(plain, codec=ListCodec()) as cache:
        answers = in_threads(cache, model, 3)
    assert answers == [["a", "b"]] * 3
    assert len({id(answer) for answer in answers}) == 3


def test_a_leader_that_fails_frees_those_who_wait(either_index: Served) -> None:
    model = Model(RuntimeError("down"), waits=True)
    with cache_on(either_index) as cache:
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(cache.get_or_call, ASKED, model) for _ in range(3)]
            wait_until(lambda: waiting(cache) == 2)
            model.go_on.set()
            for future in futures:
                with pytest.raises(RuntimeError, match="down"):
                    future.result(20)
        assert model.calls == 3
        assert cache.stats().coalesced == 0


def test_what_is_not_to_be_kept_is_not_shared(plain: Served) -> None:
    model = Model("sorry", waits=True)
    with cache_on(plain, should_store=lambda question, answer: answer != "sorry") as cache:
        assert in_threads(cache, model, 3) == ["sorry"] * 3
        assert model.calls == 3


async def test_without_valkey_one_call_is_still_shared() -> None:
    model = Model(waits=True)
    async with SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1") as cache:
        calls = [cache.aget_or_call(ASKED, model.acall, coalesce=c) for c in (True, "fleet", True)]  # type: ignore[arg-type]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.to_thread(wait_until, lambda: waiting(cache) == 2)
        model.go_on.set()
        assert await asyncio.gather(*tasks) == ["x"] * 3
        assert model.calls == 1


async def test_what_is_not_to_be_cached_is_called_each_time(plain: Served, way: Way) -> None:
    model = Model()
    async with cache_on(plain, should_cache=lambda question: False) as cache:
        for _ in range(2):
            assert await way(cache.get_or_call, ASKED, model.by(way)) == "x"
    assert model.calls == 2
    assert plain.entries() == []


async def test_a_renewal_that_fails_gives_the_old_answer(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=4, refresh_after=0.01) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = plain.entries()
        wait_until(lambda: plain.admin.pttl(key) < 3900)
        failing = Model(RuntimeError("down"))
        assert await way(cache.get_or_call, ASKED, failing.by(way)) == "old"
        assert failing.calls == 1
        assert cache.stats().errors == {"RuntimeError": 1}


# Across processes


@pytest.mark.parametrize("kind", ["threads", "tasks"])
async def test_a_fleet_makes_one_call(either_index: Served, kind: str) -> None:
    """Each cache stands for a process: they share nothing but Valkey."""
    model = Model(waits=True)
    caches = [cache_on(either_index) for _ in range(4)]
    if kind == "threads":
        calls = [
            asyncio.to_thread(cache.get_or_call, ASKED, model, coalesce="fleet") for cache in caches
        ]
    else:
        calls = [cache.aget_or_call(ASKED, model.acall, coalesce="fleet") for cache in caches]
    tasks = [asyncio.create_task(call) for call in calls]  # type: ignore[arg-type]
    await asyncio.to_thread(wait_until, lambda: model.calls == 1)
    await asyncio.to_thread(wait_until, lambda: all(cache.stats().lookups for cache in caches))
    model.go_on.set()
    assert await asyncio.gather(*tasks) == ["x"] * 4
    assert model.calls == 1
    assert sum(cache.stats().coalesced for cache in caches) == 3
    assert not list(either_index.admin.scan_iter(f"{either_index.name}:lock:*"))
    for cache in caches:
        await cache.aclose()


async def test_a_leader_that_fails_frees_the_fleet(plain: Served) -> None:
    first, second = Model(RuntimeError("down"), waits=True), Model("y")
    async with cache_on(plain) as one, cache_on(plain) as other:
        leading = asyncio.create_task(one.aget_or_call(ASKED, first.acall, coalesce="fleet"))
        await asyncio.to_thread(wait_until, lambda: first.calls == 1)
        waits = asyncio.create_task(other.aget_or_call(ASKED, second.acall, coalesce="fleet"))
        await asyncio.to_thread(wait_until, lambda: other.stats().lookups == 1)
        first.go_on.set()
        with pytest.raises(RuntimeError):
            await leading
        assert await asyncio.wait_for(waits, 10) == "y"
        assert second.calls == 1


async def test_a_leader_that_died_holds_up_the_fleet_no_longer_than_the_deadline(
    plain: Served, way: Way
) -> None:
    model = Model()
    async with cache_on(plain) as cache:
        address = cache._address(ASKED)
        lock = address.key.replace(":", ":lock:", 1)
        plain.admin.hset(lock, "o", "a process that died")
        plain.admin.pexpire(lock, 300)
        answer = await way(cache.get_or_call, ASKED, model.by(way), coalesce="fleet")
        assert (answer, model.calls) == ("x", 1)
        plain.admin.hset(lock, "o", "one that hangs")
        options = {"coalesce": "fleet", "coalesce_timeout": 0.2}
        answer = await way(cache.get_or_call, "another", model.by(way), **options)
        other = cache._address("a third").key.replace(":", ":lock:", 1)
        plain.admin.hset(other, "o", "one that hangs")
        assert await way(cache.get_or_call, "a third", model.by(way), **options) == "x"
        assert plain.admin.hget(other, "o") == b"one that hangs", "another one's lock stays"


PROCESS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from tests.embedders import HashingEmbedder
from valkey_semcache import SemanticCache
def call():
    print("called", flush=True)
    time.sleep(1.0)
    return "x"
with SemanticCache(HashingEmbedder(), sys.argv[2], name=sys.argv[3], timeout=20.0) as cache:
    print("ready", flush=True)
    sys.stdin.readline()
    print(cache.get_or_call("asked", call, coalesce="fleet"))
"""


def test_real_processes_make_one_call(plain: Served) -> None:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", PROCESS, root, plain.url, plain.name]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    lines = [line for output in outputs for line in output.split()]
    assert sorted(lines).count("called") == 1
    assert lines.count("x") == 3


@pytest.mark.parametrize(
    "given", [{"coalesce": "all"}, {"coalesce": None}, {"coalesce_timeout": 0}]
)
async def test_what_is_out_of_range_is_refused(way: Way, given: dict[str, Any]) -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://h")
    with pytest.raises(ConfigurationError, match="coalesce"):
        await way(cache.get_or_call, ASKED, Model().by(way), **given)
