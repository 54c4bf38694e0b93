"""What was received, and what shall go wrong: the part of the proxy that a test looks into.

Used by the thread of the stand-in and by the tests', under one lock. No bytes and no sockets.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# So many commands are remembered; what is counted within a block is kept whole.
KEPT = 10_000
SETUP = frozenset({"HELLO", "AUTH", "SELECT", "PING", "RESET", "QUIT"})
SETUP_OF_CLIENT = frozenset({"SETINFO", "SETNAME", "NO-EVICT", "NO-TOUCH"})


@dataclass(frozen=True)
class Received:
    """A command as a client sent it: the name in upper case, the arguments after it."""

    name: str
    args: tuple[bytes, ...]

    @property
    def subcommand(self) -> str:
        return self.args[0].upper().decode("latin-1") if self.args else ""

    def subject(self, subcommand: str) -> str:
        """The argument after this subcommand, in upper case; "" if there is none."""
        if self.subcommand != subcommand or len(self.args) < 2:
            return ""
        return self.args[1].upper().decode("latin-1")

    @property
    def is_setup(self) -> bool:
        """Whether it belongs to setting up a connection rather than to using it."""
        if self.name == "CLIENT":
            return self.subcommand in SETUP_OF_CLIENT
        return self.name in SETUP


@dataclass
class Fault:
    """What shall happen to a command instead of, or before, its answer."""

    error: str | None = None
    delay: float = 0.0


class Journal:
    """The commands of all clients, in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: deque[Received] = deque(maxlen=KEPT)
        self._setup_commands: deque[Received] = deque(maxlen=KEPT)
        self._counters: list[list[Received]] = []
        self._faults: dict[str, deque[Fault]] = {}
        self._pace: Callable[[Received], Fault | None] | None = None

    def note(self, received: Received) -> Fault | None:
        """Writes a command down and says what shall happen to it."""
        with self._lock:
            if received.is_setup:
                self._setup_commands.append(received)
            else:
                self._commands.append(received)
                for counter in self._counters:
                    counter.append(received)
            waiting = self._faults.get(received.name)
            if waiting:
                return waiting.popleft()
            return self._pace(received) if self._pace else None

    def commands(self) -> list[Received]:
        with self._lock:
            return list(self._commands)

    def setup_commands(self) -> list[Received]:
        with self._lock:
            return list(self._setup_commands)

    @contextmanager
    def counting(self) -> Iterator[list[Received]]:
        seen: list[Received] = []
        with self._lock:
            self._counters.append(seen)
        try:
            yield seen
        finally:
            with self._lock:
                self._counters[:] = [x for x in self._counters if x is not seen]

    def expect(self, command: str, faults: list[Fault]) -> None:
        """The next such commands meet these faults, one each."""
        with self._lock:
            self._faults.setdefault(command.upper(), deque()).extend(faults)

    @contextmanager
    def paced(self, pace: Callable[[Received], Fault | None]) -> Iterator[None]:
        """Within the block, this says what happens to each command that meets no other fault."""
        self._pace = pace
        try:
            yield
        finally:
            self._pace = None

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()
