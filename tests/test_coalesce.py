"""Coalescing: one call for many who ask the same at the same time, threads and tasks alike."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.waiting import await_until, wait_until
from valkey_semcache.coalesce import Coalescer, Lead, Wait

ASKERS = 8


class Model:
    """A slow call that is let go by the test, and counted."""

    def __init__(self, fails: int = 0) -> None:
        self.calls = 0
        self.fails = fails
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.calls += 1
            number = self.calls
        assert self.go.wait(20)
        if number <= self.fails:
            raise ConnectionError("the model is down")
        return f"answer {number}"

    async def acall(self) -> str:
        return await asyncio.to_thread(self)


def waiting(coalescer: Coalescer, count: int, key: str = "q") -> bool:
    flight = coalescer._flights.get(key)
    return flight is not None and len(flight.wakers) == count


def ask_in_threads(pool: ThreadPoolExecutor, ask: Callable[[], Any]) -> list[Future[Any]]:
    return [pool.submit(contextvars.Context().run, ask) for _ in range(ASKERS)]


def test_threads_share_one_call() -> None:
    coalescer, model = Coalescer(), Model()
    with ThreadPoolExecutor(ASKERS) as pool:
        asked = ask_in_threads(pool, lambda: coalescer.call("q", model))
        wait_until(lambda: waiting(coalescer, ASKERS - 1))
        model.go.set()
        assert [future.result() for future in asked] == ["answer 1"] * ASKERS
    assert model.calls == 1
    assert len(coalescer) == 0


async def test_tasks_share_one_call_and_the_loop_goes_on() -> None:
    coalescer, model = Coalescer(), Model()
    tasks = [asyncio.create_task(coalescer.acall("q", model.acall)) for _ in range(ASKERS)]
    await await_until(lambda: waiting(coalescer, ASKERS - 1))
    model.go.set()
    assert await asyncio.gather(*tasks) == ["answer 1"] * ASKERS
    assert model.calls == 1
    assert len(coalescer) == 0


@pytest.mark.parametrize("leader", ["thread", "task"])
def test_threads_and_tasks_of_two_loops_share_one_call(leader: str) -> None:
    coalescer, model = Coalescer(timeout=600, stall=600), Model()

    def in_a_loop() -> str:
        return asyncio.run(coalescer.acall("q", model.acall))

    def in_a_thread() -> str:
        return coalescer.call("q", model)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(in_a_thread if leader == "thread" else in_a_loop)
        wait_until(lambda: model.calls)
        others = [pool.submit(ask) for ask in (in_a_loop, in_a_thread, in_a_loop, in_a_thread)]
        wait_until(lambda: waiting(coalescer, 4))
        model.go.set()
        assert {future.result() for future in (first, *others)} == {"answer 1"}
    assert model.calls == 1


def test_other_keys_do_not_wait() -> None:
    coalescer = Coalescer()
    with coalescer.join("one", blocking=True):
        assert isinstance(coalescer.join("two", blocking=True), Lead)
        assert len(coalescer) == 2


def test_waiters_of_a_failed_call_call_for_themselves_at_once() -> None:
    coalescer, model = Coalescer(timeout=600, stall=600), Model(fails=1)
    with ThreadPoolExecutor(ASKERS) as pool:
        asked = ask_in_threads(pool, lambda: coalescer.call("q", model))
        wait_until(lambda: waiting(coalescer, ASKERS - 1))
        model.go.set()
        errors = [future.exception(20) for future in asked]
    assert [type(error) for error in errors if error] == [ConnectionError]
    assert model.calls == ASKERS
    assert len(coalescer) == 0


async def test_waiters_of_a_cancelled_call_call_for_themselves_at_once() -> None:
    coalescer, model = Coalescer(timeout=600, stall=600), Model()
    begun = asyncio.Event()

    async def never() -> str:
        begun.set()
        return await asyncio.Future()

    leader = asyncio.create_task(coalescer.acall("q", never))
    await begun.wait()
    model.go.set()
    tasks = [asyncio.create_task(coalescer.acall("q", model.acall)) for _ in range(3)]
    await await_until(lambda: waiting(coalescer, 3))
    leader.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    assert model.calls == 3


async def test_a_cancelled_waiter_leaves_the_others_waiting() -> None:
    coalescer, model = Coalescer(), Model()
    tasks = [asyncio.create_task(coalescer.acall("q", model.acall)) for _ in range(3)]
    await await_until(lambda: waiting(coalescer, 2))
    tasks[2].cancel()
    await await_until(lambda: waiting(coalescer, 1))
    model.go.set()
    assert await tasks[0] == await tasks[1] == "answer 1"
    assert tasks[2].cancelled()


async def test_every_wait_has_a_deadline_and_the_late_call_is_not_waited_for_again() -> None:
    coalescer = Coalescer(timeout=0.05)
    thread = threading.Thread(target=coalescer.join, args=("q",), kwargs={"blocking": True})
    thread.start()  # and never ends its call
    thread.join()
    assert coalescer.call("q", lambda: "own") == "own"
    assert len(coalescer) == 0
    with ThreadPoolExecutor(1) as pool:
        pool.submit(coalescer.join, "q", blocking=True).result()
    started = time.monotonic()
    assert await coalescer.acall("q", lambda: asyncio.sleep(0, "own")) == "own"
    assert 0.04 < time.monotonic() - started < 5
    assert len(coalescer) == 0


def test_who_reads_a_stream_slowly_holds_up_nobody() -> None:
    coalescer = Coalescer(timeout=600, stall=0.05)
    with ThreadPoolExecutor(1) as pool:
        lead = pool.submit(coalescer.join, "q", blocking=True).result()
    lead.paused(True)
    assert coalescer.call("q", lambda: "own") == "own"
    with ThreadPoolExecutor(1) as pool:
        lead = coalescer.join("q", blocking=True)
        assert isinstance(lead, Lead)
        lead.paused(True)
        lead.paused(False)
        waiter = pool.submit(coalescer.call, "q", lambda: "own")
        wait_until(lambda: waiting(coalescer, 1))
        with pytest.raises(TimeoutError):
            waiter.result(0.2)
        lead.finish("shared")
        assert waiter.result(20) == "shared"


# Nobody waits for itself: with a deadline of ten minutes each of these would be noticed


def test_a_nested_call_runs_through() -> None:
    coalescer = Coalescer(timeout=600)
    assert coalescer.call("q", lambda: "outer " + coalescer.call("q", lambda: "inner")) == (
        "outer inner"
    )
    assert len(coalescer) == 0


async def test_a_nested_call_in_a_task_or_thread_of_the_leader_runs_through() -> None:
    coalescer = Coalescer(timeout=600)

    async def inner() -> str:
        return "inner"

    async def outer() -> list[str]:
        return await asyncio.gather(
            coalescer.acall("q", inner),
            asyncio.create_task(coalescer.acall("q", inner)),
            asyncio.to_thread(coalescer.call, "q", lambda: "inner"),
        )

    async with asyncio.timeout(20):
        assert await coalescer.acall("q", outer) == ["inner"] * 3


async def test_blocking_code_never_waits_for_a_task_of_its_own_thread() -> None:
    coalescer = Coalescer(timeout=600)
    go = asyncio.Event()
    leader = asyncio.create_task(coalescer.acall("q", go.wait))
    await await_until(lambda: len(coalescer))
    assert coalescer.call("q", lambda: "own") == "own"
    go.set()
    assert await leader is True


async def test_a_task_never_waits_for_blocking_code_of_its_own_thread() -> None:
    coalescer = Coalescer(timeout=600)
    with contextvars.Context().run(coalescer.join, "q", blocking=True):
        async with asyncio.timeout(20):
            assert await coalescer.acall("q", lambda: asyncio.sleep(0, "own")) == "own"


async def test_a_task_never_waits_for_a_call_that_it_began_in_another_context() -> None:
    coalescer = Coalescer(timeout=600)
    lead = contextvars.Context().run(coalescer.join, "q", blocking=False)
    assert isinstance(coalescer.join("q", blocking=False), Lead)
    waiter = asyncio.create_task(coalescer.acall("q", lambda: asyncio.sleep(0, "own")))
    await await_until(lambda: waiting(coalescer, 1))
    lead.finish("shared")
    assert await waiter == "shared"


# What it leaves behind


async def test_a_closed_loop_with_a_waiter_in_it_does_no_harm() -> None:
    coalescer = Coalescer(timeout=600)
    lead = coalescer.join("q", blocking=False)
    assert isinstance(lead, Lead)

    def left_waiting() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(coalescer.acall("q", lambda: asyncio.sleep(0)))
        while not waiting(coalescer, 1):
            loop.run_until_complete(asyncio.sleep(0))
        task.cancel()  # so that it is not reported as destroyed, but it does not run again
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.Context().run, left_waiting).result()
    lead.finish("shared")


def test_no_entry_and_no_loop_is_kept() -> None:
    coalescer = Coalescer()

    def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()

        async def several() -> None:
            await asyncio.gather(
                *(coalescer.acall("q", lambda: asyncio.sleep(0.01)) for _ in range(3))
            )

        loop.run_until_complete(several())
        loop.close()
        return weakref.ref(loop)

    loop = run()
    gc.collect()
    assert loop() is None
    assert len(coalescer) == 0


def test_the_first_end_counts() -> None:
    coalescer = Coalescer()
    lead = coalescer.join("q", blocking=True)
    assert isinstance(lead, Lead)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(coalescer.join, "q", blocking=True).result()
    assert isinstance(wait, Wait)
    lead.finish("first")
    lead.give_up()
    lead.finish("second")
    assert wait.wait()
    assert wait.result == "first"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_call_of_its_parent() -> None:
    coalescer, model = Coalescer(timeout=600), Model()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(coalescer.call, "q", model) for _ in range(2)]
        wait_until(lambda: waiting(coalescer, 1))
        child = os.fork()
        if child == 0:
            ok = coalescer.call("q", lambda: "own") == "own" and len(coalescer) == 0
            os._exit(0 if ok else 1)
        model.go.set()
        assert {future.result() for future in asked} == {"answer 1"}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
