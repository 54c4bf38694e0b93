"""Indexes by embedding model: listed, taken away, and moved to the other kind."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import (
    ConfigurationError,
    IndexKindError,
    Question,
    SemanticCache,
    StoredIndex,
)

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


async def test_a_change_of_embedding_models_leaves_the_old_index_alone(
    served: Served, way: Way
) -> None:
    async with cache_on(served) as old:
        for number in range(3):
            await way(old.store, Question(ASKED, context=str(number)), "old")
    async with cache_on(served, embedding_id="another") as new:
        assert not await way(new.lookup, Question(ASKED, context="0"))
        await way(new.store, Question(ASKED, context="0"), "new")
        await way(new.store, Question("exact only", exact_only=True), "new")
        mine, theirs = await way(new.indexes)
        assert (mine.model, mine.entries, mine.dimension, mine.in_use) == ("another", 2, 64, True)
        assert (theirs.entries, theirs.dimension, theirs.in_use) == (3, 64, False)
        assert theirs.model == "HashingEmbedder/hashing"
        assert {mine.kind, theirs.kind} == {served.index}
        if served.index == "search":
            assert (mine.vectors, theirs.vectors, mine.filling) == (1, 3, False)
        for told in ("HashingEmbedder/hashing", "64", "3", served.index):
            assert told in str(theirs)
            assert told in theirs._repr_html_()
        assert await way(new.drop_index, theirs) == 3
        assert [index.id for index in await way(new.indexes)] == [mine.id]
        assert (await way(new.lookup, Question(REWORDED, context="0"))).answer == "new"
    left = [key.decode() for key in served.admin.scan_iter(f"{served.name}:*")]
    assert not any(theirs.id in key for key in left)
    assert not any(theirs.id.encode() in f for f in served.admin.hkeys(f"{served.name}:meta"))
    if served.standin is not None:
        assert not any(theirs.id in name for name in served.standin.indexes())


async def test_ones_own_index_dropped_comes_back_with_the_next_store(
    served: Served, way: Way
) -> None:
    async with cache_on(served) as cache:
        assert await way(cache.indexes) == []
        await way(cache.store, ASKED, "x")
        (own,) = await way(cache.indexes)
        assert await way(cache.drop_index, own.id) == 1
        assert not await way(cache.lookup, REWORDED)
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).answer == "y"
        (again,) = await way(cache.indexes)
        assert isinstance(again, StoredIndex)
        assert (again.id, again.dimension) == (own.id, 64)


@pytest.mark.parametrize("id_", ["", "x", "*", "meta", "0" * 31, "0" * 33, "0" * 31 + "G"])
async def test_what_is_no_index_is_refused(either_index: Served, way: Way, id_: str) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store, ASKED, "x")
        with pytest.raises(ConfigurationError, match="32 hex digits"):
            await way(cache.drop_index, id_)
        assert len(await way(cache.indexes)) == 1
        assert await way(cache.drop_index, "0" * 32) == 0


async def fill(cache: SemanticCache, way: Way) -> None:
    for number in range(20):
        question = Question(ASKED, context=str(number % 5), namespace=str(number % 4))
        await way(cache.store, question, f"{number % 5} {number % 4}")
    await way(cache.store, Question("exact", exact_only=True), "exact", ttl=None)
    await way(cache.store, Question("for ever"), "for ever", ttl=None)


async def all_found(cache: SemanticCache, way: Way) -> None:
    for number in range(20):
        question = Question(REWORDED, context=str(number % 5), namespace=str(number % 4))
        hit = await way(cache.lookup, question)
        assert hit, hit
        assert (hit.tier, hit.answer) == ("semantic", f"{number % 5} {number % 4}")
    assert (await way(cache.lookup, Question("exact", exact_only=True))).answer == "exact"


@pytest.mark.parametrize("to", ["search", "flat"])
async def test_reindex_moves_everything_over(searching: Served, way: Way, to: str) -> None:
    began = "flat" if to == "search" else "search"
    async with cache_on(searching, index=began) as before:
        await fill(before, way)
        await all_found(before, way)
    async with cache_on(searching, index=to) as after:
        with pytest.raises(IndexKindError, match=f"semcache reindex --to {to}"):
            await way(after.lookup, REWORDED)
        assert await way(after.reindex, to) == 22
        await all_found(after, way)
        assert await way(after.reindex, to) == 22, "done twice it does no harm"
        await all_found(after, way)
        assert after.stats().index == to
        assert (await way(after.lookup, "for ever")).tier == "exact"
    logs = list(searching.admin.scan_iter(f"{searching.name}:log:*"))
    assert searching.standin is not None
    names = [name for name in searching.standin.indexes() if name.startswith(searching.name)]
    if to == "search":
        assert (len(logs), len(names)) == (0, 1)
    else:
        assert (len(logs), len(names)) == (21, 0)
        lives = [searching.admin.pttl(log) for log in logs]
        assert sum(life == -1 for life in lives) == 1, "an entry for ever has a log for ever"
        assert all(life == -1 or 3_000_000 < life <= 3_600_000 for life in lives)


async def test_a_server_without_the_module_says_so(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await fill(cache, way)
        with pytest.raises(IndexKindError, match="valkey/valkey-bundle"):
            await way(cache.reindex, "search")
        await all_found(cache, way)
        with pytest.raises(ConfigurationError, match="index='tree' is not allowed"):
            await way(cache.reindex, "tree")


async def test_a_flat_cache_on_a_server_that_can_search_is_told_how_to_move(
    searching: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with cache_on(searching, index="flat") as cache:
        await fill(cache, way)
    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        async with cache_on(searching, index="auto") as cache:
            await all_found(cache, way)
    assert "semcache reindex --to search" in caplog.text


def test_the_command_reindex(searching: Served) -> None:
    assert searching.standin is not None
    with cache_on(searching, index="flat") as cache:
        for number in range(30):
            cache.store(Question(ASKED, context=str(number)), str(number))
    searching.standin.backfill_delay = 0.5
    try:
        arguments = ("reindex", searching.url, "--to", "search", "--name", searching.name)
        command = [sys.executable, "-m", "valkey_semcache.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert f"30 entries of '{searching.name}' are found by index='search' now." in done.stdout
    finally:
        searching.standin.backfill_delay = 0.0
    with cache_on(searching, index="search") as cache:
        # The command came back when the server had taken all in.
        assert cache.lookup(Question(REWORDED, context="7")).answer == "7"  # type: ignore[union-attr]
    wrong = [sys.executable, "-m", "valkey_semcache.cli", "reindex", searching.url, "--to", "tree"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--to='tree' is not allowed" in done.stderr
