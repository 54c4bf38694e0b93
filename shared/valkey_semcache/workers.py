"""Threads for calls that may hang: bounded in number, never waited for.

Rule of this file: whoever asks for a call gets its outcome or a `TimeoutError`, in time. A call
that hangs keeps its thread; when all threads hang, further calls fail at once. An interpreter that
exits waits for none of them, as it would for those of `concurrent.futures`.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from valkey_semcache.locks import ForkLock

T = TypeVar("T")
_Work: TypeAlias = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """Daemon threads, started when needed and kept.

    Args:
        limit: How many there may be.
        name: Theirs, for those who look at a process's threads.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        self._waiting: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._threads = 0
        self._claimed = 0  # calls under way and waiting
        self._since: dict[int, float] = {}  # when each busy thread's call began

    def __len__(self) -> int:
        """How many threads there are."""
        return self._threads

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """The outcome of `function()`, called in another thread, in the caller's context.

        Raises:
            TimeoutError: It did not come within so many seconds, or all threads are kept by
                calls that take longer than that.
        """
        future = self._begun(function, seconds)
        try:
            return future.result(seconds)
        finally:
            future.cancel()  # if it has not begun, it never will

    async def acall(self, function: Callable[[], T], seconds: float) -> T:
        """The same as `call`, without blocking the event loop."""
        # Until Python 3.12 `wait_for` swallows a cancellation that comes with the outcome.
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(self._begun(function, seconds))

    def _begun(self, function: Callable[[], T], seconds: float) -> Future[T]:
        future: Future[T] = Future()
        context = contextvars.copy_context()
        with self._lock:
            self._claimed += 1
            if self._claimed > self._threads and self._threads < self._limit:
                name = f"{self._name}-{self._threads + 1}"
                try:
                    threading.Thread(target=self._work, name=name, daemon=True).start()
                    self._threads += 1
                except RuntimeError:  # the system gives no more, or the interpreter is ending
                    if not self._threads:
                        self._claimed -= 1
                        raise
            elif self._all_hang(seconds):
                self._claimed -= 1
                raise TimeoutError(f"all {self._limit} threads hang")
        self._waiting.put((future, lambda: context.run(function)))
        return future

    def _all_hang(self, seconds: float) -> bool:
        since = self._since.values()
        return len(since) == self._limit and time.monotonic() - max(since) > seconds

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            future, function = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                with self._lock:
                    self._claimed -= 1
                continue
            with self._lock:
                self._since[me] = time.monotonic()
            try:
                outcome, error = function(), None
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever asked
                outcome, error = None, raised
            # Idle before the outcome is known, so that who asks next finds this thread.
            with self._lock:
                del self._since[me]
                self._claimed -= 1
            if error is None:
                future.set_result(outcome)
            else:
                future.set_exception(error)
            del future, function, outcome, error
