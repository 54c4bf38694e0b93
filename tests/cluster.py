"""A real cluster of plain Valkeys on loopback, with or without stand-ins in front of the nodes.

Rule of this file: nodes, who they are to each other, and which slots they own. What clients make
of it is the tests' business.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Self

import valkey

from tests.standin import PlainValkey, StandIn
from tests.standin.coordinator import Coordinator
from tests.standin.release import RELEASES, ReleaseName
from tests.standin.threads import LoopThread
from tests.waiting import wait_until

_SLOTS = 16384
SHARDS = 3


class Cluster:
    """Three primaries with a third of the slots each.

    Args:
        release: of valkey-search; None for none. With one, a stand-in is in front of each node,
            all nodes of which make one index, and the nodes tell clients the stand-ins' ports.
        replicas: of each primary; `nodes[3]` is the first replica of `nodes[0]`, and so on.
        node_timeout: milliseconds after which a node that does not answer is taken for dead.

    `nodes` are the servers, `standins` what is in front of them.
    """

    def __init__(
        self, release: ReleaseName | None = None, *, replicas: int = 0, node_timeout: int = 1500
    ) -> None:
        self.release = release
        self.nodes: list[PlainValkey] = []
        self.standins: list[StandIn] = []
        self.coordinator: Coordinator | None = None
        self._count = SHARDS * (1 + replicas)
        self._node_timeout = node_timeout
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return self.standins[0].url if self.standins else self.nodes[0].url

    def __enter__(self) -> Self:
        for number in range(self._count):
            self.nodes.append(PlainValkey(self._arguments(number)))
        if self.release is not None:
            self._put_in_front(self.release)
        for node in self.nodes:
            self._stack.enter_context(node)
        for number, node in enumerate(self.nodes[:SHARDS]):
            first, last = number * _SLOTS // SHARDS, (number + 1) * _SLOTS // SHARDS - 1
            self.on(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, node in enumerate(self.nodes):
            # Else two of them would give themselves the same, and settle that much later.
            self.on(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.on(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(self.is_known_to_all)
        for number, node in enumerate(self.nodes[SHARDS:]):
            self.on(node, "CLUSTER", "REPLICATE", self.id_of(self.nodes[number % SHARDS]))
        wait_until(self.is_whole)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, node: PlainValkey) -> valkey.Valkey:
        """A client of one node, past its stand-in."""
        return valkey.Valkey.from_url(node.url)

    def on(self, node: PlainValkey, *command: str | int) -> Any:
        """One command on one node."""
        with self.client(node) as client:
            return client.execute_command(*command)

    def keys(self, pattern: str) -> list[bytes]:
        """Keys on all primaries that run."""
        return [key for node in self.primaries() for key in self.keys_on(node, pattern)]

    def keys_on(self, node: PlainValkey, pattern: str) -> list[bytes]:
        """Keys on one node."""
        with self.client(node) as client:
            return list(client.scan_iter(pattern, count=1000))

    # Who is who.

    def id_of(self, node: PlainValkey) -> str:
        return str(self.on(node, "CLUSTER", "MYID").decode())

    def running(self) -> list[PlainValkey]:
        return [node for node in self.nodes if node.running]

    def primaries(self) -> list[PlainValkey]:
        """Those that run and take writes."""
        return [x for x in self.running() if self.on(x, "ROLE")[0] == b"master"]

    def replicas(self) -> list[PlainValkey]:
        """Those that run and follow a primary."""
        return [x for x in self.running() if self.on(x, "ROLE")[0] == b"slave"]

    def owner_of(self, key: bytes) -> PlainValkey:
        """The primary of a key."""
        slot = self.slot_of(key)
        for node in self.primaries():
            for line in self.on(node, "CLUSTER", "NODES").splitlines():
                if b"myself" in line and any(slot in _range(x) for x in line.split()[8:]):
                    return node
        raise LookupError(key)

    def slot_of(self, key: bytes) -> int:
        return int(self.on(self.running()[0], "CLUSTER", "KEYSLOT", key.decode()))

    def is_known_to_all(self) -> bool:
        """Whether each node that runs knows all others."""
        known = f"cluster_known_nodes:{self._count}".encode()
        infos = [self.on(node, "CLUSTER", "INFO") for node in self.running()]
        return all(b"cluster_state:ok" in info and known in info for info in infos)

    def is_served(self) -> bool:
        """Whether each node that runs sees primaries alive for all slots."""
        infos = [self.on(node, "CLUSTER", "INFO") for node in self.running()]
        return all(b"cluster_slots_ok:16384" in info for info in infos)

    def replicate(self) -> None:
        """Wait until replicas have all that their primaries hold now."""
        for node in self.primaries():
            sent = self.on(node, "ROLE")[1]
            wait_until(lambda: all(int(x[2]) >= sent for x in self.on(node, "ROLE")[2]))  # noqa: B023

    def is_whole(self) -> bool:
        """Whether each node that runs sees all slots served, and replicas follow."""
        roles = [self.on(node, "ROLE") for node in self.running()]
        follow = all(role[3] == b"connected" for role in roles if role[0] == b"slave")
        return follow and self.is_served() and self.is_known_to_all()

    # What happens to it.

    def kill(self, node: PlainValkey) -> None:
        """End a node at once, and with it what is in front of it."""
        node.kill()
        if self.standins:
            self.standins[self.nodes.index(node)].kill()

    def restart(self, node: PlainValkey) -> None:
        """Start a node again, empty."""
        node.restart()
        if self.standins:
            self.standins[self.nodes.index(node)].restart()

    def move(self) -> None:
        """End all nodes and start them again, empty, on other ports."""
        for node in self.nodes:
            self.kill(node)
        for node in self.nodes:
            node.port = 0
            self.restart(node)
        for node in self.nodes[1:]:
            self.on(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        wait_until(self.is_whole)

    def fail_over(self, replica: PlainValkey) -> None:
        """Make a replica the primary, in agreement with the one that was, and wait for it."""
        before = self.primaries()
        self.on(replica, "CLUSTER", "FAILOVER")
        wait_until(lambda: len(now := self.primaries()) == len(before) and now != before)

    def move_slot(self, slot: int, source: PlainValkey, target: PlainValkey) -> None:
        """Move a slot key by key, as `--cluster reshard` does."""
        first, then = self.id_of(source), self.id_of(target)
        setslot = ("CLUSTER", "SETSLOT", slot)
        self.on(target, *setslot, "IMPORTING", first)
        self.on(source, *setslot, "MIGRATING", then)
        while keys := self.on(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                self.on(source, "MIGRATE", "127.0.0.1", target.port, key.decode(), 0, 5000)
        for node in (target, source):
            self.on(node, *setslot, "NODE", then)

    def _arguments(self, number: int) -> list[str]:
        return [
            *("--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"),
            *("--cluster-node-timeout", str(self._node_timeout)),
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-config-file", f"nodes-{number}.conf"),
            *("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"),
        ]

    def _put_in_front(self, release: ReleaseName) -> None:
        thread, coordinator = LoopThread(f"stand-ins {release}"), Coordinator(RELEASES[release])
        self._stack.callback(thread.stop)
        self._stack.callback(lambda: thread.do(coordinator.close()))
        for node in self.nodes:
            standin = StandIn(release, backing=node, coordinator=coordinator, thread=thread)
            self.standins.append(self._stack.enter_context(standin))
            # This is where clients are sent, and replicas go; the bus goes past it.
            node.args += ["--cluster-announce-port", str(standin.port)]
        self.coordinator = coordinator


def _range(text: bytes) -> Iterable[int]:
    first, _, last = text.partition(b"-")
    return range(int(first), int(last or first) + 1) if first.isdigit() else ()
