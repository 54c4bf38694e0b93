"""Clearing: what was asked to go goes, nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served, Servers
from valkey_semcache import Question, SemanticCache, ServerError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


async def test_clearing_all_leaves_nothing_of_this_name_and_all_of_others(
    served: Served, way: Way
) -> None:
    neighbours = [f"{served.name}.b", f"{served.name}-b", f"{served.name}2"]
    async with cache_on(served, promote=True) as cache:
        for name in neighbours:
            async with cache_on(served, url=served.admin_url, name=name) as other:
                await way(other.store, ASKED, name)
        strangers = [f"x{served.name}:meta", f"{served.name}:users", f"{served.name}:session:42"]
        for key in strangers:
            served.admin.set(key, "stranger's")
        for number in range(30):
            question = Question(ASKED, namespace=f"tenant {number % 3}", context=str(number))
            await way(cache.store, question, "x")
        await way(cache.lookup, Question(REWORDED, namespace="tenant 0", context="0"))
        assert await way(cache.clear) == 31
        left = {key.decode() for key in served.admin.scan_iter(f"{served.name}:*")}
        assert left == set(strangers[1:])
        assert served.admin.exists(*strangers) == 3
        for name in neighbours:
            async with cache_on(served, url=served.admin_url, name=name) as other:
                assert (await way(other.lookup, REWORDED)).answer == name
                await way(other.clear)
        served.admin.unlink(*strangers)


async def test_clearing_all_drops_the_index_and_the_next_use_creates_it(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    async with cache_on(searching) as cache:
        await way(cache.store, ASKED, "x")
        assert any(name.startswith(searching.name) for name in searching.standin.indexes())
        await way(cache.clear)
        assert not any(name.startswith(searching.name) for name in searching.standin.indexes())
        assert not await way(cache.lookup, ASKED)
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).answer == "y"


async def test_clearing_also_drops_indexes_of_earlier_embedding_models(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    async with cache_on(searching, embedding_id="old") as old, cache_on(searching) as new:
        await way(old.store, ASKED, "x")
        await way(new.store, ASKED, "x")
        assert await way(new.clear) == 2
        assert not any(name.startswith(searching.name) for name in searching.standin.indexes())


async def test_clearing_is_seen_by_others_who_have_looked_before(served: Served, way: Way) -> None:
    async with cache_on(served) as one, cache_on(served) as other:
        await way(one.store, ASKED, "x")
        assert await way(other.lookup, REWORDED)
        await way(one.clear)
        assert not await way(other.lookup, REWORDED)
        await way(one.store, ASKED, "y")
        assert (await way(other.lookup, REWORDED)).answer == "y"


@pytest.mark.parametrize(
    ("by", "left"),
    [
        ({"namespace": "acme"}, {"globex/gpt-4o/a", "globex/gpt-4o/b", "globex/gpt-5/a"}),
        ({"model": "gpt-4o"}, {"acme/gpt-5/a", "globex/gpt-5/a"}),
        ({"identity": "b"}, {"acme/gpt-4o/a", "acme/gpt-5/a", "globex/gpt-4o/a", "globex/gpt-5/a"}),
        (
            {"namespace": "acme", "model": "gpt-4o"},
            {"acme/gpt-5/a", "globex/gpt-4o/a", "globex/gpt-4o/b", "globex/gpt-5/a"},
        ),
        ({"namespace": ""}, None),
        ({"model": "gpt-*"}, None),
    ],
    ids=["namespace", "model", "identity", "both", "default namespace", "no pattern"],
)
async def test_clearing_some(
    either_index: Served, way: Way, by: dict[str, str], left: set[str] | None
) -> None:
    every = {
        f"{namespace}/{model}/{identity}": Question(
            ASKED, namespace=namespace, model=model, identity=identity, context=model
        )
        for namespace in ("acme", "globex")
        for model, identity in (("gpt-4o", "a"), ("gpt-4o", "b"), ("gpt-5", "a"))
    }
    async with cache_on(either_index) as cache:
        for answer, question in every.items():
            await way(cache.store, question, answer)
        left = set(every) if left is None else left
        assert await way(cache.clear, **by) == len(every) - len(left)
        for answer, question in every.items():
            assert bool(await way(cache.lookup, question)) == (answer in left)
            reworded = Question(
                REWORDED, question.context, question.identity, namespace=question.namespace
            )
            assert bool(await way(cache.lookup, reworded)) == (answer in left)


async def test_a_tenants_view_clears_its_own_entries_only(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        acme, globex = cache.with_namespace("acme"), cache.with_namespace("globex")
        for view in (cache, acme, globex):
            await way(view.store, ASKED, "x")
        assert await way(acme.clear) == 1
        assert await way(acme.clear, model="unknown") == 0
        assert not await way(acme.lookup, ASKED)
        assert await way(globex.lookup, ASKED)
        assert await way(cache.clear) == 2


async def test_more_entries_than_one_page_of_keys(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        for number in range(2_500):
            cache.store(Question(str(number), exact_only=True), "x")
        assert await way(cache.clear) == 2_500
        assert plain.entries() == []


async def test_nothing_is_ever_flushed(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    with searching.standin.counting() as seen:
        async with cache_on(searching) as cache:
            await way(cache.store, ASKED, "x")
            await way(cache.clear, namespace="")
            await way(cache.clear)
    assert not {c.name for c in seen} & {"FLUSHDB", "FLUSHALL", "KEYS"}


async def test_a_clear_that_cannot_be_done_says_so(servers: Servers, way: Way) -> None:
    """Unlike a look-up: whoever clears must know that it did not happen."""
    async with SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1") as cache:
        with pytest.raises(ServerError, match="No answer from Valkey"):
            await way(cache.clear)
        with pytest.raises(ServerError):
            await way(cache.delete, ASKED)
