"""Different models, tenants and contexts never meet: at random and on purpose."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import Question, SemanticCache
from valkey_semcache.digest import Digests, length_prefixed
from valkey_semcache.question import Addressing

PAIRS = 10_000
_SIGNS = "abc :,|{}()@*\\-\"'\x00\n\t\u20ac"


def random_pairs(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Pairs of strings that differ in next to nothing, no string twice in all of them."""
    pairs: list[tuple[str, str]] = []
    seen: set[str] = set()
    while len(pairs) < count:
        one = "".join(rng.choices(_SIGNS, k=rng.randint(6, 16)))
        place = rng.randint(0, len(one))
        other = one[:place] + rng.choice(["", *_SIGNS]) + one[place + rng.randint(0, 1) :]
        if one != other and not seen & {one, other}:
            seen |= {one, other}
            pairs.append((one, other))
    return pairs


async def test_ten_thousand_pairs_of_llm_strings_never_meet(either_index: Served) -> None:
    """Stored under one string, asked under the other, with equal vectors and threshold 0."""
    vector = [1.0] + [0.0] * 7
    embedder = HashingEmbedder(lambda _: vector)
    options = either_index.options | {"similarity_threshold": 0, "on_error": "raise"}
    pairs = random_pairs(random.Random(20_000), PAIRS)
    with SemanticCache(embedder, **options) as cache:
        stored = cache.store_many([(Question("asked", identity=one), one) for one, _ in pairs])
        assert all(stored)
        asked = "asked in other words"
        assert not any(cache.lookup_many([Question(asked, identity=other) for _, other in pairs]))
        same = [one for one, _ in pairs if one.startswith("a")]
        hits = cache.lookup_many([Question(asked, identity=one) for one in same])
        assert [hit.answer for hit in hits] == same


@pytest.mark.parametrize("part", ["identity", "context", "namespace"])
@given(texts=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_scopes_differ_wherever_a_part_differs(part: str, texts: list[str]) -> None:
    addressing = Addressing("n:e:", Digests(), 1000)
    one, other = (addressing.address(Question("a", **{part: text}), "") for text in texts)
    assert one.scope != other.scope
    assert one.key != other.key


@given(
    st.lists(st.binary(max_size=6), max_size=5),
    st.lists(st.binary(max_size=6), max_size=5),
)
def test_no_two_lists_of_parts_run_together(one: list[bytes], other: list[bytes]) -> None:
    same = length_prefixed(tuple(one)) == length_prefixed(tuple(other))
    assert same == (one == other)


@given(st.text(), st.text(), st.text())
def test_a_part_does_not_slip_into_the_next(a: str, b: str, c: str) -> None:
    digests = Digests()
    if a:
        assert digests("label", a + b, c) != digests("label", b, a + c) or (a + b, c) == (b, a + c)
    assert digests("one", a) != digests("other", a)


async def test_tags_and_keys_cannot_be_injected(either_index: Served, way: Way) -> None:
    """Whatever stands in names, it is digested before it reaches a key, tag or query."""
    rng = np.random.default_rng(1)
    hostile = ["", "*", "a}", "{a}", "a|b", "a,b", "@s:{*}", "x\x00y", "a:b", ":", "\\", "'", '"']
    embedder = HashingEmbedder()
    options = either_index.options | {"similarity_threshold": 0, "on_error": "raise"}
    async with SemanticCache(embedder, **options) as cache:
        for number, text in enumerate(hostile):
            question = Question("q", context=text, identity=text, model=text, namespace=text)
            await way(cache.store, question, str(number))
        for number in rng.permutation(len(hostile)):
            text = hostile[number]
            question = Question("q q", context=text, identity=text, model=text, namespace=text)
            assert (await way(cache.lookup, question)).answer == str(number)
    for key in either_index.entries():
        assert all(part.isalnum() for part in key.split(":")), key
