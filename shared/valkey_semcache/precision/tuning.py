"""Thresholds that are found: what share of a set of labelled questions would be answered wrongly.

Rule of this file: labelled pairs in, figures by threshold out. Whether two questions may meet at
all is asked of the cache itself (scope, guards), so that what is measured is what it does.

Intervals are Wilson's (E. B. Wilson, Probable inference, the law of succession, and statistical
inference, JASA 22, 1927), which keep near their level for small counts and shares near 0 and 1
(Brown, Cai, DasGupta, Interval estimation for a binomial proportion, Statistical Science 16, 2001).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import ConfigurationError, MissingPackageError
from valkey_semcache.flow.serving import TOLERANCE
from valkey_semcache.precision.labelled import Grouped, Labelled
from valkey_semcache.precision.plotting import changing, png, tuning_figure
from valkey_semcache.question import Question
from valkey_semcache.shown import Shown

if TYPE_CHECKING:
    from valkey_semcache.methods.core import Core

_BATCH = 32  # texts embedded at once: what takes longer than embed_timeout is an error

STEP = 0.01
"""Distance between two thresholds that are looked at."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of some cases, with its confidence interval.

    Args:
        count: Cases of which something is true.
        of: Cases in all.
        low: Lower end of the interval, 0 to 1.
        high: Upper end.
    """

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0 to 1; nan of no cases."""
        return self.count / self.of if self.of else float("nan")

    def __str__(self) -> str:
        if not self.of:
            return "-"
        return f"{self.value:.1%} ({100 * self.low:.1f}–{100 * self.high:.1f})"


