"""A process's hold on an embedded server: the leash, and the sign that the server lives.

Rule of this file: what the kernel does when a process ends, however it ends, is all that a
server's life depends on. Every process that may use one has the writing end of a named pipe,
the leash, open; forked children have it too. The server keeps the writing end of another pipe
open, and so everybody sees it end.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from collections.abc import Iterator

from valkey_semcache.server.memory import MemoryLimit

_STOP_WITHIN = 15.0  # seconds; the shell kills a server that has not stopped after ten


class Hold:
    """This process's hold on a running server.

    Args:
        folder: The server's temporary folder, with its socket.
        descriptors: The writing end of the leash, the reading end of the pipe that ends with
            the server, and what else must stay open.
    """

    def __init__(self, folder: str, *descriptors: int) -> None:
        self.folder = folder
        self.socket = os.path.join(folder, "socket")
        self.leash, self.life = descriptors[:2]
        self.owner = os.getpid()
        self.compared: set[MemoryLimit] = set()  # limits that were held against the server's
        self._marks = {number: os.fstat(number) for number in descriptors}

    def lives(self) -> bool:
        """Whether the server runs and its socket is there; a few microseconds, no waiting."""
        return self._runs() and os.path.exists(self.socket)

    def stop(self, wait: float = _STOP_WITHIN) -> None:
        """End this hold, and the server unless it is others' too: wait until it is down."""
        with self.sole() as sole:
            if sole and self._runs():
                self._stop_the_server()  # forked children may hold the leash too
            if sole and self.holds(self.life):
                ended(self.life, wait)
        self.let_go()

    def give_up(self) -> None:
        """End this hold on what no longer lives: nobody can reach a server without socket."""
        if self._runs():
            self._stop_the_server()
        self.let_go()

    def let_go(self) -> None:
        """End this hold; the server ends, if it had no other."""
        if self.holds(self.life) and ended(self.life, 0):
            shutil.rmtree(self.folder, ignore_errors=True)
        for number in list(self._marks):
            self.close(number)

    @contextlib.contextmanager
    def sole(self) -> Iterator[bool]:
        """Whether the server is this process's to stop: not in a forked child."""
        yield self.owner == os.getpid()

    def holds(self, number: int) -> bool:
        """Whether a descriptor is still ours.

        An app that turns into a daemon closes every descriptor, and their numbers are used
        again: a number alone does not say so.
        """
        try:
            return os.path.samestat(os.fstat(number), self._marks[number])
        except (OSError, KeyError):
            return False

    def close(self, number: int) -> None:
        """Close one of the descriptors, if it is still ours."""
        if self.holds(number):
            os.close(number)
        self._marks.pop(number, None)

    def _runs(self) -> bool:
        return self.holds(self.leash) and self.holds(self.life) and not ended(self.life, 0)

    def _stop_the_server(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.leash, b"stop\n")


def ended(life: int, seconds: float) -> bool:
    """Whether the server's end of the pipe is closed, waiting up to `seconds` for it."""
    poll = select.poll()
    poll.register(life, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
