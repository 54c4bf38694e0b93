"""Whose request it is: by block, by function, by view; and what is nobody's is not cached."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.errors import UnknownTenantError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"

Making = Callable[..., SemanticCache]


@pytest.fixture
async def making(plain: Served) -> AsyncIterator[Making]:
    made: list[SemanticCache] = []

    def make(**options: Any) -> SemanticCache:
        made.append(SemanticCache(HashingEmbedder(), **(plain.options | options)))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()


async def found(way: Way, cache: SemanticCache, question: str = ASKED) -> Any:
    outcome = await way(cache.lookup, question)
    return outcome.answer if outcome else outcome.reason


async def test_a_block_names_the_tenant_for_what_is_inside(making: Making, way: Way) -> None:
    cache = making()
    with cache.namespace("acme"):
        await way(cache.store, ASKED, "acme's")
        with cache.namespace("globex"):
            assert await found(way, cache) == "no_neighbour"
            await way(cache.store, ASKED, "globex's")
        assert await found(way, cache, REWORDED) == "acme's"
    assert await found(way, cache) == "no_neighbour"
    assert await found(way, cache.with_namespace("globex"), REWORDED) == "globex's"
    with cache.namespace("acme"):
        assert await way(cache.delete, ASKED)
    assert await found(way, cache.with_namespace("acme")) == "no_neighbour"
    assert await found(way, cache.with_namespace("globex")) == "globex's"


async def test_the_default_namespace_is_for_what_nobody_names(making: Making, way: Way) -> None:
    cache = making(namespace="house")
    assert cache.default_namespace == "house"
    await way(cache.store, ASKED, "the house's")
    assert await found(way, cache.with_namespace("house")) == "the house's"
    with cache.namespace("acme"):
        assert await found(way, cache) == "no_neighbour"


async def test_a_block_of_one_cache_is_none_of_anothers(making: Making, way: Way) -> None:
    cache, other = making(), making()
    await way(other.store, ASKED, "everybody's")
    with cache.namespace("acme"):
        assert await found(way, other) == "everybody's"
        assert await found(way, cache) == "no_neighbour"


async def test_a_block_ends_also_when_it_fails(making: Making, way: Way) -> None:
    cache = making()
    await way(cache.store, ASKED, "everybody's")
    with pytest.raises(ZeroDivisionError), cache.namespace("acme"):
        1 / 0  # noqa: B018
    assert await found(way, cache) == "everybody's"


async def test_blocks_in_tasks_do_not_meet(making: Making) -> None:
    cache = making()

    async def serve(tenant: str) -> str:
        with cache.namespace(tenant):
            await cache.astore(ASKED, tenant)
            await asyncio.sleep(0)
            return str((await cache.alookup(ASKED)).answer)  # type: ignore[union-attr]

    tenants = [f"tenant {n}" for n in range(20)]
    assert await asyncio.gather(*map(serve, tenants)) == tenants


async def test_a_block_holds_in_threads_that_are_given_its_context(making: Making) -> None:
    cache = making()
    with cache.namespace("acme"):
        cache.store(ASKED, "acme's")
        assert (await asyncio.to_thread(cache.lookup, ASKED)).answer == "acme's"
        with ThreadPoolExecutor(1) as pool:
            copied = pool.submit(contextvars.copy_context().run, cache.lookup, ASKED)
            assert copied.result().answer == "acme's"
            # Python 3.14 without the lock hands its context to new threads.
            bare = pool.submit(lambda: cache.lookup(ASKED)).result()
            assert bare or bare.reason == "no_neighbour"


def test_a_block_left_in_another_context_than_it_was_entered_in_breaks_nothing(
    making: Making,
) -> None:
    """As generators are, which web frameworks run in threads of their own."""
    cache = making()
    block = cache.namespace("acme")
    contextvars.copy_context().run(block.__enter__)
    left = contextvars.copy_context()
    left.run(block.__exit__, None, None, None)
    cache.store(ASKED, "everybody's")
    assert left.run(cache.lookup, ASKED).answer == "everybody's"


async def test_the_function_is_asked_at_each_look_up_and_each_store(
    making: Making, way: Way
) -> None:
    asked: list[str] = []

    def current() -> str:
        asked.append(tenant)
        return tenant

    cache = making(namespace_from=current)
    for tenant in ("acme", "globex"):
        assert await found(way, cache) == "no_neighbour"
        await way(cache.store, ASKED, tenant)
        assert await found(way, cache, REWORDED) == tenant
    assert asked == ["acme"] * 3 + ["globex"] * 3
    with cache.namespace("initech"):
        assert await found(way, cache) == "no_neighbour"
    assert len(asked) == 6, "a block stands in for the function"


def fails() -> str:
    raise LookupError("no request")


@pytest.mark.parametrize("function", [lambda: None, fails, lambda: 5], ids=["None", "error", "5"])
async def test_without_a_tenant_nothing_is_cached(
    making: Making, plain: Served, way: Way, function: Any
) -> None:
    everybody = making()
    await way(everybody.store, ASKED, "everybody's")
    cache = making(namespace_from=function)
    assert await found(way, cache) == "not_cacheable"
    assert not await way(cache.store, ASKED, "nobody's")
    assert await found(way, everybody) == "everybody's"
    assert len(plain.entries()) == 1
    stats = cache.stats()
    assert stats.misses == {"not_cacheable": 1}
    assert stats.not_stored == {"unknown tenant": 1}
    assert stats.errors == ({"LookupError": 2} if function is fails else {})
    with pytest.raises(UnknownTenantError):
        await way(cache.delete, ASKED)
    with cache.namespace("acme"):
        assert await way(cache.store, ASKED, "acme's")
        assert await found(way, cache) == "acme's"


async def test_an_error_of_the_function_is_raised_for_those_who_want_it(
    making: Making, way: Way
) -> None:
    cache = making(namespace_from=fails, on_error="raise")
    with pytest.raises(UnknownTenantError, match="raised LookupError"):
        await way(cache.lookup, ASKED)
    with pytest.raises(UnknownTenantError, match="raised LookupError"):
        await way(cache.store, ASKED, "x")


async def test_a_view_is_not_asked_for_another_tenants_request(making: Making, way: Way) -> None:
    cache = making()
    acme = cache.with_namespace("acme")
    await way(acme.store, ASKED, "acme's")
    with cache.namespace("globex"):
        assert await found(way, acme) == "not_cacheable"
        assert not await way(acme.store, ASKED, "globex's")
    with cache.namespace("acme"):
        assert await found(way, acme) == "acme's"
    assert await found(way, acme) == "acme's"
    assert cache.stats().not_stored == {"unknown tenant": 1}


async def test_a_view_of_a_cache_with_a_function(making: Making, way: Way) -> None:
    now: list[str | None] = ["acme"]
    cache = making(namespace_from=lambda: now[0])
    acme = cache.with_namespace("acme")
    await way(acme.store, ASKED, "acme's")
    assert await found(way, acme) == "acme's"
    for other in ("globex", None):
        now[0] = other
        assert await found(way, acme) == "not_cacheable"


async def test_a_question_that_names_its_tenant_has_the_last_word(making: Making, way: Way) -> None:
    cache = making(namespace_from=fails)
    question = Question(ASKED, namespace="acme")
    with cache.namespace("globex"):
        await way(cache.store, question, "acme's")
        assert await found(way, cache) == "no_neighbour"
    assert (await way(cache.lookup, question)).answer == "acme's"


def test_a_settled_question_belongs_to_its_tenant_wherever_it_is_stored(making: Making) -> None:
    cache = making()
    with cache.namespace("acme"):
        question = cache.settled(ASKED)
    thread = threading.Thread(target=cache.store, args=(question, "acme's"))
    thread.start()
    thread.join()
    assert not cache.lookup(ASKED)
    with cache.namespace("acme"):
        assert cache.lookup(ASKED)


async def awaited() -> str:
    return "acme"


@pytest.mark.parametrize("function", ["acme", 5, awaited])
def test_what_is_no_plain_function_is_refused(making: Making, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="namespace_from="):
        making(namespace_from=function)


def test_a_namespace_that_is_no_text_is_refused_where_it_is_given(making: Making) -> None:
    with pytest.raises(ConfigurationError, match="namespace=None is not allowed"):
        making().namespace(None)  # type: ignore[arg-type]


async def test_an_answer_for_the_very_words_only(making: Making, way: Way) -> None:
    cache = making()
    await way(cache.store, ASKED, "exact", exact_only=True)
    assert await found(way, cache) == "exact"
    assert await found(way, cache, REWORDED) == "no_neighbour"
    await way(cache.store, ASKED, "for all")
    assert await found(way, cache, REWORDED) == "for all"
    await way(cache.store, ASKED, "exact again", exact_only=True)
    assert await found(way, cache, REWORDED) != "exact again"
