"""A cluster that changes while it is used: slots move, replicas take over, a primary dies.

The criterion is what the servers hold in the end: all of that is found, and nothing else is said.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chaos.proxy import Proxy
from tests.cluster import SHARDS, Cluster
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.waiting import PATIENT, wait_until
from tests.words import word
from valkey_semcache import Question, SemanticCache

SCOPES = 5
AT_ONCE = 4
MANY_AT_ONCE = 30
MOST = 1000  # stores and look-ups, together
SLOTS_MOVED = 20


@pytest.fixture(scope="module", params=["flat", "search"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three primaries with a replica each, for each index."""
    release = "1.2.1" if request.param == "search" else None
    with Cluster(release, replicas=1, node_timeout=500) as cluster:  # type: ignore[arg-type]
        yield cluster


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, empty and with all nodes alive."""
    yield cluster
    for node in cluster.nodes:
        if not node.running:
            cluster.restart(node)
    wait_until(cluster.is_whole)
    for node in cluster.primaries():
        cluster.on(node, "FLUSHALL")


def question(number: int, more: str = "") -> Question:
    """A question that shares no word with another number's, in one of a few scopes."""
    words = (word(number + 10_000 * place) for place in range(6))
    return Question(" ".join(words) + more, context=f"context {number % SCOPES}")


def change_as_planned(cluster: Cluster) -> None:
    """A replica takes over, and some slots with entries move."""
    cluster.fail_over(cluster.replicas()[0])
    source, target = cluster.primaries()[:2]
    slots = map(cluster.slot_of, cluster.keys_on(source, "semcache:*"))
    for slot in list(dict.fromkeys(slots))[:SLOTS_MOVED]:
        cluster.move_slot(slot, source, target)


@dataclass
class Work:
    """Stores and look-ups, a few at a time, and what came of them; `way` None is both in turn."""

    way: Way | None
    writer: SemanticCache
    reader: SemanticCache
    at_once: int = AT_ONCE
    most: int = MOST
    stored: set[int] = field(default_factory=set)
    wrong: list[tuple[int, Any]] = field(default_factory=list)
    done: int = 0
    calls: int = 0

    async def run(self, meanwhile: Callable[[], None]) -> None:
        """Work until `meanwhile` has ended, and as much again as makes `most` in all."""
        changes = asyncio.create_task(asyncio.to_thread(meanwhile))
        numbers = itertools.count()

        async def some() -> None:
            while not changes.done() or self.done < self.most:
                number = next(numbers)
                if await self._call(self.writer.store, question(number), str(number)):
                    self.stored.add(number)
                earlier = number // 2
                await self.look_up(earlier, " please" if number % 3 else "")
                self.done += 2

        await asyncio.gather(*(some() for _ in range(self.at_once)))
        await changes

    async def settle(self) -> None:
        """Wait until the cache trusts the cluster again."""
        while "error" in repr(await self._call(self.reader.lookup, question(0))):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # What was written while its slot moved takes effect with the next store on its node.
        for number in range(1_000_000, 1_000_030):
            stored = (self.writer.store, question(number), str(number))
            while not await self._call(*stored):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def look_up(self, number: int, more: str = "") -> bool:
        """Whether it hits; with another number's answer it never may."""
        found = await self._call(self.reader.lookup, question(number, more))
        if found and found.answer != str(number):
            self.wrong.append((number, found))
        return bool(found)

    async def _call(self, method: Any, *args: Any) -> Any:
        """Sync calls in threads, so that they come at the same time as well."""
        self.calls += 1
        way = self.way or Way("async" if self.calls % 3 else "sync")
        if way.name == "sync":
            return await asyncio.to_thread(method, *args)
        return await way(method, *args)


def held(cluster: Cluster, index: str, numbers: set[int], cache: SemanticCache) -> set[int]:
    """Of these questions, those whose entries the servers hold, and may meet by meaning."""
    entries, noted = set(), set()
    for node in cluster.primaries():
        with cluster.client(node) as client:
            for key in client.scan_iter("semcache:*", count=1000):
                _, kind, *rest = key.decode().split(":")
                if kind == "log":
                    members = client.zrange(key, 0, -1)
                    noted |= {f"semcache:{':'.join(rest)}:{member.decode()}" for member in members}
                else:
                    entries.add(key.decode())
    kept = entries & noted if index == "flat" else entries
    return {number for number in numbers if cache._address(question(number)).key in kept}


