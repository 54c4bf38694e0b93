"""Signed and encrypted entries: what somebody can do who writes to Valkey or reads from it.

The attacker here has the server and no key: they flip bytes, swap entries, put back old ones, and
move vectors. All they get is a miss.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import await_until
from tests.words import word
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.errors import ForgedError, LockedError, UnreadableError
from valkey_semcache.stored.sealing import NO_VECTOR, Seal, digest_of

KEY, NEW, OTHER = "k" * 32, "n" * 32, b"o" * 32
ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ELSE = "which wine goes with fish on a warm evening"
SECRET = "the secret answer, which nobody else may read"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **served.options | {"signing_key": KEY} | options)


def fields(served: Served, key: str) -> dict[bytes, bytes]:
    return served.admin.hgetall(key)


async def stored(served: Served, way: Way, *texts: str, **options: Any) -> list[str]:
    """Store these questions with their own text as answers; their keys in that order."""
    keys = []
    async with cache_on(served, **options) as cache:
        for text in texts:
            before = set(served.entries())
            assert await way(cache.store, text, f"answer to {text}")
            keys += sorted(set(served.entries()) - before)
    return keys


async def test_signed_entries_are_served_in_every_tier(served: Served, way: Way) -> None:
    await stored(served, way, ASKED)
    async with cache_on(served, promote=True) as cache:
        assert (await way(cache.lookup, ASKED)).tier == "exact"
        assert (await way(cache.lookup, REWORDED)).tier == "semantic"
        assert (await way(cache.lookup, REWORDED)).tier == "exact", "by a signed alias"
        assert not cache.stats().errors


async def test_who_has_no_key_or_another_one_makes_misses(either_index: Served, way: Way) -> None:
    """An unsigned entry, or one signed by somebody else, is removed by who meets it."""
    for signing_key in (None, OTHER):
        await stored(either_index, way, ASKED, signing_key=signing_key)
        for text in (ASKED, REWORDED):
            async with cache_on(either_index) as cache:
                assert not await way(cache.lookup, text)
                assert cache.stats().errors == {"ForgedError": 1}
            await stored(either_index, way, ASKED, signing_key=signing_key)
        either_index.admin.unlink(*either_index.entries())


async def test_who_needs_no_signature_reads_signed_entries_too(
    either_index: Served, way: Way
) -> None:
    await stored(either_index, way, ASKED)
    async with cache_on(either_index, signing_key=None) as cache:
        assert (await way(cache.lookup, ASKED)).answer == f"answer to {ASKED}"
        assert (await way(cache.lookup, REWORDED)).answer == f"answer to {ASKED}"


async def test_keys_rotate_newest_first(either_index: Served, way: Way) -> None:
    for option in ("signing_key", "encryption_key"):
        alone = {"signing_key": None, option: KEY}
        await stored(either_index, way, ASKED, **alone)
        async with cache_on(either_index, **alone | {option: [NEW, KEY]}) as cache:
            assert (await way(cache.lookup, ASKED)).answer == f"answer to {ASKED}"
            await way(cache.store, ELSE, "by the new key")
        async with cache_on(either_index, **alone | {option: [OTHER, NEW, KEY]}) as cache:
            assert (await way(cache.lookup, ELSE)).answer == "by the new key"
        if option == "signing_key":
            async with cache_on(either_index, signing_key=NEW) as cache:
                assert not await way(cache.lookup, ASKED), "the old key is no longer trusted"
                assert (await way(cache.lookup, ELSE)).answer == "by the new key"
        either_index.admin.unlink(*either_index.entries())


def swap_answers(served: Served, mine: str, theirs: str) -> None:
    """Their signed envelope under my key."""
    served.admin.hset(mine, "p", fields(served, theirs)[b"p"])


def swap_entries(served: Served, mine: str, theirs: str) -> None:
    served.admin.hset(mine, mapping=fields(served, theirs))


def move_the_vector(served: Served, mine: str, theirs: str) -> None:
    """My vector on their entry, so that their answer is near my question."""
    served.admin.hset(theirs, "v", fields(served, mine)[b"v"])
    served.admin.unlink(mine)


def take_the_vector_away(served: Served, mine: str, theirs: str) -> None:
    served.admin.hset(theirs, "v", np.asarray(hashed("x"), "<f4").tobytes())
    served.admin.unlink(mine)


@pytest.mark.parametrize(
    "tamper", [swap_answers, swap_entries, move_the_vector, take_the_vector_away]
)
async def test_moved_parts_are_misses(
    either_index: Served, way: Way, tamper: Callable[[Served, str, str], None]
) -> None:
    mine, theirs = await stored(either_index, way, ASKED, ELSE)
    tamper(either_index, mine, theirs)
    async with cache_on(either_index) as cache:
        for text in (ASKED, REWORDED):
            outcome = await way(cache.lookup, text)
            assert not outcome, outcome


async def test_the_similarity_is_computed_from_the_signed_vector(
    either_index: Served, way: Way
) -> None:
    """A question that is not near is not served, whatever the server says of distances."""
    (key,) = await stored(either_index, way, ASKED)
    async with cache_on(either_index) as cache:
        hit = await way(cache.lookup, REWORDED)
        a, b = (np.asarray(hashed(text)) for text in (ASKED, REWORDED))
        exact = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert hit.similarity == pytest.approx(exact, abs=1e-5)
        assert hit.key == key


async def test_an_expired_entry_put_back_is_a_miss(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, ttl=0.05) as cache:
        await way(cache.store, ASKED, "old")
        (key,) = either_index.entries()
        old = fields(either_index, key)
        assert old
        while either_index.admin.exists(key):
            pass
        either_index.admin.hset(key, mapping=old)
        assert not await way(cache.lookup, ASKED)
        assert not await way(cache.lookup, REWORDED)


MEANINGS = [" ".join(word(10 * n + k) for k in range(9)) for n in range(3)]
SCOPES = ("one", "other")


def tampered(dice: random.Random, served: Served, seen: dict[bytes, dict[bytes, bytes]]) -> None:
    """One thing that who can write to Valkey may do with what they have ever seen there."""
    admin, keys = served.admin, sorted(seen)
    mine, theirs = dice.choice(keys), dice.choice(keys)
    field = dice.choice((b"p", b"p", b"v", b"s", b"b", b"x"))
    what = dice.randrange(6)
    if what == 0 and field in seen[theirs]:
        admin.hset(mine, field, seen[theirs][field])
    elif what == 1:
        admin.hset(mine, mapping=seen[theirs])
    elif what == 2:  # an old state, for ever
        admin.hset(mine, mapping=seen[mine])
        admin.persist(mine)
    elif what == 3:
        data = bytearray(seen[mine][b"p"])
        data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        admin.hset(mine, "p", bytes(data))
    elif what == 4:  # under a key that nobody has
        admin.hset(mine[:-32] + f"{dice.randrange(16**32):032x}".encode(), mapping=seen[theirs])
    else:
        admin.unlink(mine)
    for log in admin.scan_iter(f"{served.name}:log:*"):
        noted = {key[-32:]: 2.0**51 for key in map(str.encode, served.entries())}
        admin.zadd(log, noted | {b"~tampered": 2.0**51})


async def test_whatever_is_moved_about_no_question_gets_another_one_s_answer(
    either_index: Served, way: Way
) -> None:
    dice = random.Random(way.name + either_index.index)
    seen: dict[bytes, dict[bytes, bytes]] = {}
    async with cache_on(either_index, promote=True, on_error="raise") as cache:
        for answer, ttl in (("expired", 0.02), ("good", 600)):
            for scope in SCOPES:
                for number, text in enumerate(MEANINGS):
                    question = Question(text, context=scope)
                    told = f"{answer} {scope} {number}"
                    await way(cache.store, question, told, ttl=ttl)
                    key = either_index.entries()
                    seen |= {k.encode(): fields(either_index, k) for k in key}
                    await way(cache.lookup, Question(f"{text} now", context=scope))
            seen |= {k.encode(): fields(either_index, k) for k in either_index.entries()}
            seen = {key: held for key, held in seen.items() if b"p" in held}
            if ttl < 1:
                old = dict(seen)
                await await_until(lambda: not either_index.entries())
        # What has expired is put back beside what is good.
        pools, hits = (seen, {**seen, **old}), 0
        for round_ in range(120):
            tampered(dice, either_index, pools[round_ % 2])
            scope, number = dice.choice(SCOPES), dice.randrange(len(MEANINGS))
            text = MEANINGS[number] + dice.choice(("", " now", " please"))
            found = await way(cache.lookup, Question(text, context=scope))
            if found:
                assert found.answer == f"good {scope} {number}"
                hits += 1
        assert hits > 10, "what is good is served all the while"
        assert cache.stats().errors.get("ForgedError", 0) > 5


async def test_encrypted_entries_show_nothing(served: Served, way: Way) -> None:
    options = {"encryption_key": KEY, "signing_key": None}
    async with cache_on(served, **options) as cache:
        question = Question(f"{SECRET}?", model="secret-model", identity="id", namespace="acme")
        assert await way(cache.store, question, SECRET, usage={"input_tokens": 7})
        reworded = Question(f"{SECRET} please?", identity="id", namespace="acme")
        for asked in (question, reworded):
            hit = await way(cache.lookup, asked)
            assert (hit.answer, hit.model, dict(hit.usage)) == (
                *(SECRET, "secret-model"),
                {"input_tokens": 7},
            )
    dump = b""
    for key in served.admin.scan_iter(f"{served.name}:*"):
        kind = served.admin.type(key)
        value = served.admin.hgetall(key) if kind == b"hash" else served.admin.zrange(key, 0, -1)
        dump += key + repr(value).encode()
    for hidden in (b"secret", b"acme", b"input_tokens", SECRET.encode().hex().encode()):
        assert hidden not in dump, hidden
    # Without the key not even the address is known.
    async with cache_on(served, signing_key=None) as cache:
        assert not await way(cache.lookup, question)


async def test_an_entry_locked_with_another_key_is_left_alone(
    either_index: Served, way: Way
) -> None:
    options = {"signing_key": None, "digest_key": "d" * 16}
    (key,) = await stored(either_index, way, ASKED, **options, encryption_key=KEY)
    before = fields(either_index, key)
    for encryption_key in (OTHER, None):
        async with cache_on(either_index, **options, encryption_key=encryption_key) as cache:
            for text in (ASKED, REWORDED):
                assert not await way(cache.lookup, text)
            assert not cache.stats().errors
    assert fields(either_index, key) == before


async def test_signed_and_encrypted_and_compressed(either_index: Served, way: Way) -> None:
    answer = "a long answer that repeats itself. " * 400
    async with cache_on(either_index, encryption_key=OTHER, promote=True) as cache:
        await way(cache.store, ASKED, answer)
        (key,) = either_index.entries()
        assert len(fields(either_index, key)[b"p"]) < 2000
        for text, tier in ((ASKED, "exact"), (REWORDED, "semantic"), (REWORDED, "exact")):
            hit = await way(cache.lookup, text)
            assert (hit.tier, hit.answer) == (tier, answer)


async def test_a_renewed_entry_keeps_its_signed_vector(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, refresh_after=0.01, ttl=30) as cache:
        await way(cache.store, ASKED, "old")
        outcome = None
        while not (outcome is not None and outcome.reason == "refresh"):
            found = await way(cache.lookup, REWORDED)
            outcome = None if found else found
        await way(cache.store, REWORDED, "new")
        assert len(either_index.entries()) == 1
        for text in (ASKED, REWORDED):
            found = await way(cache.lookup, text)
            assert (found.answer if found else found.stale.answer) == "new"
        assert not cache.stats().errors


@pytest.mark.parametrize("option", ["signing_key", "encryption_key"])
@pytest.mark.parametrize("value", ["short", b"", [], ["short"], [None], 5, [KEY, "short"]])
def test_a_bad_key_is_refused_and_never_shown(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option) as caught:
        SemanticCache(HashingEmbedder(), "valkey://h", **{option: value})
    assert "short" not in str(caught.value)
    assert KEY not in str(caught.value)


async def test_keys_appear_nowhere(
    either_index: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await stored(either_index, way, ASKED, signing_key=OTHER)
        async with cache_on(either_index, encryption_key=NEW, digest_key="d" * 16) as cache:
            await way(cache.lookup, ASKED)
            shown = f"{cache!r} {cache.stats()} {vars(cache)!r}"
    for secret in (KEY, NEW, OTHER.decode(), "d" * 16):
        assert secret not in caplog.text + shown


# The seal itself.

PLAIN = b"sc\x01\x00" + bytes(32) + bytes(16) + b"\x06text/1" + b"\0\0\0\2{}" + b"content"


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.booleans(), st.booleans())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject, signs: bool, hides: bool) -> None:
    if not (signs or hides):
        return
    seal = Seal([b"s" * 32] if signs else [], [b"e" * 32] if hides else [])
    closed = seal.close("name:emb:scope:text", PLAIN, digest_of(b"vector"))
    opened = seal.open("name:emb:scope:text", closed)
    assert opened.data == PLAIN
    assert opened.vector == (digest_of(b"vector") if signs else None)
    place = data.draw(st.integers(0, len(closed) - 1))
    how = data.draw(st.sampled_from(("flip", "cut", "double", "grow")))
    changed = {
        "flip": closed[:place]
        + bytes([closed[place] ^ data.draw(st.integers(1, 255))])
        + closed[place + 1 :],
        "cut": closed[:place],
        "double": closed[:place] + closed,
        "grow": closed + bytes([place % 256]),
    }[how]
    if changed == closed:
        return
    try:
        got = seal.open("name:emb:scope:text", changed)
    except UnreadableError:
        return
    # Encryption alone does not protect the one byte of flags that says there is some.
    assert not signs
    assert got.data != PLAIN or changed[:4] != closed[:4]


@pytest.mark.parametrize("seal", [Seal([b"s" * 32]), Seal((), [b"e" * 32])], ids=["sign", "hide"])
def test_an_envelope_belongs_to_its_key(seal: Seal) -> None:
    closed = seal.close("name:emb:scope:text", PLAIN, NO_VECTOR)
    assert seal.open("name:emb:scope:text", closed).data == PLAIN
    for key in ("name:emb:scope:other", "name2:emb:scope:text", "name:emb:scop:etext", ""):
        with pytest.raises((ForgedError, LockedError)):
            seal.open(key, closed)


def test_two_encryptions_of_the_same_differ() -> None:
    seal = Seal((), [b"e" * 32])
    assert len({seal.close("k", PLAIN, NO_VECTOR) for _ in range(100)}) == 100
