"""A question's address is made once, as long as nothing can change it."""

from __future__ import annotations

import tracemalloc

from valkey_semcache import Question
from valkey_semcache.digest import Digests
from valkey_semcache.question import Addressing

LONG = "x" * 5_000


def addressing(features: object = None) -> Addressing:
    return Addressing("n:e:", Digests(), 1_000, features=features)  # type: ignore[arg-type]


def test_an_address_is_the_same_however_often_and_by_whom_it_is_made() -> None:
    known, fresh = addressing(), addressing()
    for context in "", "some system prompt", LONG:
        for text in "is it 5 km or 6 km?", "who won in 2023?":
            question = Question(text, context=context, identity="gpt-4o")
            first = known.address(question, "acme")
            assert known.address(question, "acme") == first == fresh.address(question, "acme")
            other = known.address(question, "other")
            assert other.scope != first.scope
            assert other.text_digest == first.text_digest
            assert known.address(question.asked_by("other"), "acme") == other


def test_short_questions_are_remembered_and_long_ones_are_not() -> None:
    known = addressing()
    short, long = Question("who won?", context="a"), Question("who won?", context=LONG)
    assert known.address(short, "") is known.address(short, "")
    assert known.address(long, "") is not known.address(long, "")


def test_a_function_of_the_apps_is_asked_each_time() -> None:
    customers = iter(["gold", "silver"])
    known = addressing(lambda text: [next(customers)])
    question = Question("what is my discount?")
    assert known.address(question, "").scope != known.address(question, "").scope


def test_an_address_follows_everything_that_it_is_made_of() -> None:
    known, parts = addressing(), {"context": "c", "identity": "i", "model": "m"}
    first = known.address(Question("who won?", **parts), "acme")
    for name in parts:
        other = known.address(Question("who won?", **(parts | {name: "other"})), "acme")
        fresh = addressing().address(Question("who won?", **(parts | {name: "other"})), "acme")
        assert first != other == fresh
        assert (other.scope == first.scope) == (name == "model"), "a model's name is not compared"
    numbered = known.address(Question("who won 5 to 6?", **parts), "acme")
    assert (numbered.family, numbered.model) == (first.family, "m")
    assert numbered.scope != first.scope
    assert first.key == f"n:e:{first.scope}:{first.text_digest}"
    known.forget()
    assert known.address(Question("who won?", **parts), "acme") == first


def test_memory_holds_an_identity_once_however_many_contexts_it_is_asked_in() -> None:
    """It may be as long as the schemas of all tools, and is often written anew for each call."""
    addressing = Addressing("cache:emb:", Digests(), 1000)
    tracemalloc.start()
    for number in range(200):
        identity = "".join(("x" * 50_000, "y"))
        addressing.address(Question("who won?", f"context {number}", identity), "")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1_000_000
