"""Tells Valkey what this process has counted, at most once a second, beside the calls.

Rule of this file: no call waits for it. It writes only while something happens, gives up where the
server refuses, and what could not be written is in the next write. A thread is there for as long as
there is work, and half a minute longer.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from weakref import WeakSet

from valkey_semcache.drive import Drive
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.locks import ForkLock
from valkey_semcache.stats import Counters
from valkey_semcache.telemetry.fleet import add_figures

_SECONDS = 1.0  # between two writes
_LINGERS = 30.0  # seconds that the thread waits for more

_all: WeakSet[Reporter] = WeakSet()
_known: list[int | str] = [0, ""]  # this process's id, and what it is counted by
_exit = threading.Event()  # set in the process that has asked to be told when it ends


class Reporter:
    """Writes one cache's counters.

    Args:
        name: The cache's name.
        counters: What is written.
        drive: Reaches the server.
        figures: Gives the counters by field, as they are to be written; asked with False where
            no other thread can be counting, and a lock might never come free.
    """

    def __init__(
        self,
        name: str,
        counters: Counters,
        drive: Drive,
        figures: Callable[[bool], Mapping[str, int]],
    ) -> None:
        self.marked = False
        self._name = name
        self._counters = counters
        self._drive = drive
        self._figures = figures
        self._told: Mapping[str, int] = {}
        self._refused = False
        self._lock = ForkLock(after_fork=self._begin)
        self._writing = ForkLock()
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Anew, as in a forked child: what the parent has counted is the parent's to tell."""
        self.marked = False
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = self._figures(False)
        _exit.clear()

    def mark(self) -> None:
        """Something was counted: it is written within about a second."""
        if self._refused:
            return
        self.marked = True
        with self._lock:
            self._wanted.set()
            if self._thread is None:
                _tell_at_exit()
                name = "semcache-fleet-stats"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    thread.start()
                    self._thread = thread

    @property
    def behind(self) -> bool:
        """Whether something was counted that is not written, or is being written now."""
        return not self._refused and self._figures(True) != self._told

    def flush(self) -> None:
        """Write now what was not written yet, unless the server failed a moment ago."""
        self.marked = False
        if self._refused or not self._drive.server.answers:
            return
        with self._writing:
            figures = self._figures(True)
            told = self._told
            added = {f: n - told.get(f, 0) for f, n in figures.items() if n != told.get(f, 0)}
            if not added:
                return
            try:
                self._drive.run(add_figures(self._name, _process(), added))
            except Exception as error:  # noqa: BLE001 - a provider of credentials may raise anything
                # What was not answered may have been done: it is then counted twice.
                self._failed(error)
            else:
                self._told = figures

    def _failed(self, error: Exception) -> None:
        self._refused = isinstance(error, ConfigurationError) or "permission" in str(error).lower()
        what = "are not kept by this process" if self._refused else "wait for the next write"
        self._counters.warn(
            "fleet statistics",
            "The fleet's statistics %s: %s: %s Without them: fleet_stats=False.",
            *(what, type(error).__name__, error),
            cause=error,
        )

    def _run(self) -> None:
        while True:
            while self._wanted.wait(_LINGERS):
                self._wanted.clear()
                time.sleep(_SECONDS)
                self.flush()
            with self._lock:
                if not self._wanted.is_set():
                    self._thread = None
                    return


def _process() -> str:
    """What this process is counted by, whatever number of caches it has."""
    if _known[0] != os.getpid():
        _known[:] = os.getpid(), secrets.token_hex(4)
    return str(_known[1])


def _tell_at_exit() -> None:
    """Have all that is left written when this process ends."""
    if _exit.is_set():
        return
    _exit.set()
    process, util = (sys.modules.get(f"multiprocessing.{m}") for m in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _tell_all, exitpriority=1)  # such a child runs no `atexit`
    else:
        atexit.register(_tell_all)


def _tell_all() -> None:
    for reporter in list(_all):
        reporter.flush()
