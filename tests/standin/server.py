"""`StandIn`: a server with valkey-search, as far as a client can tell.

This is what tests hold. It starts and stops things and lets a test look and interfere; how a
command is answered is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.standin.coordinator import Coordinator
from tests.standin.journal import Fault, Received
from tests.standin.link import Shared
from tests.standin.module import SearchModule
from tests.standin.plain import PlainValkey
from tests.standin.proxy import Connection
from tests.standin.release import RELEASES, ReleaseName
from tests.standin.threads import LoopThread
from tests.standin.wire import Address

T = TypeVar("T")
BACKLOG = 512


class StandIn:
    """A proxy in front of a plain Valkey that answers `FT.*` as valkey-search does.

    Args:
        release: which release of valkey-search to be.
        backing: a plain Valkey that runs already and is left running; one of its own when not
            given.
        backing_args: arguments of the valkey-server that is its own, such as
            `["--maxmemory", "20mb"]`.
        backfill_delay: seconds for which a new index does not yet know the keys that were there
            before it. May be changed at any time.
        password: of the backing server's default user.
        coordinator: what the nodes of one cluster have in common, if this is one of them. It
            must be the same for all, and so must be the thread.
        thread: in which to work; one of its own when not given.

    `host`, `port` and `url` say where clients find it; `backing` is the Valkey behind, which
    a second client may talk to past the stand-in.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        release: ReleaseName = "1.2.1",
        *,
        backing: PlainValkey | None = None,
        backing_args: Sequence[str] = (),
        backfill_delay: float = 0.0,
        password: str | None = None,
        coordinator: Coordinator | None = None,
        thread: LoopThread | None = None,
    ) -> None:
        self.release: ReleaseName = release
        self.port = 0
        self.backing = backing or PlainValkey(backing_args)
        self._owns_backing = backing is None
        address = Address(self.backing.unix_path, password)
        module = SearchModule(RELEASES[release], address, coordinator)
        module.backfill_delay = backfill_delay
        self._shared = Shared(module, address)
        self._coordinator = coordinator
        self._thread = thread
        self._owns_thread = thread is None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"valkey://{self.host}:{self.port}"

    @property
    def backfill_delay(self) -> float:
        return self._shared.module.backfill_delay

    @backfill_delay.setter
    def backfill_delay(self, seconds: float) -> None:
        self._shared.module.backfill_delay = seconds

    # Starting and stopping.

    def start(self) -> Self:
        """Starts the backing server, if it is its own, and listens."""
        if self._owns_backing:
            self.backing.start()
        if self._owns_thread:
            self._thread = LoopThread(f"stand-in {self.release}")
        self._do(self._listen())
        return self

    def stop(self) -> None:
        """Ends every connection, the thread, and the backing server if it is its own."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.do(self._close())
            if self._owns_thread:
                thread.stop()
        if self._owns_backing:
            self.backing.stop()
        if self._shared.errors:
            raise RuntimeError("the stand-in itself failed") from self._shared.errors[0]

    def kill(self) -> None:
        """Cuts every connection and refuses new ones, until `restart()`."""
        self._do(self._hang_up())

    def restart(self) -> None:
        """Listens again on the same port. Data and indexes are as they were."""
        if self._listener is None:
            self._do(self._listen())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Looking.

    @property
    def commands(self) -> list[Received]:
        """The last 10,000 commands, without those that set up a connection."""
        return self._shared.journal.commands()

    @property
    def setup_commands(self) -> list[Received]:
        """HELLO, AUTH, SELECT, PING, RESET, QUIT and CLIENT SETINFO, SETNAME and the like."""
        return self._shared.journal.setup_commands()

    def counting(self) -> AbstractContextManager[list[Received]]:
        """The list of commands received within the block, without those that set up connections."""
        return self._shared.journal.counting()

    def indexes(self, db: int = 0) -> list[str]:
        """The names of the indexes of a database."""
        return [x.decode("utf-8", "replace") for x in self._run(db, "FT._LIST")]

    @property
    def refused(self) -> list[tuple[str, str]]:
        """User and command, of those of the module that were refused for want of a right."""
        return self._shared.module.rights.refused

    # Interfering.

    def drop_index(self, name: str, db: int = 0) -> None:
        """Drops an index as an operator would do it from elsewhere.

        Raises:
            KeyError: there is no index of this name.
        """
        if name not in self.indexes(db):
            raise KeyError(name)
        self._run(db, "FT.DROPINDEX", name.encode())

    def fail_next(self, command: str, error: str, *, times: int = 1) -> None:
        """The next such command is not carried out and gets this error reply.

        Args:
            command: its name, such as "FT.SEARCH" or "EVALSHA".
            error: the error's text with its code, such as "OOM command not allowed".
            times: for how many of them.
        """
        self._shared.journal.expect(command, [Fault(error=error)] * times)

    def delay_next(self, command: str, seconds: float, *, times: int = 1) -> None:
        """The next such command is carried out only after so many seconds."""
        self._shared.journal.expect(command, [Fault(delay=seconds)] * times)

    def paced(self, pace: Callable[[Received], Fault | None]) -> AbstractContextManager[None]:
        """Within the block, each command takes as long, or fails, as the function says of it."""
        return self._shared.journal.paced(pace)

    def clear_faults(self) -> None:
        """Forgets what `fail_next` and `delay_next` announced and did not happen yet."""
        self._shared.journal.clear_faults()

    def _run(self, db: int, name: str, *args: bytes) -> Any:
        reply = self._do(self._shared.module.run(db, name, args))
        return [x.encode() for x in reply] if isinstance(reply, list) else reply

    # The thread.

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            work.close()
            raise RuntimeError("this stand-in is not running; call start()")
        return self._thread.do(work)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        made: Callable[[], Connection] = lambda: Connection(self._shared)  # noqa: E731
        self._listener = await loop.create_server(made, self.host, self.port, backlog=BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]
        if self._coordinator is not None:
            self._coordinator.members[self.port] = self._shared.module

    async def _hang_up(self) -> None:
        if self._listener is not None:
            # Who has just been let in is waited for: behind a closed listener asyncio loses them.
            for sock in self._listener.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._listener.close()
            self._listener = None
        if self._coordinator is not None:
            self._coordinator.members.pop(self.port, None)
        while self._shared.links:
            for link in list(self._shared.links):
                link.abort()
            await asyncio.sleep(0)

    async def _close(self) -> None:
        await self._hang_up()
        tasks = list(self._shared.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shared.module.close()
        # Transports report their end one turn of the loop after they were closed.
        for _ in range(3):
            await asyncio.sleep(0)
