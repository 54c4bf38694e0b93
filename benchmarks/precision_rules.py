"""When an answer is served: the rules that are compared, on pairs and on streams.

Rule of this file: the cache's own functions decide (exact features, guards, their order), on
vectors that were computed once; `confirmed` asks a real cache and must come to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.precision_data import Pair, Stream
from valkey_semcache import Hit, Question, SemanticCache
from valkey_semcache.digest import Digests
from valkey_semcache.precision.guards import DEFAULT, Guards
from valkey_semcache.question import Addressing, normalised
from valkey_semcache.text.features import exact_features

KINDS = {
    "numbers, dates, units": ("number", "date", "time", "operator"),
    "quotations": ("quoted",),
    "links": ("link",),
    "code": ("code",),
    "script": ("script",),
}
EVERY_KIND = tuple(KINDS)
_LEAST = 0.8  # the lowest threshold that is measured
_MOST_GUARDED = 12


@dataclass(frozen=True)
class Rule:
    """What is asked of two questions before one's answer is given to the other."""

    name: str
    threshold: float = 0.9
    raw: bool = False
    kinds: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()

    def at(self, threshold: float) -> Rule:
        """The same with another threshold."""
        return Rule(self.name, threshold, self.raw, self.kinds, self.guards)

    def scope(self, text: str) -> tuple[str, ...]:
        """What must match to the letter; of a text that is found by its very words only, all."""
        if self.kinds == EVERY_KIND and not _is_semantic(text):
            return ("exact-only", text)
        labels = {label for kind in self.kinds for label in KINDS[kind]}
        return tuple(one for one in _features(text) if one.partition(":")[0] in labels)

    def allows(self, asked: str, stored: str) -> bool:
        """Whether no guard objects."""
        return not self.guards or _allows(self.guards, asked, stored)


RAW = Rule("the raw prompt", raw=True)
TEXT = Rule("the question's text")
FEATURES = Rule("+ exact features", kinds=EVERY_KIND)
DEFAULTS = Rule("+ guards (the defaults)", kinds=EVERY_KIND, guards=DEFAULT)
NAMES = Rule("+ the guard `names`", kinds=EVERY_KIND, guards=(*DEFAULT, "names"))
RULES = (RAW, TEXT, FEATURES, DEFAULTS, NAMES)


@cache
def _features(text: str) -> tuple[str, ...]:
    return exact_features(text)


@cache
def _is_semantic(text: str) -> bool:
    return Addressing("n:e:", Digests(), 1000).address(Question(text), "").semantic


@cache
def _allows(guards: tuple[str, ...], asked: str, stored: str) -> bool:
    return Guards(guards).refusal(asked, stored) is None


def served(pairs: Sequence[Pair], similarities: Any, rule: Rule) -> list[bool]:
    """For each pair whether the stored question's answer is given to the other."""
    return [
        bool(similarity >= rule.threshold)
        and rule.scope(pair.stored) == rule.scope(pair.asked)
        and rule.allows(pair.asked, pair.stored)
        for pair, similarity in zip(pairs, similarities, strict=True)
    ]


def asked_of_all(pairs: Sequence[Pair], stored: Any, asked: Any, rule: Rule) -> dict[str, int]:
    """Every pair's first question stored, every second one asked: right, wrong, missed."""
    counts = {"right": 0, "wrong": 0, "miss": 0}
    scopes = [rule.scope(pair.stored) for pair in pairs]
    answers = {normalised(pair.stored): pair.stored for pair in pairs}
    for pair, near in zip(pairs, asked @ stored.T, strict=True):
        if not rule.raw and normalised(pair.asked) in answers:
            counts["right"] += 1
            continue
        scope = rule.scope(pair.asked)
        for place in _nearest(near, rule.threshold):
            if scopes[place] == scope and rule.allows(pair.asked, pairs[place].stored):
                same = pairs[place].stored == pair.stored
                counts["right" if same else "wrong"] += 1
                break
        else:
            counts["miss"] += 1
    return counts


def _nearest(near: Any, threshold: float) -> Any:
    places = np.nonzero(near >= threshold)[0]
    return places[np.argsort(-near[places])]


@dataclass(frozen=True)
class Neighbours:
    """For each question those that are near, the nearest first."""

    places: list[Any]
    similarities: list[Any]

    @classmethod
    def of(cls, vectors: Any) -> Neighbours:
        """All at 0.8 or more."""
        places, similarities = [], []
        for start in range(0, len(vectors), 500):
            for offset, near in enumerate(vectors[start : start + 500] @ vectors.T):
                near[start + offset] = -1
                found = _nearest(near, _LEAST)
                places.append(found.tolist())
                similarities.append(near[found].tolist())
        return cls(places, similarities)


