"""A second opinion on what is near: the judge, its bounds and its deadline."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import await_until
from valkey_semcache import (
    ConfigurationError,
    JudgeError,
    LocalTier,
    Miss,
    Question,
    SemanticCache,
)
from valkey_semcache.loop import LoopThread, within
from valkey_semcache.precision.judging import THREADS, Judging

STORED = "how do i reset the password of my account"
ASKED = "how do i reset the password of my own account"
FARTHER = "how do i reset the password of my account with you"
FAR = "which wine goes with fish"


class Recorder:
    """A judge that says what it is told to, and remembers what it was asked."""

    def __init__(self, says: Callable[[str], Any] = lambda stored: True) -> None:
        self.says = says
        self.cases: list[tuple[str, str, str]] = []

    def judge(self, asked: str, stored: str, answer: str) -> Any:
        self.cases.append((asked, stored, answer))
        return self.says(stored)


Make = Callable[..., SemanticCache]


@pytest.fixture
async def make(either_index: Served) -> AsyncIterator[Make]:
    """Makes caches on each index in turn, and closes them."""
    made: list[SemanticCache] = []

    def new(judge: Any, **options: Any) -> SemanticCache:
        options = either_index.options | {"similarity_threshold": 0.7, "guards": ()} | options
        made.append(SemanticCache(HashingEmbedder(), judge=judge, **options))
        return made[-1]

    yield new
    for cache in made:
        await cache.aclose()


def similarity(one: str, other: str) -> float:
    first, second = np.array(hashed(one)), np.array(hashed(other))
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


async def test_yes_is_a_hit_and_the_judge_sees_both_questions_and_the_answer(
    make: Make, way: Way
) -> None:
    judge = Recorder()
    cache = make(judge)
    cache.store(STORED, "Press the button.")
    hit = await way(cache.lookup, ASKED)
    assert hit
    assert (hit.tier, hit.answer) == ("semantic", "Press the button.")
    assert judge.cases == [(ASKED, STORED, "Press the button.")]
    assert cache.stats().judged == {"yes": 1}
    assert "judged" in str(cache.stats())


async def test_no_is_a_miss_that_says_so(make: Make, way: Way) -> None:
    cache = make(Recorder(lambda stored: False))
    cache.store(STORED, "x")
    miss = await way(cache.lookup, ASKED)
    assert isinstance(miss, Miss)
    assert (miss.reason, miss.detail) == ("judged", "the judge said no")
    assert miss.nearest is not None
    assert (miss.nearest.question, miss.nearest.refused) == (STORED, "the judge said no")
    assert cache.stats().misses == {"judged": 1}
    assert cache.stats().errors == {}


async def test_after_a_no_the_one_behind_is_asked_about(make: Make, way: Way) -> None:
    judge = Recorder(lambda stored: stored == FARTHER)
    cache = make(judge)
    cache.store(STORED, "near")
    cache.store(FARTHER, "farther")
    hit = await way(cache.lookup, ASKED)
    assert hit
    assert hit.answer == "farther"
    assert [stored for _, stored, _ in judge.cases] == [STORED, FARTHER]


async def test_three_are_judged_at_most_and_none_twice(make: Make, way: Way) -> None:
    judge = Recorder(lambda stored: False)
    cache = make(judge)
    for word in ("soon", "now", "again", "thanks", "kindly"):
        cache.store(f"{STORED} please {word}", "x")
    assert (await way(cache.lookup, STORED + " please")).reason == "judged"
    assert len(judge.cases) == len(set(judge.cases)) == 3


async def test_what_is_looked_at_again_is_not_judged_again(make: Make, way: Way) -> None:
    judge = Recorder(lambda stored: False)

    def other_letter(asked: str, stored: str) -> str | None:
        return "another letter" if stored.endswith(("b", "c")) else None

    cache = make(judge, guards=[other_letter])
    # All of the first three are refused, so those behind them are fetched with them once more.
    for last in "abcd":
        cache.store(f"{STORED} {last}", "x")
    miss = await way(cache.lookup, STORED + " z")
    assert miss.reason in ("judged", "guarded")
    stored = [stored[-1] for _, stored, _ in judge.cases]
    assert sorted(stored) == ["a", "d"]


async def test_only_what_lies_between_the_two_bounds_is_judged(make: Make, way: Way) -> None:
    judge = Recorder(lambda stored: False)
    near = similarity(ASKED, STORED)
    cache = make(judge, judge_below=near - 1e-3)
    cache.store(STORED, "x")
    assert await way(cache.lookup, ASKED)
    assert await way(cache.lookup, STORED)
    assert (await way(cache.lookup, FAR)).reason == "below_threshold"
    assert judge.cases == []
    cache = make(judge, judge_below=near + 1e-3)
    assert (await way(cache.lookup, ASKED)).reason == "judged"
    assert (await way(cache.lookup, STORED)).tier == "exact"
    assert len(judge.cases) == 1


@pytest.mark.parametrize("threshold", [0, 1])
async def test_at_the_ends_of_the_scale(make: Make, way: Way, threshold: float) -> None:
    judge = Recorder(lambda stored: False)
    # A word's case makes no difference to the embedder: the vectors are equal.
    cache = make(judge, similarity_threshold=threshold)
    cache.store(STORED, "x")
    assert (await way(cache.lookup, STORED.upper())).reason == "judged", "equal vectors are judged"
    miss = await way(cache.lookup, ASKED)
    assert miss.reason == ("judged" if threshold == 0 else "below_threshold")
    trusting = make(judge, similarity_threshold=0, judge_below=0.999)
    assert (await way(trusting.lookup, STORED.upper())).tier == "semantic"


# Deadlines and errors


async def hangs(asked: str, stored: str, answer: str) -> bool:
    await asyncio.sleep(60)
    return True


async def ignores_being_cancelled(asked: str, stored: str, answer: str) -> bool:
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.6)
        except asyncio.CancelledError:
            continue
    return True


def blocks(asked: str, stored: str, answer: str) -> bool:
    time.sleep(0.6)
    return True


@pytest.mark.parametrize("judge", [hangs, ignores_being_cancelled, blocks])
async def test_no_answer_in_time_is_no_hit(make: Make, way: Way, judge: Any) -> None:
    cache = make(judge, judge_timeout=0.1)
    cache.store(STORED, "x")
    cache.store(FARTHER, "x")
    begun = time.monotonic()
    miss = await way(cache.lookup, ASKED)
    assert time.monotonic() - begun < 0.5, "one deadline, and no second candidate after it"
    assert miss.reason == "unjudged"
    assert f"The judge {judge.__name__} gave nothing within judge_timeout=0.1 s" in miss.detail
    stats = cache.stats()
    assert (stats.misses, stats.errors) == ({"unjudged": 1}, {"JudgeError": 1})
    assert stats.judged == {"failed": 1}


async def test_a_judge_that_raises_is_no_hit_and_tells_no_secret(
    make: Make, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(asked: str, stored: str, answer: str) -> bool:
        raise RuntimeError("sk-planted-secret")

    cache = make(broken)
    cache.store(STORED, "x")
    with caplog.at_level(logging.DEBUG):
        miss = await way(cache.lookup, ASKED)
    assert (miss.reason, cache.stats().errors) == ("unjudged", {"JudgeError": 1})
    assert "The judge broken raised RuntimeError" in miss.detail
    assert "The judge broken raised RuntimeError" in caplog.text
    assert "in broken\n" in caplog.text, "where it was raised is told at DEBUG"
    assert "planted" not in caplog.text + repr(miss)


async def test_a_judge_that_fails_raises_where_errors_are_wanted(
    make: Make, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(Recorder(lambda stored: 1 // 0), on_error="raise")
    cache.store(STORED, "x")
    with pytest.raises(JudgeError, match="ZeroDivisionError"):
        await way(cache.lookup, ASKED)
    assert "judging" not in caplog.text


@pytest.mark.parametrize("odd", [1, 0.9, float("nan"), "yes", [True]])
async def test_what_is_no_verdict_is_no_hit(make: Make, way: Way, odd: Any) -> None:
    cache = make(Recorder(lambda stored: odd))
    cache.store(STORED, "x")
    miss = await way(cache.lookup, ASKED)
    assert miss.reason == "unjudged"
    kind = type(odd).__name__
    assert f"gave a value of type {kind}; True, False or None (cannot tell)" in miss.detail
    assert cache.stats().errors == {"JudgeError": 1}


async def test_none_is_a_judge_that_cannot_tell_and_no_error(make: Make, way: Way) -> None:
    judge = Recorder(lambda stored: None)
    cache = make(judge, on_error="raise")
    cache.store(STORED, "x")
    cache.store(FARTHER, "x")
    miss = await way(cache.lookup, ASKED)
    assert (miss.reason, miss.detail) == ("unjudged", "the judge could not tell")
    assert cache.stats().judged == {"cannot tell": 1}
    assert len(judge.cases) == 1


async def test_numpys_booleans_are_booleans(make: Make, way: Way) -> None:
    cache = make(Recorder(lambda stored: np.float32(0.9) > 0.5))
    cache.store(STORED, "x")
    assert await way(cache.lookup, ASKED)


# Both ways of calling


class Both:
    def __init__(self) -> None:
        self.called: list[str] = []

    def judge(self, asked: str, stored: str, answer: str) -> bool:
        self.called.append("judge")
        return True

    async def ajudge(self, asked: str, stored: str, answer: str) -> bool:
        self.called.append("ajudge")
        return True


class Awaited:
    async def __call__(self, asked: str, stored: str, answer: str) -> bool:
        await asyncio.sleep(0)
        return True


async def awaited(asked: str, stored: str, answer: str) -> bool:
    await asyncio.sleep(0)
    return True


@pytest.mark.parametrize(
    "judge",
    [awaited, Awaited(), lambda *case: awaited(*case), lambda *case: True, Recorder()],
    ids=["async function", "async object", "gives an awaitable", "function", "object"],
)
async def test_sync_and_async_judges_serve_sync_and_async_callers(
    make: Make, way: Way, judge: Any
) -> None:
    cache = make(judge, on_error="raise")
    cache.store(STORED, "x")
    assert await way(cache.lookup, ASKED)
    found = await way(cache.lookup_many, [ASKED, FAR, FARTHER])
    assert [bool(outcome) for outcome in found] == [True, False, True]


async def test_a_judge_with_both_methods_is_asked_by_the_one_that_fits(
    make: Make, way: Way
) -> None:
    judge = Both()
    cache = make(judge)
    cache.store(STORED, "x")
    assert await way(cache.lookup, ASKED)
    assert judge.called == ["judge" if way.name == "sync" else "ajudge"]


async def test_a_judge_that_blocks_does_not_block_the_loop(make: Make) -> None:
    free = threading.Event()
    cache = make(lambda *case: free.wait(20))
    cache.store(STORED, "x")
    asking = asyncio.create_task(cache.alookup(ASKED))
    for _ in range(20):
        await asyncio.sleep(0)
    free.set()
    assert await asking


async def test_async_judges_asked_by_sync_code_share_one_loop(make: Make) -> None:
    """So that an app's client can keep its connections."""
    loops: list[Any] = []

    async def judge(asked: str, stored: str, answer: str) -> bool:
        loops.append(asyncio.get_running_loop())
        return True

    cache = make(judge)
    cache.store(STORED, "x")
    assert all(cache.lookup(ASKED) for _ in range(3))
    assert len({id(loop) for loop in loops}) == 1


