"""`explain`: the verdict is the look-up's, the reasons are the right ones, and nothing changes."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import (
    ConfigurationError,
    Explanation,
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


# The reasons.


async def test_what_keeps_neighbours_apart_is_named(served: Served, way: Way) -> None:
    async with cache_on(served, similarity_threshold=0.6) as cache:
        for question in (
            Question(f"{ASKED} in 2023", context="c", model="gpt-4o", identity="i"),
            Question(f"{ASKED} in 2024", context="d", model="gpt-4o", identity="i"),
            Question(f"{ASKED} in 2024", context="c", model="gpt-5", identity="j"),
            Question(f"{ASKED} in 2024", context="c", model="gpt-4o", identity="warmer"),
            Question(f"{ASKED} in 2024", context="c", model="gpt-4o", identity="i", namespace="t"),
        ):
            assert await way(cache.store, question, "x")
        asked = Question(f"please {ASKED} in 2024", context="c", model="gpt-4o", identity="i")
        explained = await way(cache.explain, asked)
        told = {near.apart: near.because for near in explained.neighbours}
        assert told == {
            ("features",): "numbers: 2024 here, 2023 there",
            ("context",): "another context (system prompt, earlier turns, passages, tools)",
            ("model",): told["model",],  # one of two, see below
        }
        assert {near.because for near in explained.neighbours if near.apart == ("model",)} == {
            "another model: gpt-4o here, gpt-5 there",
            "other parameters of the model, or another corpus",
        }
        assert "kept apart" in explained.reason
        assert explained.scope is not None
        assert explained.scope.features == {"numbers": ["2024"]}
        operator = await way(cache.explain, asked, other_tenants=True)
        assert [n.because for n in operator.neighbours if "tenant" in n.apart] == ["another tenant"]


async def test_other_tenants_questions_are_not_shown(either_index: Served, way: Way) -> None:
    for keys in ({}, KEYS):
        async with cache_on(either_index, similarity_threshold=0.5, **keys) as cache:
            for tenant in ("acme", "other"):
                await way(cache.store, Question(f"{ASKED} of {tenant}", namespace=tenant), "x")
            for text in (REWORDED, f"{ASKED} of other"):
                explained = await way(cache.explain, Question(text, namespace="acme"))
                shown = str(explained) + explained._repr_html_() + json.dumps(explained.as_dict())
                assert "of acme" in shown
                assert f"{ASKED} of other" not in shown.replace(explained.text, "")
                assert all("tenant" not in near.apart for near in explained.neighbours)
            await way(cache.clear)


async def test_sealed_texts_are_shown_only_where_they_are_proven_the_tenants(
    either_index: Served, way: Way
) -> None:
    """The field that names an entry's tenant is not signed; its scope is."""
    async with cache_on(either_index, similarity_threshold=0.6, **KEYS) as cache:
        await way(cache.store, Question(f"{ASKED} in 2023", namespace="acme"), "x")
        stolen = Question(f"{ASKED} in secret", namespace="other")
        await way(cache.store, stolen, "x")
        own = cache._addressing.address(Question("q"), "acme").namespace_digest
        either_index.admin.hset(cache._address(stolen).key, "n", own)
        explained = await way(cache.explain, Question(f"{ASKED} in 2024", namespace="acme"))
        assert f"{ASKED} in 2023" in str(explained)
        assert "in secret" not in str(explained)


async def test_in_the_scope_each_neighbour_has_its_verdict(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, similarity_threshold=0.6) as cache:
        await way(cache.store, ASKED, "x")
        await way(cache.store, f"{ASKED} never", "x")
        hit = await way(cache.lookup, REWORDED)
        explained = await way(cache.explain, REWORDED)
        served, *others = explained.neighbours
        assert (served.key, served.because) == (hit.key, "nothing objects")
        assert [near.because for near in others] == ["a nearer one was served"]
        await way(cache.reject, hit)
        explained = await way(cache.explain, REWORDED)
        reasons = [near.because for near in explained.neighbours]
        assert reasons[0] == "this answer was rejected for this question"
        assert reasons[1].startswith("polarity: 'never'")
        assert explained.verdict == "miss: rejected"
        far = await way(cache.explain, "apples and boats")
        assert [near.because[:10] for near in far.neighbours] == ["similarity"] * 2


