"""Straight to one server, through connections that the cache has opened itself.

valkey-py's clients take a connection from their pool for each command, look whether it is still
open, and wrap the command for retries: half of what a command costs this process. Here a connection
is used as long as it answers, and what it was just told is told again if it did not.

Rule of this file: a connection that may still owe a reply is never used again. valkey-py connects,
logs in, writes and reads.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import InvalidResponse, ResponseError
from valkey.exceptions import TimeoutError as LateError

from valkey_semcache.locks import ForkLock

T = TypeVar("T")
Arguments = tuple[Any, ...]

_Batch = list[tuple[Arguments, "asyncio.Future[Any]"]]
_MOST = 128  # commands of a batch: the first one's reply is there when the last one's is
_SHORT = frozenset(("HMGET",))
"""Reads that the server answers at once: none waits long for those before it. A search would keep
others waiting, and searches that go together would not be made at the same time."""


class DirectLine:
    """The sync connections of one client, which is not in a cluster.

    Args:
        client: Made by the cache; it opens the connections and closes them.
    """

    in_cluster = False

    def __init__(self, client: Any) -> None:
        self.client = client
        self._pool = client.connection_pool
        self._callbacks = client.response_callbacks
        self._fork = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        self._free: deque[Any] = deque()

    def ask(self, arguments: Arguments, node: Any = None) -> Any:
        """The reply to one command, undecoded.

        Args:
            arguments: The command.
            node: There is but one.

        Raises:
            ValkeyError: The reply is an error, or there is none.
            OSError: Likewise.
        """
        return self._surely(self._asked, arguments)

    def ask_all(self, commands: Sequence[Arguments]) -> list[Any]:
        """The replies to several commands at once, an error in place of one that is an error.

        Raises:
            ValkeyError: There is no reply.
            OSError: Likewise.
        """
        return self._surely(self._all_asked, commands)

    def nodes(self) -> list[Any]:
        """None, for the server itself."""
        return [None]

    def drop(self) -> None:
        """After an interrupt: a connection in use is none of the free, nothing is to be done."""

    def _surely(self, exchange: Callable[[Any, Any], T], what: Any) -> T:
        """By a connection that is free, or by a new one, if that was closed meanwhile."""
        try:
            connection = self._free.pop()
        except IndexError:
            return exchange(self._opened(), what)
        try:
            return exchange(connection, what)
        except LostConnectionError:
            return exchange(self._opened(), what)

    def _opened(self) -> Any:
        return self._pool.get_connection("")

    def _asked(self, connection: Any, arguments: Arguments) -> Any:
        try:
            connection.send_command(*arguments)
            reply = connection.read_response(disable_decoding=True)
        except ResponseError:
            self._free.append(connection)
            raise
        except BaseException:
            self._closed(connection)
            raise
        self._free.append(connection)
        callback = self._callbacks.get(arguments[0])
        return reply if callback is None else callback(reply)

    def _all_asked(self, connection: Any, commands: Sequence[Arguments]) -> list[Any]:
        replies = []
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            self._closed(connection)
            raise
        self._free.append(connection)
        return _as_told(replies, commands, self._callbacks)

    def _closed(self, connection: Any) -> None:
        """Close what may still owe a reply, and leave it to be opened anew."""
        connection.disconnect()
        self._pool.release(connection)


class AsyncDirectLine:
    """The async connections of one client, which is not in a cluster, in one event loop.

    Args:
        client: Made by the cache, without a time limit of its own: valkey-py's makes a task of
            each write.
        timeout: Seconds that a command may take from its first byte to its reply's last; None
            for any number.
    """

    in_cluster = False

    def __init__(self, client: Any, timeout: float | None) -> None:
        self.client = client
        self._pool = client.connection_pool
        self._callbacks = client.response_callbacks
        self._timeout = timeout
        self._free: deque[Any] = deque()
        self._reading = 0  # short reads that are under way by themselves
        self._batch: _Batch | None = None  # to which one more may be added
        self._sending: set[asyncio.Task[None]] = set()

    async def ask(self, arguments: Arguments, node: Any = None) -> Any:
        """As `DirectLine.ask`, without blocking the event loop.

        Short reads of tasks that run at the same time go together: one write and one read for all
        that ask in the same turn of the event loop.
        """
        if arguments[0] not in _SHORT:
            return await self._surely(self._asked, arguments)
        if self._reading:
            return await self._with_others(arguments)
        self._reading += 1
        try:
            return await self._surely(self._asked, arguments)
        finally:
            self._reading -= 1

    async def ask_all(self, commands: Sequence[Arguments]) -> list[Any]:
        """As `DirectLine.ask_all`, without blocking the event loop."""
        return await self._surely(self._all_asked, commands)

    async def nodes(self) -> list[Any]:
        """None, for the server itself."""
        return [None]

    async def _with_others(self, arguments: Arguments) -> Any:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        batch = self._batch
        if batch is None or len(batch) == _MOST:
            batch = self._batch = []
            # It begins once all tasks that are ready now have had their turn.
            task = loop.create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(partial(self._sent, batch))
        batch.append((arguments, reply))
        return await reply

    async def _send(self, batch: _Batch) -> None:
        """Send what tasks wait for, and give each its own reply."""
        if self._batch is batch:
            self._batch = None
        waiting = [(command, reply) for command, reply in batch if not reply.done()]
        self._reading += 1
        try:
            outcomes = await self._outcomes([command for command, _ in waiting])
            for (_, reply), outcome in zip(waiting, outcomes, strict=True):
                if reply.done():  # who waited was cancelled
                    continue
                if isinstance(outcome, BaseException):
                    reply.set_exception(outcome)
                else:
                    reply.set_result(outcome)
        finally:
            self._reading -= 1

    def _sent(self, batch: _Batch, task: asyncio.Task[None]) -> None:
        """Nobody is to wait for ever, also where the task was cancelled before it began."""
        self._sending.discard(task)
        if self._batch is batch:
            self._batch = None
        for _, reply in batch:
            if not reply.done():
                reply.set_exception(LostConnectionError("the reading was broken off"))

    async def _outcomes(self, commands: Sequence[Arguments]) -> Sequence[Any]:
        """The reply to each command, or its error."""
        try:
            return await self._surely(self._all_asked, commands)
        except InvalidResponse:
            # One reply that cannot be read is not to cost the others theirs.
            alone = (self._surely(self._asked, command) for command in commands)
            return await asyncio.gather(*alone, return_exceptions=True)
        except Exception as error:  # noqa: BLE001 - it is raised where each waits
            return [copy.copy(error) for _ in commands]

    async def _surely(self, exchange: Callable[[Any, Any], Awaitable[T]], what: Any) -> T:
        try:
            connection = self._free.pop()
        except IndexError:
            return await exchange(await self._opened(), what)
        try:
            return await exchange(connection, what)
        except LostConnectionError:
            return await exchange(await self._opened(), what)

    async def _opened(self) -> Any:
        """A connection that is open and logged in; opening it has a time limit of its own."""
        connecting = self._pool.connection_kwargs.get("socket_connect_timeout")
        try:
            async with asyncio.timeout(_sum(connecting, self._timeout)):
                return await self._pool.get_connection("")
        except TimeoutError:
            raise LateError("the connection took too long") from None

    async def _asked(self, connection: Any, arguments: Arguments) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_command(*arguments)
                reply = await connection.read_response(disable_decoding=True)
        except ResponseError:
            self._free.append(connection)
            raise
        except BaseException as error:
            await self._closed(connection)
            self._raise_if_late(error)
            raise
        self._free.append(connection)
        callback = self._callbacks.get(arguments[0])
        return reply if callback is None else callback(reply)

    async def _all_asked(self, connection: Any, commands: Sequence[Arguments]) -> list[Any]:
        replies = []
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_packed_command(connection.pack_commands(commands))
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(disable_decoding=True))
                    except ResponseError as error:
                        replies.append(error)
        except BaseException as error:
            await self._closed(connection)
            self._raise_if_late(error)
            raise
        self._free.append(connection)
        return _as_told(replies, commands, self._callbacks)

    def _raise_if_late(self, error: BaseException) -> None:
        """A time limit's error as valkey-py's."""
        if isinstance(error, TimeoutError):
            raise LateError(f"no reply within {self._timeout} s") from error

    async def _closed(self, connection: Any) -> None:
        """Close what may still owe a reply, without waiting, and leave it to be opened anew."""
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)


def _sum(*seconds: float | None) -> float | None:
    return None if None in seconds else sum(s for s in seconds if s is not None)


def _as_told(replies: list[Any], commands: Sequence[Arguments], callbacks: Any) -> list[Any]:
    """The replies as valkey-py gives those of single commands."""
    told = []
    for reply, command in zip(replies, commands, strict=True):
        callback = callbacks.get(command[0])
        is_plain = callback is None or isinstance(reply, ResponseError)
        told.append(reply if is_plain else callback(reply))
    return told
