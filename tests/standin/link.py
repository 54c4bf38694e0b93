"""A client's connection and its twin to the server behind: bytes in order, both ways.

Every client has a connection of its own to the server behind, so that transactions, scripts,
blocking commands and subscriptions are the real ones. What a command means is not known here.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from tests.standin.journal import Fault, Journal, Received
from tests.standin.module import SearchModule
from tests.standin.resp import Failure, ProtocolError, encode, end_of, read_command
from tests.standin.wire import Address, ServerGoneError

PUSH = ord(">")

Handler = Callable[[bytes], bytes | None]
"""Takes the reply of the server behind; returns what the client shall get of it now."""


@dataclass
class Shared:
    """What all connections of one stand-in have in common."""

    module: SearchModule
    address: Address
    journal: Journal = field(default_factory=Journal)
    links: set[Link] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    errors: list[BaseException] = field(default_factory=list)
    """Mistakes of the stand-in itself."""


@dataclass
class Order:
    """A command on its way: its bytes, and what shall happen to it."""

    raw: bytes
    received: Received
    fault: Fault | None


class Upstream(asyncio.Protocol):
    """The client's own connection to the server behind."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def data_received(self, data: bytes) -> None:
        self._link.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.close()


class Link(asyncio.Protocol):
    """A client's connection, and the one to the server behind that belongs to it."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.streaming = False
        """Bytes just flow both ways; set when replies no longer answer commands one by one."""
        self.orders: deque[Order] = deque()
        """What the client sent and nobody has looked at yet."""
        self.awaited: deque[Handler | None] = deque()
        """What the server behind owes, and who wants to see it."""
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._from_client = self._from_server = b""

    @abstractmethod
    def work(self) -> None:
        """Looks at the orders, as far as that can be done now."""

    @property
    def connected(self) -> bool:
        return self._server is not None

    # The client's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = transport  # type: ignore[assignment]
        self.shared.links.add(self)
        self.spawn(self._connect())

    def connection_lost(self, exc: Exception | None) -> None:
        self._client = None
        self.shared.links.discard(self)
        if self._server is not None:
            self._server.close()

    def data_received(self, data: bytes) -> None:
        data, at = self._from_client + data, 0
        if self.streaming and self._server is not None:
            self._from_client = b""
            self._server.write(data)
            return
        try:
            while at < len(data) and (found := read_command(data, at)) is not None:
                parts, end = found
                if parts:
                    received = Received(parts[0].upper().decode("latin-1"), tuple(parts[1:]))
                    fault = self.shared.journal.note(received)
                    self.orders.append(Order(data[at:end], received, fault))
                at = end
        except (ProtocolError, ValueError):
            self.reply(encode(Failure("ERR Protocol error"), 2))
            self.close()
            return
        self._from_client = data[at:]
        self.work()

    def close(self) -> None:
        """Ends the client's side once it has got what was written to it."""
        if self._client is not None:
            self._client.close()

    def abort(self) -> None:
        """Ends both sides at once, as a server that dies."""
        for side in (self._client, self._server):
            if side is not None:
                side.abort()

    # The server's side.

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            server, _ = await loop.create_unix_connection(
                lambda: Upstream(self), self.shared.address.unix_path
            )
        except OSError as error:
            raise ServerGoneError from error
        self._server = server
        if self._client is None:
            server.close()
        self.work()

    def answered(self, data: bytes) -> None:
        """Bytes from the server behind: replies in order, and pushes among them."""
        data = self._from_server + data
        at = passed_on = 0
        while at < len(data) and not self.streaming:
            end = end_of(data, at)
            if end < 0:
                break
            handler = self.awaited.popleft() if data[at] != PUSH and self.awaited else None
            if handler is not None:
                self.reply(data[passed_on:at])
                self.reply(handler(data[at:end]) or b"")
                passed_on = end
            at = end
        if self.streaming:
            at = len(data)
        self.reply(data[passed_on:at])
        self._from_server = data[at:]
        if self.orders:
            self.work()

    def reply(self, data: bytes) -> None:
        if data and self._client is not None:
            self._client.write(data)

    def forward(self, data: bytes, handler: Handler | None = None) -> None:
        self.awaited.append(handler)
        if self._server is not None:
            self._server.write(data)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.shared.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.shared.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.close()
            if not isinstance(error, ServerGoneError):
                self.shared.errors.append(error)
