"""Many questions at once: as one by one, in one embedding call and one pipeline for each step."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import numpy as np
import pytest

from tests.cluster import Cluster
from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import PATIENT
from tests.words import word
from valkey_semcache import (
    ConfigurationError,
    LocalTier,
    Question,
    SemanticCache,
    ServerUnreachableError,
)
from valkey_semcache.methods.many import BATCH

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
WORDS = [f"tell me about {word(number)} and {word(number + 7)}" for number in range(1000, 1020)]


class Batches(HashingEmbedder):
    """Remembers what came together."""

    def __init__(self, answer: Any = hashed) -> None:
        super().__init__(answer)
        self.batches: list[list[str]] = []

    def embed(self, texts: Any) -> list[Any]:
        self.batches.append(list(texts))
        return super().embed(texts)


def cache_on(served: Served, embedder: Any = None, **options: Any) -> SemanticCache:
    options = served.options | {"on_error": "raise"} | options
    return SemanticCache(embedder or HashingEmbedder(), **options)


async def test_many_are_stored_and_found_as_one_by_one(served: Served, way: Way) -> None:
    questions = [Question(text, context="c", model="m") for text in WORDS]
    questions += [
        Question("exact only", exact_only=True),
        Question("another tenant", namespace="t"),
    ]
    async with cache_on(served) as cache:
        pairs = [(question, question.text.upper()) for question in questions]
        assert await way(cache.store_many, pairs) == [True] * len(pairs)
        for question in questions:
            hit = await way(cache.lookup, question)
            assert (hit.tier, hit.answer) == ("exact", question.text.upper())
    async with cache_on(served) as other:
        asked = [*questions, Question(f"please {WORDS[3]}", context="c"), Question("unheard of")]
        outcomes = await way(other.lookup_many, asked)
        expected = [await way(other.lookup, question) for question in asked]
        assert [type(o) for o in outcomes] == [type(o) for o in expected]
        for outcome, same in zip(outcomes[:-1], expected[:-1], strict=True):
            assert (outcome.tier, outcome.answer) == (same.tier, same.answer)
        assert outcomes[-2].tier == "semantic"
        assert outcomes[-1].reason == expected[-1].reason == "no_neighbour"
        assert other.stats().hits == {"exact": 2 * len(questions), "semantic": 2}


async def test_one_embedding_call_and_one_pipeline_for_each_step(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    embedder = Batches()
    async with cache_on(searching, embedder) as cache:
        await way(cache.store, "first use", "x")
        embedder.batches.clear()
        with searching.standin.counting() as seen:
            misses = await way(cache.lookup_many, WORDS)
        assert not any(misses)
        assert embedder.batches == [WORDS]
        names = [command.name for command in seen]
        assert names == ["HMGET"] * 20 + ["FT.SEARCH"] * 20, "first all of one kind, then the other"
        with searching.standin.counting() as seen:
            assert all(await way(cache.store_many, [(text, "x") for text in WORDS]))
        assert embedder.batches == [WORDS], "the misses left their vectors"
        assert [command.name for command in seen] == ["EVALSHA"] * 20


async def test_the_first_use_opens_the_index_once(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    async with cache_on(searching) as cache:
        with searching.standin.counting() as seen:
            await way(cache.lookup_many, WORDS)
        names = [command.name for command in seen]
        assert names.count("FT.INFO") == names.count("FT.CREATE") == 1


async def test_the_flat_index_reads_its_log_once(searching: Served, way: Way) -> None:
    assert searching.standin is not None
    async with cache_on(searching, index="flat") as cache:
        await way(cache.store_many, [(text, "x") for text in WORDS])
    async with cache_on(searching, index="flat") as cache:
        with searching.standin.counting() as seen:
            hits = await way(cache.lookup_many, [f"please {text}" for text in WORDS])
        assert all(hits)
        assert [command.name for command in seen].count("ZRANGE") == 1


async def test_the_same_question_twice_is_asked_once(either_index: Served, way: Way) -> None:
    embedder = Batches()
    async with cache_on(either_index, embedder) as cache:
        outcomes = await way(cache.lookup_many, [ASKED, ASKED])
        assert [outcome.reason for outcome in outcomes] == ["no_neighbour"] * 2
        assert embedder.batches == [[ASKED]]
        assert await way(cache.store_many, [(ASKED, "x"), (ASKED, "y")]) == [True, True]
        hits = await way(cache.lookup_many, [ASKED, REWORDED, ASKED])
        assert [hit.answer for hit in hits] == ["y"] * 3


async def test_one_that_fails_takes_no_other_along(either_index: Served, way: Way) -> None:
    def answer(text: str) -> Any:
        return [float("nan")] * 64 if "broken" in text else hashed(text)

    async with cache_on(either_index, Batches(answer), on_error="miss") as cache:
        pairs: list[Any] = [("one", "1"), ("broken", "2"), ("two", 3), ("three", "4")]
        assert await way(cache.store_many, pairs) == [True, False, False, True]
        outcomes = await way(cache.lookup_many, ["one", "broken", "three"])
        assert [bool(outcome) for outcome in outcomes] == [True, False, True]
        assert outcomes[1].reason == "error"
        stats = cache.stats()
    assert stats.not_stored == {"not storable": 1}
    assert stats.errors == {"EmbeddingError": 2}


async def test_a_model_that_gives_another_number_of_vectors_is_an_error(
    plain: Served, way: Way
) -> None:
    class Short(HashingEmbedder):
        def embed(self, texts: Any) -> list[Any]:
            return super().embed(texts)[1:]

    async with cache_on(plain, Short(), on_error="miss") as cache:
        outcomes = await way(cache.lookup_many, WORDS)
        assert {outcome.reason for outcome in outcomes} == {"error"}
        assert "19 vectors for 20 texts" in outcomes[0].detail


async def test_an_outage_is_a_miss_for_each(way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1") as cache:
        outcomes = await way(cache.lookup_many, WORDS)
        assert {outcome.reason for outcome in outcomes} == {"error"}
        assert await way(cache.store_many, [(text, "x") for text in WORDS]) == [False] * 20
        assert await way(cache.lookup_many, []) == []
        with pytest.raises(ConfigurationError):
            await way(cache.lookup_many, [5])


async def test_usage_ttl_and_the_local_tier_hold_for_each(plain: Served, way: Way) -> None:
    async with cache_on(plain, local=LocalTier()) as cache:
        await way(cache.store_many, [("a b", "x", {"input_tokens": 2}), ("c d", "y")], ttl=50)
        assert all(45_000 < plain.admin.pttl(key) <= 50_000 for key in plain.entries())
        hits = await way(cache.lookup_many, ["a b", "c d"])
        assert [(hit.tier, hit.usage) for hit in hits] == [
            ("local", {"input_tokens": 2}),
            ("local", {}),
        ]


async def test_more_than_a_batch(plain: Served, way: Way) -> None:
    embedder = Batches()
    texts = [f"tell me about {word(number)}" for number in range(BATCH + 44)]
    async with cache_on(plain, embedder, similarity_threshold=1) as cache:
        assert all(await way(cache.store_many, ((text, text) for text in texts)))
        assert [len(batch) for batch in embedder.batches] == [BATCH, 44]
        hits = await way(cache.lookup_many, texts)
        assert [hit.answer for hit in hits] == texts


async def test_scripts_the_server_has_forgotten_are_sent_again(
    either_index: Served, way: Way
) -> None:
    async with cache_on(either_index) as cache:
        await way(cache.store, "first use", "x")
        either_index.admin.script_flush()
        assert all(await way(cache.store_many, [(text, "x") for text in WORDS]))
        assert all(await way(cache.lookup_many, WORDS))


async def test_in_a_cluster(way: Way) -> None:
    with Cluster() as cluster:
        options: dict[str, Any] = {"name": "t", "on_error": "raise", **PATIENT}
        async with SemanticCache(HashingEmbedder(), cluster.url, **options) as cache:
            assert all(await way(cache.store_many, [(text, text) for text in WORDS]))
            asked = [f"please {text}" for text in WORDS] + WORDS
            hits = await way(cache.lookup_many, asked)
            assert [hit.answer for hit in hits] == WORDS * 2


# batch_window


async def test_concurrent_look_ups_share_an_embedding_call(plain: Served) -> None:
    embedder = Batches()
    async with cache_on(plain, embedder, batch_window=50) as cache:
        await cache.alookup("first use")
        embedder.batches.clear()
        outcomes = await asyncio.gather(*(cache.alookup(text) for text in [*WORDS, WORDS[0]]))
        assert {outcome.reason for outcome in outcomes} == {"no_neighbour"}
        assert [sorted(batch) for batch in embedder.batches] == [sorted(WORDS)]


async def test_without_a_window_each_is_embedded_by_itself(plain: Served) -> None:
    embedder = Batches()
    async with cache_on(plain, embedder) as cache:
        await asyncio.gather(*(cache.alookup(text) for text in WORDS))
        assert [len(batch) for batch in embedder.batches] == [1] * 20


async def test_in_a_window_each_gets_its_own_vector_or_error(plain: Served) -> None:
    def answer(text: str) -> Any:
        return np.zeros(64) if "broken" in text else hashed(text)

    async with cache_on(plain, Batches(answer), batch_window=20, on_error="miss") as cache:
        await cache.astore_many([(text, text) for text in WORDS])
        asked = [f"please {text}" for text in WORDS] + ["broken"]
        outcomes = await asyncio.gather(*(cache.alookup(text) for text in asked))
        assert [hit.answer for hit in outcomes[:-1]] == WORDS
        assert outcomes[-1].reason == "error"


async def two_wait_for_the_window(cache: SemanticCache) -> None:
    gathering = cache._drive._gathering
    assert gathering is not None
    while len(next(iter(gathering._waiting.values()), {})) < 2:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0)


async def test_who_is_cancelled_in_a_window_takes_nobody_along(plain: Served) -> None:
    async with cache_on(plain, Batches(), batch_window=100) as cache:
        await cache.astore(ASKED, "x")
        tasks = [asyncio.create_task(cache.alookup(t)) for t in (REWORDED, f"{ASKED} please")]
        await two_wait_for_the_window(cache)
        tasks[0].cancel()
        assert (await tasks[1]).answer == "x"  # type: ignore[union-attr]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]


async def test_a_full_batch_does_not_wait_for_the_window(plain: Served) -> None:
    embedder = Batches()
    async with cache_on(plain, embedder, batch_window=1000) as cache:
        flows = (cache._drive._gathering.vector(word(n)) for n in range(256))  # type: ignore[union-attr]
        await asyncio.wait_for(asyncio.gather(*flows), 0.9)
        assert [len(batch) for batch in embedder.batches] == [256]


async def test_the_error_of_many_is_no_longer_than_that_of_one(way: Way) -> None:
    lengths = []
    for count in (1, 200):
        options: dict[str, Any] = {"on_error": "raise", "fleet_stats": False}
        async with SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1", **options) as cache:
            with pytest.raises(ServerUnreachableError) as caught:
                await way(cache.store_many, [(word(n), "x") for n in range(count)])
            lengths.append(len(traceback.format_exception(caught.value)))
    assert lengths[1] <= lengths[0] + 5, lengths
