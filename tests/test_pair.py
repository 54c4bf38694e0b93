"""Two indexes over the same entries: which one serves a scope, and how HNSW comes and goes.

The stand-in is told how long each search takes, by index and scope, as a server with many
entries would; it keeps to TIMEOUT as the release does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served, Servers, cleaned
from tests.standin.journal import Fault, Received
from valkey_semcache import Question, SemanticCache
from valkey_semcache.index import chooser, generations, pair

WORDS = ("apples", "boats", "clocks", "drums", "eagles", "forks", "gates", "hats", "inks", "jars")
LARGE, SMALL = "a large scope", "a small scope"


@pytest.fixture(params=["search-1.0.2", "search-1.2.1"])
def served(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Served]:
    for served in cleaned(servers.served(request.param)):
        assert served.standin is not None
        yield served
        for name in served.standin.indexes():
            if name.startswith(served.name):
                served.standin.drop_index(name)
        served.standin.backfill_delay = 0.0


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of entries is many, and a look at the index being built is due at once."""
    monkeypatch.setattr(pair, "WORTH", 1)
    monkeypatch.setattr(chooser, "_AGAIN", 20)
    monkeypatch.setattr(generations, "_PAUSE", 0.0)


@pytest.fixture
async def cache(served: Served) -> AsyncIterator[SemanticCache]:
    async with cache_on(served) as cache:
        yield cache


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **served.options | options)


def question(word: str, scope: str, *more: str) -> Question:
    return Question(" ".join(["which colour have the", word, *more]), context=scope)


async def fill(cache: SemanticCache, way: Way, scope: str) -> None:
    for word in WORDS:
        assert await way(cache.store, question(word, scope), f"{word} in {scope}")


async def asked_by_meaning(cache: SemanticCache, way: Way, scope: str, word: str) -> None:
    """A look-up in other words, which must give the answer of just this word and scope."""
    hit = await way(cache.lookup, question(word, scope, "in general"), similarity_threshold=0.5)
    assert hit, hit
    assert (hit.tier, hit.answer) == ("semantic", f"{word} in {scope}")


def took(served: Served, large: str, seconds: dict[tuple[str, str], float]) -> Callable[..., Any]:
    """Times of searches by algorithm and scope; those not named take none."""

    def pace(received: Received) -> Fault | None:
        if received.name != "FT.SEARCH" or b"KNN" not in received.args[1]:
            return None
        if b"LOCALONLY" in received.args:  # what lets a script's writes take effect
            return None
        algorithm = "HNSW" if b":hnsw:" in received.args[0] else "FLAT"
        scope = LARGE if large.encode() in received.args[1] else SMALL
        needed = seconds.get((algorithm, scope), 0.0)
        words = [word.upper() for word in received.args]
        limit = int(words[words.index(b"TIMEOUT") + 1]) / 1000
        if needed <= limit:
            return Fault(delay=needed)
        # Release 1.2 gives what it has found by then, 1.0 an error.
        late = served.standin is not None and served.standin.release == "1.0.2"
        error = "Search operation cancelled due to timeout" if late else None
        return Fault(delay=limit, error=error)

    return pace


def scope_tag(served: Served, before: set[str]) -> str:
    """The scope of the entries that came since."""
    (tag,) = {key.split(":")[2] for key in set(served.entries()) - before}
    return tag


def searched(seen: list[Received]) -> list[str]:
    """The indexes searched by meaning, in order; not what lets a script's writes take effect."""
    searches = [c for c in seen if c.name == "FT.SEARCH" and b"KNN" in c.args[1]]
    searches = [c for c in searches if b"LOCALONLY" not in c.args]
    return ["HNSW" if b":hnsw:" in c.args[0] else "FLAT" for c in searches]


def graphs(served: Served) -> list[str]:
    """The generations of HNSW indexes in the server."""
    assert served.standin is not None
    names = (name.split(":") for name in served.standin.indexes() if name.startswith(served.name))
    return [parts[3] for parts in names if parts[2] == "hnsw"]


SLOW = {
    ("FLAT", LARGE): 0.04,
    ("HNSW", LARGE): 0.01,
    ("HNSW", SMALL): 0.1,
}


