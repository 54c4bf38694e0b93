"""`explain`: the verdict is the look-up's, the reasons are the right ones, and nothing changes."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import (
    Hit,
    LocalTier,
    Miss,
    Question,
    SemanticCache,
    Verified,
)

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
KEYS = {"signing_key": "signing-key-0123456789", "encryption_key": "encryption-key-0123456789"}


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | options))


def facts(outcome: Hit | Miss) -> tuple[Any, ...]:
    """All of an outcome that does not depend on the moment."""
    if isinstance(outcome, Hit):
        similarity = round(outcome.similarity, 5)
        return outcome.tier, outcome.key, outcome.question, outcome.answer, similarity
    nearest = outcome.nearest
    near = None if nearest is None else (nearest.key, round(nearest.similarity, 5))
    return outcome.reason, outcome.detail, near, outcome.elsewhere


# The verdict.

WORDS = ("apples", "boats", "not", "12", "clocks", "drums", "please")
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
questions = st.builds(
    Question,
    text=texts,
    context=st.sampled_from(("", "c")),
    identity=st.sampled_from(("", "i")),
    namespace=st.sampled_from(("", "t")),
    exact_only=st.sampled_from((False, False, False, True)),
)
stores = st.lists(st.tuples(questions, st.booleans()), max_size=6)
kinds_of_cache = st.sampled_from(
    [
        {},
        {"promote": True},
        {"local": LocalTier()},
        {"guards": ()},
        {"sliding": True},
        {"refresh_after": 0.5},
        {"store_questions": False},
        {"signing_key": KEYS["signing_key"]},
        KEYS,
    ]
)


async def as_looked_up(
    cache: SemanticCache, way: Way, question: Question, threshold: float
) -> None:
    how = {"similarity_threshold": threshold}
    explained = await way(cache.explain, question, **how)
    again = await way(cache.explain, question, **how)
    found = await way(cache.lookup, question, **how)
    assert facts(explained.outcome) == facts(again.outcome) == facts(found)
    if isinstance(found, Hit) and found.tier == "semantic":
        assert [near.key for near in explained.neighbours if near.served] == [found.key]


def test_the_verdict_is_that_of_the_look_up(served: Served, request: Any) -> None:
    loop = asyncio.new_event_loop()
    number = iter(range(10**6))

    @hypothesis.seed(zlib.crc32(request.node.name.encode()))  # other examples on each server
    @settings(
        max_examples=7,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(
        stores, st.lists(questions, min_size=1, max_size=4), kinds_of_cache, st.booleans()
    )
    def run(stored: Any, asked: Any, options: Any, in_loop: bool) -> None:
        way = Way("async" if in_loop else "sync")
        # A tenant of its own for each example instead of a name, whose rights are limited.
        tenant = f"{next(number)}:"

        async def one() -> None:
            cache = SemanticCache(HashingEmbedder(), **(served.options | options))
            other = SemanticCache(HashingEmbedder(), **(served.options | options))
            async with cache, other:
                for place, (question, rejects) in enumerate(stored):
                    own = _of(question, tenant)
                    assert await way((cache, other)[place % 2].store, own, f"answer {place}")
                    if rejects and (hit := await way(cache.lookup, own)):
                        await way(cache.reject, hit)
                for question in [*asked, *(question for question, _ in stored[:2])]:
                    await as_looked_up(cache, way, _of(question, tenant), 0.6)

        loop.run_until_complete(one())

    try:
        run()
    finally:
        loop.close()


def _of(question: Question, tenant: str) -> Question:
    return Question(
        question.text,
        question.context,
        question.identity,
        namespace=tenant + (question.namespace or ""),
        exact_only=question.exact_only,
    )


async def test_an_entry_that_is_due_is_told_to_be_and_stays_so(
    either_index: Served, way: Way
) -> None:
    async with cache_on(either_index, refresh_after=0.0001) as cache:
        await way(cache.store, ASKED, "x", ttl=60)
        await asyncio.sleep(0.01)
        for _ in range(2):
            explained = await way(cache.explain, ASKED)
            assert explained.verdict == "miss: refresh"
        assert (await way(cache.lookup, ASKED)).reason == "refresh"
        assert (await way(cache.explain, ASKED)).verdict == "exact hit", "somebody is at it"
        assert await way(cache.lookup, ASKED)


async def test_with_a_refresh_the_old_answer_is_served(plain: Served, way: Way) -> None:
    asked: list[Question] = []
    options: dict[str, Any] = {"refresh_after": 0.0001, "refresh": asked.append}
    async with cache_on(plain, **options) as cache:
        await way(cache.store, ASKED, "old", ttl=60)
        await asyncio.sleep(0.01)
        explained = await way(cache.explain, ASKED)
        assert explained.outcome.answer == "old"
        assert "renewed in the background" in str(explained)
        assert asked == []


async def test_a_judge_is_heard_as_by_the_look_up(either_index: Served, way: Way) -> None:
    heard: list[tuple[str, ...]] = []

    def judge(*case: str) -> bool:
        heard.append(case)
        return False

    async with cache_on(either_index, similarity_threshold=0.6, judge=judge) as cache:
        await way(cache.store, ASKED, "x")
        explained = await way(cache.explain, REWORDED)
        assert heard == [(REWORDED, ASKED, "x")]
        assert explained.verdict == "miss: judged"
        assert explained.neighbours[0].because == "the judge said no"
        assert facts(explained.outcome) == facts(await way(cache.lookup, REWORDED))
        assert cache.stats().judged == {"no": 1}, "the look-up's alone"


async def test_what_is_learned_counts_as_for_the_look_up(either_index: Served, way: Way) -> None:
    """Also while nothing is learned, and when this process has yet to read the labels."""

    def cache(**more: Any) -> SemanticCache:
        policy = Verified(0.9, same_answer="exact", explore=1e-9, seed=1)
        return cache_on(either_index, similarity_threshold=0.6, policy=policy, **more)

    async with cache() as first:
        await way(first.store, ASKED, "x")
        explained = await way(first.explain, REWORDED)
        assert explained.verdict == "miss: unverified"
        assert "nothing is learned yet" in explained.neighbours[0].because
        for number in range(31):
            text = f"{ASKED} {' '.join(word(number + 100 * n) for n in range(5))}"
            assert facts((await way(first.explain, text)).outcome) == facts(
                await way(first.lookup, text)
            )
            await way(first.store, text, "x")
        async with cache() as other:
            explained = await way(other.explain, REWORDED)
            assert "nothing is learned yet" not in explained.reason, "the labels were read"
            assert facts(explained.outcome) == facts(await way(other.lookup, REWORDED))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"models": ["gpt-*"]}, "not_cacheable"),
        ({"should_cache": lambda question: False}, "not_cacheable"),
        ({"should_cache": lambda question: 1 / 0}, "error"),
        ({"namespace_from": lambda: None}, "not_cacheable"),
        ({"similarity_threshold": lambda question: 7}, "error"),
    ],
)
async def test_what_is_not_looked_up_is_told_so(
    plain: Served, way: Way, options: dict[str, Any], reason: str
) -> None:
    async with cache_on(plain, **options) as cache:
        explained = await way(cache.explain, ASKED)
        assert explained.outcome.reason == reason
        assert cache.stats().lookups == 0
        assert cache.stats().errors == {}
        assert facts(explained.outcome) == facts(await way(cache.lookup, ASKED))


async def test_errors_are_the_look_ups_and_are_not_counted(plain: Served, way: Way) -> None:
    def answer(text: str) -> Any:
        raise RuntimeError("no embedding today")

    embedder = HashingEmbedder(answer)
    async with SemanticCache(embedder, **plain.options) as cache:
        explained = await way(cache.explain, ASKED)
        assert explained.verdict == "miss: error"
        assert "EmbeddingError" in explained.reason
        assert cache.stats().errors == {}
        assert facts(explained.outcome) == facts(await way(cache.lookup, ASKED))


async def test_errors_of_the_apps_features_are_not_counted(plain: Served, way: Way) -> None:
    async with cache_on(plain, features=lambda text: 1 / 0) as cache:
        explained = await way(cache.explain, ASKED)
        assert explained.exact_reason == "features= raised ZeroDivisionError"
        assert cache.stats().errors == {}


# Nothing changes.


def everything(served: Served) -> dict[str, Any]:
    """All that lies under the cache's name, with its time left."""
    return {
        key: (served.admin.dump(key), round(served.admin.pttl(key), -4))
        for key in sorted(served.admin.scan_iter(f"{served.name}:*", count=1000))
    }


