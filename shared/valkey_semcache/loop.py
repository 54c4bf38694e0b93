"""One event loop in a thread of its own, for what must be awaited where nothing awaits.

Rule of this file: whoever asks gets the outcome or a `TimeoutError`, in time. It is one loop for
all calls, and stays: clients of an app keep their connections for the loop they were used in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from valkey_semcache.locks import ForkLock

T = TypeVar("T")

_GRACE = 0.25  # seconds by which the loop may be late in saying that time is up


class LoopThread:
    """An event loop in a daemon thread, begun when it is first needed.

    Args:
        name: The thread's, for those who look at a process's threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, asked: Callable[[], Awaitable[T]], seconds: float) -> T:
        """The outcome of `await asked()`, in the caller's context.

        Raises:
            TimeoutError: It did not come within so many seconds.
        """
        future = asyncio.run_coroutine_threadsafe(within(asked, seconds), self._running())
        try:
            return future.result(seconds + _GRACE)
        finally:
            future.cancel()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                ).start()
            return self._loop


async def within(asked: Callable[[], Awaitable[T]], seconds: float) -> T:
    """The outcome of `await asked()`; unlike `asyncio.wait_for` it waits no longer for what does
    not heed being cancelled.

    Raises:
        TimeoutError: It did not come within so many seconds, or cancelled itself.
    """
    task = asyncio.ensure_future(_awaited(asked))
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_let_go)
    if not task.done():
        raise TimeoutError(f"nothing within {seconds} s")
    if task.cancelled():
        raise TimeoutError("it cancelled itself")
    return task.result()


async def _awaited(asked: Callable[[], Awaitable[T]]) -> T:
    return await asked()


def _let_go(task: asyncio.Task[Any]) -> None:
    """Look at what a task came to that nobody waits for any more, so that nothing is logged."""
    if not task.cancelled():
        task.exception()