@pytest.mark.usefixtures("eager")
async def test_hnsw_comes_for_a_scope_that_has_outgrown_flat_and_serves_it_alone(
    served: Served, cache: SemanticCache, way: Way
) -> None:
    standin = served.standin
    assert standin is not None
    await fill(cache, way, LARGE)
    large = scope_tag(served, set())
    await fill(cache, way, SMALL)
    await asked_by_meaning(cache, way, LARGE, "drums")
    assert cache.stats().generation == 0
    assert graphs(served) == []
    standin.backfill_delay = 0.3
    with standin.paced(took(served, large, SLOW)):
        for turn in range(200):
            word = WORDS[turn % len(WORDS)]
            await asked_by_meaning(cache, way, LARGE, word)
            await asked_by_meaning(cache, way, SMALL, word)
            if cache.stats().outgrown:
                break
        stats = cache.stats()
        assert (stats.generation, stats.outgrown) == (1, 1)
        assert "HNSW generation 1 serves 1 scope" in str(stats)
        assert graphs(served) == ["1"]
        with standin.counting() as seen:
            for word in WORDS:
                await asked_by_meaning(cache, way, LARGE, word)
        assert searched(seen) == ["HNSW"] * len(WORDS)
        with standin.counting() as seen:
            for word in WORDS:
                await asked_by_meaning(cache, way, SMALL, word)
        # A pause of this process may look like a slow reply and make it try the other, bounded.
        assert searched(seen).count("FLAT") == len(WORDS)
        assert searched(seen).count("HNSW") <= 5, "one series of tries"
    # The scope has shrunk, or the server is quicker: FLAT serves it again, in time.
    with standin.paced(took(served, large, {("HNSW", LARGE): 0.05})):
        for turn in range(100):
            await asked_by_meaning(cache, way, LARGE, WORDS[turn % len(WORDS)])
            if not cache.stats().outgrown:
                break
    assert cache.stats().outgrown == 0


async def test_a_slow_server_is_not_taken_for_a_large_scope(
    served: Served, cache: SemanticCache, way: Way
) -> None:
    assert served.standin is not None
    await fill(cache, way, SMALL)
    with served.standin.paced(took(served, "nothing", {("FLAT", SMALL): 0.02})):
        for word in WORDS:
            await asked_by_meaning(cache, way, SMALL, word)
    assert graphs(served) == []
    with served.standin.counting() as seen:
        await asked_by_meaning(cache, way, SMALL, "boats")
    assert [command.name for command in seen] == ["HMGET", "FT.SEARCH"]


@pytest.mark.usefixtures("eager")
async def test_the_first_look_up_in_a_giant_scope_does_not_hang(served: Served, way: Way) -> None:
    standin = served.standin
    assert standin is not None
    async with cache_on(served) as first:
        await fill(first, way, LARGE)
        large = scope_tag(served, set())
        with standin.paced(took(served, large, SLOW)):
            for turn in range(60):
                await asked_by_meaning(first, way, LARGE, WORDS[turn % len(WORDS)])
                if first.stats().outgrown:
                    break
    giant = {("FLAT", LARGE): 30.0, ("HNSW", LARGE): 0.01}
    async with cache_on(served, timeout=2.0) as fresh:
        with standin.paced(took(served, large, giant)), standin.counting() as seen:
            began = time.monotonic()
            await asked_by_meaning(fresh, way, LARGE, "clocks")
            assert time.monotonic() - began < 2.0
            for word in WORDS:
                await asked_by_meaning(fresh, way, LARGE, word)
        assert searched(seen) == ["FLAT", "HNSW"] + ["HNSW"] * len(WORDS)
        assert not fresh.stats().errors


@pytest.mark.usefixtures("eager")
async def test_a_giant_scope_without_hnsw_is_a_miss_in_time_and_hnsw_comes(
    served: Served, way: Way
) -> None:
    standin = served.standin
    assert standin is not None
    async with cache_on(served, timeout=1.0) as cache:
        await fill(cache, way, LARGE)
        large = scope_tag(served, set())
        giant = {("FLAT", LARGE): 30.0, ("HNSW", LARGE): 0.01}
        with standin.paced(took(served, large, giant)):
            for turn in range(20):
                word = WORDS[turn % len(WORDS)]
                outcome = await way(
                    cache.lookup, question(word, LARGE, "in general"), similarity_threshold=0.5
                )
                assert outcome or outcome.reason == "error"
                if cache.stats().outgrown:
                    break
            await asked_by_meaning(cache, way, LARGE, "eagles")
    assert "ServerUnreachableError" not in cache.stats().errors


@pytest.mark.usefixtures("eager")
async def test_the_next_generation_replaces_one_full_of_the_dead(
    served: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "_BATCH", 5)
    monkeypatch.setattr(generations, "_LEAST", 10)
    assert served.standin is not None
    async with cache_on(served, algorithm="hnsw") as writer, cache_on(served) as reader:
        await fill(writer, way, LARGE)
        large = scope_tag(served, set())
        with served.standin.paced(took(served, large, SLOW)):
            for turn in range(60):
                await asked_by_meaning(reader, way, LARGE, WORDS[turn % len(WORDS)])
                if reader.stats().outgrown:
                    break
        assert (writer.stats().generation, reader.stats().generation) == (1, 1)
        served.standin.backfill_delay = 0.1
        with served.standin.paced(took(served, large, SLOW)):
            for _ in range(60):
                await fill(writer, way, LARGE)
                for word in WORDS:
                    await asked_by_meaning(reader, way, LARGE, word)
                if writer.stats().generation > 2 and reader.stats().generation > 1:
                    break
        assert writer.stats().generation > 2
        assert len(graphs(served)) <= 2, "of each generation but the newest two nothing is left"
        assert not reader.stats().errors
        assert not writer.stats().errors
        assert reader.stats().generation > 1, "the reader follows"


