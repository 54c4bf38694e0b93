"""What is remembered of a look-up until its store: for some minutes, and so many characters.

The criterion is whose answer a store is: without the look-up's word, that of who stores it.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.outputs import Generation

from langchain_valkey_semcache import ValkeySemanticCache, asked
from tests.embedders import HashingEmbedder
from tests.servers import Served

ANSWER = [Generation(text="in a week")]
LLM = "a model"


@pytest.fixture
def cache(plain: Served) -> Any:
    with ValkeySemanticCache(HashingEmbedder(), **plain.options) as cache:
        yield cache


def prompt(number: int) -> str:
    """A new string each time, as LangChain makes one for each call."""
    return " ".join(("when is parcel", str(number), "delivered"))


def asked_by_acme(cache: ValkeySemanticCache, number: int) -> str:
    told = prompt(number)
    with cache.namespace("acme"):
        assert cache.lookup(told, LLM) is None
    return told


def has(cache: ValkeySemanticCache, tenant: str, number: int) -> bool:
    with cache.namespace(tenant):
        return cache.lookup(prompt(number), LLM) is not None


def test_a_store_belongs_to_who_looked_up(cache: ValkeySemanticCache) -> None:
    cache.update(asked_by_acme(cache, 1), LLM, ANSWER)
    assert has(cache, "acme", 1)
    assert not has(cache, "", 1)


def test_what_was_asked_long_ago_is_forgotten(
    cache: ValkeySemanticCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asked_by_acme(cache, 1)
    monkeypatch.setattr(asked, "_SECONDS", -1.0)
    cache.update(told, LLM, ANSWER)
    assert not has(cache, "acme", 1)
    assert has(cache, "", 1)
    asked_by_acme(cache, 2)
    assert not cache._asked._pending, "the next one's look-up clears away what is old"
    assert cache._asked._characters == 0


def test_no_more_is_remembered_than_has_room(
    cache: ValkeySemanticCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = asked._OVERHEAD + len(prompt(1))
    monkeypatch.setattr(asked, "_CHARACTERS", 3 * size)
    told = [asked_by_acme(cache, number) for number in range(5)]
    assert [held for _, held, _ in cache._asked._pending.values()] == told[2:]
    for one in told:
        cache.update(one, LLM, ANSWER)
    assert [has(cache, "acme", number) for number in range(5)] == [False, False, True, True, True]
    assert cache._asked._characters == 2 * size, "of the two that have just missed"


def test_one_that_has_no_room_by_itself_is_not_remembered(
    cache: ValkeySemanticCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "_CHARACTERS", asked._OVERHEAD)
    told = asked_by_acme(cache, 1)
    assert not cache._asked._pending
    cache.update(told, LLM, ANSWER)
    assert has(cache, "", 1)


def test_the_same_string_asked_again_is_one(cache: ValkeySemanticCache) -> None:
    told = asked_by_acme(cache, 1)
    with cache.namespace("acme"):
        cache.lookup(told, LLM)
    assert len(cache._asked._pending) == 1
    cache.update(told, LLM, ANSWER)
    assert cache._asked._characters == 0
    assert has(cache, "acme", 1)
