"""A look-up's question to the judge, step by step.

Rule of this file: each candidate is judged at most once in a look-up, and few are. A judge that
gives no answer is not asked again in it.
"""

from __future__ import annotations

from typing import TypeAlias

from valkey_semcache.errors import JudgeError, UnreadableError
from valkey_semcache.flow.operations import Flow, Judge
from valkey_semcache.flow.serving import TOLERANCE
from valkey_semcache.index.contract import Candidate
from valkey_semcache.outcome import MissReason
from valkey_semcache.precision.judging import Judging
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope
from valkey_semcache.stored.codec import Codec, text_of

MOST_JUDGED = 3
"""Candidates that are judged in one look-up: each costs a call."""

Refusal: TypeAlias = tuple[MissReason, str]


class Hearing:
    """What the judge is asked in one look-up.

    Args:
        judging: The judge.
        counters: Where verdicts are counted.
        codec: Who is to read the answers.
    """

    def __init__(self, judging: Judging, counters: Counters, codec: Codec) -> None:
        self._judging = judging
        self._counters = counters
        self._codec = codec
        self._refused: dict[str, Refusal] = {}

    @property
    def is_over(self) -> bool:
        """Whether the judge has refused as many as it may be asked about."""
        return len(self._refused) >= MOST_JUDGED

    def refusal(
        self, address: Address, candidate: Candidate, envelope: Envelope
    ) -> Flow[Refusal | None]:
        """Why a candidate is not to be served; None if the judge said yes, or is not asked: the
        candidate is near enough, or nobody here can read its answer.

        Args:
            address: The asked question's.
            candidate: Whose similarity reaches the threshold.
            envelope: The candidate's.
        """
        below = self._judging.below
        if below < 1 and candidate.similarity >= below - TOLERANCE:
            return None
        if candidate.key in self._refused:
            return self._refused[candidate.key]
        if envelope.codec != self._codec.name:
            return None
        try:
            answer = text_of(self._codec, envelope.content)
        except UnreadableError:
            return None
        reason = yield from self._reason(address.text, envelope.question, answer)
        if reason is not None:
            self._refused[candidate.key] = reason
        return reason

    def _reason(self, asked: str, stored: str | None, answer: str) -> Flow[Refusal | None]:
        if stored is None:
            return "unjudged", "its question is not kept (store_questions=False) to be judged"
        try:
            verdict = yield Judge(self._judging, asked, stored, answer)
        except JudgeError as error:
            self._counters.count("judged", "failed")
            self._judging.failed(error)
            return "unjudged", str(error)
        if verdict is None:
            self._counters.count("judged", "cannot tell")
            return "unjudged", "the judge could not tell"
        self._counters.count("judged", "yes" if verdict else "no")
        return None if verdict else ("judged", "the judge said no")
