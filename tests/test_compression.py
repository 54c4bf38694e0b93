"""Long answers take fewer bytes in Valkey, and no stored bytes make a reader allocate too much."""

from __future__ import annotations

import random
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import LocalTier, SemanticCache, UnreadableError
from valkey_semcache.errors import AnswerTooLargeError
from valkey_semcache.stored.answer import COMPRESSED, Envelope, unpack
from valkey_semcache.stored.compression import compressed, decompressed

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
LONG = "Press the button, then wait until the light is green. " * 100


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


def flags(served: Served) -> int:
    (key,) = served.entries()
    return int(served.admin.hget(key, "p")[3])


async def test_a_long_answer_is_compressed_and_comes_back(served: Served, way: Way) -> None:
    async with cache_on(served) as cache, cache_on(served, local=LocalTier()) as local:
        await way(cache.store, ASKED, LONG)
        (key,) = served.entries()
        assert flags(served) == COMPRESSED
        assert len(served.admin.hget(key, "p")) < len(LONG) / 5
        assert (await way(cache.lookup, ASKED)).answer == LONG
        assert (await way(cache.lookup, REWORDED)).answer == LONG
        assert [(await way(local.lookup, ASKED)).answer == LONG for _ in range(2)] == [True, True]
        stats = cache.stats()
    assert stats.answer_bytes["in"] == len(LONG)
    assert stats.answer_bytes["stored"] == len(served.admin.hget(key, "p"))
    assert "answer bytes  in 5400, stored" in str(stats)


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ("a" * 1024, {}, 0),
        ("a" * 1025, {}, COMPRESSED),
        ("a" * 100, {"compress_over": 99}, COMPRESSED),
        (LONG, {"compress_over": None}, 0),
        ("".join(map(chr, random.Random(1).choices(range(32, 120), k=2000))), {}, COMPRESSED),
    ],
    ids=["short", "over", "told", "never", "worth it"],
)
async def test_only_what_is_long_and_gains(
    plain: Served, way: Way, answer: str, options: dict[str, Any], expected: int
) -> None:
    async with cache_on(plain, **options) as cache:
        await way(cache.store, ASKED, answer)
        assert flags(plain) == expected
        assert (await way(cache.lookup, ASKED)).answer == answer
    async with cache_on(plain, compress_over=None) as other:
        assert (await way(other.lookup, ASKED)).answer == answer


class RawCodec:
    name = "raw/1"

    def encode(self, answer: bytes) -> bytes:
        return answer

    def decode(self, content: bytes) -> bytes:
        return content


async def test_what_gains_nothing_stays_as_it_is(plain: Served, way: Way) -> None:
    noise = random.Random(1).randbytes(5000)
    async with cache_on(plain, codec=RawCodec()) as cache:
        await way(cache.store, ASKED, noise)
        assert flags(plain) == 0
        assert (await way(cache.lookup, ASKED)).answer == noise


async def test_what_is_too_long_is_neither_stored_nor_read(plain: Served, way: Way) -> None:
    options = {"max_answer_bytes": 1000, "on_error": "miss"}
    async with cache_on(plain) as large, cache_on(plain, **options) as small:
        assert await way(small.store, ASKED, "x" * 1001) is False
        assert small.stats().not_stored == {"longer than max_answer_bytes": 1}
        for answer in (LONG, "x" * 1001):
            await way(large.store, ASKED, answer)
            assert not await way(small.lookup, ASKED)
            assert not await way(small.lookup, REWORDED)
            assert (await way(large.lookup, ASKED)).answer == answer, "it is left for others"
        assert small.stats().errors == {"AnswerTooLargeError": 6}
        assert await way(small.store, ASKED, "x" * 1000) is True
        assert await way(small.lookup, ASKED)


@pytest.mark.parametrize("cut", [1, 10, 40])
async def test_a_damaged_frame_is_removed(plain: Served, way: Way, cut: int) -> None:
    async with cache_on(plain, on_error="miss") as cache:
        await way(cache.store, ASKED, LONG)
        (key,) = plain.entries()
        plain.admin.hset(key, "p", plain.admin.hget(key, "p")[:-cut])
        assert not await way(cache.lookup, ASKED)
        assert plain.entries() == []


def test_a_bomb_is_not_decompressed() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(2**28))
    assert len(bomb) < 30_000
    with pytest.raises(AnswerTooLargeError, match="268,435,456 bytes"):
        decompressed(bomb, 2**20)


def test_a_frame_that_does_not_say_its_length_or_lies_is_unreadable() -> None:
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2000))
    with pytest.raises(UnreadableError, match="does not say"):
        decompressed(silent, 2**20)
    whole = zstandard.ZstdCompressor().compress(bytes(2000))
    for damaged in (whole[:-1], whole + b"x", b"", b"x" * 50):
        with pytest.raises(UnreadableError):
            decompressed(damaged, 2**20)


@given(st.binary(max_size=5000), st.integers(0, 3000) | st.none())
def test_an_envelope_comes_back_whether_compressed_or_not(content: bytes, over: int | None) -> None:
    envelope = Envelope(b"p" * 32, "text/1", content * 3, 1.0, model="m", question="q")
    assert unpack(envelope.pack(over)) == envelope
    frame = compressed(content)
    assert frame is None or decompressed(frame, 5000) == content
