"""A connection of the stand-in's own to the server behind.

Pipelines out, replies and news in; what any of it means is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.standin.resp import Push, decode, encode_command

Command = Sequence[bytes | str | int]


class ServerGoneError(Exception):
    """The server behind cannot be reached."""


@dataclass(frozen=True)
class Address:
    """Where the server behind listens, and who we are to it."""

    unix_path: str
    password: str | None = None


class Wire(asyncio.Protocol):
    """One RESP3 connection to the server behind: pipelines out, replies and news in."""

    def __init__(self, on_push: Callable[[Push], None]) -> None:
        self._on_push = on_push
        self._unread = b""
        self._expected: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()
        self._transport: asyncio.Transport | None = None
        self.lost = False

    async def request(self, *commands: Command) -> list[Any]:
        """The replies to a pipeline; an error reply is a `Failure` among them."""
        if self.lost or self._transport is None:
            raise ServerGoneError
        if not commands:
            return []
        future = asyncio.get_running_loop().create_future()
        self._expected.append((len(commands), [], future))
        self._transport.write(b"".join(encode_command(x) for x in commands))
        replies: list[Any] = await future
        return replies

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for _, _, future in self._expected:
            if not future.done():
                future.set_exception(ServerGoneError())
        self._expected.clear()

    def data_received(self, data: bytes) -> None:
        data, at = self._unread + data, 0
        while at < len(data):
            found = decode(data, at)
            if found is None:
                break
            value, at = found
            if isinstance(value, Push):
                self._on_push(value)
            else:
                self._take(value)
        self._unread = data[at:]

    def _take(self, reply: Any) -> None:
        count, replies, future = self._expected[0]
        replies.append(reply)
        if len(replies) == count:
            self._expected.popleft()
            if not future.done():
                future.set_result(replies)
