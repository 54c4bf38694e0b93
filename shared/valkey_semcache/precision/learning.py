"""What labels teach: how likely a candidate's answer is wrong, and where serving stays within the
bound.

Rule of this file: no I/O and no clock. Labels in, decisions out; processes that were given the same
labels come to the same boundary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log1p, nan
from typing import Any

import numpy as np

from valkey_semcache.precision.bounds import NEVER, Change, anytime_limit, logistic

LOWEST = 0.5
"""Candidates of lower similarity are neither served nor compared with the fresh answer."""

OTHERS = 2
"""Entries behind the candidate that are looked at: a look-up has them anyway."""

LEAST_LABELS = 30
"""Before that many, nothing is served."""

FEATURES = ("constant", "similarity", "margin", "right", "wrong", "agreeing")
_PRIOR = np.array([-7.0, 10.0, 5.0, 0.5, -1.0, 0.5])
_PRECISION = np.array([1.0, 0.1, 0.1, 1.0, 1.0, 1.0])
_GROWTH = 1.1  # by which labels grow between two fits
_MOST_NEW = 250  # labels after which a fit is due in any case
_LEAST_PREDICTED = 3.0  # errors among labels: where fewer are to be expected, nothing is tested
_MOST_RISK = 0.5  # what is rather wrong than right is not served, whatever the bound has left
_STEP = 0.01  # share of all requests from one threshold of the sequence to the next


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a candidate is decided about.

    Args:
        similarity: Of the question and the candidate's.
        margin: How much nearer the candidate is than the nearest entry that is known to hold
            another answer; if none of those seen is, than the farthest of them, or than `LOWEST`
            where fewer than `OTHERS` are as near as that.
        right: Times that the candidate's answer was compared with a fresh one and was the same.
        wrong: Times that it was not.
        agreeing: How many of the next nearest entries are known to hold the same answer.
    """

    similarity: float
    margin: float
    right: int
    wrong: int
    agreeing: int

    @property
    def row(self) -> tuple[float, ...]:
        """As the model's features."""
        counts = log1p(self.right), log1p(self.wrong)
        return (1.0, self.similarity, self.margin, *counts, float(self.agreeing))


@dataclass(frozen=True, slots=True)
class Label:
    """Whether a candidate's answer would have been right.

    Args:
        evidence: What was known of the candidate.
        entry: Digest of the candidate's question, 8 bytes.
        asked: Digest of the asked question, under which the fresh answer was stored.
        same: Whether the two answers are the same.
        weight: How many requests it stands for: 1 and, where the candidate would have been
            served, those that have been served since the last such label.
        requests: Requests that it accounts for: all since the last label.
        risk: Probability of an error that was predicted; not a number if there was no model yet.
    """

    evidence: Evidence
    entry: bytes
    asked: bytes
    same: bool
    weight: float = 1.0
    requests: float = 1.0
    risk: float = nan


@dataclass(frozen=True, slots=True)
class Step:
    """A threshold of the sequence.

    Args:
        chance: Of being right, as predicted, at the threshold.
        share: Of all requests that would be served from there on.
        bound: On the share of all requests that would be answered wrongly.
        held: Whether it is within what is allowed, there and at all thresholds before.
    """

    chance: float
    share: float
    bound: float
    held: bool