async def test_nothing_is_lost_that_the_servers_kept(whole: Cluster, way: Way) -> None:
    """A replica takes over as planned, slots move, and then a primary dies."""
    index = "search" if whole.release else "flat"
    options: dict[str, Any] = {"index": index, **PATIENT, "similarity_threshold": 0.8}
    async with (
        SemanticCache(HashingEmbedder(), whole.url, **options) as writer,
        SemanticCache(HashingEmbedder(), whole.url, **options) as reader,
    ):
        work = Work(way, writer, reader)
        safe: set[int] = set()

        def changes() -> None:
            wait_until(lambda: len(work.stored) > 50)
            change_as_planned(whole)
            assert writer.stats().errors == reader.stats().errors == {}, "planned changes"
            safe.update(work.stored)
            whole.replicate()
            whole.kill(whole.primaries()[1])
            wait_until(lambda: len(whole.primaries()) == SHARDS and whole.is_served())

        await work.run(changes)
        await asyncio.to_thread(whole.replicate)
        await work.settle()
        kept = held(whole, index, set(range(work.done // 2)), writer)
        assert kept >= safe
        assert len(safe) > 50
        missed = {number for number in kept if not await work.look_up(number, " please")}
        missed |= {number for number in list(kept)[:50] if not await work.look_up(number)}
        assert missed == set(), "the servers have it"
        assert work.wrong == []


async def test_planned_changes_cost_no_call_however_many_are_under_way(whole: Cluster) -> None:
    """Sync and async calls at the same time."""
    index = "search" if whole.release else "flat"
    options: dict[str, Any] = {"index": index, **PATIENT, "similarity_threshold": 0.8}
    async with (
        SemanticCache(HashingEmbedder(), whole.url, **options) as writer,
        SemanticCache(HashingEmbedder(), whole.url, **options) as reader,
    ):
        work = Work(None, writer, reader, at_once=MANY_AT_ONCE, most=0)

        def changes() -> None:
            wait_until(lambda: len(work.stored) > 50)
            change_as_planned(whole)
            stored = len(work.stored)
            wait_until(lambda: len(work.stored) > stored + 50)

        await work.run(changes)
        assert writer.stats().errors == reader.stats().errors == {}
        assert work.wrong == []


@dataclass
class Rows:
    """Questions on all primaries, and how many of them can be stored."""

    work: Work
    rows: list[Question] = field(default_factory=lambda: [question(x) for x in range(30)])

    async def stored(self) -> int:
        """How many are, all at once."""
        store = self.work.writer.store
        return sum(await asyncio.gather(*(self.work._call(store, row, "x") for row in self.rows)))

    async def until_all_are(self) -> None:
        deadline = time.monotonic() + 10
        while await self.stored() < len(self.rows):
            assert time.monotonic() < deadline


@pytest.mark.parametrize("cluster", ["flat"], indirect=True)
async def test_nodes_that_had_all_failed_are_asked_again(whole: Cluster, way: Way) -> None:
    """Also where the node that the URL names, and all that had not been asked, stay away."""
    entry = whole.replicas()[0]
    options: dict[str, Any] = {"index": "flat", "name": f"away-{way.name}", "timeout": 5.0}
    async with SemanticCache(HashingEmbedder(), entry.url, **options) as cache:
        rows = Rows(Work(way, cache, cache))
        assert await rows.stored() == len(rows.rows)
        primaries = whole.primaries()
        for node in whole.nodes:
            whole.kill(node)
        assert await rows.stored() == 0
        for node in primaries:
            whole.restart(node)
        wait_until(lambda: whole.primaries() == primaries and whole.is_served())
        await rows.until_all_are()


@pytest.mark.parametrize("cluster", ["flat"], indirect=True)
async def test_a_cluster_with_new_addresses_is_found_by_the_url(whole: Cluster, way: Way) -> None:
    """As where the URL names a service and each node that starts anew gets another address."""
    options: dict[str, Any] = {"index": "flat", "name": f"moved-{way.name}", "timeout": 5.0}
    with Proxy(whole.nodes[0].port) as service:
        async with SemanticCache(HashingEmbedder(), service.url, **options) as cache:
            rows = Rows(Work(way, cache, cache))
            assert await rows.stored() == len(rows.rows)
            whole.move()
            service._server_port = whole.nodes[0].port
            await rows.until_all_are()