def wilson(count: int, of: int, confidence: float = 0.95) -> Share:
    """A share with Wilson's score interval.

    Args:
        count: Cases of which something is true.
        of: Cases in all; of none, the interval is all from 0 to 1.
        confidence: Level of the interval, between 0 and 1.
    """
    if not of:
        return Share(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * (share * (1 - share) / of + z * z / (4 * of * of)) ** 0.5
    return Share(count, of, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What happens at one threshold.

    Args:
        threshold: The similarity from which another wording is served.
        precision: Right answers among those served.
        recall: Right answers among all that would have been right.
        wrong: Wrong answers among all that was asked.
    """

    threshold: float
    precision: Share
    recall: Share
    wrong: Share


@dataclass(frozen=True, repr=False)
class Tuning(Shown):
    """Precision, recall and share of wrong answers by threshold. Printable, a table in Jupyter.

    Args:
        rows: By threshold, the lowest first.
        kept_apart: Pairs that the cache never lets meet, whatever the threshold: another scope,
            or a guard.
        pairs: Pairs in all.
        confidence: Level of the intervals.
        threshold: The cache's own; None where a rule has none for a question about nothing.
    """

    rows: tuple[AtThreshold, ...]
    kept_apart: int
    pairs: int
    confidence: float
    threshold: float | None

    def threshold_for(self, precision: float) -> float | None:
        """The lowest threshold that has at least this precision, with confidence.

        Thresholds are tried from the highest down, in a fixed sequence. Those at which too little
        is served to tell are passed over; from the first at which the interval's lower end
        reaches what is wanted it goes on until one fails. None if that end reaches it nowhere.

        Args:
            precision: The share of right answers that is wanted, above 0 and below 1.
        """
        if not 0 < precision < 1:
            raise ConfigurationError(
                f"precision={precision!r} is not allowed: it takes a share above 0 and below 1."
            )
        found = None
        for row in reversed(self.rows):
            if row.precision.low >= precision:
                found = row.threshold
            elif found is not None or row.precision.high < precision:
                break
        return found

    def at(self, threshold: float) -> AtThreshold:
        """The row of the threshold that is nearest."""
        return min(self.rows, key=lambda row: abs(row.threshold - threshold))

    def plot(self) -> Any:
        """A matplotlib figure; in a notebook it shows itself.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        return tuning_figure(self)

    def _repr_html_(self) -> str:
        """Plot and table, or the table alone without matplotlib."""
        try:
            drawn = base64.b64encode(png(self.plot())).decode()
        except MissingPackageError:
            return super()._repr_html_()
        alt = "precision, recall and wrong answers by threshold"
        image = f'<img alt="{alt}" src="data:image/png;base64,{drawn}">'
        return image + super()._repr_html_()

    def _rows(self) -> list[tuple[str, str]]:
        shown = [("pairs", f"{self.pairs}, of which {self.kept_apart} never meet")]
        for row in changing(self.rows):
            if round(row.threshold * 100) % 5 == 0:
                what = f"precision {row.precision}, recall {row.recall}, wrong {row.wrong}"
                shown.append((f"{row.threshold:.2f}", what))
        return shown


def tune(
    pairs: Sequence[Labelled] | Sequence[Grouped], cache: Any, confidence: float = 0.95
) -> Tuning:
    """Measure a cache's rules on labelled questions.

    Args:
        pairs: Pairs of questions with whether one answer does for both (`Labelled`), or
            questions with the group whose answer they share (`Grouped`), each of which is
            paired with the nearest other that it may meet.
        cache: Whose embedding model, exact features and guards count; a `SemanticCache`, or one of
            the frameworks'. Nothing is looked up in it or stored.
        confidence: Level of the intervals, between 0 and 1.

    Raises:
        ConfigurationError: There is no pair.
        EmbeddingError: A question could not be embedded.
    """
    if not pairs:
        raise ConfigurationError("There is no labelled pair to tune a threshold with.")
    if not 0 < confidence < 1:
        raise ConfigurationError(
            f"confidence={confidence!r} is not allowed: it takes a level above 0 and below 1."
        )
    rules = _Rules(getattr(cache, "core", cache))
    if isinstance(pairs[0], Grouped):
        cases = _nearest([one for one in pairs if isinstance(one, Grouped)], rules)
    else:
        cases = _each([one for one in pairs if isinstance(one, Labelled)], rules)
    return _tuning(cases, confidence, rules.threshold)


class _Rules:
    """What a cache would do, asked of its parts."""

    def __init__(self, cache: Core) -> None:
        self._addressing, self._guards = cache._addressing, cache._flows.guards
        self._embedding = cache._drive.embedding
        self.threshold = cache._thresholds.shown(cache._namespace)

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        found = []
        for start in range(0, len(texts), _BATCH):
            for vector in self._embedding.vectors(list(texts[start : start + _BATCH])):
                if isinstance(vector, Exception):
                    raise vector
                found.append(vector)
        return found

    def scope(self, text: str) -> str | None:
        """The scope of a question; None if it is found by its very words only."""
        address = self._addressing.address(Question(text), "")
        return address.scope if address.semantic else None

    def may_meet(self, asked: str, stored: str) -> bool:
        scope = self.scope(asked)
        if scope is None or scope != self.scope(stored):
            return False
        return not self._guards or self._guards.refusal(asked, stored) is None


@dataclass(frozen=True, slots=True)
class _Case:
    similarity: float
    same: bool  # one answer does for both
    meets: bool  # the cache lets them meet
    possible: bool  # a right answer was to be had


def _each(pairs: Sequence[Labelled], rules: _Rules) -> list[_Case]:
    asked = rules.vectors([pair.a for pair in pairs])
    stored = rules.vectors([pair.b for pair in pairs])
    return [
        _Case(float(one @ other), pair.same, rules.may_meet(pair.a, pair.b), pair.same)
        for pair, one, other in zip(pairs, asked, stored, strict=True)
    ]


def _nearest(questions: Sequence[Grouped], rules: _Rules) -> list[_Case]:
    """Each question with the nearest other one that it may meet, as if all others were stored."""
    vectors = np.stack(rules.vectors([one.question for one in questions]))
    scopes = [rules.scope(one.question) for one in questions]
    sizes: dict[str, int] = {}
    for one in questions:
        sizes[one.group] = sizes.get(one.group, 0) + 1
    cases = []
    for place, one in enumerate(questions):
        near = vectors @ vectors[place]
        near[place] = -2.0
        possible = sizes[one.group] > 1
        for other in np.argsort(-near)[:50]:
            if scopes[place] is None or other == place or scopes[other] != scopes[place]:
                continue
            if rules.may_meet(one.question, questions[other].question):
                same = questions[other].group == one.group
                cases.append(_Case(float(near[other]), same, True, possible))
                break
        else:
            cases.append(_Case(-1.0, False, False, possible))
    return cases


def _tuning(cases: Sequence[_Case], confidence: float, threshold: float | None) -> Tuning:
    possible = sum(case.possible for case in cases)
    rows = []
    for step in range(round(0.5 / STEP), round(1 / STEP) + 1):
        at = step * STEP
        served = [case for case in cases if case.meets and case.similarity >= at - TOLERANCE]
        right = sum(case.same for case in served)
        rows.append(
            AtThreshold(
                round(at, 4),
                wilson(right, len(served), confidence),
                wilson(right, possible, confidence),
                wilson(len(served) - right, len(cases), confidence),
            )
        )
    apart = sum(not case.meets for case in cases)
    return Tuning(tuple(rows), apart, len(cases), confidence, threshold)
