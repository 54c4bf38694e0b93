"""Connections of the cache's own: one for each call under way, used as long as they answer."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.standin import PlainValkey
from tests.words import word
from valkey_semcache import SemanticCache, ServerUnreachableError
from valkey_semcache.server.deadline import MAX_REPLY_BYTES

ASKED = "how do i reset the password of my account"


def named(plain: Served) -> SemanticCache:
    """A cache whose connections bear its name."""
    url = f"{plain.url}?client_name={plain.name}"
    options = plain.options | {"url": url, "on_error": "raise"}
    return SemanticCache(HashingEmbedder(), **options)


def connections(plain: Served) -> list[str]:
    """The addresses from which the cache is connected."""
    return [c["addr"] for c in plain.admin.client_list() if c["name"] == plain.name]


def cut(plain: Served) -> None:
    """The server closes all connections of the cache, as it does with those long idle."""
    for address in connections(plain):
        plain.admin.client_kill(address)


async def test_calls_one_after_the_other_share_a_connection(plain: Served, way: Way) -> None:
    async with named(plain) as cache:
        await way(cache.store, ASKED, "x")
        for number in range(20):
            assert await way(cache.lookup, ASKED)
            assert not await way(cache.lookup, word(number))
        assert len(connections(plain)) == 1


async def test_a_connection_that_the_server_has_closed_costs_no_call(
    plain: Served, way: Way
) -> None:
    async with named(plain) as cache:
        await way(cache.store, ASKED, "x")
        for _ in range(3):
            cut(plain)
            assert await way(cache.lookup, ASKED)
        cut(plain)
        assert await way(cache.store, word(1), "y"), "a script"
        cut(plain)
        assert all(await way(cache.lookup_many, [ASKED, word(1)])), "a pipeline"
        assert cache.stats().errors == {}
        assert len(connections(plain)) == 1


async def test_many_that_were_closed_at_once_cost_no_call(plain: Served) -> None:
    async with named(plain) as cache:
        await cache.astore(ASKED, "x")
        assert all(await asyncio.gather(*(cache.astore(word(n), "x") for n in range(16))))
        assert len(connections(plain)) == 16, "scripts go alone"
        cut(plain)
        assert all(await asyncio.gather(*(cache.alookup(ASKED) for _ in range(16))))
        assert cache.stats().errors == {}


def test_threads_have_a_connection_each_and_leave_it_to_others(plain: Served) -> None:
    with named(plain) as cache:
        cache.store(ASKED, "x")
        found: list[bool] = []
        begin = threading.Barrier(8)

        def ask() -> None:
            begin.wait()
            found.extend(bool(cache.lookup(ASKED)) for _ in range(50))

        for _ in range(2):
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert found == [True] * 800
        assert len(connections(plain)) <= 8


@pytest.fixture
def own() -> Iterator[PlainValkey]:
    """A server of the test's own, to be stopped."""
    with PlainValkey() as server:
        yield server


async def test_a_connection_that_owes_a_reply_is_closed(own: PlainValkey, way: Way) -> None:
    options: dict[str, Any] = {"timeout": 0.5, "on_error": "raise", "fleet_stats": False}
    async with SemanticCache(HashingEmbedder(), own.url, **options) as cache:
        await way(cache.store, ASKED, "x")
        os.kill(own.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ServerUnreachableError, match=r"no reply within 0.5 s|[Tt]imeout"):
                await way(cache.lookup, word(1))
        finally:
            os.kill(own.pid, signal.SIGCONT)
        assert (await way(cache.lookup, ASKED)).answer == "x"
        assert not await way(cache.lookup, word(2))


async def test_a_task_that_is_cancelled_leaves_no_reply_behind(plain: Served) -> None:
    async with named(plain) as cache:
        for number in range(20):
            await cache.astore(word(number), str(number))
        for number in range(20):
            task = asyncio.create_task(cache.alookup(word(number)))
            for _ in range(number % 5):  # at each of its stops once
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            hit = await cache.alookup(word(number))
            assert hit.answer == str(number)  # type: ignore[union-attr]
        assert len(connections(plain)) == 1


