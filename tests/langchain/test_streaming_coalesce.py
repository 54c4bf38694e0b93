"""Identical questions at the same time cost one call of the model, streamed or not."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, added_up, chat_model, tier
from tests.openai_server import OpenAIServer
from tests.waiting import await_until, wait_until
from valkey_semcache import ConfigurationError

ASKERS = 6


def waiters(cache: ValkeySemanticCache) -> int:
    return sum(len(flight.wakers) for flight in cache.core.coalescer._flights.values())


def in_threads(pool: ThreadPoolExecutor, ask: Callable[[], Any], count: int) -> list[Future[Any]]:
    return [pool.submit(contextvars.Context().run, ask) for _ in range(count)]


def read(model: Any) -> Any:
    return added_up(list(model.stream(ASKED)))


async def aread(model: Any) -> Any:
    return added_up([chunk async for chunk in model.astream(ASKED)])


async def test_streams_and_invokes_of_threads_and_tasks_share_one_call(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    """Through several cached models, as a web app makes them for each request."""
    openai.gate.clear()
    make = lambda: cached(chat_model(openai), own)  # noqa: E731
    with ThreadPoolExecutor(4) as pool:
        asked = in_threads(pool, lambda: read(make()), 2)
        asked += in_threads(pool, lambda: make().invoke(ASKED), 2)
        tasks = [asyncio.create_task(aread(make())) for _ in range(2)]
        tasks += [asyncio.create_task(make().ainvoke(ASKED)) for _ in range(2)]
        await await_until(lambda: waiters(own) == 7)
        openai.gate.set()
        answers = await asyncio.gather(*tasks, *map(asyncio.wrap_future, asked))
    assert {answer.content for answer in answers} == {ANSWER}
    assert openai.calls == 1
    assert sorted(map(str, map(tier, answers))) == ["None", *["exact"] * 7]
    assert own.stats().hits == {"exact": 7}
    assert own.stats().misses == {"no_neighbour": 1}
    assert len(own.core.coalescer) == 0


async def test_a_batch_of_one_question_costs_one_call(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    answers = await way(cached(chat_model(openai), own).batch, [ASKED] * 20)
    assert [answer.content for answer in answers] == [ANSWER] * 20
    assert openai.calls == 1


async def test_without_coalescing_each_calls(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    openai.gate.clear()
    model = cached(chat_model(openai), own, coalesce=False)
    tasks = [asyncio.create_task(model.ainvoke(ASKED)) for _ in range(ASKERS)]
    await await_until(lambda: openai.calls == ASKERS)
    openai.gate.set()
    await asyncio.gather(*tasks)


async def test_tenants_do_not_wait_for_one_another(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    openai.gate.clear()
    views = [cached(chat_model(openai), own.with_namespace(name)) for name in ("acme", "corp")]
    tasks = [asyncio.create_task(aread(view)) for view in views]
    await await_until(lambda: openai.calls == 2)
    openai.gate.set()
    assert {tier(answer) for answer in await asyncio.gather(*tasks)} == {None}


@pytest.mark.parametrize("failure", ["500", "break", "error", "cut"])
async def test_waiters_of_a_failed_call_call_for_themselves(
    openai: OpenAIServer, own: ValkeySemanticCache, failure: Any
) -> None:
    openai.gate.clear()
    openai.failures.append(failure)
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    tasks = [asyncio.create_task(aread(model)) for _ in range(ASKERS)]
    await await_until(lambda: waiters(own) == ASKERS - 1)
    held = openai.gate._cond._waiters  # type: ignore[attr-defined]  # not in typeshed
    await await_until(lambda: len(held) == 1)
    openai.gate.set()
    openai.gate.clear()  # none is answered before all have called, or it would be found stored
    await await_until(lambda: openai.calls == ASKERS)
    openai.gate.set()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(getattr(answer, "content", None) == ANSWER for answer in answers) == ASKERS - 1
    assert openai.calls == ASKERS


async def test_waiters_of_an_answer_that_is_not_stored_call_for_themselves(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    openai.gate.clear()
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    tasks = [asyncio.create_task(model.ainvoke("be cut off please")) for _ in range(3)]
    await await_until(lambda: waiters(own) == 2)
    openai.gate.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    assert openai.calls == 3


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_waiters_of_an_abandoned_stream_call_for_themselves(
    openai: OpenAIServer, own: ValkeySemanticCache, how: str
) -> None:
    openai.middle.clear()
    own.core.coalescer.stall = 600  # or the waiters would leave, on a busy machine
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    begun, leave = asyncio.Event(), asyncio.Event()

    async def begin() -> None:
        chunks = model.astream(ASKED)
        for _ in range(6):  # all that the server sends before it is let go on
            await anext(chunks)
        begun.set()
        if how == "closed":
            await leave.wait()
        else:
            await anext(chunks)

    leader = asyncio.create_task(begin())
    await begun.wait()
    tasks = [asyncio.create_task(aread(model)) for _ in range(2)]
    await await_until(lambda: waiters(own) == 2)
    leave.set()
    if how == "cancelled":
        leader.cancel()
    await asyncio.wait([leader])
    openai.middle.set()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*tasks)
    assert [answer.content for answer in answers] == [ANSWER] * 2
    assert openai.calls == 3


def test_waiters_of_a_stream_abandoned_in_a_thread_call_for_themselves(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    own.core.coalescer.stall = 600  # or the waiters would leave, on a busy machine
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    with ThreadPoolExecutor(2) as pool:
        stream: Any = model.stream(ASKED)
        next(stream)
        asked = in_threads(pool, lambda: read(model), 2)
        wait_until(lambda: waiters(own) == 2)
        stream.close()
        assert [future.result(60).content for future in asked] == [ANSWER] * 2
    assert openai.calls in (2, 3), "the later one may find what the earlier one stored"


async def test_who_reads_a_stream_slowly_holds_up_nobody(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    """Long before the deadline, while the reader has the first words."""
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    stream: Any = model.stream(ASKED) if way.name == "sync" else model.astream(ASKED)
    next(stream) if way.name == "sync" else await anext(stream)
    with ThreadPoolExecutor(1) as pool:
        (other,) = in_threads(pool, lambda: model.invoke(ASKED), 1)
        async with asyncio.timeout(60):
            assert (await asyncio.wrap_future(other)).content == ANSWER
    assert openai.calls == 2
    stream.close() if way.name == "sync" else await stream.aclose()


async def test_who_reads_a_hit_slowly_holds_up_nobody(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    await way(model.invoke, ASKED)
    stream: Any = model.stream(ASKED) if way.name == "sync" else model.astream(ASKED)
    next(stream) if way.name == "sync" else await anext(stream)
    with ThreadPoolExecutor(1) as pool:
        (other,) = in_threads(pool, lambda: model.invoke(ASKED), 1)
        try:
            assert tier(other.result(20)) == "exact"
        finally:
            stream.close() if way.name == "sync" else await stream.aclose()


async def test_every_wait_has_a_deadline(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    openai.gate.clear()
    model = cached(chat_model(openai), own, coalesce_timeout=0.05)
    with ThreadPoolExecutor(1) as pool:
        (first,) = in_threads(pool, lambda: model.invoke(ASKED), 1)
        await await_until(lambda: openai.calls == 1)
        second = asyncio.create_task(
            asyncio.to_thread(read, model) if way.name == "sync" else aread(model)
        )
        await await_until(lambda: openai.calls == 2)
        openai.gate.set()
        assert (await second).content == first.result().content == ANSWER


def test_a_deadline_that_is_none_is_refused(openai: OpenAIServer, own: ValkeySemanticCache) -> None:
    for options in ({"coalesce_timeout": 0}, {"coalesce": "yes"}):
        with pytest.raises(ConfigurationError, match=r"coalesce\w*=.* is not allowed"):
            cached(chat_model(openai), own, **options)  # type: ignore[arg-type]


# Nobody waits for itself


async def test_a_call_inside_of_its_own_stream_runs_through(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    async with asyncio.timeout(60):
        if way.name == "sync":
            for _ in model.stream(ASKED):
                assert model.invoke(ASKED).content == ANSWER
        else:
            async for _ in model.astream(ASKED):
                assert (await model.ainvoke(ASKED)).content == ANSWER
    assert openai.calls == 2


async def test_a_call_inside_of_the_stream_of_a_chain_does_not_wait_long(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    """A chain runs its stream in tasks of their own, where its reader cannot be told."""
    model = cached(chat_model(openai), own, coalesce_timeout=600)
    chain: Any = RunnableLambda(lambda question: question) | model
    async with asyncio.timeout(60):
        async for _ in chain.astream(ASKED):
            assert (await model.ainvoke(ASKED)).content == ANSWER
    assert openai.calls == 2


async def test_an_outage_of_valkey_lets_every_call_through(openai: OpenAIServer, way: Way) -> None:
    async with ValkeySemanticCache(HashingEmbeddings(), "valkey://127.0.0.1:1") as cache:
        model = cached(chat_model(openai), cache)
        answers = await way(model.batch, [ASKED] * 5)
        assert [answer.content for answer in answers] == [ANSWER] * 5
        assert cache.stats().errors


@pytest.mark.parametrize("asked", [ASKED, "be cut off please"], ids=["kept", "not to be kept"])
async def test_in_an_outage_too_identical_questions_cost_one_call(
    openai: OpenAIServer, asked: str
) -> None:
    """Those who wait share the answer that would have been stored, each as its own object."""
    openai.gate.clear()
    async with ValkeySemanticCache(HashingEmbeddings(), "valkey://127.0.0.1:1") as cache:
        model = cached(chat_model(openai), cache, coalesce_timeout=600)
        tasks = [asyncio.create_task(model.ainvoke(asked)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            threads = in_threads(pool, lambda: added_up(list(model.stream(asked))), 2)
            await await_until(lambda: waiters(cache) == 3)
            openai.gate.set()
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*tasks, *map(asyncio.wrap_future, threads))
        assert len({answer.content for answer in answers}) == 1
        kept = asked == ASKED
        assert openai.calls == (1 if kept else 4)
        assert cache.stats().coalesced == (3 if kept else 0)
        assert [tier(answer) for answer in answers].count("local") == (3 if kept else 0)
        answers[0].response_metadata.clear()
        assert all(answer.response_metadata for answer in answers[1:])
