"""Where a call's time goes: between its commands, and in them.

Rule of this file: a call is made as in the report's lines, a new prompt before each. A clock is
read where the flow hands an operation to the drive, and where it gets the outcome; nothing else is
touched, and the clock's own microsecond is within.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.speed_lines import Filled
from benchmarks.speed_setting import LLM_STRING, answer, asked, forget, reworded
from valkey_semcache.flow.operations import Command, Embed, Operation, Script

Step = tuple[str, float, float]
"""What is done, and medians of processor time and of time by the clock, in µs."""


class Laps:
    """Takes the times of one cache's calls, step by step.

    Args:
        drive: The cache's own; its operations are heard from now on.
    """

    def __init__(self, drive: Any) -> None:
        self._do = drive._do
        self._taken: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._calls = 0
        self._sent: set[str] = set()
        self._last = (0, 0)
        drive._do = self._heard

    def call(self, call: Callable[[], Any]) -> None:
        """Make a call and take its steps' times."""
        self._calls += 1
        self._sent = set()
        self._last = time.process_time_ns(), time.perf_counter_ns()
        call()
        self._lap("to the end")

    def steps(self) -> list[Step]:
        """The steps that most calls had, in their order."""
        return [
            (step, median(cpu for cpu, _ in times), median(wall for _, wall in times))
            for step, times in self._taken.items()
            if len(times) > self._calls / 2
        ]

    def _heard(self, operation: Operation) -> Any:
        name = _name(operation)
        name += " again" if name in self._sent else ""
        self._sent.add(name)
        self._lap(f"to {name}")
        try:
            return self._do(operation)
        finally:
            self._lap(name)

    def _lap(self, step: str) -> None:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        before = self._last
        self._taken[step].append(((cpu - before[0]) / 1000, (wall - before[1]) / 1000))
        self._last = time.process_time_ns(), time.perf_counter_ns()


def looked_up(filled: Filled, *, reworded_too: bool) -> list[Step]:
    """The steps of hits: by the very words, or by meaning."""
    forget(filled.cache.core)
    wording = reworded if reworded_too else asked
    laps = _laps(filled)
    for number in range(filled.times):
        given = _prepared(filled, number, wording)
        laps.call(lambda given=given: filled.cache.lookup(given, LLM_STRING))
    return laps.steps()


def stored(filled: Filled) -> list[Step]:
    """The steps of stores without a look-up before, which embed; what they replace is the same."""
    forget(filled.cache.core)
    laps = _laps(filled)
    for number in range(filled.times):
        given, answered = _prepared(filled, number, asked), answer(number)
        laps.call(lambda g=given, a=answered: filled.cache.update(g, LLM_STRING, a))
    return laps.steps()


def _laps(filled: Filled) -> Laps:
    gc.collect()
    gc.freeze()
    return Laps(filled.cache.core._drive)


def _prepared(filled: Filled, number: int, wording: Callable[[int], str]) -> str:
    """What stands between two calls of the report's lines: a prompt, a command, a prompt."""
    filled.asked(number, wording)
    filled.bare.execute_command("PING")
    return filled.asked(number, wording)


def _name(operation: Operation) -> str:
    if isinstance(operation, Command):
        return str(operation.arguments[0])
    if isinstance(operation, Embed):
        return "the embedding"
    return "EVALSHA" if isinstance(operation, Script) else type(operation).__name__.lower()