@dataclass
class Tally:
    """What became of a stream."""

    requests: int = 0
    exact: int = 0
    hits: int = 0
    wrong: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """Shares: of requests, of those that are no exact repeats, and of semantic hits."""
        fresh = self.requests - self.exact
        return {
            "exact": self.exact / self.requests,
            "hits": self.hits / self.requests,
            "wrong": self.wrong / self.requests,
            "fresh_hits": self.hits / fresh,
            "fresh_wrong": self.wrong / fresh,
            "wrong_of_hits": self.wrong / self.hits if self.hits else 0.0,
        }


def streamed(stream: Stream, neighbours: Neighbours, rule: Rule) -> Tally:
    """A stream asked of an empty cache, which stores what it misses; by meaning of the text."""
    tally, stored, texts = Tally(), set(), set()
    scopes = [rule.scope(text) for text in stream.texts]
    for asked in stream.order:
        tally.requests += 1
        text = normalised(stream.texts[asked])
        if text in texts:
            tally.exact += 1
            continue
        found = _found(stream, neighbours, rule, asked, stored, scopes)
        if found is None:
            stored.add(asked)
            texts.add(text)
        else:
            tally.hits += 1
            tally.wrong += stream.labels[found] != stream.labels[asked]
    return tally


def _found(
    stream: Stream,
    neighbours: Neighbours,
    rule: Rule,
    asked: int,
    stored: set[int],
    scopes: list[tuple[str, ...]],
) -> int | None:
    """The stored question that is served, or None."""
    guarded = 0
    text = normalised(stream.texts[asked])
    near = zip(neighbours.places[asked], neighbours.similarities[asked], strict=True)
    for place, similarity in near:
        if similarity < rule.threshold or guarded == _MOST_GUARDED:
            return None
        if place not in stored or scopes[place] != scopes[asked]:
            continue
        if rule.allows(text, normalised(stream.texts[place])):
            return place
        guarded += 1
    return None


def streamed_raw(stream: Stream, vectors: Any, threshold: float) -> Tally:
    """The same by the nearest raw prompt, as other packages do it."""
    tally, labels, seen = Tally(), [], set()
    stored = np.empty((len(stream.order), vectors.shape[1]), np.float32)
    for asked in stream.order:
        tally.requests += 1
        if asked in seen:
            tally.exact += 1
            continue
        near = stored[: len(labels)] @ vectors[asked]
        best = int(near.argmax()) if len(labels) else -1
        if best >= 0 and near[best] >= threshold:
            tally.hits += 1
            tally.wrong += labels[best] != stream.labels[asked]
            continue
        stored[len(labels)] = vectors[asked]
        labels.append(stream.labels[asked])
        seen.add(asked)
    return tally


# The same of a real cache


class Known:
    """An embedder that has seen every text before."""

    model = "all-MiniLM-L6-v2"

    def __init__(self, texts: Sequence[str], vectors: Any) -> None:
        self._vectors = {
            normalised(text): vector for text, vector in zip(texts, vectors, strict=True)
        }

    def embed(self, texts: Sequence[str]) -> list[Any]:
        """Their vectors."""
        return [self._vectors[text] for text in texts]


def confirmed(pairs: Sequence[Pair], stored: Any, asked: Any) -> list[bool]:
    """For each pair, in a namespace of its own, whether a cache with no options serves it."""
    found = []
    with _cache(pairs, stored, asked) as cache:
        for number, pair in enumerate(pairs):
            cache.store(Question(pair.stored, namespace=str(number)), "an answer")
            found.append(bool(cache.lookup(Question(pair.asked, namespace=str(number)))))
    return found


def confirmed_of_all(pairs: Sequence[Pair], stored: Any, asked: Any) -> dict[str, int]:
    """`asked_of_all` of a cache with no options."""
    counts = {"right": 0, "wrong": 0, "miss": 0}
    with _cache(pairs, stored, asked) as cache:
        for pair in pairs:
            cache.store(pair.stored, pair.stored)
        for pair in pairs:
            outcome = cache.lookup(pair.asked)
            if not isinstance(outcome, Hit):
                counts["miss"] += 1
            else:
                counts["right" if outcome.answer == pair.stored else "wrong"] += 1
    return counts


def _cache(pairs: Sequence[Pair], stored: Any, asked: Any) -> SemanticCache:
    texts = [pair.stored for pair in pairs] + [pair.asked for pair in pairs]
    embedder = Known(texts, np.concatenate([stored, asked]))
    return SemanticCache(embedder, "embedded://", on_error="raise")
