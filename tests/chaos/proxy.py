"""A TCP proxy that passes on what a server answers, or does something worse.

It runs in a thread of its own and may be told at any time how to behave.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from types import TracebackType
from typing import Any, Literal, Self

Manner = Literal["well", "cut", "delay", "drip", "garbage", "silent"]

GARBAGE = b"\x00\xff*-99\r\n$abc\r\n:1:2:3\r\n"


class Proxy:
    """In front of one server.

    Args:
        port: The server's, on loopback.
        seed: Of the dice that decide where a reply is cut.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self.manner: Manner = "well"
        self.seconds = 0.0
        """How long a reply is delayed, or each byte of it when it drips."""
        self.port = 0
        self._server_port = port
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def hang_up(self) -> None:
        """Cut every connection."""
        self._loop.call_soon_threadsafe(lambda: [w.close() for w in self._writers])

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._listener.close()
        for writer in self._writers:
            writer.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        pair = (writer, behind[1])
        self._writers.update(pair)
        ways = (
            asyncio.create_task(self._pass_on(reader, behind[1], self._as_it_is)),
            asyncio.create_task(self._pass_on(behind[0], writer, self._misbehaving)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy is being closed
        finally:
            for way in ways:
                way.cancel()
            for each in pair:
                each.close()
            self._writers.difference_update(pair)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, write: Any
    ) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if not await write(writer, data):
                    return

    async def _as_it_is(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        writer.write(data)
        await writer.drain()
        return True

    async def _misbehaving(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        manner = self.manner
        if manner == "silent":
            return True
        if manner == "cut":
            writer.write(data[: self._random.randrange(len(data))])
            await writer.drain()
            return False
        if manner == "garbage":
            writer.write(GARBAGE)
            await writer.drain()
            return True
        if manner == "delay":
            await asyncio.sleep(self.seconds)
        if manner == "drip":
            for at in range(len(data)):
                writer.write(data[at : at + 1])
                await writer.drain()
                await asyncio.sleep(self.seconds)
                if self.manner != "drip":
                    data = data[at + 1 :]
                    break
            else:
                return True
        return await self._as_it_is(writer, data)
