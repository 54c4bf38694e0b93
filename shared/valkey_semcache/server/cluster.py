"""Clusters: telling that a server belongs to one, and the clients for it.

Rule of this file: what valkey-py's cluster clients do otherwise than its plain ones is made up
for here, so that the rest of the package need not know.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import valkey.asyncio.cluster
import valkey.cluster
from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import ResponseError

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.server.deadline import parser

CLIENTS = (valkey.cluster.ValkeyCluster, valkey.asyncio.cluster.ValkeyCluster)
REPLICA = valkey.cluster.REPLICA


@cache
def _is_one(kind: type) -> bool:
    return issubclass(kind, CLIENTS)


def is_cluster_client(client: Any) -> bool:
    """Whether it is one: asked at each command, so of each class only once."""
    kind: Any = type(client)
    return _is_one(kind)


_QUESTION = ("INFO", "cluster")
_MOST_FORMER = 32  # nodes; a task is done with one long before as many have followed


class _CheckingSSLConnection(valkey.SSLConnection):
    """Checks the host name: valkey-py's sync cluster client drops `ssl_check_hostname`."""

    def __init__(self, **arguments: Any) -> None:
        arguments = {"ssl_check_hostname": True} | arguments
        super().__init__(**arguments)  # type: ignore[no-untyped-call]  # valkey-py's has no types


class _Cluster(valkey.cluster.ValkeyCluster):
    """Its connections keep to their limits for a whole reply."""

    def __init__(self, max_reply_bytes: int, **arguments: Any) -> None:
        self._parser = parser(max_reply_bytes, in_cluster=True)
        super().__init__(**arguments)

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        connection.set_parser(self._parser)
        connection._parser.on_connect(connection)


class _AsyncCluster(valkey.asyncio.cluster.ValkeyCluster):
    """Closes connections of former nodes for good, and limits replies as the sync one does.

    When a node fails, valkey-py closes the connections to all of them and replaces the nodes. A
    task that is just using one connects it again, and nobody closes that.
    """

    def __init__(self, max_reply_bytes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        limited = {"parser_class": parser(max_reply_bytes, in_cluster=True, for_async=True)}
        self.connection_kwargs.update(limited)  # of the nodes that it will learn of
        for node in self._nodes():
            node.connection_kwargs.update(limited)
        self._former: list[Any] = []

    async def initialize(self) -> _AsyncCluster:
        """Learn the nodes, if they are not known or no longer."""
        if self._initialize:
            before = self._nodes()
            await super().initialize()
            known = {id(node) for node in (*self._nodes(), *self._former)}
            self._former += [node for node in before if id(node) not in known]
            while len(self._former) > _MOST_FORMER:
                await self._former.pop(0).disconnect()
        return self

    async def aclose(self) -> None:
        """Close all connections, also those of former nodes."""
        await super().aclose()
        for node in (*self._nodes(), *self._former):
            await node.disconnect()
        self._former.clear()

    def _nodes(self) -> list[Any]:
        held = self.nodes_manager
        return [*held.nodes_cache.values(), *held.startup_nodes.values()]


def is_cluster(line: Any) -> bool:
    """Whether a line's server runs in cluster mode; no, if it may not be asked."""
    try:
        return _says_cluster(line.ask(_QUESTION))
    except ResponseError:
        return False


async def ais_cluster(line: Any) -> bool:
    """The same for an async line."""
    try:
        return _says_cluster(await line.ask(_QUESTION))
    except ResponseError:
        return False


def cluster_client(arguments: dict[str, Any], max_reply_bytes: int) -> Any:
    """A sync cluster client that starts from the node that `arguments` name. Connects."""
    arguments = allowed(arguments)
    kind = arguments.pop("connection_class", None)
    if kind is not None and "ssl_check_hostname" in arguments:
        kind = _CheckingSSLConnection if arguments.pop("ssl_check_hostname") else kind
    if kind is not None:
        arguments["connection_class"] = kind
    return _Cluster(max_reply_bytes, cluster_error_retry_attempts=1, **arguments)


def async_cluster_client(arguments: dict[str, Any], max_reply_bytes: int) -> Any:
    """An async cluster client that starts from the node that `arguments` name."""
    arguments = allowed(arguments)
    tls = arguments.pop("connection_class", None) is not None
    return _AsyncCluster(
        max_reply_bytes,
        cluster_error_retry_attempts=1,
        connection_error_retry_attempts=0,
        require_full_coverage=False,
        ssl=tls,
        **arguments,
    )


def nodes_of(client: Any) -> list[Any]:
    """The primaries of a cluster client; for a plain client one None, for itself."""
    return list(client.get_primaries()) if is_cluster_client(client) else [None]


async def anodes_of(client: Any) -> list[Any]:
    """The same for an async client, which may have to learn its nodes first."""
    if isinstance(client, valkey.asyncio.cluster.ValkeyCluster):
        await client.initialize()
    return nodes_of(client)


def nodes_with(client: Any, key: str) -> list[Any]:
    """The nodes of a cluster client that hold a key, its primary first."""
    slot = client.keyslot(key)
    held = client.nodes_manager
    primary = held.get_node_from_slot(slot)
    return [primary, *(node for node in held.slots_cache[slot] if node is not primary)]


def lost_in_cluster(client: Any, error: AttributeError) -> Exception:
    """The connection error behind an AttributeError of a cluster client.

    When a node fails, valkey-py's cluster clients close the connections to all nodes and look
    them up anew. Other threads and tasks that are just using those find None in their place.

    Raises:
        AttributeError: It is another client, and so another mistake.
    """
    if not isinstance(client, CLIENTS):
        raise error
    return LostConnectionError(f"closed while the cluster was looked up anew ({error})")


def drop_connections(client: Any) -> None:
    """Close the idle connections of a sync client, of whichever kind."""
    if isinstance(client, valkey.cluster.ValkeyCluster):
        nodes: Any = client.nodes_manager.nodes_cache.values()
        for node in nodes:
            if node.valkey_connection is not None:
                node.valkey_connection.connection_pool.disconnect(inuse_connections=False)
    else:
        client.connection_pool.disconnect(inuse_connections=False)


def _says_cluster(info: Any) -> bool:
    return isinstance(info, dict) and bool(info.get("cluster_enabled"))


def allowed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments for a cluster client: it has one database and no Unix socket."""
    arguments = dict(arguments)
    if arguments.pop("db", 0):
        raise ConfigurationError(
            "The URL names a database other than 0, but the server is a cluster, which has only "
            "that one. Leave the database out of the URL."
        )
    return arguments
