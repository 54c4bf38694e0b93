"""A real cluster of three plain Valkeys on loopback."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

import valkey

from tests.standin import PlainValkey
from tests.waiting import wait_until

_SLOTS = 16384


class Cluster:
    """Three primaries with a third of the slots each. `nodes` are the servers."""

    def __init__(self) -> None:
        self.nodes: list[PlainValkey] = []
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def __enter__(self) -> Self:
        for number in range(3):
            arguments = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
            arguments += ["--cluster-node-timeout", "1500"]
            arguments += ["--cluster-require-full-coverage", "no"]
            arguments += ["--cluster-config-file", f"nodes-{number}.conf"]
            self.nodes.append(self._stack.enter_context(PlainValkey(arguments)))
        for number, node in enumerate(self.nodes):
            first, last = number * _SLOTS // 3, (number + 1) * _SLOTS // 3 - 1
            with self.client(node) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(lambda: all(self._complete(node) for node in self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, node: PlainValkey) -> valkey.Valkey:
        """A client of one node."""
        return valkey.Valkey.from_url(node.url)

    def keys(self, pattern: str) -> list[bytes]:
        """Keys on all nodes."""
        found: list[bytes] = []
        for node in self.nodes:
            with self.client(node) as client:
                found += client.scan_iter(pattern, count=1000)
        return found

    def _complete(self, node: PlainValkey) -> bool:
        with self.client(node) as client:
            info = client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info