@pytest.mark.usefixtures("eager")
async def test_a_process_goes_on_where_another_one_stopped(
    served: Served, cache: SemanticCache, way: Way
) -> None:
    assert served.standin is not None
    await fill(cache, way, LARGE)
    large = scope_tag(served, set())
    embedding = served.entries()[0].split(":")[1]
    # It noted that it begins, and no more.
    served.admin.hset(f"{served.name}:meta", f"building:{embedding}", 1)
    with served.standin.paced(took(served, large, SLOW)):
        for turn in range(60):
            await asked_by_meaning(cache, way, LARGE, WORDS[turn % len(WORDS)])
            if cache.stats().outgrown:
                break
    assert cache.stats().generation == 1


@pytest.mark.usefixtures("eager")
async def test_a_lost_hnsw_index_costs_no_hit_and_comes_back(
    served: Served, cache: SemanticCache, way: Way
) -> None:
    standin = served.standin
    assert standin is not None
    await fill(cache, way, LARGE)
    large = scope_tag(served, set())
    with standin.paced(took(served, large, SLOW)):
        for generation in range(2):
            for turn in range(60):
                await asked_by_meaning(cache, way, LARGE, WORDS[turn % len(WORDS)])
                if cache.stats().generation and cache.stats().outgrown:
                    break
            assert graphs(served) == ["1"]
            if not generation:
                (name,) = (n for n in standin.indexes() if f"{served.name}:" in n and "hnsw" in n)
                standin.drop_index(name)
    assert not cache.stats().errors


async def test_algorithm_hnsw_makes_no_flat_index(served: Served, way: Way) -> None:
    assert served.standin is not None
    options = {"m": 24, "ef_construction": 120, "ef_runtime": 90, "initial_cap": 500}
    async with cache_on(served, algorithm="hnsw", **options) as cache:
        with served.standin.counting() as seen:
            await fill(cache, way, SMALL)
            await asked_by_meaning(cache, way, SMALL, "hats")
        assert searched(seen) == ["HNSW"]
        created = [command for command in seen if command.name == "FT.CREATE"]
        assert len(created) == 1
        text = b" ".join(created[0].args)
        assert b":hnsw:1 " in text
        assert b"VECTOR HNSW 12" in text
        assert b"INITIAL_CAP 500 M 24 EF_CONSTRUCTION 120" in text
        searches = [c for c in seen if c.name == "FT.SEARCH" and b"LOCALONLY" not in c.args]
        assert b"EF_RUNTIME 90" in searches[0].args[1]
        assert cache.stats().searches == {"HNSW": 1}


@pytest.mark.usefixtures("eager")
async def test_algorithm_flat_stays_flat(served: Served, way: Way) -> None:
    assert served.standin is not None
    async with cache_on(served, algorithm="flat", initial_cap=300) as cache:
        await fill(cache, way, LARGE)
        large = scope_tag(served, set())
        with served.standin.paced(took(served, large, SLOW)):
            for word in WORDS:
                await asked_by_meaning(cache, way, LARGE, word)
        assert graphs(served) == []
        assert cache.stats().searches == {"FLAT": len(WORDS)}


async def test_options_that_differ_from_the_index_in_the_server_are_named(
    served: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    made = {"algorithm": "hnsw", "m": 24, "ef_construction": 120, "initial_cap": 500}
    async with cache_on(served, **made) as cache:
        await fill(cache, way, SMALL)
    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        async with cache_on(served, **made) as cache:
            await asked_by_meaning(cache, way, SMALL, "hats")
        assert not caplog.records, "the same options again"
        differs = {"m": 32, "ef_construction": 300, "initial_cap": 100_000}
        async with cache_on(served, **made | differs) as cache:
            await asked_by_meaning(cache, way, SMALL, "hats")
    (record,) = caplog.records
    for words in ("m=24, not 32", "ef_construction=120, not 300", "500 entries, not 100000"):
        assert words in record.getMessage()


async def test_many_caches_at_once_make_one_generation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "_PAUSE", 0.0)
    caches = [cache_on(served, algorithm="hnsw") for _ in range(40)]
    try:
        asked = [question(WORDS[n % 10], SMALL) for n in range(len(caches))]
        stored = [cache.astore(q, "x") for q, cache in zip(asked, caches, strict=True)]
        assert all(await asyncio.gather(*stored))
        assert graphs(served) == ["1"]
        assert {cache.stats().generation for cache in caches} == {1}
    finally:
        for cache in caches:
            await cache.aclose()
