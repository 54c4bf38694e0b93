"""Pairs of stored questions that lie near each other, drawn from a live cache.

Rule of this file: nothing is written, and only questions that could meet are paired: of one scope,
and so of one tenant.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from valkey_semcache.errors import ServerReplyError
from valkey_semcache.flow.contents import Drawn
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.operations import Command, Flow, replies_to
from valkey_semcache.stored.keys import Pages, entry_pattern
from valkey_semcache.vectors import FLOAT32

_NEIGHBOURS = 8  # looked at for each question that is drawn
_BATCH = 50
_BINS = 10  # of similarities, from which pairs are drawn in turn


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two stored questions that lie near each other.

    Args:
        a: The one; as if it were asked.
        b: The other; as if it were stored.
        similarity: Cosine similarity, -1 to 1.
        guarded: Why a guard keeps them apart, if one does.
    """

    a: str
    b: str
    similarity: float
    guarded: str | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was drawn.

    Args:
        pairs: In random order.
        entries: Stored questions that were looked at.
        unkept: Those of them whose texts are not kept.
    """

    pairs: tuple[NearPair, ...]
    entries: int
    unkept: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pairs are drawn.

    Args:
        count: Pairs at most.
        low: The lowest similarity.
        high: The highest.
        entries: Stored questions that are looked at, drawn at random.
        namespace: Digest of the only tenant whose questions are drawn; None for all.
        seed: Of the random numbers; None for others each time.
    """

    count: int
    low: float
    high: float
    entries: int
    namespace: str | None
    seed: int | None


def near_pairs(flows: Flows, name: str, embedding: str, wanted: Sampling) -> Flow[Sampled]:
    """Draw pairs, evenly over their similarities as far as there are any.

    Args:
        flows: The cache's.
        name: The cache's.
        embedding: Digest of its embedding model.
        wanted: Which pairs.
    """
    source = random.Random(wanted.seed)  # noqa: S311 - no secret
    keys = yield from _drawn(name, embedding, Drawn(wanted.entries, source))
    found: dict[frozenset[str], NearPair] = {}
    entries = unkept = 0
    for begin in range(0, len(keys), _BATCH):
        batch = keys[begin : begin + _BATCH]
        replies = yield from replies_to(
            [Command("HMGET", key, "p", "s", "v", "n") for key in batch]
        )
        for key, reply in zip(batch, replies, strict=True):
            if isinstance(reply, ServerReplyError) or None in reply:
                continue  # gone, none of ours, or not to be met by meaning
            data, scope, vector, tenant = reply
            if wanted.namespace is not None and tenant != wanted.namespace.encode():
                continue
            question = yield from _question(flows, key, data, vector)
            entries += 1
            if question is None:
                unkept += 1
                continue
            asked = question, np.frombuffer(vector, FLOAT32)
            for pair in (yield from _beside(flows, key, scope.decode(), asked, wanted)):
                found.setdefault(frozenset((pair.a, pair.b)), pair)
    chosen = _spread(list(found.values()), wanted, source)
    return Sampled(tuple(chosen), entries, unkept)


def _drawn(name: str, embedding: str, drawn: Drawn) -> Flow[list[str]]:
    """Keys of entries, drawn at random."""
    own, pages = entry_pattern(name, embedding), Pages(name)
    while (keys := (yield from pages.next())) is not None:
        for key in keys:
            if own.fullmatch(key):
                drawn.add(key.decode())
    return list(dict.fromkeys(drawn.keys))


def _question(flows: Flows, key: str, data: bytes, vector: bytes | None) -> Flow[str | None]:
    """A stored question; None if its text is not kept, or its entry is not to be trusted."""
    envelope = yield from flows.entries.envelope(key, data)
    if envelope is None:
        return None
    if flows.entries.are_signed and not flows.entries.is_vector_of(envelope, vector):
        return None
    return envelope.question


def _beside(
    flows: Flows,
    key: str,
    scope: str,
    asked: tuple[str, np.ndarray[tuple[int], np.dtype[np.float32]]],
    wanted: Sampling,
) -> Flow[list[NearPair]]:
    """A stored question with those of its scope that lie as near as is wanted."""
    question, vector = asked
    index = yield from flows.index_for(len(vector))
    pairs = []
    for candidate in (yield from index.nearest(scope, vector, _NEIGHBOURS)):
        if candidate.key == key or not wanted.low <= candidate.similarity <= wanted.high:
            continue
        reply = yield Command("HMGET", candidate.key, "p", "v")
        if reply[0] is None:
            continue
        other = yield from _question(flows, candidate.key, reply[0], reply[1])
        if other is not None and other != question:
            guarded = flows.guards.refusal(question, other) if flows.guards else None
            pairs.append(NearPair(question, other, candidate.similarity, guarded))
    return pairs


def _spread(pairs: Sequence[NearPair], wanted: Sampling, source: random.Random) -> list[NearPair]:
    """So many pairs, from each of some bins of similarity in turn, in random order."""
    width = max(wanted.high - wanted.low, 1e-9) / _BINS
    bins: dict[int, list[NearPair]] = {}
    for pair in source.sample(_sorted(pairs), len(pairs)):
        bins.setdefault(int((pair.similarity - wanted.low) / width), []).append(pair)
    chosen: list[NearPair] = []
    while bins and len(chosen) < wanted.count:
        for number in list(bins):
            chosen.append(bins[number].pop())
            if not bins[number]:
                del bins[number]
    chosen = chosen[: wanted.count]
    source.shuffle(chosen)
    return chosen


def _sorted(pairs: Iterable[NearPair]) -> list[NearPair]:
    """In one order, so that a seed gives the same pairs again."""
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))