def test_an_interrupt_leaves_no_reply_behind(
    plain: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from valkey import Connection

    read = Connection.read_response

    def interrupted(self: Any, *arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with named(plain) as cache:
        cache.store(ASKED, "x")
        cache.store(word(1), "y")
        monkeypatch.setattr(Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.lookup(ASKED)
        monkeypatch.setattr(Connection, "read_response", read)
        assert cache.lookup(word(1)).answer == "y"  # type: ignore[union-attr]


async def test_tasks_that_ask_at_once_share_a_connection_and_get_their_own(plain: Served) -> None:
    async with named(plain) as cache:
        questions = [word(number) for number in range(300)]
        await cache.astore_many([(question, question) for question in questions])
        for _ in range(3):
            found = await asyncio.gather(*(cache.alookup(question) for question in questions))
            assert [hit.answer for hit in found] == questions  # type: ignore[union-attr]
        assert len(connections(plain)) <= 4
        key = cache.key_of(cache.settled(questions[7]))
        plain.admin.delete(key)
        plain.admin.rpush(key, "a list, on which HMGET fails")
        found = await asyncio.gather(*(cache.alookup(question) for question in questions))
        assert [bool(hit) for hit in found] == [number != 7 for number in range(300)]


async def test_tasks_that_are_cancelled_leave_the_others_their_replies(plain: Served) -> None:
    async with named(plain) as cache:
        questions = [word(number) for number in range(40)]
        await cache.astore_many([(question, question) for question in questions])
        for turns in range(5):
            tasks = [asyncio.create_task(cache.alookup(question)) for question in questions]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for number, outcome in enumerate(found):
                if number % 3:
                    assert outcome.answer == questions[number]  # type: ignore[union-attr]
                else:
                    assert isinstance(outcome, asyncio.CancelledError) or outcome


async def test_nobody_waits_for_ever_where_all_tasks_are_cancelled_but_one(plain: Served) -> None:
    async with named(plain) as cache:
        await cache.astore(ASKED, "x")
        here = asyncio.current_task()
        for turns in range(6):
            tasks = [asyncio.create_task(cache.alookup(ASKED)) for _ in range(8)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {here, *tasks[4:]}:
                task.cancel()  # the cache's own among them
            async with asyncio.timeout(10):
                await asyncio.gather(*tasks, return_exceptions=True)
                assert (await cache.alookup(ASKED)).answer == "x"  # type: ignore[union-attr]


async def test_a_reply_that_is_too_long_costs_no_other_task_its_own(plain: Served) -> None:
    async with named(plain) as cache:
        questions = [word(number) for number in range(20)]
        await cache.astore_many([(question, question) for question in questions])
        key = cache.key_of(cache.settled(questions[5]))
        plain.admin.hset(key, "p", bytes(MAX_REPLY_BYTES + 2**20))
        found = await asyncio.gather(
            *(cache.alookup(question) for question in questions),
            return_exceptions=True,
        )
        for number, outcome in enumerate(found):
            if number == 5:
                assert isinstance(outcome, ServerUnreachableError)
            else:
                assert outcome.answer == questions[number]  # type: ignore[union-attr]


async def test_tasks_under_way_when_a_server_dies_all_come_to_an_end(own: PlainValkey) -> None:
    options: dict[str, Any] = {"timeout": 2.0, "fleet_stats": False}
    async with SemanticCache(HashingEmbedder(), own.url, **options) as cache:
        questions = [word(number) for number in range(50)]
        await cache.astore_many([(question, question) for question in questions])
        tasks = [asyncio.create_task(cache.alookup(question)) for question in questions]
        await asyncio.sleep(0)
        own.kill()
        found = await asyncio.gather(*tasks)
        assert {type(outcome).__name__ for outcome in found} <= {"Hit", "Miss"}
        assert any(not outcome and outcome.reason == "error" for outcome in found)


async def test_an_error_in_a_pipeline_leaves_the_others_replies(plain: Served, way: Way) -> None:
    async with named(plain) as cache:
        questions = [word(number) for number in range(5)]
        for question in questions:
            await way(cache.store, question, question)
        key = cache.key_of(cache.settled(questions[2]))
        plain.admin.delete(key)
        plain.admin.rpush(key, "a list, on which HMGET fails")
        answers = [getattr(o, "answer", None) for o in await way(cache.lookup_many, questions)]
        assert answers == [q if n != 2 else None for n, q in enumerate(questions)]
        assert (await way(cache.lookup, questions[4])).answer == questions[4]
