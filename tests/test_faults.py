"""What goes wrong outside is a miss, a warning and a number; the call goes on."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import valkey

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.standin import PlainValkey, StandIn
from tests.waiting import PATIENT, await_until
from tests.words import word
from valkey_semcache import (
    EmbeddingError,
    IndexKindError,
    Question,
    SemanticCache,
    ServerReplyError,
    ServerUnreachableError,
)
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.telemetry.events import ErrorEvent

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
OTHER = "which wine goes with fish"
NOWHERE = "valkey://user:hunter2@127.0.0.1:1"


@pytest.fixture
def own() -> Iterator[PlainValkey]:
    """A server of the test's own, to be killed."""
    with PlainValkey() as server:
        yield server


async def test_a_dead_server_means_misses_and_one_warning(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with SemanticCache(HashingEmbedder(), NOWHERE) as cache:
        with caplog.at_level(logging.WARNING, "valkey_semcache"):
            for _ in range(3):
                miss = await way(cache.lookup, ASKED)
                assert (bool(miss), miss.reason) == (False, "error")
                assert await way(cache.store, ASKED, "x") is False
        stats = cache.stats()
    assert len(caplog.records) == 1
    assert "the call goes on without it" in caplog.text
    assert stats.misses == {"error": 3}
    assert stats.errors == {"ServerUnreachableError": 6}
    assert stats.breaker in ("open", "half-open")
    assert "hunter2" not in caplog.text + repr(cache) + str(miss) + str(stats)


async def test_on_error_raise_raises(way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), NOWHERE, on_error="raise") as cache:
        with pytest.raises(ServerUnreachableError, match="Is it running") as caught:
            await way(cache.lookup, ASKED)
        assert "hunter2" not in str(caught.value)
        with pytest.raises(ServerUnreachableError):
            await way(cache.store, ASKED, "x")


async def test_a_cluster_that_is_nowhere_opens_the_breaker(way: Way) -> None:
    options: dict[str, Any] = {"cluster": True, "fleet_stats": False}
    async with SemanticCache(HashingEmbedder(), NOWHERE, on_error="raise", **options) as cache:
        for _ in range(5):
            with pytest.raises(ServerUnreachableError, match="Is it running"):
                await way(cache.lookup, ASKED)
        assert cache.stats().breaker == "open"
        assert cache.stats().errors == {"ServerUnreachableError": 5}


async def test_a_server_that_comes_back_is_used_again(own: PlainValkey, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), own.url, timeout=5.0) as cache:
        await way(cache.store, ASKED, "before")
        own.kill()
        for _ in range(10):
            assert (await way(cache.lookup, ASKED)).reason == "error"
        own.restart()
        deadline = time.monotonic() + 5
        while (await way(cache.lookup, ASKED)).reason == "error":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert await way(cache.store, ASKED, "after")
        assert (await way(cache.lookup, REWORDED)).answer == "after"
        assert cache.stats().breaker == "closed"


async def test_a_server_that_hangs_is_not_waited_for(own: PlainValkey, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), own.url, timeout=1.0) as cache:
        await way(cache.store, ASKED, "x")
        os.kill(own.pid, signal.SIGSTOP)
        try:
            assert (await way(cache.lookup, ASKED)).reason == "error"
        finally:
            os.kill(own.pid, signal.SIGCONT)
        deadline = time.monotonic() + 5
        while not await way(cache.lookup, ASKED):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        # The late reply to the first call was not taken for an answer to a later one.
        assert (await way(cache.lookup, REWORDED)).answer == "x"
        assert not await way(cache.lookup, "something else altogether")


async def test_a_cancelled_look_up_leaves_the_connection_in_order(own: PlainValkey) -> None:
    async with SemanticCache(HashingEmbedder(), own.url, on_error="raise", **PATIENT) as cache:
        questions = [f"{word} {ASKED}" for word in "abcdefgh"]
        for question in questions:
            await cache.astore(question, question)
        for round_ in range(40):
            tasks = [asyncio.create_task(cache.alookup(question)) for question in questions]
            for _ in range(round_ % 7):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for question, outcome in zip(questions, outcomes, strict=True):
                if not isinstance(outcome, asyncio.CancelledError):
                    assert outcome.answer == question


# Of a connection that is cancelled while it connects valkey-py drops the writer, closing it but not
# to the end; from Python 3.13 on the writer says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cancelled_task_ends(either_index: Served) -> None:
    """Whatever a look-up or a store is just waiting for, a cancellation is not swallowed by it."""
    embedder = HashingEmbedder()
    embedder.aembed = None  # type: ignore[assignment]  # so that a thread embeds
    numbers = itertools.count()

    async def asks_for_ever(cache: SemanticCache) -> None:
        while True:
            question = f"{word(next(numbers))} {ASKED}"
            await cache.alookup(question)
            await cache.astore(question, "x")

    async with SemanticCache(embedder, **either_index.options, on_error="raise") as cache:
        for round_ in range(120):
            task = asyncio.create_task(asks_for_ever(cache))
            for _ in range(round_ % 40):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()


