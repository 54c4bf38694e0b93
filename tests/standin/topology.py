"""A cluster as one of its nodes sees it: the reply of CLUSTER NODES, read.

The rule of this file: text to values; nothing is asked and nothing decided here.
"""

from __future__ import annotations

import binascii
import itertools
from dataclasses import dataclass

SLOTS = 16_384


@dataclass(frozen=True)
class Node:
    """One line of CLUSTER NODES."""

    id: str
    port: int
    """As clients are told it."""
    flags: frozenset[str]
    primary_id: str
    slots: tuple[tuple[int, int], ...]
    """First and last of each range that it owns; none of a replica."""

    @property
    def failing(self) -> bool:
        return bool(self.flags & {"fail", "fail?"})

    @property
    def shard(self) -> str:
        """The id of the primary."""
        return self.id if "master" in self.flags else self.primary_id

    def owns(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.slots)


@dataclass(frozen=True)
class Topology:
    """All nodes, and which of them was asked."""

    nodes: tuple[Node, ...] = ()

    @property
    def myself(self) -> Node | None:
        return next((x for x in self.nodes if "myself" in x.flags), None)

    @property
    def is_replica(self) -> bool:
        """Of the asked node."""
        return self.myself is not None and "slave" in self.myself.flags

    @property
    def served(self) -> tuple[tuple[int, int], ...]:
        """The slots of which the asked node holds the keys, its own or its primary's."""
        me = self.myself
        return next((x.slots for x in self.nodes if me and x.id == me.shard), ())

    def shards(self) -> dict[str, list[Node]]:
        """The nodes by shard: those shards that own slots."""
        owning = {x.id for x in self.nodes if x.slots}
        found: dict[str, list[Node]] = {x: [] for x in owning}
        for node in self.nodes:
            if node.shard in owning:
                found[node.shard].append(node)
        return found


def read_topology(text: bytes) -> Topology:
    """The reply of CLUSTER NODES."""
    nodes = []
    for line in text.decode().splitlines():
        name, address, flags, primary, _, _, _, _, *slots = line.split()
        owned = [x.partition("-") for x in slots if not x.startswith("[")]
        nodes.append(
            Node(
                name,
                int(address.partition("@")[0].rpartition(":")[2]),
                frozenset(flags.split(",")),
                primary,
                tuple((int(first), int(last or first)) for first, _, last in owned),
            )
        )
    return Topology(tuple(nodes))


def slot_of(key: bytes) -> int:
    """The slot of a key (https://valkey.io/topics/cluster-spec, "Key distribution model")."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def key_of(node: Node | None, prefix: bytes) -> bytes | None:
    """A key that lies in a slot of this node; None if it owns none."""
    if node is None or not node.slots:
        return None
    tries = (b"%s%d" % (prefix, number) for number in itertools.count())
    return next(key for key in tries if node.owns(slot_of(key)))
