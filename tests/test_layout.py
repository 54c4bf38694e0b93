"""What lies in Valkey: keys, fields, envelope, aliases, log and meta, as documented."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import NewerFormatError, Question, SemanticCache, UnreadableError
from valkey_semcache.digest import FORMAT
from valkey_semcache.stored.answer import Alias, Envelope, unpack, unpack_alias

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
COMPLETE = {b"s", b"b", b"m", b"n", b"i", b"v", b"p"}


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


async def test_an_entry_has_all_its_fields(served: Served, way: Way) -> None:
    question = Question(ASKED, "context", "identity", "model", "tenant")
    async with cache_on(served, ttl=60) as cache:
        await way(cache.store, question, "answer", usage={"input_tokens": 7})
    (key,) = served.entries()
    name, embedding, scope, text = key.split(":")
    assert name == served.name
    assert all(len(part) == 32 and int(part, 16) >= 0 for part in (embedding, scope, text))
    fields = served.admin.hgetall(key)
    assert set(fields) == COMPLETE
    assert fields[b"s"].decode() == scope
    assert {len(fields[f]) for f in (b"s", b"b", b"m", b"n", b"i")} == {32}
    vector = np.frombuffer(fields[b"v"], "<f4")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    envelope = unpack(fields[b"p"])
    assert (envelope.codec, envelope.content) == ("text/1", b"answer")
    assert (envelope.model, envelope.question, envelope.usage) == (
        "model",
        ASKED,
        {"input_tokens": 7},
    )
    assert envelope.expires == pytest.approx(time.time() + 60, abs=5)


async def test_scope_and_family_differ_by_the_exact_features_alone(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        for text in ("who won in 2023", "who won in 2024", "who lost in 2024"):
            await way(cache.store, text, text)
    fields = [plain.admin.hmget(key, "s", "b") for key in plain.entries()]
    assert len({family for _, family in fields}) == 1
    assert len({scope for scope, _ in fields}) == 2


async def test_meta_says_format_kind_dimension_and_generation(served: Served, way: Way) -> None:
    async with cache_on(served) as cache:
        await way(cache.store, ASKED, "x")
    (key,) = served.entries()
    embedding = key.split(":")[1]
    assert served.admin.hgetall(f"{served.name}:meta") == {
        b"format": str(FORMAT).encode(),
        b"index": served.index.encode(),
        f"dimension:{embedding}".encode(): b"64",
        f"generation:{embedding}".encode(): b"0",
        f"model:{embedding}".encode(): b"HashingEmbedder/hashing",
    }


async def test_the_flat_index_keeps_a_log(plain: Served, way: Way) -> None:
    async with cache_on(plain, ttl=100) as cache:
        began = time.time() * 1e6
        for text in ("red", "green", "red"):
            await way(cache.store, text, "x")
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        members = plain.admin.zrange(log, 0, -1, withscores=True)
        green, red, newest = (version for _, version in members)
        assert began <= green < red == newest <= time.time() * 1e6
        assert members[-1][0].startswith(b"~")
        assert 99_000 < plain.admin.pttl(log) <= 100_000
        await way(cache.store, "blue", "x", ttl=None)
        assert plain.admin.pttl(log) == -1
        await way(cache.store, "grey", "x", ttl=1)
        assert plain.admin.pttl(log) == -1, "the log outlives all its entries"


async def test_a_newer_format_is_left_alone_and_damage_is_removed(served: Served, way: Way) -> None:
    async with cache_on(served) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = served.entries()
        good = served.admin.hget(key, "p")
        newer = good[:2] + bytes([FORMAT + 1]) + good[3:]
        unknown = good[:3] + bytes([8]) + good[4:]
        for foreign in (newer, unknown):
            served.admin.hset(key, "p", foreign)
            assert not await way(cache.lookup, ASKED)
            assert not await way(cache.lookup, REWORDED)
            assert served.admin.hget(key, "p") == foreign
        for damaged in (b"", b"\x00", good[:10], good[: len(good) // 2], b"x" * 100):
            for asked in (ASKED, REWORDED):
                await way(cache.store, ASKED, "x")
                served.admin.hset(key, "p", damaged)
                assert not await way(cache.lookup, asked)
                assert not served.admin.exists(key)


async def test_a_key_of_another_type_gives_way(served: Served, way: Way) -> None:
    async with cache_on(served) as cache:
        await way(cache.store, ASKED, "x")
        (key,) = served.entries()
        for spoil in (cache.lookup, cache.store):
            served.admin.unlink(key)
            served.admin.set(key, "not a hash")
            if spoil == cache.lookup:
                assert not await way(cache.lookup, ASKED)
                assert not served.admin.exists(key)
            else:
                await way(cache.store, ASKED, "y")
                assert (await way(cache.lookup, REWORDED)).answer == "y"


async def test_an_answer_of_another_codec_is_a_miss_and_stays(served: Served, way: Way) -> None:
    class Other:
        name = "other/1"

        def encode(self, answer: Any) -> bytes:
            return b"?" + answer.encode()

        def decode(self, content: bytes) -> Any:
            return content[1:].decode()

    async with cache_on(served) as cache:
        await way(cache.store, ASKED, "x", codec=Other())
        assert not await way(cache.lookup, ASKED)
        assert not await way(cache.lookup, REWORDED)
        assert (await way(cache.lookup, ASKED, codec=Other())).answer == "x"
        assert (await way(cache.lookup, REWORDED, codec=Other())).answer == "x"


async def test_a_rejected_question_is_not_served_that_entry(served: Served, way: Way) -> None:
    async with cache_on(served, promote=True) as cache:
        await way(cache.store, ASKED, "x")
        (source,) = served.entries()
        assert await way(cache.lookup, REWORDED)
        (alias,) = set(served.entries()) - {source}
        served.admin.hset(source, "x", f"{'0' * 32} {alias.split(':')[-1]}")
        miss = await way(cache.lookup, REWORDED)
        assert miss.reason == "rejected"
        assert miss.nearest.question == ASKED
        assert not served.admin.exists(alias), "its alias ends with it"
        assert (await way(cache.lookup, ASKED)).answer == "x"
        await way(cache.store, ASKED, "y")
        assert (await way(cache.lookup, REWORDED)).reason == "rejected", "a renewal keeps it so"


# Aliases: another wording that hit by meaning, remembered


async def test_promotion_makes_another_wording_hit_exactly(served: Served, way: Way) -> None:
    async with cache_on(served, promote=True, ttl=60) as cache:
        await way(cache.store, ASKED, "x")
        (source,) = served.entries()
        semantic = await way(cache.lookup, REWORDED)
        (alias,) = set(served.entries()) - {source}
        assert set(served.admin.hkeys(alias)) == {b"m", b"n", b"i", b"p"}
        assert 55_000 < served.admin.pttl(alias) <= served.admin.pttl(source) + 5
        embedder = HashingEmbedder()
        async with SemanticCache(embedder, **served.options) as other:
            hit = await way(other.lookup, REWORDED)
        assert (hit.tier, hit.answer, hit.question, hit.key) == ("exact", "x", ASKED, source)
        assert hit.similarity == semantic.similarity
        assert embedder.asked == []
        # a stricter call does not take it
        assert not await way(cache.lookup, REWORDED, similarity_threshold=0.9999)
        assert served.admin.exists(alias)


@pytest.mark.parametrize("how", ["deleted", "renewed", "damaged"])
async def test_an_alias_ends_with_its_source(served: Served, way: Way, how: str) -> None:
    async with cache_on(served, promote=True) as cache:
        await way(cache.store, ASKED, "old")
        (source,) = served.entries()
        await way(cache.lookup, REWORDED)
        (alias,) = set(served.entries()) - {source}
        if how == "deleted":
            await way(cache.delete, ASKED)
        elif how == "renewed":
            await way(cache.store, ASKED, "new")
        else:
            served.admin.hset(source, "p", "damage")
        outcome = await way(cache.lookup, REWORDED)
        if how == "renewed":
            assert (outcome.tier, outcome.answer) == ("semantic", "new")
        else:
            assert not outcome
            assert not served.admin.exists(alias)


async def test_a_stored_answer_replaces_an_alias(served: Served, way: Way) -> None:
    async with cache_on(served, promote=True) as cache:
        await way(cache.store, ASKED, "x")
        await way(cache.lookup, REWORDED)
        await way(cache.store, REWORDED, "y")
        hit = await way(cache.lookup, REWORDED)
        assert (hit.tier, hit.answer, hit.question) == ("exact", "y", REWORDED)


# The envelope by itself

envelopes = st.builds(
    Envelope,
    place=st.binary(min_size=32, max_size=32),
    codec=st.from_regex(r"[a-z-]{1,20}/[0-9]", fullmatch=True),
    content=st.binary(max_size=200),
    created=st.floats(0, 1e11),
    expires=st.none() | st.floats(1, 1e11),
    model=st.text(max_size=20),
    question=st.none() | st.text(max_size=50),
    usage=st.none() | st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=3),
    sealed=st.none(),
)


@given(envelopes)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    assert unpack(envelope.pack()) == envelope


@given(envelopes, st.data())
def test_a_damaged_envelope_is_unreadable_or_another_envelope(
    envelope: Envelope, data: st.DataObject
) -> None:
    packed = bytearray(envelope.pack())
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    try:
        found = unpack(bytes(packed[:cut]))
    except UnreadableError:
        return
    assert isinstance(found, Envelope)


def test_a_header_nested_without_end_is_unreadable() -> None:
    head = Envelope(b"p" * 32, "text/1", b"", 0.0).pack()[:-6]
    header = b'{"q":' * 100_000
    with pytest.raises(UnreadableError):
        unpack(head + struct.pack(">I", len(header)) + header)


@pytest.mark.parametrize(
    "header",
    [b"{}{}", b'{"q":"a"}x', b"[]", b'{"m":1}', b'{"q":1}', b'{"u":[1]}', b'{"u":{"a":true}}'],
)
def test_a_header_with_more_or_other_than_it_should_hold_is_unreadable(header: bytes) -> None:
    head = Envelope(b"p" * 32, "text/1", b"", 0.0).pack()[:-6]
    with pytest.raises(UnreadableError):
        unpack(head + struct.pack(">I", len(header)) + header)


def test_a_newer_envelope_says_so() -> None:
    packed = bytearray(Envelope(b"p" * 32, "text/1", b"", 0.0).pack())
    packed[2] = FORMAT + 1
    with pytest.raises(NewerFormatError, match="Update valkey-semcache"):
        unpack(bytes(packed))


@pytest.mark.parametrize("content", [b"", b"[]", b"[1,2,3]", b'["x",1,1]', b"{}", b"[" * 9999])
def test_a_damaged_alias_is_unreadable(content: bytes) -> None:
    assert unpack_alias(Alias("a" * 32, 1.5, 0.9).pack()) == Alias("a" * 32, 1.5, 0.9)
    with pytest.raises(UnreadableError):
        unpack_alias(content)
