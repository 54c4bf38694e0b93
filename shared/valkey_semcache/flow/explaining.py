"""Explaining a look-up: the look-up itself, carried out aside, and what lies around it.

Rule of this file: no decision of a look-up is made here a second time. The verdict is what the
look-up's own flow comes to; only its writes are left undone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import IndexLostError, SemcacheError
from valkey_semcache.explanation import Explanation, Near, Scope
from valkey_semcache.flow.aside import NotesAside, Remarks, aside
from valkey_semcache.flow.differences import Differences, grouped
from valkey_semcache.flow.exact import ExactTier
from valkey_semcache.flow.judging import Hearing
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.neighbours import Elsewhere, merged, similarity_to
from valkey_semcache.flow.operations import Flow
from valkey_semcache.index.contract import Candidate, Fields, VectorIndex
from valkey_semcache.outcome import Hit, Miss, MissReason
from valkey_semcache.question import Address, Addressing, Question
from valkey_semcache.stored.answer import Envelope
from valkey_semcache.stored.codec import Codec
from valkey_semcache.text.redacted import readable


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be explained, and how far around it to look.

    Args:
        question: The question, with its tenant.
        codec: Reads the answer.
        threshold: Of the look-up.
        embedding: The embedding model's name.
        neighbours: How many stored questions to show of the scope, and of others.
        other_tenants: Whether those of other tenants are shown.
    """

    question: Question
    codec: Codec
    threshold: float
    embedding: str
    neighbours: int
    other_tenants: bool


def explained(flows: Flows, addressing: Addressing, wanted: Wanted) -> Flow[Explanation]:
    """The explanation of one look-up.

    Args:
        flows: The cache's own.
        addressing: Likewise.
        wanted: What to explain.
    """
    begun = time.perf_counter()
    addressing = addressing.quiet()
    question = wanted.question
    address = addressing.address(question, question.namespace or "")
    text, context, features, _ = addressing.parts(question)
    clock = Clock()
    clock.times["read"] = 1000 * (time.perf_counter() - begun)
    trial = Trial(flows, address, clock)
    outcome: Hit | Miss
    try:
        outcome = yield from aside(trial.lookup(address, wanted.codec, wanted.threshold))
    except SemcacheError as error:
        outcome = Miss("error", f"{type(error).__name__}: {error}")
    differences = Differences(addressing, address, context, features)
    around = Around(trial, differences, address, wanted)
    found: Sequence[Near] = ()
    with clock.step("(neighbours)"):
        try:
            found = yield from aside(around.found(outcome))
        except SemcacheError as error:
            trial.remarks.told.append(f"The neighbours could not be looked for: {error}")
    return Explanation(
        outcome=outcome,
        text=text,
        embedded=trial.vector is not None,
        exact_reason=address.exact_reason,
        embedding=wanted.embedding,
        threshold=wanted.threshold,
        scope=Scope(
            namespace=question.namespace or "",
            model=question.model,
            identity=readable(question.identity),
            context=readable(context),
            features=grouped(features),
            key=address.key,
        ),
        neighbours=tuple(found),
        timings=clock.times,
        remarks=(*trial.remarks.told, *around.remarks),
    )


_NEAR = 0.6  # of the threshold: what is less near in another scope is not worth telling


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


class Around:
    """What lies around a question after its look-up.

    Args:
        trial: The look-up.
        differences: What keeps other scopes' entries away.
        address: The question's.
        wanted: How far to look.
    """

    def __init__(
        self, trial: Trial, differences: Differences, address: Address, wanted: Wanted
    ) -> None:
        self._trial = trial
        self._address = address
        self._wanted = wanted
        self._elsewhere = Elsewhere(
            address,
            differences,
            trial.entries,
            sealed=trial.sealed,
            other_tenants=wanted.other_tenants,
        )

    @property
    def remarks(self) -> list[str]:
        """What was left out."""
        remarks = self._elsewhere.remarks
        if not self._trial.keeps_questions:
            remarks = [*remarks, "Questions' texts are not kept (store_questions=False)."]
        return remarks

    def found(self, outcome: Hit | Miss) -> Flow[tuple[Near, ...]]:
        """The neighbours, if the look-up came to ask for them or found nothing at all."""
        count, vector = self._wanted.neighbours, self._trial.vector
        if not count or (isinstance(outcome, Miss) and outcome.reason == "error"):
            return ()
        if vector is None:
            if outcome or self._address.semantic:
                return ()
            return tuple((yield from self._elsewhere.same_words(count)))
        index = yield from self._trial._index(len(vector))
        try:
            inside = yield from self._inside(index, vector, outcome)
            outside = yield from self._elsewhere.nearest(index, vector, count)
        except IndexLostError:
            return ()
        worth = _NEAR * self._wanted.threshold
        return merged(inside, (near for near in outside if near.similarity >= worth))

    def _inside(self, index: VectorIndex, vector: Vector, outcome: Hit | Miss) -> Flow[list[Near]]:
        """The nearest of the scope, each with what became of it."""
        trial, address = self._trial, self._address
        served = outcome.key if isinstance(outcome, Hit) else None
        found = []
        for candidate in (yield from index.nearest(address.scope, vector, self._wanted.neighbours)):
            fields = candidate.fields or (yield from index.read(address.scope, candidate))
            if fields is None:
                continue
            envelope = yield from trial.entries.envelope(candidate.key, fields[b"p"])
            if envelope is None:
                continue
            if trial.entries.are_signed:
                similarity = similarity_to(vector, fields.get(b"v"))
                if similarity is None or not trial.entries.is_vector_of(envelope, fields.get(b"v")):
                    continue
                candidate = replace(candidate, similarity=similarity)
            is_served = candidate.key == served
            because = "nothing objects" if is_served else self._because(candidate, envelope, outcome)
            found.append(
                Near(
                    envelope.question,
                    candidate.similarity,
                    because,
                    served=is_served,
                    key=candidate.key,
                )
            )
        return found

    def _because(self, candidate: Candidate, envelope: Envelope, outcome: Hit | Miss) -> str:
        """Why a candidate of the scope was not served."""
        if candidate.key in self._trial.judged:
            refusal = self._trial.judged[candidate.key]
            if refusal is not None:
                return refusal
            if envelope.codec != self._wanted.codec.name:
                return f"its answer was stored by another codec, {envelope.codec}"
            if isinstance(outcome, Miss) and outcome.reason in ("unverified", "refresh"):
                return outcome.detail
            return "its answer cannot be read"
        if candidate.similarity < self._wanted.threshold:
            return f"similarity {candidate.similarity:.4f} < {self._wanted.threshold}"
        return "a nearer one was served"
