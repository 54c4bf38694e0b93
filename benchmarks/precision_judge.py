"""What a judge is asked on the project's own pairs, and what one that is given makes of it.

Rule of this file: a real cache asks, with its features and guards as they are by default. No judge
is made up here: one that knows the labels would measure nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.precision_data import Pair
from benchmarks.precision_rules import Known
from valkey_semcache import Question, SemanticCache
from valkey_semcache.question import normalised

WANTED = 0.02
"""Share of the hard negatives that may be answered where there is a judge."""


class Waiting:
    """A judge that notes what it is asked, and cannot tell."""

    def __init__(self) -> None:
        self.asked: set[tuple[str, str]] = set()

    def judge(self, asked: str, stored: str, answer: str) -> None:
        """Note it."""
        self.asked.add((asked, stored))


def reached(pairs: Sequence[Pair], stored: Any, asked: Any) -> dict[str, Any]:
    """By class, how many pairs a judge is asked about; and what it has to refuse of them."""
    judge = Waiting()
    outcomes = _asked(pairs, stored, asked, judge)
    assert not any(outcomes), "without a yes nothing is served"
    found = _by_class(
        pairs, [(normalised(p.asked), normalised(p.stored)) in judge.asked for p in pairs]
    )
    wrong = sum(n for kind, n in found.items() if kind != "wording")
    negatives = sum(not pair.same for pair in pairs)
    allowed = math.floor(WANTED * negatives)
    return {"asked": found, "wrong": wrong, "allowed": allowed, "negatives": negatives}


def judged(pairs: Sequence[Pair], stored: Any, asked: Any, judge: Any) -> dict[str, int]:
    """By class, how many pairs are served with a judge."""
    return _by_class(pairs, _asked(pairs, stored, asked, judge, judge_timeout=60.0))


def _asked(
    pairs: Sequence[Pair], stored: Any, asked: Any, judge: Any, **options: Any
) -> list[bool]:
    texts = [pair.stored for pair in pairs] + [pair.asked for pair in pairs]
    embedder = Known(texts, np.concatenate([stored, asked]))
    found = []
    with SemanticCache(embedder, "embedded://", judge=judge, on_error="raise", **options) as cache:
        for number, pair in enumerate(pairs):
            cache.store(Question(pair.stored, namespace=str(number)), "an answer")
            found.append(bool(cache.lookup(Question(pair.asked, namespace=str(number)))))
    return found


def _by_class(pairs: Sequence[Pair], given: Sequence[bool]) -> dict[str, int]:
    counted = dict.fromkeys(sorted({pair.kind for pair in pairs}), 0)
    for pair, is_so in zip(pairs, given, strict=True):
        counted[pair.kind] += is_so
    return counted


def section(facts: dict[str, Any]) -> str:
    """The page's part about judges.

    Args:
        facts: As `reached` gave them; with `judged` and `name` where a judge was given.
    """
    asked, wrong, allowed = facts["asked"], facts["wrong"], facts["allowed"]
    by_class = ", ".join(f"{n} {kind}" for kind, n in asked.items() if n and kind != "wording")
    parts = [
        "### With a judge",
        "A judge is asked about what features and guards let through. Of a real cache with the "
        f"defaults it is asked about {wrong} of the {facts['negatives']} hard negatives "
        f"({by_class}) and {asked['wording']} of the positives. At most {WANTED:.0%} of the hard "
        f"negatives answered is {allowed}: a judge must refuse {wrong - allowed} of these "
        f"{wrong} ({(wrong - allowed) / wrong:.0%}), and each of the {asked['wording']} positives "
        "that it refuses is a hit lost.",
    ]
    if "judged" not in facts:
        parts.append(
            "**Whether one does is not measured here**: neither a language model nor a "
            "cross-encoder could be run where this page was made, and a judge that is told the "
            "labels would measure nothing. `python -m benchmarks.precision --judge module:object` "
            "measures yours and writes its row here."
        )
        return "\n\n".join(parts)
    served = facts["judged"]
    answered = sum(n for kind, n in served.items() if kind != "wording")
    met = "reached" if answered <= allowed else "not reached"
    parts.append(
        f"With the judge `{facts['name']}`: {answered} of {facts['negatives']} hard negatives are "
        f"answered ({answered / facts['negatives']:.1%}; wanted at most {WANTED:.0%}: {met}), and "
        f"{served['wording']} positives."
    )
    return "\n\n".join(parts)
