"""A stream asked of an empty cache, which decides by a fixed threshold or by `Verified`.

Rule of this file: nearest entries are found as the cache finds them (same scope, then guards in
turn), on similarities that were computed once; the decision is the policy's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.precision_data import Stream
from benchmarks.precision_rules import DEFAULTS, Rule
from valkey_semcache.flow.lookup import CANDIDATES
from valkey_semcache.precision.learning import LOWEST, OTHERS, Label
from valkey_semcache.precision.verified import Verified
from valkey_semcache.question import normalised
from valkey_semcache.stored.labels import packed, unpacked

_MOST = 16  # stored neighbours of a question that are looked at
_MOST_GUARDED = 12
_FAMILY = "bench:learned:x:y"


class Near:
    """For each question those that may be its candidates, the nearest first.

    Args:
        texts: The questions.
        vectors: Their unit vectors.
        rule: Which of them may meet.
    """

    def __init__(self, texts: Sequence[str], vectors: Any, rule: Rule = DEFAULTS) -> None:
        self.texts = [normalised(text) for text in texts]
        self.digests = [hashlib.sha256(text.encode()).digest()[:8] for text in self.texts]
        self._rule = rule
        self._allowed: dict[tuple[int, int], bool] = {}
        scopes: dict[Any, int] = {}
        scope = np.array([scopes.setdefault(rule.scope(text), len(scopes)) for text in texts])
        self._places: list[Any] = []
        self._similarities: list[Any] = []
        for start in range(0, len(texts), 500):
            block = vectors[start : start + 500] @ vectors.T
            for offset, row in enumerate(block):
                places = np.nonzero((row >= LOWEST) & (scope == scope[start + offset]))[0]
                places = places[np.argsort(-row[places], kind="stable")].astype(np.int32)
                self._places.append(places)
                self._similarities.append(np.minimum(row[places], 1))

    def allows(self, asked: int, stored: int) -> bool:
        """Whether no guard objects."""
        known = self._allowed.get((asked, stored))
        if known is None:
            known = self._rule.allows(self.texts[asked], self.texts[stored])
            self._allowed[asked, stored] = known
        return known

    def found(self, asked: int, stored: Any) -> list[tuple[int, float]]:
        """The candidate and those that follow it in the same reply; none if there is none.

        Args:
            asked: The question.
            stored: For each question whether it is stored, as booleans.
        """
        places = self._places[asked]
        seen = np.flatnonzero(stored[places])[:_MOST]
        for guarded in range(min(len(seen), _MOST_GUARDED)):
            if self.allows(asked, int(places[seen[guarded]])):
                count = CANDIDATES if guarded < CANDIDATES else 4 * CANDIDATES
                reply = seen[guarded : min(count, guarded + 1 + OTHERS)]
                near = self._similarities[asked][reply].tolist()
                return list(zip(places[reply].tolist(), near, strict=True))
        return []


class Deciding(Protocol):
    """What decides."""

    def asked(self) -> None:
        """A request came."""

    def serves(self, asked: int, found: list[tuple[int, float]], near: Near) -> bool:
        """Whether the first of `found` is served."""

    def compared(self, same: bool) -> None:
        """What was not served is stored, and compared with what it would have been."""


class Fixed:
    """A fixed threshold."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def asked(self) -> None:
        """Of no matter."""

    def serves(self, asked: int, found: list[tuple[int, float]], near: Near) -> bool:
        """By the similarity alone."""
        return found[0][1] >= self._threshold

    def compared(self, same: bool) -> None:
        """Of no matter."""


class Policy:
    """The product's policy, which is told what the flows tell it."""

    def __init__(self, policy: Verified) -> None:
        self.policy = policy
        self.labels = 0
        self._pending: tuple[Any, ...] = ()

    def asked(self) -> None:
        """A request came."""
        self.policy.asked(_FAMILY)

    def serves(self, asked: int, found: list[tuple[int, float]], near: Near) -> bool:
        """By the evidence."""
        (place, similarity), *others = found
        digests = [(near.digests[other], each) for other, each in others]
        entry = near.digests[place]
        evidence, risk, sure, served = self.policy.weigh(_FAMILY, entry, similarity, digests)
        if served:
            self.policy.served(_FAMILY)
        else:
            self._pending = (evidence, entry, near.digests[asked], sure, risk)
        return served

    def compared(self, same: bool) -> None:
        """A label, as Valkey would hold it."""
        evidence, entry, asked, sure, risk = self._pending
        weight, requests = self.policy.account(_FAMILY, sure)
        label = Label(evidence, entry, asked, same, weight, requests, risk)
        row = packed(_FAMILY, label, None)
        read = unpacked(_FAMILY, row, None)
        assert read is not None
        self.labels += 1
        self.policy.take(_FAMILY, b"%d-0" % self.labels, [(row[1:9], read)])


@dataclass
class Outcomes:
    """What became of each request: `exact`, `right`, `wrong` or `miss`."""

    each: list[str] = field(default_factory=list)

    def add(self, outcome: str) -> None:
        """One more."""
        self.each.append(outcome)

    @property
    def figures(self) -> dict[str, float]:
        """Shares: of requests, of those that are no exact repeats, and of semantic hits."""
        counts = {name: self.each.count(name) for name in ("exact", "right", "wrong")}
        requests, hits = len(self.each), counts["right"] + counts["wrong"]
        fresh = max(1, requests - counts["exact"])
        return {
            "exact": counts["exact"] / requests,
            "hits": hits / requests,
            "wrong": counts["wrong"] / requests,
            "fresh_hits": hits / fresh,
            "fresh_wrong": counts["wrong"] / fresh,
            "wrong_of_hits": counts["wrong"] / hits if hits else 0.0,
        }

    def parts(self, size: int) -> list[list[float]]:
        """Shares of hits and of wrong answers, of every `size` requests."""
        found = []
        for start in range(0, len(self.each), size):
            part = self.each[start : start + size]
            wrong = part.count("wrong") / len(part)
            found.append([part.count("right") / len(part) + wrong, wrong])
        return found


def streamed(
    stream: Stream, near: Near, deciding: Deciding, labels: Sequence[str] | None = None
) -> Outcomes:
    """A stream asked of an empty cache, which stores what it misses.

    Args:
        stream: The requests.
        near: Their neighbours.
        deciding: What decides.
        labels: What is right from halfway on, if that changes; what is stored stays as it was.
    """
    outcomes, texts = Outcomes(), set[str]()
    stored = np.zeros(len(near.texts), bool)
    answers: dict[int, str] = {}
    right: Sequence[str] = stream.labels
    for number, asked in enumerate(stream.order):
        if labels is not None and number == len(stream.order) // 2:
            right = labels
        deciding.asked()
        text = near.texts[asked]
        if text in texts:
            outcomes.add("exact")
            continue
        found = near.found(asked, stored)
        if found:
            same = answers[found[0][0]] == right[asked]
            if deciding.serves(asked, found, near):
                outcomes.add("right" if same else "wrong")
                continue
            deciding.compared(same)
        outcomes.add("miss")
        stored[asked] = True
        texts.add(text)
        answers[asked] = right[asked]
    return outcomes


def changed(labels: Sequence[str]) -> list[str]:
    """Labels of a world in which every second intent has another answer."""
    kinds = {label: number for number, label in enumerate(sorted(set(labels)))}
    return [f"{label}, anew" if kinds[label] % 2 else label for label in labels]
