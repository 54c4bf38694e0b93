"""The app's judge: a second opinion on a candidate that is near, but not near enough to be sure.

Rule of this file: a judge is called within its deadline, or not heard. Only a plain yes lets a
candidate through; whatever else comes back, or does not, is no hit.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.errors import ConfigurationError, JudgeError
from valkey_semcache.loop import LoopThread, within
from valkey_semcache.workers import Workers

if TYPE_CHECKING:
    import numpy as np
else:
    np = at_first_use("numpy")

Judge: TypeAlias = Callable[[str, str, str], Any] | Any
"""A function of the asked question, the stored one and the stored answer's text that returns True
if the answer does for both, False if not, None if it cannot tell; or an awaitable of that. Or an
object with such a method `judge`, and perhaps one to be awaited, `ajudge`."""

THREADS = 16
"""Calls of a judge that are under way at once, where they block or are asked for in a batch."""

at_work: ContextVar[bool] = ContextVar("valkey_semcache_judge_at_work", default=False)
"""Whether the running code was called by a judge: then no cache looks up or stores, so that a
judge that asks a cached model asks the model, and not itself."""


class Judging:
    """A judge, its bounds, and both ways of calling it.

    Args:
        judge: The app's, in any of the forms of `Judge`.
        below: Candidates of this similarity or more are not judged; at 1 all are, since vectors can
            be equal where words are not: models truncate, and take unknown words for one.
        seconds: How long to wait for a verdict.
        failed: Told of each `JudgeError`; may raise it.
    """

    def __init__(
        self, judge: Judge, below: float, seconds: float, failed: Callable[[Exception], None]
    ) -> None:
        self.below = below
        self.failed = failed
        self._seconds = seconds
        self._name = named(judge)
        self._blocking, self._awaiting = _ways(judge)
        self._workers = Workers(THREADS, "semcache-judge")
        self._loop = LoopThread("semcache-judge-loop")

    def ask(self, *case: str) -> bool | None:
        """The verdict on (asked, stored, answer); None if the judge cannot tell.

        Raises:
            JudgeError: It raised, took too long, or gave what is no verdict.
        """
        try:
            if self._blocking is not None:
                verdict = self._workers.call(partial(self._in_thread, case), self._seconds)
            else:
                verdict = self._loop.run(partial(self._awaited, case), self._seconds)
        except Exception as error:
            raise self._error(error) from error
        return self._checked(verdict)

    async def aask(self, *case: str) -> bool | None:
        """The same, without blocking the event loop."""
        until = time.monotonic() + self._seconds
        try:
            if self._awaiting is not None:
                verdict = await within(partial(self._awaited, case), self._seconds)
            else:
                verdict = await self._workers.acall(partial(self._called, case), self._seconds)
                if inspect.isawaitable(verdict):
                    verdict = await within(partial(_marked, verdict), until - time.monotonic())
        except Exception as error:
            raise self._error(error) from error
        return self._checked(verdict)

    def ask_many(self, cases: Sequence[tuple[str, ...]]) -> list[bool | JudgeError | None]:
        """The verdicts on several, an error in place of one that failed."""
        turns = math.ceil(len(cases) / THREADS)
        try:
            return self._loop.run(partial(self.aask_many, cases), (self._seconds + 0.1) * turns)
        except TimeoutError as error:
            return [self._error(error)] * len(cases)

    async def aask_many(self, cases: Sequence[tuple[str, ...]]) -> list[bool | JudgeError | None]:
        """The same, without blocking the event loop."""
        verdicts: list[bool | JudgeError | None] = []
        for start in range(0, len(cases), THREADS):
            turn = cases[start : start + THREADS]
            given = await asyncio.gather(*(self._told(case) for case in turn))
            verdicts += given
            if all(isinstance(verdict, JudgeError) for verdict in given):
                # It hangs or is broken: the others need not wait for it as well.
                return verdicts + [given[-1]] * (len(cases) - len(verdicts))
        return verdicts

    async def _told(self, case: tuple[str, ...]) -> bool | JudgeError | None:
        try:
            return await self.aask(*case)
        except JudgeError as error:
            return error

    def _called(self, case: tuple[str, ...]) -> Any:
        at_work.set(True)  # in a worker's copy of the context
        return self._blocking(*case)  # type: ignore[misc]

    def _in_thread(self, case: tuple[str, ...]) -> Any:
        verdict = self._called(case)
        if inspect.isawaitable(verdict):
            return self._loop.run(partial(_marked, verdict), self._seconds)
        return verdict

    async def _awaited(self, case: tuple[str, ...]) -> Any:
        at_work.set(True)  # in a task's copy of the context
        return await self._awaiting(*case)  # type: ignore[misc]

    def _checked(self, verdict: Any) -> bool | None:
        if verdict is None or isinstance(verdict, bool):
            return verdict
        if isinstance(verdict, np.bool_):
            return bool(verdict)
        raise JudgeError(
            f"The judge {self._name} gave a value of type {type(verdict).__name__}; True, False or "
            "None (cannot tell) was expected. A score must be compared with a bar first."
        )

    def _error(self, error: Exception) -> JudgeError:
        if isinstance(error, TimeoutError):
            return JudgeError(
                f"The judge {self._name} gave nothing within judge_timeout={self._seconds} s: it "
                "hangs, is overloaded, or needs more time."
            )
        # Only the kind of error: providers put keys and prompts into their messages.
        return JudgeError(
            f"The judge {self._name} raised {type(error).__name__}. Its words may hold keys or "
            "prompts, so they are left out here: on_error='raise' shows them, as this error's "
            "cause."
        )


async def _marked(verdict: Awaitable[Any]) -> Any:
    at_work.set(True)
    return await verdict


def _ways(
    judge: Any,
) -> tuple[Callable[..., Any] | None, Callable[..., Awaitable[Any]] | None]:
    """How to call a judge, and how to await it; one of them can be None."""
    blocking, awaiting = getattr(judge, "judge", None), getattr(judge, "ajudge", None)
    if callable(blocking) or callable(awaiting):
        return blocking if callable(blocking) else None, awaiting if callable(awaiting) else None
    if inspect.iscoroutinefunction(judge) or inspect.iscoroutinefunction(type(judge).__call__):
        return None, judge
    return judge, None


def named(judge: Any) -> str:
    """A judge's name, for messages: never its repr, which may hold a model with its key."""
    return getattr(judge, "__name__", None) or type(judge).__name__


def checked_judge(
    judge: Any,
    below: float,
    seconds: float,
    threshold: float | None,
    store_questions: bool,
    failed: Callable[[Exception], None],
) -> Judging | None:
    """The judge that an option names, or None.

    Raises:
        ConfigurationError: It cannot be called, would never be asked, or there are no questions
            for it to read.
    """
    if judge is None:
        return None
    blocking, awaiting = (None, None) if isinstance(judge, type) else _ways(judge)
    if not callable(blocking) and not callable(awaiting):
        raise ConfigurationError(
            f"judge={named(judge)} is not allowed: it takes a function of the asked question, the "
            "stored one and the answer's text, sync or async, or an object such as LLMJudge(model)."
        )
    if not store_questions:
        raise ConfigurationError(
            f"judge={named(judge)} and store_questions=False exclude each other: a judge reads the "
            "stored question. Keep the questions, or give no judge."
        )
    if threshold is not None and below <= threshold and below < 1:
        raise ConfigurationError(
            f"judge_below={below} and similarity_threshold={threshold} leave the judge nothing: "
            "it is asked about similarities from the threshold on and below judge_below."
        )
    return Judging(judge, below, seconds, failed)
