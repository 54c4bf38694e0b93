"""Which questions are looked up, and which answers stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import Question, SemanticCache, not_about_now
from valkey_semcache.rules.rules import by_model, matches


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


def boom(*_: object) -> bool:
    raise RuntimeError("the app's own rule is broken")


@pytest.mark.parametrize(
    ("model", "cached"),
    [("gpt-4o", True), ("gpt-4o-mini", True), ("o3", True), ("gpt-4", False), ("", False)],
)
async def test_only_the_models_named_are_cached(
    plain: Served, way: Way, model: str, cached: bool
) -> None:
    async with cache_on(plain, models=["gpt-4o*", "o[34]"]) as cache:
        question = Question("asked", model=model)
        assert await way(cache.store, question, "x") is cached
        outcome = await way(cache.lookup, question)
        stats = cache.stats()
    assert bool(outcome) is cached
    assert len(plain.entries()) == cached
    if not cached:
        assert outcome.reason == "not_cacheable"
        assert "models=" in outcome.detail
        assert stats.not_stored == {"its model is none of models=": 1}
        assert stats.misses == {"not_cacheable": 1}


async def test_what_is_not_to_be_cached_costs_neither_command_nor_embedding(
    searching: Served, way: Way
) -> None:
    assert searching.standin is not None
    embedder = HashingEmbedder()
    options = searching.options | {"should_cache": lambda question: question.text != "asked"}
    async with SemanticCache(embedder, **options) as cache:
        with searching.standin.counting() as seen:
            assert not await way(cache.lookup, "asked")
            assert await way(cache.store, "asked", "x") is False
        assert not seen
        assert not embedder.asked
        assert await way(cache.store, "asked otherwise", "x") is True


async def test_should_store_sees_the_question_and_the_answer(plain: Served, way: Way) -> None:
    def short(question: Question, answer: str) -> bool:
        return len(answer) < 5 and question.context == ""

    async with cache_on(plain, should_store=short) as cache:
        assert await way(cache.store, "asked", "long answer") is False
        assert await way(cache.store, Question("asked", "context"), "x") is False
        assert not await way(cache.lookup, "asked")
        assert await way(cache.store, "asked", "x") is True
        assert (await way(cache.lookup, "asked")).answer == "x"
        assert cache.stats().not_stored == {"should_store() said no": 2}


async def test_a_rule_that_raises_is_a_miss_and_is_counted(plain: Served, way: Way) -> None:
    async with cache_on(plain, should_cache=boom, on_error="miss") as cache:
        assert (await way(cache.lookup, "asked")).reason == "error"
        assert await way(cache.store, "asked", "x") is False
        assert cache.stats().errors == {"RuntimeError": 2}
    async with cache_on(plain, should_store=boom, on_error="miss") as cache:
        assert await way(cache.store, "asked", "x") is False
        assert cache.stats().errors == {"RuntimeError": 1}
    async with cache_on(plain, should_cache=boom) as cache:
        with pytest.raises(RuntimeError, match="broken"):
            await way(cache.lookup, "asked")


@given(st.text(max_size=20))
def test_a_star_matches_every_model_and_nothing_else_matches_an_unknown_one(text: str) -> None:
    assert matches(text, "*")
    assert matches("", text) is (text == "*")


def test_of_two_patterns_alike_the_first_counts() -> None:
    assert by_model({"gpt-*": 1, "*-4o": 2, "*": 3}, "gpt-4o") == 1
    assert by_model({"*": 3, "**": 4}, "gpt-4o") == 3
    with pytest.raises(KeyError):
        by_model({"o*": 1}, "gpt-4o")


# not_about_now

ROOT = Path(__file__).parents[1]
DATA = (ROOT / "benchmarks/data/about_now.jsonl").read_text()
LABELLED = [json.loads(line) for line in DATA.splitlines()]


async def test_not_about_now_as_a_rule(plain: Served, way: Way) -> None:
    async with cache_on(plain, should_cache=not_about_now) as cache:
        assert await way(cache.store, "how do i reset my password", "x") is True
        assert await way(cache.store, "what is my balance today", "x") is False
        assert (await way(cache.lookup, "what is my balance today")).reason == "not_cacheable"


def test_the_figures_of_the_documents_are_those_measured() -> None:
    kept = {True: 0, False: 0}
    held_out = [row for row in LABELLED if row["part"] == "held out"]
    for row in held_out:
        about_now = not not_about_now(Question(row["question"]))
        kept[row["about_now"]] += about_now == row["about_now"]
    page = " ".join((ROOT / "docs/strategies.md").read_text().split())
    assert len(held_out) == 80
    assert f"it kept out {kept[True]} of the 40 whose" in page
    assert f"let {kept[False]} of the 40 others be cached" in page


@pytest.mark.parametrize(
    ("text", "timeless"),
    [
        ("What's Anna's job?", True),
        ("What's on Anna's desk today?", False),
        ("What does 'today' mean?", True),
        ("HOW DO I RESET MY PASSWORD?", True),
        ("How do I get to work today?", False),
        ("", True),
    ],
)
def test_not_about_now_reads_words_not_letters(text: str, timeless: bool) -> None:
    assert not_about_now(Question(text)) is timeless
