"""Calls that may hang, in threads that nobody waits for."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from valkey_semcache import SemanticCache
from valkey_semcache.embedding import THREADS
from valkey_semcache.workers import Workers

ASKED = "how do i reset the password of my account"
OTHER = "which wine goes with fish"


def test_outcomes_and_errors_come_back_and_the_context_is_the_caller_s() -> None:
    workers = Workers(2, "test")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")
    assert workers.call(variable.get, 5) == "the caller's"
    assert asyncio.run(workers.acall(variable.get, 5)) == "the caller's"
    with pytest.raises(ZeroDivisionError):
        workers.call(lambda: 1 // 0, 5)
    with pytest.raises(SystemExit):
        workers.call(sys.exit, 5)
    for number in range(50):
        assert workers.call(lambda n=number: n, 5) == number
    assert len(workers) == 1, "one after another they need but one thread"


def test_no_more_threads_than_allowed_and_all_calls_are_made() -> None:
    workers = Workers(3, "test")
    most, now, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    with ThreadPoolExecutor(20) as callers:
        list(callers.map(lambda _: workers.call(work, 20), range(60)))
    assert (most, len(workers)) == (3, 3)


async def test_calls_of_threads_and_tasks_that_wait_for_a_thread_are_all_made() -> None:
    workers = Workers(2, "test")

    def threads() -> list[int]:
        with ThreadPoolExecutor(8) as callers:
            return list(callers.map(lambda n: workers.call(lambda: n, 20), range(400)))

    tasks = [workers.acall(lambda n=number: -n, 20) for number in range(400)]
    found, *others = await asyncio.gather(asyncio.to_thread(threads), *tasks)
    assert (found, others) == (list(range(400)), [-number for number in range(400)])
    assert len(workers) == 2


async def test_a_task_that_gives_up_withdraws_its_call() -> None:
    workers = Workers(1, "test")
    go_on, called = threading.Event(), []
    with pytest.raises(TimeoutError):
        await workers.acall(go_on.wait, 0.01)
    waits = asyncio.create_task(workers.acall(lambda: called.append(1), 20))
    await asyncio.sleep(0)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    go_on.set()
    assert await workers.acall(lambda: len(called), 20) == 0


def test_hanging_calls_keep_their_threads_and_then_calls_fail_at_once() -> None:
    workers = Workers(2, "test")
    go_on = threading.Event()
    called: list[int] = []
    for _ in range(2):
        with pytest.raises(TimeoutError):
            workers.call(go_on.wait, 0.05)
    began = time.monotonic()
    for number in range(20):
        with pytest.raises(TimeoutError):
            workers.call(lambda n=number: called.append(n), 0.05)
    assert time.monotonic() - began < 0.5
    go_on.set()
    while True:
        try:
            workers.call(lambda: called.append(99), 1)
            break
        except TimeoutError:
            time.sleep(0.005)
    assert called == [99], "what timed out before it began is never called"


def test_a_thread_that_cannot_be_started_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives no more threads for a while takes none away for good."""
    workers = Workers(2, "test")
    hang, start = threading.Event(), threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="can't start"):
            workers.call(lambda: 1, 5)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert workers.call(lambda: 7, 5) == 7
    with pytest.raises(TimeoutError):
        workers.call(hang.wait, 0.01)
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(TimeoutError):
        workers.call(lambda: 7, 0.01)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert workers.call(lambda: 8, 5) == 8
    hang.set()


def test_a_forked_child_has_threads_of_its_own() -> None:
    workers = Workers(1, "test")
    hang = threading.Event()
    with pytest.raises(TimeoutError):
        workers.call(hang.wait, 0.01)
    child = os.fork()
    if child == 0:
        os._exit(0 if workers.call(lambda: 7, 5) == 7 else 1)
    assert os.waitpid(child, 0)[1] == 0
    hang.set()


async def test_a_hanging_embedder_is_a_miss_in_time(either_index: Served, way: Way) -> None:
    hang = threading.Event()

    class Hanging(HashingEmbedder):
        def embed(self, texts: object) -> object:  # type: ignore[override]
            hang.wait(30)
            return [hashed(str(text)) for text in texts]  # type: ignore[attr-defined]

        async def aembed(self, texts: object) -> object:  # type: ignore[override]
            await asyncio.sleep(30)

    options = either_index.options | {"embedding_id": "hashing"}
    async with SemanticCache(HashingEmbedder(), **options) as well:
        await way(well.store, ASKED, "x")
    async with SemanticCache(Hanging(), **options, embed_timeout=0.05) as cache:
        began = time.monotonic()
        for _ in range(THREADS + 4):
            outcome = await way(cache.lookup, OTHER)
            assert not outcome
            assert outcome.reason == "error"
            assert "embed_timeout=0.05" in outcome.detail
        assert time.monotonic() - began < 10
        assert cache.stats().errors == {"EmbeddingError": THREADS + 4}
        assert (await way(cache.lookup, ASKED)).tier == "exact", "what needs no embedding goes on"
    hang.set()


async def test_without_a_limit_the_caller_s_own_thread_embeds(plain: Served) -> None:
    threads: list[int] = []

    def embed(text: str) -> list[float]:
        threads.append(threading.get_ident())
        return hashed(text)

    with SemanticCache(HashingEmbedder(embed), **plain.options, embed_timeout=None) as cache:
        cache.store(ASKED, "x")
    with SemanticCache(HashingEmbedder(embed), **plain.options) as cache:
        cache.store(OTHER, "x")
    assert threads[0] == threading.get_ident() != threads[1]


def test_an_interpreter_that_exits_waits_for_no_hanging_embedder() -> None:
    script = """
import threading
from valkey_semcache import SemanticCache

class Hanging:
    model = "hangs"
    def embed(self, texts):
        threading.Event().wait()

cache = SemanticCache(Hanging(), "valkey://127.0.0.1:1", embed_timeout=0.05)
print(cache.store("asked", "answer"))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
