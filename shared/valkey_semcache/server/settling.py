"""What is sent to valkey-search after a script has written entries.

Rule of this file: the module puts off what scripts write until the next search that is asked of
just this node, or until as many writes have come together as it has writer threads (one for
each core). Until then a search that another node of the cluster passes on does not see them, and
release 1.0 lets who deletes such an entry wait. So such a search is asked here. It finds
nothing: its scope is nobody's. (Measured on 1.0.2 and 1.2.1; `ProcessMultiQueue` in its
`src/index_schema.cc`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from valkey.exceptions import ResponseError

from valkey_semcache.operations import Settle
from valkey_semcache.server.cluster import CLIENTS


class Settling:
    """The searches that let scripts' writes take effect, by the prefix of the entries."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, Settle] = {}

    def register(self, settle: Settle) -> None:
        """From now on, settle what is written under a prefix."""
        self._by_prefix[settle.prefix] = settle

    def settle(self, client: Any, keys: Iterable[str]) -> None:
        """Let what scripts wrote to these keys take effect.

        Raises:
            ValkeyError: A node does not answer.
        """
        for arguments, options in self._due(client, keys):
            try:
                client.execute_command(*arguments, **options)
            except ResponseError:
                # The index is gone, or the server is full: the next look-up says so.
                continue

    async def asettle(self, client: Any, keys: Iterable[str]) -> None:
        """The same by an async client."""
        for arguments, options in self._due(client, keys):
            try:
                await client.execute_command(*arguments, **options)
            except ResponseError:
                continue

    def _due(
        self, client: Any, keys: Iterable[str]
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Each search once for each node that holds one of the keys."""
        if not self._by_prefix:
            return
        in_cluster = isinstance(client, CLIENTS)
        seen: set[tuple[str | None, str]] = set()
        for key in keys:
            prefix = f"{key.rsplit(':', 2)[0]}:"
            settle = self._by_prefix.get(prefix)
            if settle is None or not (in_cluster or settle.everywhere):
                continue
            node = client.get_node_from_key(key) if in_cluster else None
            once = (node and node.name, prefix)
            if once not in seen:
                seen.add(once)
                for arguments in settle.searches():
                    yield arguments, {"target_nodes": node} if node else {}