class Interruption(BaseException):
    """Raised by a signal's handler, like KeyboardInterrupt."""


def test_an_interrupted_call_leaves_no_reply_for_the_next(
    searching: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a command and its reply, which is still on its way when the next is sent."""
    assert searching.standin is not None
    send = valkey.connection.AbstractConnection.send_command
    with SemanticCache(HashingEmbedder(), **searching.options, on_error="raise") as cache:
        cache.store(ASKED, "the first's")
        cache.store(OTHER, "the other's")
        assert cache.lookup(ASKED)

        def interrupted(*args: Any, **kwargs: Any) -> None:
            send(*args, **kwargs)
            monkeypatch.undo()
            raise Interruption

        searching.standin.delay_next("HMGET", 0.3)
        monkeypatch.setattr(valkey.connection.AbstractConnection, "send_command", interrupted)
        with pytest.raises(Interruption):
            cache.lookup(ASKED)
        found = cache.lookup(OTHER)
        assert found
        assert found.answer == "the other's"
        assert cache.stats().errors == {}


async def test_the_open_breaker_sends_nothing(way: Way) -> None:
    with StandIn() as standin:
        async with SemanticCache(HashingEmbedder(), standin.url, timeout=5.0) as cache:
            await way(cache.store, ASKED, "x")
            standin.kill()
            while cache.stats().breaker == "closed":
                assert not await way(cache.lookup, ASKED)
            standin.restart()
            if cache.stats().breaker == "open":
                with standin.counting() as seen:
                    miss = await way(cache.lookup, ASKED)
                if not seen:
                    assert "left alone" in miss.detail
            deadline = time.monotonic() + 5
            while not await way(cache.lookup, ASKED):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            assert cache.stats().breaker == "closed"


async def test_the_breaker_s_states_are_seen_and_an_open_one_costs_nothing(
    own: PlainValkey, way: Way
) -> None:
    async with SemanticCache(HashingEmbedder(), own.url, timeout=5.0) as cache:
        assert await way(cache.store, ASKED, "x")
        assert cache.stats().breaker == "closed"
        own.kill()
        while cache.stats().breaker == "closed":
            assert not await way(cache.lookup, ASKED)
        took = []
        while cache.stats().breaker == "open":
            began = time.perf_counter()
            assert not await way(cache.lookup, ASKED)
            took.append(time.perf_counter() - began)
        assert cache.stats().breaker == "half-open"
        assert min(took) < 50e-6
        assert "open" in str(cache.stats())
        # One may try, and fails; the others are told at once.
        assert not await way(cache.lookup, ASKED)
        assert cache.stats().breaker == "open"
        own.restart()
        await await_until(lambda: cache.stats().breaker == "half-open")
        await way(cache.lookup, OTHER)
        assert cache.stats().breaker == "closed"


def failing(_: str) -> Any:
    raise RuntimeError("no quota; key sk-secret")


async def test_an_embedding_model_that_raises_is_a_miss(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with SemanticCache(HashingEmbedder(failing), **plain.options) as cache:
        miss = await way(cache.lookup, ASKED)
        assert miss.reason == "error"
        assert not await way(cache.store, ASKED, "x")
        assert cache.stats().errors == {"EmbeddingError": 2}
        assert "sk-secret" not in miss.detail + caplog.text
    async with SemanticCache(HashingEmbedder(failing), **plain.options, on_error="raise") as cache:
        with pytest.raises(EmbeddingError, match="RuntimeError") as caught:
            await way(cache.lookup, ASKED)
        assert isinstance(caught.value.__cause__, RuntimeError)


async def test_where_an_embedding_model_failed_is_shown_at_debug_without_its_words(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with SemanticCache(HashingEmbedder(failing), **plain.options) as cache:
        with caplog.at_level(logging.DEBUG, "valkey_semcache"):
            miss = await way(cache.lookup, ASKED)
            assert not await way(cache.store, ASKED, "x")
    assert "raised RuntimeError. Its words may hold keys or prompts" in miss.detail
    assert "on_error='raise' shows them" in miss.detail
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "At DEBUG this logger shows the traceback" in warning
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert len(told) == 2, "each time, not once a minute"
    for text in told:
        cause, _, ours = text.partition("which led to")
        assert f'File "{__file__}"' in cause
        assert "in failing" in cause
        assert cause.strip().endswith("builtins.RuntimeError")
        assert ours.strip().endswith("valkey_semcache.errors.EmbeddingError")
    assert "sk-secret" not in caplog.text
    assert ASKED not in caplog.text


async def test_what_is_raised_is_counted_and_told_and_not_logged(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing goes on without the cache then, and who gets the error need not be told twice."""
    told: list[Any] = []
    options: dict[str, Any] = {"on_error": "raise", "on_event": told.append}
    with caplog.at_level(logging.DEBUG, "valkey_semcache"):
        embedder = HashingEmbedder(failing)
        async with SemanticCache(embedder, **plain.options, **options) as cache:
            with pytest.raises(EmbeddingError):
                await way(cache.lookup, ASKED)
            with pytest.raises(EmbeddingError):
                await way(cache.store, ASKED, "x")
            assert cache.stats().errors == {"EmbeddingError": 2}
        rules: dict[str, Any] = {"features": failing}
        async with SemanticCache(HashingEmbedder(), **plain.options, **options, **rules) as cache:
            with pytest.raises(RuntimeError):
                await way(cache.lookup, ASKED)
            assert cache.stats().errors == {"RuntimeError": 1}
        nobody: dict[str, Any] = {"namespace_from": lambda: 1 // 0}
        async with SemanticCache(HashingEmbedder(), **plain.options, **options, **nobody) as cache:
            with pytest.raises(UnknownTenantError):
                await way(cache.lookup, ASKED)
            assert cache.stats().errors == {"ZeroDivisionError": 1}
    assert caplog.records == []
    errors = [event.kind for event in told if isinstance(event, ErrorEvent)]
    assert errors == ["EmbeddingError"] * 2 + ["RuntimeError", "ZeroDivisionError"]


async def test_exact_hits_go_on_while_the_embedding_model_is_down(plain: Served, way: Way) -> None:
    embedder = HashingEmbedder()
    async with SemanticCache(embedder, **plain.options) as cache:
        await way(cache.store, ASKED, "x")
        embedder.answer = failing
        assert (await way(cache.lookup, ASKED)).answer == "x"
        assert (await way(cache.lookup, REWORDED)).reason == "error"
        embedder.answer = hashed
        assert (await way(cache.lookup, REWORDED)).answer == "x"


class SyncOnly:
    """An embedder without an async method, which tells the thread it ran in."""

    model = "sync-only"

    def __init__(self) -> None:
        self.threads: list[int] = []

    def embed(self, texts: list[str]) -> Any:
        self.threads.append(threading.get_ident())
        return [hashed(text) for text in texts]


async def test_a_sync_embedder_does_not_block_the_event_loop(plain: Served) -> None:
    embedder = SyncOnly()
    async with SemanticCache(embedder, **plain.options, on_error="raise") as cache:
        await cache.astore(ASKED, "x")
        assert (await cache.alookup(REWORDED)).answer == "x"
    assert threading.get_ident() not in embedder.threads
    assert len(embedder.threads) == 2


class Broken:
    """A codec that fails."""

    name = "broken/1"

    def encode(self, answer: Any) -> bytes:
        raise KeyError("broken")

    def decode(self, content: bytes) -> Any:
        raise KeyError("broken")


async def test_a_codec_that_fails_does_not_break_the_call(plain: Served, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), **plain.options) as cache:
        assert await way(cache.store, ASKED, "x", codec=Broken()) is False
        assert cache.stats().errors == {"KeyError": 1}


async def test_what_cannot_be_stored_is_counted_and_the_call_goes_on(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with SemanticCache(HashingEmbedder(), **plain.options, on_error="raise") as cache:
        assert await way(cache.store, ASKED, {"not": "text"}) is False
        assert cache.stats().not_stored == {"not storable": 1}
        assert "The answer is of type dict; the codec text/1 stores strings" in caplog.text


# The index's life


@pytest.mark.parametrize("how", ["dropped", "flushed"])
async def test_a_lost_index_is_created_again(searching: Served, way: Way, how: str) -> None:
    assert searching.standin is not None
    async with SemanticCache(HashingEmbedder(), **searching.options, on_error="raise") as cache:
        await way(cache.store, ASKED, "x")
        assert await way(cache.lookup, REWORDED)
        if how == "dropped":
            name = next(n for n in searching.standin.indexes() if n.startswith(searching.name))
            searching.standin.drop_index(name)
            assert (await way(cache.lookup, REWORDED)).answer == "x"
        else:
            searching.admin.flushall()
            assert not await way(cache.lookup, REWORDED)
            await way(cache.store, ASKED, "y")
            assert (await way(cache.lookup, REWORDED)).answer == "y"
            assert searching.admin.hget(f"{searching.name}:meta", "index") == b"search"


async def test_a_flushed_flat_cache_begins_anew(own: PlainValkey, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), own.url, on_error="raise") as cache:
        for number in range(5):
            await way(cache.store, f"{ASKED} {'x' * number}", "old")
        assert await way(cache.lookup, REWORDED)
        with own_client(own) as admin:
            admin.flushall()
        assert not await way(cache.lookup, REWORDED)
        await way(cache.store, ASKED, "new")
        assert (await way(cache.lookup, REWORDED)).answer == "new"


def own_client(server: PlainValkey) -> Any:
    return valkey.Valkey.from_url(server.url)


@pytest.mark.parametrize("wanted", ["auto", "search"])
async def test_a_server_without_the_module(plain: Served, way: Way, wanted: str) -> None:
    options = plain.options | {"index": wanted, "on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        if wanted == "auto":
            await way(cache.store, ASKED, "x")
            assert (await way(cache.lookup, REWORDED)).answer == "x"
            assert cache.stats().index == "flat"
        else:
            with pytest.raises(IndexKindError, match=r"no module valkey-search.*index='flat'"):
                await way(cache.lookup, ASKED)


async def test_a_cache_opened_with_the_other_index_says_what_to_do(
    searching: Served, way: Way
) -> None:
    for first, second in (("flat", "search"), ("search", "flat")):
        name = f"{searching.name}-{first}"
        options = searching.options | {"on_error": "raise", "name": name}
        async with SemanticCache(HashingEmbedder(), **options | {"index": first}) as cache:
            await way(cache.store, ASKED, "x")
            async with SemanticCache(HashingEmbedder(), **options | {"index": second}) as other:
                with pytest.raises(IndexKindError, match=f"index='{first}'.*reindex --to {second}"):
                    await way(other.lookup, REWORDED)
                assert (await way(other.lookup, ASKED)).answer == "x", "to the letter it is found"
            async with SemanticCache(HashingEmbedder(), **options | {"index": "auto"}) as either:
                assert (await way(either.lookup, REWORDED)).answer == "x"
                assert either.stats().index == first
            await way(cache.clear)


async def test_redis_own_module_is_refused_by_name(way: Way) -> None:
    with StandIn() as standin:
        standin.fail_next("FT.INFO", "Unknown index name")
        async with SemanticCache(HashingEmbedder(), standin.url, on_error="raise") as cache:
            with pytest.raises(IndexKindError, match="Redis's own"):
                await way(cache.lookup, ASKED)


async def test_an_error_reply_is_a_miss_and_does_not_open_the_breaker(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    async with SemanticCache(HashingEmbedder(), **searching.options) as cache:
        await way(cache.store, ASKED, "x")
        searching.standin.fail_next("FT.SEARCH", "OOM command not allowed", times=10)
        for _ in range(10):
            assert (await way(cache.lookup, REWORDED)).reason == "error"
        assert cache.stats().errors == {"ServerReplyError": 10}
        assert cache.stats().breaker == "closed"
        assert (await way(cache.lookup, REWORDED)).answer == "x"
    async with SemanticCache(HashingEmbedder(), **searching.options, on_error="raise") as cache:
        searching.standin.fail_next("FT.INFO", "NOPERM this user has no permissions")
        with pytest.raises(
            ServerReplyError, match=r"NoPermissionError: this user .*`semcache doctor URL` lists"
        ):
            await way(cache.lookup, REWORDED)


async def test_a_server_that_forgot_its_scripts_is_told_them_again(plain: Served, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), **plain.options, on_error="raise") as cache:
        await way(cache.store, ASKED, "x")
        plain.admin.script_flush()
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).answer == "y"


async def test_many_starting_at_once_make_one_index(searching: Served) -> None:
    assert searching.standin is not None
    options = searching.options | {"connect_timeout": 20.0}
    caches = [SemanticCache(HashingEmbedder(), **options) for _ in range(200)]
    await asyncio.gather(*(c.astore(Question(ASKED, str(n)), "x") for n, c in enumerate(caches)))
    assert all(not c.stats().errors for c in caches)
    names = [n for n in searching.standin.indexes() if n.startswith(searching.name)]
    assert len(names) == 1
    for cache in caches:
        await cache.aclose()


async def test_stores_and_look_ups_from_many_threads_and_tasks(either_index: Served) -> None:
    """What one stores, under whatever load, every other finds right away, and nothing else."""
    cache = SemanticCache(HashingEmbedder(), **either_index.options, on_error="raise")
    wrong: list[str] = []

    async def work(worker: int) -> None:
        for number in range(15):
            question = Question(ASKED, context=f"{worker % 4} {number}")
            if number % 2:
                found = await cache.alookup(Question(REWORDED, context=question.context))
            else:
                found = await asyncio.to_thread(
                    cache.lookup, Question(REWORDED, context=question.context)
                )
            if not found:
                await cache.astore(question, question.context)
                found = await cache.alookup(Question(REWORDED, context=question.context))
            if not found or found.answer != question.context:
                wrong.append(question.context)

    await asyncio.gather(*(work(worker) for worker in range(16)))
    assert wrong == []
    assert len(either_index.entries()) == 60
    await cache.aclose()
