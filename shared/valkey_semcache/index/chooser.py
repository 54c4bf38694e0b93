"""Which of two indexes serves a scope: the one that has answered sooner.

Rule of this file: decisions from what this process has seen, no I/O and no clock. A scope that
FLAT answers quickly costs nothing here. For one that it does not, both are tried, each try
bounded by what the other takes; the sooner one serves, and is changed only for one clearly
sooner.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

from valkey_semcache.index.search import Algorithm
from valkey_semcache.locks import ForkLock

SLOW = 0.002
"""Seconds over the soonest reply of any scope, from which a scope is worth a thought. FLAT
takes them for about 3,000 vectors of 384 numbers."""

_SAMPLES = 5  # of each index, whose median counts
_CLEARLY = 0.75  # of the other's time: below it the scope changes over
_AGAIN = 250  # look-ups of a scope after which the other index is tried again
_SCOPES = 1024  # slow scopes remembered
_SOON = 20  # look-ups after which it is tried again if it ran out of time at the first attempt
_QUIET = 2000  # look-ups for which a scope counted as small is not thought of again
_CREEP = 1.00002  # by which the soonest reply is forgotten, so that a slower network is learned


@dataclass(slots=True)
class _Record:
    """What has been seen of a slow scope."""

    times: dict[Algorithm, deque[float]] = field(
        default_factory=lambda: {"FLAT": deque(maxlen=_SAMPLES), "HNSW": deque(maxlen=_SAMPLES)}
    )
    serving: Algorithm = "FLAT"
    uses: int = 0
    large: bool | None = None  # None until it was counted
    quiet: int = 0  # look-ups left for which it is taken to be small

    def known(self, algorithm: Algorithm) -> bool:
        return len(self.times[algorithm]) == _SAMPLES

    def typical(self, algorithm: Algorithm) -> float:
        return median(self.times[algorithm])


@dataclass(frozen=True, slots=True)
class Plan:
    """How to look something up.

    Args:
        algorithm: The index to ask.
        seconds: How long it may take; None for as long as the client waits.
        otherwise: The index to ask if it takes longer.
    """

    algorithm: Algorithm
    seconds: float | None = None
    otherwise: Algorithm | None = None


FLAT_ALONE = Plan("FLAT")
"""The plan where there is no other index."""


class Chooser:
    """Plans look-ups by scope.

    Args:
        patience: Seconds that a look-up may take in all.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._soonest = math.inf
        self._records: OrderedDict[str, _Record] = OrderedDict()  # of slow scopes
        self._lock = ForkLock()

    def plan(self, scope: str, both: bool) -> Plan:
        """Which index to ask, and how long to wait for it.

        Args:
            scope: The scope's digest.
            both: Whether there is an HNSW index to choose.
        """
        if not both:
            return FLAT_ALONE
        with self._lock:
            record = self._records.get(scope)
            if record is None:
                # It may be a giant one, which this process has never asked.
                return Plan("FLAT", self._patience / 4, "HNSW")
            if record.quiet or not record.known("FLAT"):
                return Plan("FLAT", self._patience / 4, "HNSW")
            serving = record.serving
            other: Algorithm = "HNSW" if serving == "FLAT" else "FLAT"
            record.uses += 1
            if record.known(other) and record.uses % _AGAIN >= _SAMPLES:
                return Plan(serving, self._patience / 2, other)
            return Plan(other, 1.25 * record.typical(serving), serving)

    def saw(self, scope: str, algorithm: Algorithm, seconds: float) -> bool:
        """A reply came after so many seconds.

        Returns:
            Whether the scope is among the slow ones, and not taken to be small: if not, there is
            nothing to be done for it.
        """
        with self._lock:
            self._soonest = min(self._soonest * _CREEP, seconds)
            if scope not in self._records and (
                algorithm == "HNSW" or seconds - self._soonest < SLOW
            ):
                return False
            record = self._record(scope)
            if record.quiet:
                record.quiet -= 1
                if not record.quiet:
                    del self._records[scope]
                return False
            record.times[algorithm].append(seconds)
            self._weigh(scope, record)
            return True

    def arrived(self, seconds: float) -> None:
        """The server's reply to something that takes it no time came after so many seconds."""
        with self._lock:
            self._soonest = min(self._soonest, seconds)

    def ran_out(self, scope: str, algorithm: Algorithm, seconds: float) -> None:
        """An index did not answer within its time."""
        with self._lock:
            record = self._record(scope)
            first = not record.known(algorithm)
            if first:
                # A giant scope, or nothing but a hiccup.
                record.uses = _AGAIN - _SOON
            # One try is enough; of the one that serves, a single slow reply is but one.
            samples = _SAMPLES if first or algorithm != record.serving else 1
            record.times[algorithm].extend([2 * seconds] * samples)
            self._weigh(scope, record)

    def to_count(self, scope: str) -> bool:
        """Whether a scope is answered slowly and has yet to be counted."""
        with self._lock:
            record = self._records.get(scope)
            return record is not None and record.large is None and record.known("FLAT")

    def counted(self, scope: str, *, large: bool) -> None:
        """A scope was counted; if it is small, it was not for its size that replies were slow."""
        with self._lock:
            record = self._record(scope)
            record.large = large
            record.quiet = 0 if large else _QUIET

    def is_large(self, scope: str) -> bool:
        """Whether a scope was counted and found large."""
        with self._lock:
            record = self._records.get(scope)
            return record is not None and record.large is True

    def serves(self, scope: str) -> Algorithm:
        """Which of the two serves a scope, as far as it is known."""
        with self._lock:
            record = self._records.get(scope)
            return "FLAT" if record is None else record.serving

    @property
    def remembered(self) -> int:
        """How many slow scopes are remembered."""
        with self._lock:
            return len(self._records)

    def served(self) -> int:
        """How many scopes HNSW serves."""
        with self._lock:
            return sum(record.serving == "HNSW" for record in self._records.values())

    def _record(self, scope: str) -> _Record:
        """What is known of a slow scope; a new one pushes out the one seen longest ago."""
        record = self._records.get(scope)
        if record is None:
            record = self._records[scope] = _Record()
            if len(self._records) > _SCOPES:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(scope)
        return record

    def _weigh(self, scope: str, record: _Record) -> None:
        if not record.known("FLAT"):
            return
        if record.serving == "FLAT" and record.typical("FLAT") - self._soonest < SLOW:
            del self._records[scope]  # it was but a moment
            return
        if not record.known("HNSW"):
            return
        other: Algorithm = "HNSW" if record.serving == "FLAT" else "FLAT"
        if record.typical(other) < _CLEARLY * record.typical(record.serving):
            record.serving = other
