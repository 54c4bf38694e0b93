"""What a `Verified` policy has learned, to be read, shown in Jupyter, and drawn.

Rule of this file: values and their presentation; nothing is learned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from valkey_semcache.errors import MissingPackageError
from valkey_semcache.precision.bounds import clopper_pearson
from valkey_semcache.precision.learning import FEATURES, Learned, Step
from valkey_semcache.shown import Shown

_WIDTH = 0.05  # of a bin of similarities


@dataclass(frozen=True, slots=True)
class AtSimilarity:
    """Labels of one range of similarities.

    Args:
        low: Where it begins.
        high: Where it ends.
        right: Candidates whose answer was the same.
        wrong: Candidates whose answer was another.
        limit: Upper limit of the share of wrong ones there (Clopper and Pearson), at the policy's
            confidence.
        sure: How many would be served now.
    """

    low: float
    high: float
    right: int
    wrong: int
    limit: float
    sure: int


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """What was learned of one family.

    Args:
        family: Its digest.
        labels: Labels that count.
        wrong: How many of them are of another answer.
        requests: Requests that they stand for.
        changes: Times that the world was found to be another, and what came before forgotten.
        served: Share of these requests that would be served by meaning now.
        bound: Upper bound on the share that would be answered wrongly.
        allowed: What the bound may be now: `max_error`, and at most as much again of what the
            requests up to now have left of it.
        boundary: Least probability of being right, as predicted, that is served; None while
            nothing is.
        weights: The model's, by feature; empty while there is none.
        steps: The thresholds of the sequence, from the safest on.
        similarities: By range of similarity.
    """

    family: str
    labels: int
    wrong: int
    requests: float
    changes: int
    served: float
    bound: float
    allowed: float
    boundary: float | None
    weights: dict[str, float]
    steps: tuple[Step, ...]
    similarities: tuple[AtSimilarity, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Report(Shown):
    """What a policy has learned. Printable, and a table in Jupyter.

    Args:
        max_error: Share of requests that may be answered wrongly.
        confidence: Probability with which the bound holds.
        families: Those that this process has met.
    """

    max_error: float
    confidence: float
    families: Sequence[FamilyReport]

    def __repr__(self) -> str:
        return f"Report(max_error={self.max_error}, families={len(self.families)})"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("max_error", f"{self.max_error:.2%} of requests, at {self.confidence:.0%} confidence"),
            ("families", str(len(self.families))),
        ]
        for family in sorted(self.families, key=lambda one: -one.labels):
            rows += _rows_of(family)
        return rows

    def plot(self) -> Any:
        """A matplotlib figure of the family with the most labels; in a notebook it shows itself.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingPackageError(
                "Plots need matplotlib: pip install 'valkey-semcache[plots]'"
            ) from error
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        family = max(self.families, key=lambda one: one.labels, default=None)
        if family is not None:
            _draw_similarities(left, family)
            _draw_steps(right, family.steps)
            right.axhline(family.allowed, color="#7f8c8d", linestyle=":", label="allowed now")
        right.axhline(self.max_error, color="#c0392b", linestyle="--", label="max_error")
        right.set(
            xlabel="share of requests served by meaning",
            ylabel="wrong, of all requests",
            xlim=(0, 1),
            ylim=(0, None),
            title="How far the bound holds",
        )
        right.set_ylim(0, min(right.get_ylim()[1], 6 * self.max_error))
        right.legend(frameon=False, loc="upper left")
        left.set(xlabel="similarity", ylabel="candidates compared", title="What was compared")
        if family is not None and family.similarities:
            left.set_ylim(0, 1.35 * left.get_ylim()[1])
            left.legend(frameon=False, loc="upper left")
        return figure


def _draw_similarities(axes: Any, family: FamilyReport) -> None:
    middles = [(one.low + one.high) / 2 for one in family.similarities]
    right = [one.right for one in family.similarities]
    wrong = [one.wrong for one in family.similarities]
    wide = 0.8 * _WIDTH
    axes.bar(middles, right, wide, color="#3b7dd8", label="the same answer")
    axes.bar(middles, wrong, wide, bottom=right, color="#d9822b", label="another answer")


def _draw_steps(axes: Any, steps: Sequence[Step]) -> None:
    shares, bounds = [step.share for step in steps], [step.bound for step in steps]
    axes.plot(shares, bounds, color="#1f4e9c", linewidth=1, label="upper bound")
    held = [step for step in steps if step.held]
    axes.plot(
        [step.share for step in held],
        [step.bound for step in held],
        *(".",),
        color="#1f4e9c",
        label="of these served",
    )


def _rows_of(family: FamilyReport) -> list[tuple[str, str]]:
    rows = [
        (f"family {family.family[:8]}", ""),
        ("  labels", f"{family.labels}, {family.wrong} of another answer"),
        ("  requests", f"{family.requests:.0f}"),
    ]
    if family.boundary is None:
        rows.append(("  serves", "nothing yet: not sure of any candidate"))
    else:
        rows.append(
            (
                "  serves",
                f"{family.served:.1%} of requests, wrong at most {family.bound:.2%} "
                f"(allowed now: {family.allowed:.2%}); candidates "
                f"that are right with a probability of {family.boundary:.1%} or more",
            )
        )
    for one in reversed(family.similarities):
        told = f"{one.wrong} of {one.wrong + one.right} wrong, at most {one.limit:.1%}"
        rows.append((f"  {one.low:.2f} to {one.high:.2f}", f"{told}; sure of {one.sure}"))
    if family.changes:
        rows.append(("  changes", f"{family.changes} (what came before is forgotten)"))
    return rows


def reported(family: str, learned: Learned, alpha: float) -> FamilyReport:
    """The report on one family.

    Args:
        family: Its digest.
        learned: What was learned of it.
        alpha: 1 less the confidence.
    """
    labels = learned.labels
    last = next((step for step in reversed(learned.table) if step.held), None)
    return FamilyReport(
        family=family,
        labels=len(labels),
        wrong=sum(not label.same for label in labels),
        requests=sum(label.requests for label in labels),
        changes=learned.changes,
        served=last.share if last else 0.0,
        bound=last.bound if last else 0.0,
        allowed=learned.allowed,
        boundary=last.chance if last else None,
        weights=dict(zip(FEATURES, learned.weights, strict=False)),
        steps=tuple(learned.table),
        similarities=_similarities(learned, alpha),
    )


def _similarities(learned: Learned, alpha: float) -> tuple[AtSimilarity, ...]:
    bins: dict[int, list[int]] = {}
    for label in learned.labels:
        place = min(int(label.evidence.similarity / _WIDTH + 1e-9), int(1 / _WIDTH) - 1)
        counts = bins.setdefault(place, [0, 0, 0])
        counts[not label.same] += 1
        counts[2] += learned.is_sure(label.evidence)
    return tuple(
        AtSimilarity(
            *(place * _WIDTH, (place + 1) * _WIDTH, right, wrong),
            *(clopper_pearson(wrong, right + wrong, alpha), sure),
        )
        for place, (right, wrong, sure) in sorted(bins.items())
    )
