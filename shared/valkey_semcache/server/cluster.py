"""Clusters: telling that a server belongs to one, and the clients for it.

Rule of this file: what valkey-py's cluster clients do otherwise than its plain ones is made up
for here, so that the rest of the package need not know. They have no types, hence the
`no-untyped-call`.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import valkey.asyncio.cluster
import valkey.cluster
from valkey.asyncio.cluster import NodesManager
from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import ResponseError, ValkeyClusterException
from valkey.exceptions import TimeoutError as LateError

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.server.deadline import parser

CLIENTS = (valkey.cluster.ValkeyCluster, valkey.asyncio.cluster.ValkeyCluster)
PRIMARY = valkey.cluster.PRIMARY
REPLICA = valkey.cluster.REPLICA
# Before 6.2 valkey-py has no other way to forget its nodes than to close them all.
_LOOKS_UP_ANEW = hasattr(valkey.asyncio.cluster.ValkeyCluster, "_reset_for_reinitialize")
_PORT = 6379
_LOOK_UP_AT = 5  # keys found moved; until then each is followed to its new node, and noted


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
        super().__init__(**arguments)  # type: ignore[no-untyped-call]


class _Cluster(valkey.cluster.ValkeyCluster):
    """Its connections keep to their limits for a whole reply, and it does not forget its URL.

    valkey-py asks the nodes that it has met who is in the cluster, and no more those that failed.
    """

    def __init__(self, max_reply_bytes: int, **arguments: Any) -> None:
        self._parser = parser(max_reply_bytes, in_cluster=True)
        self._named = (arguments["host"], arguments.get("port", _PORT))
        super().__init__(**arguments)

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        connection.set_parser(self._parser)
        connection._parser.on_connect(connection)

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """One command; once one has failed, the next can begin with the URL again."""
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except (LostConnectionError, LateError, ValkeyClusterException):
            self._remember_url()
            raise

    def _remember_url(self) -> None:
        """Ask also the node that the URL names, last: all others may have new addresses now."""
        named = valkey.cluster.ClusterNode(*self._named)  # type: ignore[no-untyped-call]
        held = self.nodes_manager
        if named.name not in held.startup_nodes:
            held.startup_nodes = held.startup_nodes | {named.name: named}


class _AsyncCluster(valkey.asyncio.cluster.ValkeyCluster):
    """Limits replies as the sync one does, and looks its nodes up without a call being lost.

    valkey-py closes the connections to all nodes, and then those to the nodes that it has replaced,
    whenever one fails and at every fifth key that has moved. Whatever other tasks have just asked
    by them is lost; it is asked again at most once, and pipelines and what is sent to a certain
    node not at all. Here a node that stays keeps its connections.
    """

    def __init__(self, max_reply_bytes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        limited = {"parser_class": parser(max_reply_bytes, in_cluster=True, for_async=True)}
        self.connection_kwargs.update(limited)  # of the nodes that it will learn of
        for node in self._nodes():
            node.connection_kwargs.update(limited)
        self._named = (arguments["host"], arguments.get("port", _PORT))
        self._looking = asyncio.Lock()
        self._has_begun = False
        self._former: list[Any] = []

    async def initialize(self) -> _AsyncCluster:
        """Learn the nodes, if they are not known or no longer."""
        if self._initialize:
            async with self._looking:
                if self._initialize and self._has_begun and not getattr(self, "_closed", False):
                    await self._look_up_anew()
                else:
                    await super().initialize()
                    self._has_begun = True
        return self

    async def aclose(self) -> None:
        """Close all connections, also those of former nodes."""
        await super().aclose()
        for node in (*self._nodes(), *self._former):
            await node.disconnect()
        self._former.clear()

    async def _reset_for_reinitialize(self) -> None:
        """Before the next command, look the nodes up anew.

        Of a node that failed no idle connection is used again: it may have started anew.
        """
        self._initialize = True
        held = self.nodes_manager
        for name, node in held.nodes_cache.items():
            if name not in held.startup_nodes:
                for connection in list(node._free):
                    await connection.disconnect(nowait=True)

    async def _look_up_anew(self) -> None:
        held = self.nodes_manager
        self._initialize = False  # until one more fails, whose task will look up once more
        # Those that failed, which valkey-py has taken out, are asked as well, but last.
        known = {**held.startup_nodes, **held.nodes_cache}
        asked = [(node.host, node.port) for node in known.values()]
        new = [self._node(*address) for address in dict.fromkeys([*asked, self._named])]
        found = NodesManager(new, False, self.connection_kwargs)
        try:
            await found.initialize()
        except BaseException:
            self._initialize = True
            await found.aclose("startup_nodes")
            raise
        stay = {name: held.nodes_cache.get(name, node) for name, node in found.nodes_cache.items()}
        for name, node in found.nodes_cache.items():
            stay[name].server_type = node.server_type
        for nodes in {id(nodes): nodes for nodes in found.slots_cache.values()}.values():
            nodes[:] = [stay[node.name] for node in nodes]
        gone = [node for name, node in held.nodes_cache.items() if name not in stay]
        found.nodes_cache, found.startup_nodes = stay, dict(stay)
        found.default_node = found.get_nodes_by_server_type(PRIMARY)[0]
        self.nodes_manager = found
        await self._leave(gone)

    async def _leave(self, gone: list[Any]) -> None:
        """Close the connections of nodes that are no longer there. A task that is just using such
        a node connects it again, so they are closed once more in the end."""
        self._former += gone
        for node in gone:
            await node.disconnect()
        while len(self._former) > _MOST_FORMER:
            await self._former.pop(0).disconnect()

    def _node(self, host: str, port: int) -> Any:
        return valkey.asyncio.cluster.ClusterNode(host, port, **self.connection_kwargs)

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
        reinitialize_steps=_LOOK_UP_AT if _LOOKS_UP_ANEW else 0,
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