async def test_a_judge_runs_in_the_callers_context(make: Make, way: Way) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")
    seen = []

    async def judge(asked: str, stored: str, answer: str) -> bool:
        seen.append(variable.get())
        return True

    for each in (judge, lambda *case: seen.append(variable.get()) or True):
        cache = make(each)
        cache.store(STORED, "x")
        variable.set("kept")
        assert await way(cache.lookup, ASKED)
    assert seen == ["kept", "kept"]


async def test_many_are_judged_at_once(make: Make, way: Way) -> None:
    meet = threading.Barrier(3)

    def together(asked: str, stored: str, answer: str) -> bool:
        meet.wait(20)
        return asked != FARTHER

    cache = make(together)
    cache.store(STORED, "x")
    found = await way(cache.lookup_many, [ASKED, FARTHER, STORED + " again"])
    assert [bool(outcome) for outcome in found] == [True, False, True]
    assert cache.stats().judged == {"yes": 2, "no": 1}


async def test_a_batch_does_not_wait_for_a_judge_that_hangs_again_and_again(
    make: Make, way: Way
) -> None:
    cache = make(hangs, judge_timeout=0.1)
    cache.store(STORED, "x")
    asked = [f"{STORED} {chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(64)]
    begun = time.monotonic()
    found = await way(cache.lookup_many, asked)
    assert time.monotonic() - begun < 2
    assert {outcome.reason for outcome in found} == {"unjudged"}


async def test_a_look_up_that_is_given_up_cancels_its_judge(make: Make) -> None:
    state = []

    async def judge(asked: str, stored: str, answer: str) -> bool:
        state.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            state.append("cancelled")
            raise
        return True

    cache = make(judge)
    cache.store(STORED, "x")
    asking = asyncio.create_task(cache.alookup(ASKED))
    await await_until(lambda: state == ["begun"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await await_until(lambda: state == ["begun", "cancelled"])


# A judge is no user of the cache


async def test_a_judge_that_asks_the_cache_is_not_answered_by_it(make: Make, way: Way) -> None:
    inner: list[Any] = []

    def judge(asked: str, stored: str, answer: str) -> bool:
        inner.append(cache.lookup(asked))
        inner.append(cache.store("is it the same", "yes"))
        return True

    cache = make(judge)
    cache.store(STORED, "x")
    assert await way(cache.lookup, ASKED)
    miss, stored = inner
    assert (miss.reason, stored) == ("not_cacheable", False)
    assert cache.stats().not_stored == {"a judge's own call": 1}
    assert not cache.lookup("is it the same")


async def test_an_async_judge_that_asks_the_cache_is_not_answered_by_it(
    make: Make, way: Way
) -> None:
    inner: list[Any] = []

    async def judge(asked: str, stored: str, answer: str) -> bool:
        other = await cache.aget_or_call(asked, awaited_answer)
        inner.append(other)
        return True

    async def awaited_answer() -> str:
        return "from the model"

    cache = make(judge)
    cache.store(STORED, "x")
    hit = await way(cache.lookup, ASKED)
    assert (hit.answer, inner) == ("x", ["from the model"])
    assert await way(cache.lookup, STORED), "outside of the judge it is as before"
    await cache.aclose()


# Many at a time


async def test_a_thousand_look_ups_with_a_judge_that_hangs_all_end_in_time(plain: Served) -> None:
    free = threading.Event()
    options = plain.options | {"similarity_threshold": 0.7}
    async with SemanticCache(
        HashingEmbedder(), judge=lambda *case: free.wait(60), judge_timeout=0.2, **options
    ) as cache:
        await cache.astore(STORED, "x")
        threads = threading.active_count()
        found = await asyncio.gather(*(cache.alookup(ASKED) for _ in range(1000)))
        assert {outcome.reason for outcome in found} == {"unjudged"}
        assert cache.stats().judged == {"failed": 1000}
        assert threading.active_count() - threads <= THREADS
        free.set()
        await await_until(lambda: bool(cache.lookup(ASKED)))  # and it recovers


async def test_hundreds_of_look_ups_with_a_slow_async_judge_all_hit(plain: Served) -> None:
    async def slow(asked: str, stored: str, answer: str) -> bool:
        await asyncio.sleep(0.1)
        return True

    options = plain.options | {"similarity_threshold": 0.7}
    async with SemanticCache(HashingEmbedder(), judge=slow, judge_timeout=10, **options) as cache:
        await cache.astore(STORED, "x")
        assert all(await asyncio.gather(*(cache.alookup(ASKED) for _ in range(300))))


# What is remembered, and what is not kept


@pytest.mark.parametrize("options", [{"promote": True}, {"local": LocalTier()}])
async def test_what_was_judged_once_is_not_judged_again(
    make: Make, way: Way, options: dict[str, Any]
) -> None:
    judge = Recorder()
    cache = make(judge, **options)
    cache.store(STORED, "x")
    assert (await way(cache.lookup, ASKED)).tier == "semantic"
    assert (await way(cache.lookup, ASKED)).tier in ("exact", "local")
    assert len(judge.cases) == 1


async def test_a_question_that_is_not_kept_cannot_be_judged(make: Make, way: Way) -> None:
    judge = Recorder()
    writer = make(None, store_questions=False)
    reader = make(judge)
    writer.store(STORED, "x")
    miss = await way(reader.lookup, ASKED)
    assert miss.reason == "unjudged"
    assert "store_questions=False" in miss.detail
    assert judge.cases == []


async def test_tenants_are_not_judged_against_each_other(make: Make, way: Way) -> None:
    judge = Recorder()
    cache = make(judge)
    cache.store(Question(STORED, namespace="a"), "x")
    assert (await way(cache.lookup, Question(ASKED, namespace="b"))).reason == "no_neighbour"
    assert judge.cases == []


class Length:
    """A codec of numbers, which says how they read."""

    name = "length/1"

    def encode(self, answer: int) -> bytes:
        return str(answer).encode()

    def decode(self, content: bytes) -> int:
        return int(content)

    def text(self, answer: int) -> str:
        return f"{answer} metres"


async def test_the_judge_reads_answers_of_any_codec_as_text(make: Make, way: Way) -> None:
    judge = Recorder()
    cache = make(judge, codec=Length())
    cache.store(STORED, 12)
    assert (await way(cache.lookup, ASKED)).answer == 12
    assert judge.cases[0][2] == "12 metres"
    cache = make(judge)  # reads texts: the number is none, and nobody is asked about it
    assert not await way(cache.lookup, ASKED)
    assert len(judge.cases) == 1


# Options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"judge": 5}, "judge=int is not allowed: it takes a function"),
        ({"judge": Recorder}, "judge=Recorder is not allowed"),
        ({"judge": awaited, "store_questions": False}, "judge=awaited and store_questions=False"),
        ({"judge": awaited, "judge_below": float("nan")}, "judge_below=nan"),
        ({"judge": awaited, "judge_below": 1.5}, "judge_below=1.5"),
        ({"judge": awaited, "judge_below": 0.9}, "judge_below=0.9 and similarity_threshold=0.9"),
        ({"judge": awaited, "judge_timeout": 0}, "judge_timeout=0"),
        ({"guards": ["order"], "store_questions": False}, "guards=.* and store_questions=False"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1", **options)


# The loop for what must be awaited in sync code


def test_a_loop_that_is_blocked_keeps_nobody_waiting() -> None:
    loop = LoopThread("test")

    async def blocked() -> None:
        time.sleep(0.8)  # noqa: ASYNC251 - that is what is shown

    async def well() -> str:
        return "well"

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        loop.run(blocked, 0.05)
    with pytest.raises(TimeoutError):
        loop.run(well, 0.05)
    assert time.monotonic() - begun < 0.75
    assert loop.run(well, 20) == "well"


async def test_what_cancels_itself_does_not_cancel_who_asked() -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TimeoutError):
        await within(cancels, 5)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_worker_asks_by_a_loop_of_its_own() -> None:
    judging = Judging(awaited, 1.0, 5.0, lambda error: None)
    assert judging.ask("a", "b", "c")
    child = os.fork()
    if child == 0:
        os._exit(0 if judging.ask("a", "b", "c") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