class Learned:
    """The labels of one family, and the boundary that they give.

    The model orders candidates: a logistic regression of being right on the evidence. The bound
    is not the model's: for each threshold of a fixed sequence, from the safest on, the number of
    labels above it that were wrong bounds (`anytime_limit`) by what factor the model may be too
    optimistic there, and the errors that the model predicts for all requests above it, times this
    factor, is the bound on the share of requests that would be answered wrongly. Serving goes as
    far down as every bound on the way stays within `max_error`: fixed-sequence testing, as in
    A. N. Angelopoulos and others, Learn then Test (2021). What the window's requests have left of
    the bound (while it was learning, say) may be used up, at most as much again.

    Args:
        max_error: Share of requests that may be answered wrongly.
        alpha: Probability with which a bound may be too low.
        window: Labels that count, the newest.
    """

    def __init__(self, max_error: float, alpha: float, window: int) -> None:
        self.max_error, self.alpha, self.window = max_error, alpha, window
        self.changes = 0  # times that the world was found to be another
        self._labels: list[Label] = []
        self._begin()

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Sequence[Label]:
        """Those that count, oldest first."""
        return tuple(self._labels)

    @property
    def weights(self) -> tuple[float, ...]:
        """The model's, in the order of `FEATURES`; empty while there is none."""
        return self._weights or ()

    # Asking

    def evidence(
        self, entry: bytes, similarity: float, others: Sequence[tuple[bytes, float]]
    ) -> Evidence:
        """What is known of a candidate.

        Args:
            entry: Digest of its question.
            similarity: To the asked question.
            others: The next nearest entries: their questions' digests and similarities.
        """
        group = self._groups.get(entry, entry)
        agreeing = 0
        rival: float | None = None
        others = [each for each in others[:OTHERS] if each[1] >= LOWEST]
        for other, near in others:
            if self._groups.get(other, other) == group:
                agreeing += 1
            elif rival is None:
                rival = near
        if rival is None:
            rival = others[-1][1] if len(others) == OTHERS else LOWEST
        right, wrong = self._right[entry], self._wrong[entry]
        return Evidence(similarity, similarity - rival, right, wrong, agreeing)

    def risk(self, evidence: Evidence) -> float:
        """Probability that the candidate's answer is wrong, as the model predicts it; not a number
        before there is one."""
        return nan if self._weights is None else 1 / (1 + exp(min(self._score(evidence), 700.0)))

    def is_sure(self, evidence: Evidence) -> bool:
        """Whether the bound holds where the candidate is."""
        return self._weights is not None and self._score(evidence) >= self.boundary

    def _score(self, evidence: Evidence) -> float:
        return sum(w * x for w, x in zip(self._weights or (), evidence.row, strict=True))

    # Learning

    def add(self, labels: Iterable[Label]) -> None:
        """Take in what came, oldest first."""
        before = self._seen
        for label in labels:
            self._take(label)
        if len(self._labels) > 1.1 * self.window:
            self._keep(self._labels[-self.window :])
        if self._seen != before and self._seen >= self._due:
            self.fit()

    def _begin(self) -> None:
        self._groups: dict[bytes, bytes] = {}  # by entry, an entry that stands for its answer
        self._right: Counter[bytes] = Counter()
        self._wrong: Counter[bytes] = Counter()
        self._change = Change()
        self._judged: list[int] = []  # which labels the change detector was shown
        self._weights: tuple[float, ...] | None = None
        self.boundary = NEVER
        self.table: list[Step] = []
        self.allowed = self.max_error  # share of requests, with what the window has left
        self._seen = 0
        self._due = LEAST_LABELS

    def _keep(self, labels: list[Label]) -> None:
        """Forget all but these."""
        weights, boundary = self._weights, self.boundary
        self._labels = []
        self._begin()
        for label in labels:
            self._note(label)
        self._weights, self.boundary = weights, boundary
        self._due = min(self._due, self._seen)

    def _note(self, label: Label) -> None:
        self._labels.append(label)
        self._seen += 1
        counts = self._right if label.same else self._wrong
        counts[label.entry] += 1
        group = self._groups.get(label.entry, label.entry)
        self._groups[label.asked] = group if label.same else label.asked

    def _take(self, label: Label) -> None:
        self._note(label)
        if label.risk != label.risk:
            return
        self._judged.append(len(self._labels) - 1)
        since = self._change.sees(label.risk, not label.same)
        if since is not None:
            self.changes += 1
            self._keep(self._labels[self._judged[since] :])
            self._weights, self.boundary = None, NEVER
            self._due = max(LEAST_LABELS, self._seen)

    def fit(self) -> None:
        """Find the model and the boundary anew."""
        self._due = self._seen + min(_MOST_NEW, max(10, int(len(self._labels) * (_GROWTH - 1))))
        labels = self._labels
        rows = np.array([label.evidence.row for label in labels])
        right = np.array([label.same for label in labels], dtype=float)
        served = np.array([label.weight for label in labels])
        requests = max(1.0, sum(label.requests for label in labels))
        weights = logistic(rows, right, _PRIOR, _PRECISION)
        scores = rows @ weights
        order = np.argsort(-scores, kind="stable")
        scores, risks = scores[order], 1 / (1 + np.exp(np.clip(scores[order], -30, 30)))
        self._weights = tuple(weights.tolist())
        spent = float(((served[order] - 1) * risks).sum()) / requests
        self.allowed = self.max_error + max(0.0, self.max_error - spent)
        self._walk(scores, 1 - right[order], risks, served[order] / requests)

    def _walk(self, scores: Any, wrong: Any, risks: Any, shares: Any) -> None:
        """Down the thresholds as far as the bound is within what is allowed."""
        errors, predicted = np.cumsum(wrong), np.cumsum(risks)
        share, mean = np.cumsum(shares), np.cumsum(shares * risks)
        grid = np.arange(_STEP, float(share[-1]) + _STEP, _STEP)
        places = np.unique(np.minimum(np.searchsorted(share, grid), len(scores) - 1))
        self.boundary, self.table, held = NEVER, [], True
        # Where hardly an error is predicted, there is nothing for a factor to correct: then the
        # share of errors among the labels is bounded itself.
        rare = float(predicted[-1]) < _LEAST_PREDICTED
        for place in places.tolist():
            if predicted[place] < _LEAST_PREDICTED and not rare:
                continue
            limit = anytime_limit(int(errors[place]), self.alpha)
            rate = limit / (place + 1) * float(share[place])
            scaled = limit / float(predicted[place]) * float(mean[place])
            bound = min(float(share[place]), rate if rare else scaled)
            held = held and bound <= self.allowed and risks[place] <= _MOST_RISK
            if held:
                self.boundary = float(scores[place])
            self.table.append(Step(1 - float(risks[place]), float(share[place]), bound, held))
