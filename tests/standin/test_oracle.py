"""FT.SEARCH finds what an exact search over the same documents finds.

The oracle is written from the meaning of the query alone and shares no code with the stand-in.
Documents come and go in every way that a key can change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.standin import StandIn
from tests.standin.client import CREATE, RawClient, X, Y, keys_of, search
from tests.standin.release import RELEASES, ReleaseName
from tests.standin.wire import Command

DIMENSIONS = 4
KEYS = [f"c:{x}" for x in range(8)]
TAGS = ["aa", "bb", "cc"]
WRITE = "redis.call('DEL', KEYS[1]); return redis.call('HSET', KEYS[1], unpack(ARGV))"


@dataclass(frozen=True)
class Document:
    tags: tuple[str, ...]
    number: int | None
    vector: tuple[float, ...] | None

    @property
    def is_indexed(self) -> bool:
        """A vector of another size is no vector."""
        return self.vector is not None and len(self.vector) == DIMENSIONS

    def fields(self) -> list[str | bytes]:
        flat: list[str | bytes] = ["payload", repr(self)]
        if self.tags:
            flat += ["t", ",".join(self.tags)]
        if self.number is not None:
            flat += ["n", str(self.number)]
        if self.vector is not None:
            flat += ["v", np.array(self.vector, "<f4").tobytes()]
        return flat


@dataclass(frozen=True)
class Filter:
    """A filter as text, and what it means."""

    text: str
    accepts: Callable[[Document], bool]


@dataclass(frozen=True)
class Search:
    where: Filter
    k: int
    query: tuple[float, ...]


@dataclass(frozen=True)
class Change:
    way: str
    key: str
    document: Document


@dataclass
class World:
    """The documents as they must be, and the servers where they are."""

    stand_in: StandIn
    client: RawClient
    direct: RawClient
    documents: dict[str, Document] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    """Expired, but perhaps not yet removed."""

    def change(self, change: Change) -> None:
        key, fields = change.key, change.document.fields()
        match change.way:
            case "replace":
                self.client.pipeline([("DEL", key), ("HSET", key, *fields)])
            case "script":
                self.client("EVAL", WRITE, 1, key, *fields)
            case "past the stand-in":
                self.direct.pipeline([("DEL", key), ("HSET", key, *fields)])
            case "transaction":
                steps: list[Command] = [("MULTI",), ("DEL", key), ("HSET", key, *fields), ("EXEC",)]
                self.client.pipeline(steps)
            case "rename":
                self.client.pipeline([("HSET", "x", *fields), ("RENAME", "x", key)])
        self.documents[key] = change.document
        self.expired.discard(key)
        match change.way:
            case "delete":
                self.client("DEL", key)
                del self.documents[key]
            case "expire":
                # FT._LIST makes the stand-in read the document before it goes.
                written: list[Command] = [
                    ("DEL", key),
                    ("HSET", key, *fields),
                    ("PEXPIRE", key, 5),
                    ("FT._LIST",),
                ]
                self.client.pipeline(written)
                time.sleep(0.006)
                del self.documents[key]
                self.expired.add(key)

    def check(self, search: Search) -> None:
        query = np.array(search.query, "<f4")
        live = sorted(
            distance(query, document)
            for document in self.documents.values()
            if document.is_indexed and search.where.accepts(document)
        )
        reply = self.client(
            *("FT.SEARCH", "idx", f"{search.where.text}=>[KNN {search.k} @v $q AS d]"),
            *("PARAMS", 2, "q", query.tobytes(), "RETURN", 2, "payload", "d"),
            *("LIMIT", 0, search.k, "DIALECT", 2),
        )
        hits = read_hits(reply)
        assert reply[0] == len(hits) == len({key for key, _, _ in hits})
        # A document that expired takes up a place among the k until it is found to be gone.
        most = min(search.k, len(live))
        assert most - len(self.expired) <= len(hits) <= most
        np.testing.assert_allclose([x for _, _, x in hits], live[: len(hits)], atol=1e-5)
        for key, payload, shown in hits:
            document = self.documents[key]
            assert payload == repr(document)
            assert search.where.accepts(document)
            assert shown == pytest.approx(distance(query, document), abs=1e-5)


def read_hits(reply: list[Any]) -> list[tuple[str, str, float]]:
    hits = []
    for key, flat in zip(reply[1::2], reply[2::2], strict=True):
        shown = dict(zip(flat[::2], flat[1::2], strict=True))
        hits.append((key.decode(), shown[b"payload"].decode(), float(shown[b"d"])))
    return hits


def distance(query: np.ndarray[Any, Any], document: Document) -> float:
    vector = np.array(document.vector, float)
    lengths = float(np.linalg.norm(query) * np.linalg.norm(vector))
    return 1 - float(query @ vector) / lengths if lengths else 1.0


# What hypothesis draws.

numbers = st.integers(0, 3)
# Few values, so that distances are often equal.
coordinates = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])
vectors = st.tuples(*[coordinates] * DIMENSIONS)
documents = st.builds(
    Document,
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    number=st.none() | numbers | numbers,
    vector=vectors | vectors | st.none() | st.tuples(coordinates, coordinates),
)
changes = st.builds(
    Change,
    way=st.sampled_from(
        [
            *("replace", "script", "past the stand-in", "transaction", "rename"),
            *("delete", "expire"),
        ]
    ),
    key=st.sampled_from(KEYS),
    document=documents,
)


def tag_filter(tag: str) -> Filter:
    return Filter(f"@t:{{{tag}}}", lambda x: tag.lower() in x.tags)


def range_filter(low: int, high: int, bounds: tuple[str, str]) -> Filter:
    text = f"@n:[{bounds[0]}{low} {bounds[1]}{high}]"

    def accepts(document: Document) -> bool:
        if document.number is None:
            return False
        above = document.number > low if bounds[0] else document.number >= low
        return above and (document.number < high if bounds[1] else document.number <= high)

    return Filter(text, accepts)


def negated(inner: Filter) -> Filter:
    return Filter(f"-({inner.text})", lambda x: not inner.accepts(x))


def both(left: Filter, right: Filter) -> Filter:
    return Filter(f"({left.text} {right.text})", lambda x: left.accepts(x) and right.accepts(x))


def either(left: Filter, right: Filter) -> Filter:
    return Filter(f"({left.text} | {right.text})", lambda x: left.accepts(x) or right.accepts(x))


bounds = st.tuples(st.sampled_from(["", "("]), st.sampled_from(["", "("]))
ranges = st.builds(
    lambda low, more, bounds: range_filter(low, low + 1 + more, bounds), numbers, numbers, bounds
)
leaves = st.sampled_from([*TAGS, "AA", "none"]).map(tag_filter) | ranges
filters = st.just(Filter("*", lambda _: True)) | st.recursive(
    leaves,
    lambda inner: (
        inner.map(negated) | st.builds(both, inner, inner) | st.builds(either, inner, inner)
    ),
    max_leaves=4,
)
unit_queries = vectors.filter(any).map(
    lambda x: tuple((np.array(x) / np.linalg.norm(x)).astype("f4").tolist())
)
searches = st.builds(Search, where=filters, k=st.integers(1, 10), query=unit_queries)
stories = st.lists(changes | changes | searches, min_size=1, max_size=30)


@pytest.fixture(scope="module", params=sorted(RELEASES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    release: ReleaseName = request.param
    # Nothing but a reader removes what has expired.
    with (
        StandIn(release, backing_args=["--enable-debug-command", "yes"]) as stand_in,
        RawClient(stand_in.port) as client,
        RawClient(stand_in.backing.port) as direct,
    ):
        direct("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        yield World(stand_in, client, direct)


@pytest.mark.parametrize("algorithm", ["FLAT", "HNSW"])
@given(story=stories, last=searches)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_a_search_finds_what_an_exact_search_finds(
    world: World, algorithm: str, story: list[Change | Search], last: Search
) -> None:
    world.client("FLUSHALL")
    world.documents.clear()
    world.expired.clear()
    world.client(
        *("FT.CREATE", "idx", "ON", "HASH", "PREFIX", 1, "c:", "SCHEMA", "t", "TAG"),
        *("n", "NUMERIC", "v", "VECTOR", algorithm, 6, "TYPE", "FLOAT32"),
        *("DIM", DIMENSIONS, "DISTANCE_METRIC", "COSINE"),
    )
    for step in [*story, last]:
        if isinstance(step, Change):
            world.change(step)
        else:
            world.check(step)


def test_what_expired_takes_up_a_place_until_it_is_found_to_be_gone(world: World) -> None:
    client = world.client
    client.pipeline([("FLUSHALL",), CREATE, ("HSET", "c:near", "s", "aa", "v", X)])
    client.pipeline([("HSET", "c:far", "s", "aa", "v", Y), ("PEXPIRE", "c:near", 250)])
    assert keys_of(client(*search("aa", k=1))) == [b"c:near"]
    time.sleep(0.3)
    assert client(*search("aa", k=1)) == [0]
    assert keys_of(client(*search("aa", k=1))) == [b"c:far"]
