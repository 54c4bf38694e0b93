"""Threads for calls that may hang: bounded in number, never waited for.

Rule of this file: whoever asks for a call gets its outcome or a `TimeoutError`, in time. A call
that hangs keeps its thread; when all threads hang, further calls fail at once. An interpreter that
exits waits for none of them, as it would for those of `concurrent.futures`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from valkey_semcache.locks import ForkLock

T = TypeVar("T")


class _Call:
    """One call, and what came of it. A `Future` would cost three times as much."""

    __slots__ = ("context", "error", "finished", "function", "outcome")

    def __init__(self, function: Callable[[], Any], finished: Callable[[], object]) -> None:
        self.context = contextvars.copy_context()
        self.function = function
        self.finished = finished  # called in the thread, once there is an outcome or an error
        self.outcome: Any = None
        self.error: BaseException | None = None


class _Worker:
    """A thread's own door: who has a call for it leaves it there and opens.

    `since` is when its call began, by the monotonic clock; infinity while there is none.
    """

    __slots__ = ("call", "door", "since")

    def __init__(self, call: _Call) -> None:
        self.call: _Call | None = call
        self.since = time.monotonic()
        self.door = threading.Lock()


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
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[_Call] = deque()

    def __len__(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """The outcome of `function()`, called in another thread, in the caller's context.

        Raises:
            TimeoutError: It did not come within so many seconds, or all threads are kept by
                calls that take longer than that.
        """
        done = threading.Lock()
        done.acquire()
        call = _Call(function, done.release)
        in_time = False
        try:
            self._hand_over(call, seconds)
            in_time = done.acquire(True, seconds)
        finally:
            if not in_time:
                self._withdraw(call)
        if not in_time:
            raise TimeoutError
        if call.error is not None:
            raise call.error
        outcome: T = call.outcome
        return outcome

    async def acall(self, function: Callable[[], T], seconds: float) -> T:
        """The same as `call`, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def finished() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        call = _Call(function, finished)
        self._hand_over(call, seconds)
        try:
            # Until Python 3.12 `wait_for` swallows a cancellation that comes with the outcome.
            async with asyncio.timeout(seconds):
                await done.wait()
        except BaseException:
            self._withdraw(call)
            raise
        if call.error is not None:
            raise call.error
        outcome: T = call.outcome
        return outcome

    def _hand_over(self, call: _Call, seconds: float) -> None:
        """Have a call made as soon as there is a thread for it."""
        try:
            worker = self._idle.pop()
        except IndexError:
            self._start_or_wait(call, seconds)
        else:
            worker.call, worker.since = call, time.monotonic()
            worker.door.release()

    def _start_or_wait(self, call: _Call, seconds: float) -> None:
        """Have a call made by a new thread, or by the next one that is free."""
        with self._lock:
            if not self._idle:
                if len(self._workers) < self._limit:
                    if self._started(call):
                        return
                elif self._all_hang(seconds):
                    raise TimeoutError(f"all {self._limit} threads hang")
            self._waiting.append(call)
        self._give_out()

    def _started(self, call: _Call) -> bool:
        """Whether a new thread makes the call. The lock is held."""
        worker = _Worker(call)
        name = f"{self._name}-{len(self._workers) + 1}"
        try:
            threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()
        except RuntimeError:  # the system gives no more, or the interpreter is ending
            if not self._workers:
                raise
            return False
        self._workers.append(worker)
        return True

    def _all_hang(self, seconds: float) -> bool:
        """Whether even the call that began last takes too long. The lock is held."""
        return time.monotonic() - max(worker.since for worker in self._workers) > seconds

    def _give_out(self) -> None:
        """Calls that wait to threads that are idle."""
        with self._lock:
            while self._waiting:
                try:
                    worker = self._idle.pop()
                except IndexError:
                    return
                worker.call, worker.since = self._waiting.popleft(), time.monotonic()
                worker.door.release()

    def _withdraw(self, call: _Call) -> None:
        """Nobody waits for a call any more: if no thread has it yet, none ever will."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(call)

    def _work(self, worker: _Worker) -> None:
        while True:
            worker.door.acquire()
            call, worker.call = worker.call, None
            if call is None:
                continue
            try:
                call.outcome = call.context.run(call.function)
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever asked
                call.error = raised
            # Idle before the outcome is known, so that who asks next finds this thread; and only
            # then a look at who waits, for those look at who is idle once they wait.
            worker.since = math.inf
            self._idle.append(worker)
            if self._waiting:
                self._give_out()
            call.finished()
            del call
