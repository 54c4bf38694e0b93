"""`on_event=`: plain objects for look-ups, stores, errors and the breaker."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from valkey_semcache import (
    BreakerEvent,
    ConfigurationError,
    ErrorEvent,
    Event,
    LookupEvent,
    Question,
    SemanticCache,
    StoreEvent,
)
from valkey_semcache.drive import Drive

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def asked(text: str) -> Question:
    return Question(text, identity="m", model="m")


async def test_each_look_up_and_store_is_told(either_index: Served, way: Way) -> None:
    told: list[Event] = []
    options: dict[str, Any] = either_index.options | {"on_event": told.append}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        await way(cache.lookup, asked(ASKED))
        await way(cache.store, asked(ASKED), "x", usage={"input_tokens": 7})
        exact = await way(cache.lookup, asked(ASKED))
        semantic = await way(cache.lookup, asked(REWORDED))
        far = await way(cache.lookup, asked("which wine goes with fish"))
        await way(cache.with_namespace("acme").lookup, asked(ASKED))
    miss, store, *hits, refused, other = told
    assert isinstance(miss, LookupEvent)
    assert (miss.outcome, miss.reason, miss.similarity) == ("miss", "no_neighbour", None)
    assert isinstance(store, StoreEvent)
    assert (store.stored, store.reason, store.model) == (True, "", "m")
    for event, hit in zip(hits, (exact, semantic), strict=True):
        assert isinstance(event, LookupEvent)
        assert (event.outcome, event.tier, event.similarity) == ("hit", hit.tier, hit.similarity)
        assert (event.question, event.usage, event.model) == (ASKED, {"input_tokens": 7}, "m")
        assert event.age == hit.age
    assert isinstance(refused, LookupEvent)
    assert (refused.reason, refused.detail) == ("below_threshold", far.detail)
    assert refused.similarity == far.nearest.similarity
    assert isinstance(other, LookupEvent)
    assert other.reason == "no_neighbour"
    for event in told:
        assert isinstance(event, LookupEvent | StoreEvent)
        assert (event.cache, event.index) == (either_index.name, either_index.index)
        assert event.seconds is not None
        assert event.seconds >= event.embedding_seconds + event.server_seconds
        assert event.server_seconds > 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.cache = "another"  # type: ignore[misc]
    assert hits[0].embedding_seconds == 0, "the very words need no embedding"  # type: ignore[union-attr]
    assert hits[1].embedding_seconds > 0  # type: ignore[union-attr]


async def test_batches_and_what_is_not_cached_are_told_one_by_one(plain: Served, way: Way) -> None:
    told: list[Any] = []
    options: dict[str, Any] = plain.options | {"on_event": told.append, "models": ["m"]}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        answered = [(asked(ASKED), "x"), (Question("b", model="another"), "y")]
        assert await way(cache.store_many, answered) == [True, False]
        await way(cache.lookup_many, [asked(ASKED), asked(REWORDED), Question("b", model="other")])
        cache.missed("no prompt")
        cache.skip("too dull")
        await way(cache.store, Question("b", model="another"), "y")
    first, second = told[:2]
    assert (first.stored, first.batch, second.stored) == (True, 2, False)
    assert "models" in second.reason
    assert [(e.tier or e.reason, e.batch) for e in told[2:5]] == [
        ("exact", 3),
        ("semantic", 3),
        ("not_cacheable", 3),
    ]
    assert [type(event) for event in told[5:]] == [LookupEvent, StoreEvent, StoreEvent]
    assert (told[5].reason, told[5].detail, told[5].seconds) == ("not_cacheable", "no prompt", None)
    assert (told[6].stored, told[6].reason) == (False, "too dull")
    assert "models" in told[7].reason


async def test_errors_and_the_breaker_are_told(plain: Served, way: Way) -> None:
    told: list[Any] = []
    where = plain.url.rpartition(":")[2].partition("?")[0]
    options: dict[str, Any] = {"on_event": told.append, "fleet_stats": False, "timeout": 20.0}
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1", **options)
    for _ in range(5):
        await way(cache.lookup, ASKED)
    *errors, opened, last, miss = told
    assert opened == BreakerEvent("open", "semcache")
    assert isinstance(last, ErrorEvent)
    assert (last.doing, last.kind) == ("a look-up", "ServerUnreachableError")
    assert "127.0.0.1:1" in last.message
    assert (miss.reason, miss.error) == ("error", "ServerUnreachableError")
    assert len(errors) == 8, "an error and a miss each"
    cache._server._url = f"valkey://127.0.0.1:{where}"
    cache._server._line = None
    cache._server.breaker._retry_at = 0.0
    await way(cache.lookup, ASKED)
    assert BreakerEvent("closed", "semcache") in told
    await cache.aclose()


async def test_a_listener_that_raises_breaks_nothing(plain: Served, way: Way) -> None:
    def raises(event: Event) -> None:
        raise LookupError(f"heard {event}")

    options: dict[str, Any] = plain.options | {"on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), on_event=raises, **options) as cache:
        assert await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).answer == "x"
        assert cache.stats().errors == {"LookupError": 2}


async def test_each_thing_outside_of_the_cache_is_told_where_it_happens(
    plain: Served, way: Way
) -> None:
    """A model that fails once: an error, and the miss it made; its message is not the prompt."""

    def fails(text: str) -> Any:
        if "wine" in text:
            raise ConnectionError(f"quoting {text}")
        return hashed(text)

    told: list[Any] = []
    options: dict[str, Any] = plain.options | {"on_event": told.append}
    async with SemanticCache(HashingEmbedder(fails), **options) as cache:
        await way(cache.lookup, "which wine goes with fish")
        await way(cache.store, "which wine goes with fish", "x")
    error, miss, second, store = told
    assert (error.kind, miss.error, second.kind, store.error) == ("EmbeddingError",) * 4
    assert not store.stored
    assert "wine" not in error.message
    assert miss.embedding_seconds > 0


def test_the_option_takes_a_function() -> None:
    for bad in ("print", 5, [print]):
        with pytest.raises(ConfigurationError, match="on_event="):
            SemanticCache(HashingEmbedder(), "valkey://h", on_event=bad)  # type: ignore[arg-type]


def test_where_nobody_listens_there_is_nobody_to_tell() -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://h", fleet_stats=False)
    assert cache._watch is None
    assert type(cache._drive) is Drive


def test_a_print_out_of_stats_says_how_long_look_ups_took(plain: Served) -> None:
    with SemanticCache(HashingEmbedder(), **(plain.options | {"fleet_stats": True})) as cache:
        cache.lookup(asked(ASKED))
        stats = cache.stats()
    assert stats.quantile(0.5, "miss") == stats.quantile(0.95) != None  # noqa: E711
    assert stats.quantile(0.5, "exact") is None
    assert stats.lookups_by_model == {"m": {"miss": 1}}
    assert "p50, p95" in str(stats)
    assert "<th style='text-align:left'>p50, p95</th>" in stats._repr_html_()
