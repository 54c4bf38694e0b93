"""What each path sends to the server: nothing that it does not need."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served, Servers, cleaned
from valkey_semcache import Question, SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
OTHER = "which wine goes with fish"


@pytest.fixture(params=["search-1.0.2", "search-1.2.1"])
async def search(
    request: pytest.FixtureRequest, servers: Servers
) -> AsyncIterator[tuple[Served, SemanticCache]]:
    """A cache on the search index, used once, so that its index is there."""
    for served in cleaned(servers.served(request.param)):
        async with SemanticCache(HashingEmbedder(), **served.options) as cache:
            await cache.astore("first use", "x")
            cache.store("first use", "x")
            yield served, cache


def names(seen: list[object]) -> list[str]:
    return [command.name for command in seen]  # type: ignore[attr-defined]


async def test_each_path_of_the_search_index(
    search: tuple[Served, SemanticCache], way: Way
) -> None:
    served, cache = search
    assert served.standin is not None
    with served.standin.counting() as seen:
        assert not await way(cache.lookup, ASKED)
        await way(cache.store, ASKED, "x")
    settling = ["FT.SEARCH"] if served.standin.release == "1.0.2" else []
    assert names(seen) == ["HMGET", "FT.SEARCH", "EVALSHA", *settling], "a miss and its store"
    with served.standin.counting() as seen:
        assert (await way(cache.lookup, ASKED)).tier == "exact"
    assert names(seen) == ["HMGET"], "an exact hit"
    with served.standin.counting() as seen:
        assert (await way(cache.lookup, REWORDED)).tier == "semantic"
    assert names(seen) == ["HMGET", "FT.SEARCH"], "a semantic hit"
    with served.standin.counting() as seen:
        assert not await way(cache.lookup, Question(OTHER, exact_only=True))
        await way(cache.store, Question(OTHER, exact_only=True), "x")
    assert names(seen) == ["HMGET", "EVALSHA", *settling], "exact-only"
    with served.standin.counting() as seen:
        await way(cache.delete, ASKED)
    assert names(seen) == ["UNLINK"], "a delete"


async def test_each_path_of_the_flat_index(searching: Served, way: Way) -> None:
    options = searching.options | {"index": "flat"}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        assert searching.standin is not None
        await cache.astore("first use", "x")
        cache.store("first use", "x")
        question = Question(ASKED, context="a scope of its own")
        with searching.standin.counting() as seen:
            assert not await way(cache.lookup, question)
            await way(cache.store, question, "x")
        assert names(seen) == ["HMGET", "ZRANGE", "EVALSHA", "EVALSHA"], "a miss and its store"
        with searching.standin.counting() as seen:
            assert (await way(cache.lookup, question)).tier == "exact"
        assert names(seen) == ["HMGET"], "an exact hit"
        with searching.standin.counting() as seen:
            hit = await way(cache.lookup, Question(REWORDED, context="a scope of its own"))
            assert hit.tier == "semantic"
        assert names(seen) == ["HMGET", "ZRANGE", "HMGET"], "a semantic hit"


async def test_the_first_use_asks_the_server_once(searching: Served, way: Way) -> None:
    options = searching.options | {"index": "auto"}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        assert searching.standin is not None
        with searching.standin.counting() as seen:
            assert not await way(cache.lookup, ASKED)
        opening = ["INFO", "HMGET", "HMGET", "FT.INFO", "FT.CREATE", "EVALSHA"]
        assert names(seen)[:6] == opening
        assert cache.stats().index == "search"
        with searching.standin.counting() as seen:
            assert not await way(cache.lookup, OTHER)
        assert names(seen) == ["HMGET", "FT.SEARCH"]


async def test_the_search_carries_what_every_release_takes(
    search: tuple[Served, SemanticCache], way: Way
) -> None:
    served, cache = search
    assert served.standin is not None
    with served.standin.counting() as seen:
        await way(cache.lookup, ASKED)
    search_command = next(c for c in seen if c.name == "FT.SEARCH")
    arguments = [a for a in search_command.args if len(a) != 256]
    text = b" ".join(arguments).decode()
    assert "=>[KNN 3 @v $q AS d]" in text
    assert "TIMEOUT 16000" in text, "the server gives up before the client does"
    assert "RETURN 3 d p x" in text
    assert "SORTBY" not in text


async def test_constructing_and_importing_send_nothing(searching: Served) -> None:
    assert searching.standin is not None
    with searching.standin.counting() as seen:
        before = len(searching.standin.setup_commands)
        cache = SemanticCache(HashingEmbedder(), **searching.options)
        repr(cache), cache.stats(), cache.with_namespace("x")
        cache.close()
    assert names(seen) == []
    assert len(searching.standin.setup_commands) == before
