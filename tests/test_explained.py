"""What `explain` tells: the reasons, the neighbours in all scopes, and how it shows them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from rich.console import Console

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import (
    ConfigurationError,
    Explanation,
    Question,
    SemanticCache,
)

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
KEYS = {"signing_key": "signing-key-0123456789", "encryption_key": "encryption-key-0123456789"}


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | options))


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
