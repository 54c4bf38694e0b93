"""Export and import: entries out of one cache and into another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import wait_until
from tests.words import word
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.methods.moving import Imported

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
SECRET = "a secret of sixteen letters or more"


def cache_on(served: Served, embedder: Any = None, **options: Any) -> SemanticCache:
    options = served.options | {"on_error": "raise"} | options
    return SemanticCache(embedder or HashingEmbedder(), **options)


async def exported(way: Way, cache: SemanticCache, **options: Any) -> list[dict[str, Any]]:
    """What an export gives, as it comes out of a file."""
    if way.name == "sync":
        lines = list(cache.export_entries(**options))
    else:
        lines = [line async for line in cache.aexport_entries(**options)]
    return [json.loads(json.dumps(line)) for line in lines]


QUESTIONS = [
    Question(ASKED, "a context", "an identity", "gpt-4o", "acme"),
    Question("the answer is long", identity="another"),
    Question("exact only", exact_only=True),
]


async def filled(way: Way, cache: SemanticCache) -> None:
    usage = {"input_tokens": 7}
    for question in QUESTIONS:
        await way(cache.store, question, question.text * 100, usage=usage, ttl=100)
    await way(cache.store, "for ever", "x", ttl=None)


@pytest.mark.parametrize("vectors", [True, False])
async def test_all_is_found_in_the_other_cache(
    either_index: Served, way: Way, vectors: bool
) -> None:
    embedder = HashingEmbedder()
    async with (
        cache_on(either_index, promote=True) as one,
        cache_on(either_index, embedder, name=f"{either_index.name}-2") as two,
    ):
        await filled(way, one)
        question = Question(REWORDED, "a context", "an identity", "gpt-4o", "acme")
        assert (await way(one.lookup, question)).tier == "semantic"
        lines = await exported(way, one, vectors=vectors)
        assert len(lines) == 5, "a header and four entries; the alias is left out"
        assert await way(two.import_entries, lines) == Imported(stored=4)
        assert len(embedder.asked) == (0 if vectors else 3)
        for asked in QUESTIONS:
            before, after = await way(one.lookup, asked), await way(two.lookup, asked)
            assert after.tier == "exact"
            assert (before.answer, before.usage) == (after.answer, after.usage)
            assert (before.model, before.question) == (after.model, after.question)
            left = either_index.admin.pttl(before.key), either_index.admin.pttl(after.key)
            assert left[0] == pytest.approx(left[1], abs=2000)
        assert either_index.admin.pttl((await way(two.lookup, "for ever")).key) == -1
        assert (await way(two.lookup, question)).tier == "semantic"
        assert await way(two.clear, model="gpt-4o") == 1
        assert await way(two.clear) == 3


async def test_what_was_rejected_stays_so(either_index: Served, way: Way) -> None:
    async with (
        cache_on(either_index) as one,
        cache_on(either_index, name=f"{either_index.name}-2") as two,
    ):
        await way(one.store, ASKED, "x")
        await way(one.reject, await way(one.lookup, REWORDED))
        await way(two.import_entries, await exported(way, one))
        assert (await way(two.lookup, REWORDED)).reason == "rejected"
        await way(two.clear)


async def test_another_model_embeds_anew(plain: Served, way: Way) -> None:
    embedder = HashingEmbedder()
    async with cache_on(plain) as one, cache_on(plain, embedder, embedding_id="other") as two:
        await way(one.store, ASKED, "x")
        await way(two.import_entries, await exported(way, one, vectors=True))
        assert embedder.asked == [ASKED]
        assert (await way(two.lookup, REWORDED)).answer == "x"


async def test_without_texts_and_vectors_the_very_words_are_left(plain: Served, way: Way) -> None:
    async with cache_on(plain, store_questions=False, guards=()) as one:
        await way(one.store, ASKED, "x")
        lines = await exported(way, one)
        await way(one.clear)
        assert await way(one.import_entries, lines) == Imported(stored=1)
        assert (await way(one.lookup, ASKED)).answer == "x"
        assert not await way(one.lookup, REWORDED)


async def test_sealed_entries_come_out_plain_and_go_in_sealed(plain: Served, way: Way) -> None:
    keys = {"signing_key": SECRET, "encryption_key": SECRET}
    async with cache_on(plain, **keys) as one:
        await way(one.store, ASKED, "an answer")
        lines = await exported(way, one, vectors=True)
        assert lines[1]["question"] == ASKED
        assert SECRET not in json.dumps(lines)
        await way(one.clear)
        assert await way(one.import_entries, lines) == Imported(stored=1)
        assert (await way(one.lookup, REWORDED)).answer == "an answer"
        (key,) = plain.entries()
        assert b"an answer" not in plain.admin.hget(key, "p")


async def test_a_life_that_hits_extended_is_carried_along(either_index: Served, way: Way) -> None:
    options = {"ttl": 1, "sliding": True}
    async with cache_on(either_index, **options) as one:
        await way(one.store, ASKED, "x")
        stored = await way(one.lookup, ASKED)
        wait_until(lambda: either_index.admin.pttl(stored.key) < 400)
        await way(one.lookup, ASKED)
        wait_until(lambda: either_index.admin.pttl(stored.key) < 350)
        lines = await exported(way, one)
        left = either_index.admin.pttl(stored.key)
        await way(one.clear)
        assert await way(one.import_entries, lines) == Imported(stored=1)
        assert either_index.admin.pttl(stored.key) == pytest.approx(left, abs=200)
        assert (await way(one.lookup, REWORDED)).tier == "semantic"


async def test_an_export_verifies_and_an_import_signs_anew(either_index: Served, way: Way) -> None:
    """What nobody with the key has made does not get into the file, nor into another cache."""
    older, newer = "the first secret of the two", "the second secret of them"
    admin = either_index.admin
    async with cache_on(either_index, signing_key=older) as one:
        for text in (ASKED, "which wine goes with fish", "who wrote this old book"):
            await way(one.store, text, "an answer")
        good, moved, forged = [
            (await way(one.lookup, text)).key
            for text in (ASKED, "which wine goes with fish", "who wrote this old book")
        ]
        admin.hset(moved, "v", admin.hget(good, "v"))
        async with cache_on(either_index, signing_key="somebody else's own secret") as other:
            await way(other.store, "who wrote this old book", "a lie")
        lines = await exported(way, one, vectors=True)
        assert [line["question"] for line in lines[1:]] == [ASKED]
        assert not admin.exists(forged)
        assert older not in json.dumps(lines)
    name = f"{either_index.name}-2"
    async with (
        cache_on(either_index, name=name, signing_key=newer) as two,
        cache_on(either_index, name=name, signing_key=older) as former,
    ):
        assert await way(two.import_entries, lines) == Imported(stored=1)
        assert (await way(two.lookup, REWORDED)).answer == "an answer"
        assert not await way(former.lookup, REWORDED), "it is signed by the new key"


async def test_what_has_expired_or_is_no_entry_is_counted(plain: Served, way: Way) -> None:
    async with cache_on(plain, on_error="miss") as cache:
        await way(cache.store, ASKED, "x", ttl=100)
        header, entry = await exported(way, cache, vectors=True)
        await way(cache.clear)
        expired = entry | {"expires": entry["created"]}
        spoilt: list[Any] = [
            *({}, [], "entry", None, entry | {"scope": "../x"}, entry | {"text": "a" * 31}),
            *(entry | {"content": "?"}, entry | {"codec": ""}, entry | {"question": 5}),
            *(entry | {"usage": {"a": "b"}}, entry | {"expires": "soon"}),
            *(entry | {"digests": {"z": "a" * 32}}, entry | {"vector": "AAAA"}),
            *(entry | {"rejected": "x y"}, entry | {"created": None}),
        ]
        done = await way(cache.import_entries, [header, expired, *spoilt, entry])
        assert done == Imported(stored=1, expired=1, failed=len(spoilt))
        assert len(plain.entries()) == 1


async def test_a_file_that_cannot_be_used_is_refused(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache, cache_on(plain, digest_key=SECRET) as keyed:
        lines = await exported(way, cache)
        for first, told in (
            ([], "no file of semcache export"),
            ([{"question": "a"}], "no file of semcache export"),
            ([lines[0] | {"semcache": 99}], "format 99"),
        ):
            with pytest.raises(ConfigurationError, match=told):
                await way(cache.import_entries, first)
        with pytest.raises(ConfigurationError, match="digest_key"):
            await way(keyed.import_entries, lines)


APP = """
import sys
sys.path.insert(0, {root!r})
from tests.embedders import HashingEmbedder
from valkey_semcache import SemanticCache
one = SemanticCache(HashingEmbedder(), {url!r}, name={name!r}, timeout=20.0)
two = SemanticCache(HashingEmbedder(), {url!r}, name={name!r} + "-2", timeout=20.0)
"""


def test_the_commands(plain: Served, tmp_path: Path) -> None:
    def semcache(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "valkey_semcache.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    root = str(Path(__file__).parents[1])
    (tmp_path / "myapp.py").write_text(APP.format(root=root, url=plain.url, name=plain.name))
    with cache_on(plain) as cache:
        cache.store_many([(f"über {word(number)}", "x") for number in range(300)])
    done = semcache("export", "out.jsonl", "--cache", "myapp:one", "--vectors")
    assert "300 entries exported to out.jsonl, as plain text." in done.stdout, done.stderr
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o077 == 0, "for nobody else to read"
    assert "über" in (tmp_path / "out.jsonl").read_text()
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write("nonsense\n")
    done = semcache("import", "out.jsonl", "--cache", "myapp:two")
    assert done.returncode == 1
    assert "300 stored, 0 expired, 1 not stored" in done.stdout
    assert "line 302: it is no JSON" in done.stdout
    with cache_on(plain, name=f"{plain.name}-2") as two:
        assert all(two.lookup_many([f"über {word(number)}" for number in range(300)]))
        two.clear()
