"""What is sent to valkey-search after a script has written entries.

Rule of this file: the module puts off what scripts write until the next search that is asked of
just this node, or until as many writes have come together as it has writer threads (one for
each core). Until then a search that another node of the cluster passes on does not see them, and
release 1.0 lets who deletes such an entry wait. So such a search is asked here. It finds
nothing: its scope is nobody's. (Measured on 1.0.2 and 1.2.1; `ProcessMultiQueue` in its
`src/index_schema.cc`.) What was written while its slot moved may be on another node than the
client thinks; it takes effect with the next store there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import ResponseError

from valkey_semcache.flow.operations import Settle
from valkey_semcache.server.cluster import REPLICA, nodes_with


class Settling:
    """The searches that let scripts' writes take effect, by the prefix of the entries."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, Settle] = {}
        self._everywhere = False

    def register(self, settle: Settle) -> None:
        """From now on, settle what is written under a prefix."""
        self._by_prefix[settle.prefix] = settle
        self._everywhere = self._everywhere or settle.everywhere

    def settle(self, line: Any, keys: Sequence[str]) -> None:
        """Let what scripts wrote to these keys take effect.

        Raises:
            ValkeyError: A key's primary does not answer.
        """
        if not (line.in_cluster or self._everywhere):
            return
        for arguments, node in self._due(line, keys):
            try:
                if node is None:
                    line.ask(arguments)
                else:
                    line.client.execute_command(*arguments, target_nodes=node)
            except ResponseError:
                # The index is gone, or the server is full: the next look-up says so.
                continue
            except LostConnectionError:
                if not _is_replica(node):
                    raise

    async def asettle(self, line: Any, keys: Sequence[str]) -> None:
        """The same by an async client."""
        if not (line.in_cluster or self._everywhere):
            return
        for arguments, node in self._due(line, keys):
            try:
                if node is None:
                    await line.ask(arguments)
                else:
                    await line.client.execute_command(*arguments, target_nodes=node)
            except ResponseError:
                continue
            except LostConnectionError:
                if not _is_replica(node):
                    raise

    def _due(self, line: Any, keys: Iterable[str]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Each search once for each node that holds one of the keys, with the node."""
        seen: set[tuple[str | None, str]] = set()
        for key in keys:
            prefix = f"{key.rsplit(':', 2)[0]}:"
            settle = self._by_prefix.get(prefix)
            if settle is None or not (line.in_cluster or settle.everywhere):
                continue
            for node in nodes_with(line.client, key) if line.in_cluster else [None]:
                once = (node and node.name, prefix)
                if once not in seen:
                    seen.add(once)
                    for arguments in settle.searches():
                        yield arguments, node


def _is_replica(node: Any) -> bool:
    return bool(node) and node.server_type == REPLICA
