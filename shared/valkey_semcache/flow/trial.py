"""A look-up on trial: carried out as it would be, with what was seen on its way.

Rule of this file: only what a look-up asks of the world is replaced here (its index, its notes, its
judge's complaints), and what passes by is noted. Every decision stays the look-up's own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import IndexLostError
from valkey_semcache.flow.aside import NotesAside, Remarks
from valkey_semcache.flow.exact import ExactTier
from valkey_semcache.flow.judging import Hearing
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.operations import Flow
from valkey_semcache.index.contract import Candidate, Fields, VectorIndex
from valkey_semcache.outcome import Hit, Miss, MissReason
from valkey_semcache.question import Address
from valkey_semcache.stored.answer import Envelope
from valkey_semcache.stored.codec import Codec


class Clock:
    """How long each step takes, in milliseconds; steps do not lie inside of each other."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = 1000 * (time.perf_counter() - begun)
            self.times[name] = self.times.get(name, 0.0) + spent


class Trial(Flows):
    """One look-up that leaves no trace, and what was seen on its way.

    Args:
        flows: The cache's own, whose index and memory it reads.
        address: The question's.
        clock: Measures the steps.
    """

    def __init__(self, flows: Flows, address: Address, clock: Clock) -> None:
        self.remarks = Remarks()
        judge = copy.copy(flows._policy.judge)
        if judge is not None:
            judge.failed = _unheard
        verified = flows._policy.verified
        verified = None if verified is None else verified.aside()
        policy = replace(flows._policy, local=None, judge=judge, verified=verified)
        notes = NotesAside(flows.notes)
        super().__init__(flows._index_settings, notes, self.remarks, policy)
        self._exact: Any = _Timed(self._exact, clock)
        self._real = flows
        self._address = address
        self._clock = clock
        self._tries = 0
        self.vector: Vector | None = None
        self.judged: dict[str, str | None] = {}

    @property
    def sealed(self) -> bool:
        """Whether what is stored is signed or encrypted."""
        return self._policy.seal is not None

    @property
    def keeps_questions(self) -> bool:
        """Whether the questions' texts are stored."""
        return self._policy.store_questions

    def lookup(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | Miss]:
        """The look-up, with the local tier of the cache itself."""
        if self._real._local is not None:
            with self._clock.step("local"):
                hit = self._real._serving.held(address, codec, threshold)
            if hit is not None:
                return hit
        return (yield from super().lookup(address, codec, threshold))

    def _vector(self, address: Address) -> Flow[Vector]:
        with self._clock.step("embed"):
            self.vector = yield from super()._vector(address)
        return self.vector

    def _index(self, dimension: int) -> Flow[VectorIndex]:
        """The index that the cache has open, to be read; one opened aside where it has none, or
        lost it."""
        self._tries += 1
        index = self._real.index if self._tries == 1 else None
        if index is None or index.dimension != dimension:
            index = yield from super()._index(dimension)
        return index.reading(self._address.scope)

    def _nearest(
        self, address: Address, vector: Vector, count: int, least: float
    ) -> Flow[tuple[VectorIndex, Sequence[Candidate]]]:
        with self._clock.step("search"):
            try:
                return (yield from super()._nearest(address, vector, count, least))
            except IndexLostError:
                self.remarks.told.append(
                    "The index is not in the server; a look-up creates it and finds nothing until "
                    "it is filled."
                )
                return (yield from self._index(len(vector))), ()

    def _refused(
        self,
        address: Address,
        candidate: Candidate,
        fields: Fields,
        envelope: Envelope,
        threshold: float,
        hearing: Hearing | None = None,
    ) -> Flow[tuple[MissReason, str] | None]:
        with self._clock.step("guards" if hearing is None else "guards, judge"):
            refusal = yield from super()._refused(
                address, candidate, fields, envelope, threshold, hearing
            )
        self.judged[candidate.key] = None if refusal is None else refusal[1]
        return refusal


def _unheard(error: Exception) -> None:
    """A judge's error is in the miss's detail, and counted nowhere."""


class _Timed:
    """The exact tier under a clock."""

    def __init__(self, exact: ExactTier, clock: Clock) -> None:
        self._exact = exact
        self._clock = clock

    def find(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | Miss | None]:
        with self._clock.step("exact"):
            return (yield from self._exact.find(address, codec, threshold))