async def test_nothing_is_changed(either_index: Served, way: Way) -> None:
    options = {"promote": True, "sliding": True, "local": LocalTier(), "refresh_after": 0.00001}
    async with cache_on(either_index, similarity_threshold=0.6, **options) as writer:
        await way(writer.store, ASKED, "x", ttl=600)
        await way(writer.store, Question(ASKED, context="c"), "x", ttl=600)
        await way(writer.store, "bad bytes", "x", ttl=600)
    bad = writer.key_of(Question("bad bytes", namespace=""))
    either_index.admin.hset(bad, "p", "no envelope")
    await asyncio.sleep(0.01)
    before = everything(either_index)
    async with cache_on(either_index, similarity_threshold=0.6, **options) as cache:
        for text in (ASKED, REWORDED, "bad bytes", "unheard of", "one\n  two"):
            explained = await way(cache.explain, text)
            assert explained.outcome.reason != "error", explained
        assert cache.stats() == SemanticCache(HashingEmbedder(), **either_index.options).stats()
        assert cache._flows.notes.take(cache._address("unheard of")) is None
    assert everything(either_index) == before


async def test_a_cache_in_use_counts_nothing(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, similarity_threshold=0.6) as cache:
        await way(cache.store, ASKED, "x")
        assert await way(cache.lookup, REWORDED)
        before = cache.stats()
        for text in (REWORDED, "unheard of"):
            await way(cache.explain, text)
        assert cache.stats() == before


async def test_an_empty_server_stays_empty(served: Served, way: Way) -> None:
    async with cache_on(served) as cache:
        explained = await way(cache.explain, ASKED)
        assert explained.verdict == "miss: no_neighbour"
        assert list(served.admin.scan_iter(f"{served.name}:*", count=1000)) == []
        assert not await way(cache.lookup, ASKED)