async def test_exact_only_says_why_and_where_else_the_words_are(served: Served, way: Way) -> None:
    text = "def f():\n    return 1"
    async with cache_on(served) as cache:
        await way(cache.store, Question(text, context="c"), "x")
        explained = await way(cache.explain, Question(text, context="d"))
        assert explained.verdict == "miss: exact_only"
        assert explained.exact_reason == "the text is laid out by white space, as code is"
        assert not explained.embedded
        assert [near.apart for near in explained.neighbours] == [("context",)]
        assert (await way(cache.explain, Question(text, context="c"))).verdict == "exact hit"


async def test_texts_that_are_not_kept_are_told_not_to_be(plain: Served, way: Way) -> None:
    async with cache_on(plain, store_questions=False, similarity_threshold=0.6) as cache:
        await way(cache.store, f"{ASKED} in 2023", "x")
        explained = await way(cache.explain, f"{ASKED} in 2024")
        (near,) = explained.neighbours
        assert near.question is None
        assert near.because == "other numbers, dates, quotations, links or code"
        assert "store_questions=False" in str(explained)


async def test_another_codecs_answer_is_named(plain: Served, way: Way) -> None:
    class Other:
        name = "other/1"

        def encode(self, answer: Any) -> bytes:
            return b"x"

        def decode(self, content: bytes) -> Any:
            return content

    async with cache_on(plain, similarity_threshold=0.6) as cache:
        await way(cache.store, ASKED, "x", codec=Other())
        explained = await way(cache.explain, REWORDED)
        assert explained.neighbours[0].because == "its answer was stored by another codec, other/1"
        hit = await way(cache.explain, REWORDED, codec=Other())
        assert hit.verdict == "semantic hit"


async def test_a_walk_that_did_not_see_all_says_so(
    plain: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valkey_semcache.flow.neighbours.WALKED", 3)
    async with cache_on(plain) as cache:
        for number in range(6):
            await way(cache.store, Question(ASKED, context=str(number)), "x")
        explained = await way(cache.explain, ASKED)
        assert "3 entries were" in str(explained)
        assert len(explained.neighbours) == 3


async def test_steps_are_timed(either_index: Served, way: Way) -> None:
    def slow(text: str) -> Any:
        time.sleep(0.02)
        return HashingEmbedder().answer(text)

    async with SemanticCache(HashingEmbedder(slow), **either_index.options) as cache:
        explained = await way(cache.explain, ASKED)
    assert list(explained.timings) == ["read", "exact", "embed", "search", "(neighbours)"]
    assert explained.timings["embed"] >= 20
    assert 0 < explained.timings["exact"] < 20_000


# How it shows.


async def test_secrets_are_out_long_parts_are_cut_and_html_is_escaped(
    plain: Served, way: Way
) -> None:
    secrets = ["sk-planted-0123456789", "hunter2word", "Bearer abcdefghijkl", "ghp_" + "x" * 30]
    context = json.dumps(
        [
            {"system": f"key {secrets[0]} and <script>alert(1)</script>", "password": secrets[1]},
            {"headers": secrets[2], "long": "word " * 1000, "deep": ["x" * 150 + secrets[3]]},
        ]
    )
    identity = f"[('api_key', '{secrets[0]}'), ('base_url', 'https://me:{secrets[1]}@host/v1')]"
    async with cache_on(plain) as cache:
        await way(cache.store, Question("<b>what</b> is it", context="other"), "x")
        question = Question("<b>what</b> is it", context=context, identity=identity)
        explained = await way(cache.explain, question)
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(explained)
    shown = [str(explained), explained._repr_html_(), captured.get(), str(explained.as_dict())]
    for text in shown:
        assert not any(secret.removeprefix("Bearer ") in text for secret in secrets)
        assert "more characters" in text
        assert "miss: no_neighbour" in text
    html = shown[1]
    assert "<script>" not in html
    assert "<b>what</b>" not in html
    assert "&lt;b&gt;what&lt;/b&gt; is it" in html
    assert "kept apart" in html
    assert "[red]" not in captured.get()
    assert json.loads(json.dumps(explained.as_dict()))["hit"] is False


async def test_arguments_are_checked(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        for wrong in ({"neighbours": 51}, {"other_tenants": "yes"}, {"similarity_threshold": 2}):
            with pytest.raises(ConfigurationError):
                await way(cache.explain, ASKED, **wrong)
        assert isinstance(await way(cache.explain, ASKED, neighbours=0), Explanation)
