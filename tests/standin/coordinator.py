"""What the nodes of one cluster tell each other, with `--use-coordinator`.

An index belongs to the cluster: each node notes which there are, under a version that rises when
one is made or dropped, and takes over what is newer elsewhere. A search goes to one node of each
shard; whoever was asked puts together what they found.

The rule of this file: what is known of one node alone (documents, replies) is `module.py`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.standin.args import CommandError
from tests.standin.mirror import RefusedError
from tests.standin.query import Query
from tests.standin.release import Release
from tests.standin.searching import Hit
from tests.standin.topology import Node, Topology
from tests.standin.wire import ServerGoneError

if TYPE_CHECKING:
    from tests.standin.module import SearchModule


@dataclass(frozen=True)
class Entry:
    """What is noted about one name."""

    version: int
    items: tuple[bytes, ...] | None
    """The arguments of FT.CREATE; None: it was dropped."""

    def outdates(self, other: Entry | None) -> bool:
        if other is None or self.version != other.version:
            return other is None or self.version > other.version
        return (self.items or ()) > (other.items or ())


@dataclass
class Partial:
    """What one node found."""

    total: int
    hits: list[Hit]


@dataclass
class Coordinator:
    """All nodes of one cluster. They work in one thread."""

    release: Release
    members: dict[int, SearchModule] = field(default_factory=dict)
    """The nodes that run, by the port that clients know."""
    spread_seconds: tuple[float, float] = (0.007, 0.017)
    """After how long, at least and at most, another node knows of an index (1.0)."""
    unreachable_seconds: float = 5.0
    """How long 1.2 tries to tell a node that does not answer."""
    reminder_seconds: float = 30.0
    """After how long a node that was started anew hears of the indexes there are."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def spread(self, origin: SearchModule, topology: Topology, name: bytes) -> None:
        """Tells the other nodes what has become of a name.

        1.2 waits until they all know; 1.0 does not.
        """
        entry = origin.entries[name]
        others = [x for x in topology.nodes if "myself" not in x.flags]
        if not self.release.waits_for_all_nodes:
            for node in others:
                self._later(node, name, entry)
            return
        told = await asyncio.gather(*(self._tell(node, name, entry) for node in others))
        if not all(told):
            await asyncio.sleep(self.unreachable_seconds)
            raise CommandError("Unable to contact all cluster members")

    def remind_later(self, member: SearchModule) -> None:
        """Tells a node that was started anew what the others know."""

        async def remind() -> None:
            await asyncio.sleep(self.reminder_seconds)
            for other in list(self.members.values()):
                for name, entry in list(other.entries.items()):
                    with suppress(RefusedError, ServerGoneError):
                        await member.take(name, entry)

        self._spawn(remind())

    def known_to_primary(self, topology: Topology) -> list[tuple[bytes, Entry]]:
        """What the primary of a replica, which sees the cluster so, knows of the indexes."""
        me = topology.myself
        ports = [x.port for x in topology.nodes if me is not None and x.id == me.shard]
        primary = self.members.get(ports[0]) if ports else None
        return list(primary.entries.items()) if primary is not None else []

    async def search(
        self, origin: SearchModule, topology: Topology, items: list[bytes], query: Query
    ) -> Partial:
        """What all shards found, the k nearest of it, in the release's order.

        A shard whose node does not answer, or knows no such index, finds nothing.
        """
        targets = [self._target(nodes) for nodes in topology.shards().values()]
        asked = [self._ask(origin, x, items) for x in targets if x is not None]
        partials = [x for x in await asyncio.gather(*asked) if x is not None]
        hits = [hit for partial in partials for hit in partial.hits]
        total = sum(partial.total for partial in partials)
        if query.knn is not None:
            hits.sort(key=lambda hit: (hit[0].distance, hit[0].key))
            hits, total = hits[: query.knn.k], min(total, query.knn.k)
            if self.release.worst_first_in_cluster:
                hits.reverse()
        return Partial(total, hits)

    def _target(self, nodes: Iterable[Node]) -> Node | None:
        """The node of a shard that is asked: this one itself, or by lot."""
        alive = [x for x in nodes if not x.failing]
        mine = [x for x in alive if "myself" in x.flags]
        if mine and self.release.asks_itself_first:
            return mine[0]
        return random.choice(alive) if alive else None

    async def _ask(self, origin: SearchModule, node: Node, items: list[bytes]) -> Partial | None:
        member = origin if "myself" in node.flags else self.members.get(node.port)
        try:
            return await member.partial(items) if member is not None else None
        except (CommandError, RefusedError, ServerGoneError):
            return None

    async def _tell(self, node: Node, name: bytes, entry: Entry) -> bool:
        member = self.members.get(node.port)
        if member is None:
            return False
        try:
            await member.take(name, entry)
        except (RefusedError, ServerGoneError):
            return False
        return True

    def _later(self, node: Node, name: bytes, entry: Entry) -> None:
        async def tell() -> None:
            await asyncio.sleep(random.uniform(*self.spread_seconds))
            await self._tell(node, name, entry)

        self._spawn(tell())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
