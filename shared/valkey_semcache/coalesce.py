"""One call for many who ask the same at the same time, in one process.

Rule of this file: who waits here can never be worse off than if it had called for itself by more
than the deadline. A leader that fails or gives up frees its waiters at once, nobody waits for
itself, and no event loop is blocked. What is called, and what of it is shared, is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Self, TypeVar

from valkey_semcache.locks import ForkLock

T = TypeVar("T")


class _Flight:
    """One call under way: who makes it, and how to wake those who wait for it."""

    __slots__ = ("done", "key", "ok", "paused", "result", "task", "thread", "wakers")

    def __init__(self, key: str, task: asyncio.Task[Any] | None) -> None:
        self.key = key
        self.thread = threading.get_ident()
        self.task = task
        self.wakers: list[Callable[[], None]] = []
        self.paused: float | None = None
        self.done = False
        self.ok = False
        self.result: Any = None

    def is_driven_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this call stands still while the caller waits.

        It does if it was begun by the caller, by what the caller is a part of, or in the
        caller's thread by anything but another task that can run meanwhile.
        """
        if self in _led.get():
            return True
        if self.thread != threading.get_ident():
            return False
        return task is None or self.task is None or self.task is task


# What is led by the present code or by what started it. It is not taken back when a call ends,
# since streams begin and end in different contexts; ended flights are dropped at the next start.
_led: ContextVar[tuple[_Flight, ...]] = ContextVar("valkey_semcache_led", default=())


class Coalescer:
    """Calls under way by key; a second call for the same key waits for the first.

    Threads and tasks of any event loops may wait for one another. Waiters whose leader failed,
    gave up or took too long are told so, and then call for themselves.

    Args:
        timeout: Seconds that anyone waits at most.
        stall: Seconds that a leader may be paused (see `Lead.paused`) before its waiters go on
            alone: whoever reads a stream slowly holds up nobody else.
    """

    def __init__(self, timeout: float = 30.0, stall: float = 1.0) -> None:
        self.timeout = timeout
        self.stall = stall
        self.lock = ForkLock(self._forget)
        self._flights: dict[str, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str, *, blocking: bool, timeout: float | None = None) -> Lead | Wait:
        """Begin the call for `key`, or wait for the one under way.

        Args:
            key: The same for calls that may share one answer.
            blocking: True from code that blocks its thread, False from a coroutine.
            timeout: Seconds to wait at most, instead of the coalescer's own.

        Returns:
            A `Lead` to whoever is to make the call, a `Wait` to the others. A caller that the
            call under way depends on gets a `Lead` of its own, which nobody waits for.
        """
        task = None if blocking else asyncio.current_task()
        with self.lock:
            flight = self._flights.get(key)
            if flight is not None and not flight.is_driven_by(task):
                return Wait(self, flight, self.timeout if timeout is None else timeout)
            own = _Flight(key, task)
            if flight is None:
                self._flights[key] = own
        _led.set((*(led for led in _led.get() if not led.done), own))
        return Lead(self, own)

    def call(self, key: str, make: Callable[[], T]) -> T:
        """The result of `make()`, or that of the same call under way."""
        turn = self.join(key, blocking=True)
        if isinstance(turn, Wait):
            return turn.result if turn.wait() else make()
        with turn:
            result = make()
            turn.finish(result)
            return result

    async def acall(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """The same as `call`, without blocking the event loop."""
        turn = self.join(key, blocking=False)
        if isinstance(turn, Wait):
            return turn.result if await turn.awaited() else await make()
        with turn:
            result = await make()
            turn.finish(result)
            return result

    def end(self, flight: _Flight, ok: bool, result: Any) -> None:
        """A call has ended: wake those who wait for it. Only the first end counts."""
        with self.lock:
            if flight.done:
                return
            flight.ok, flight.result, flight.done = ok, result, True
            wakers, flight.wakers = flight.wakers, []
            self._drop(flight)
        for wake in wakers:
            wake()

    def leave(self, flight: _Flight, wake: Callable[[], None], *, late: bool) -> None:
        """Stop waiting. If the call is late, the next to ask begins a new one."""
        with self.lock:
            if wake in flight.wakers:
                flight.wakers.remove(wake)
            if late:
                self._drop(flight)

    def _drop(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _forget(self) -> None:
        """In a forked child: those who lead and wait are threads of the parent."""
        for flight in self._flights.values():
            flight.wakers = []
        self._flights = {}


class Lead:
    """The right and duty to make a call. Leaving its `with` without `finish` frees the waiters."""

    __slots__ = ("_coalescer", "_flight")

    def __init__(self, coalescer: Coalescer, flight: _Flight) -> None:
        self._coalescer = coalescer
        self._flight = flight

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for it at the moment."""
        return bool(self._flight.wakers)

    def finish(self, result: Any = None) -> None:
        """The call ended well: the waiters get `result`, all the same object."""
        self._coalescer.end(self._flight, True, result)

    def give_up(self) -> None:
        """The call gave nothing to share: the waiters call for themselves."""
        self._coalescer.end(self._flight, False, None)

    def paused(self, yes: bool) -> None:
        """Whether the call stands still in somebody else's hands, as a stream does at a yield."""
        self._flight.paused = time.monotonic() if yes else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()


class Wait:
    """A place in the queue behind a `Lead`."""

    __slots__ = ("_coalescer", "_deadline", "_flight")

    def __init__(self, coalescer: Coalescer, flight: _Flight, timeout: float) -> None:
        self._coalescer = coalescer
        self._deadline = time.monotonic() + timeout
        self._flight = flight

    @property
    def result(self) -> Any:
        """What the leader finished with."""
        return self._flight.result

    def wait(self) -> bool:
        """Block until the call has ended; whether it ended well, within the deadline."""
        event = threading.Event()
        if self._enter(event.set):
            try:
                while not self._flight.done and (patience := self._patience()) > 0:
                    event.wait(patience)
            finally:
                self._leave(event.set)
        return self._flight.ok

    async def awaited(self) -> bool:
        """The same as `wait`, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed with the waiter in it
                loop.call_soon_threadsafe(ended.set)

        if self._enter(wake):
            try:
                while not self._flight.done and (patience := self._patience()) > 0:
                    try:
                        async with asyncio.timeout(patience):
                            await ended.wait()
                    except TimeoutError:
                        continue
            finally:
                self._leave(wake)
        return self._flight.ok

    def _enter(self, wake: Callable[[], None]) -> bool:
        with self._coalescer.lock:
            if not self._flight.done:
                self._flight.wakers.append(wake)
            return not self._flight.done

    def _leave(self, wake: Callable[[], None]) -> None:
        self._coalescer.leave(self._flight, wake, late=self._patience() <= 0)

    def _patience(self) -> float:
        """Seconds to wait before looking again; 0 or less when it has been long enough."""
        now = time.monotonic()
        paused, stall = self._flight.paused, self._coalescer.stall
        if paused is not None and now - paused >= stall:
            return 0.0
        return min(self._deadline - now, stall)
