"""Explaining a look-up: the look-up itself, carried out aside, and what lies around it.

Rule of this file: no decision of a look-up is made here a second time. The verdict is what the
look-up's own flow comes to; only its writes are left undone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import IndexLostError, SemcacheError
from valkey_semcache.explanation import Explanation, Near, Scope
from valkey_semcache.flow.aside import aside
from valkey_semcache.flow.differences import Differences, grouped
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.neighbours import Elsewhere, merged, similarity_to
from valkey_semcache.flow.operations import Flow
from valkey_semcache.flow.trial import Clock, Trial
from valkey_semcache.index.contract import Candidate, VectorIndex
from valkey_semcache.outcome import Hit, Miss
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
                candidate = candidate._replace(similarity=similarity)
            is_served = candidate.key == served
            because = (
                "nothing objects" if is_served else self._because(candidate, envelope, outcome)
            )
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
