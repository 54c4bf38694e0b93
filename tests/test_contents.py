"""What a cache holds, by the server alone: `contents()` and `semcache stats`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.cli.stats import show

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
LONG = "Press the button, then wait until the light is green. " * 100
SECRET = "a secret of sixteen letters or more"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


def printed(found: Any, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show("semcache", found, console)
    return console.export_text()


async def test_entries_and_bytes_by_embedding_model(served: Served, way: Way) -> None:
    async with cache_on(served) as cache, cache_on(served, embedding_id="another") as other:
        assert await way(cache.contents) == []
        for number in range(3):
            await way(cache.store, word(number), LONG)
        await way(cache.store, "short", "x" * 100)
        await way(other.store, Question(ASKED, exact_only=True), "x" * 7)
        mine, theirs = await way(cache.contents)
        assert (mine.index, theirs.index) == tuple(await way(cache.indexes))
        assert (mine.index.entries, mine.sampled, mine.told, mine.whole) == (4, 4, 4, True)
        assert mine.answers_in == mine.answer_bytes == 3 * len(LONG) + 100
        assert 100 < mine.stored_bytes < mine.answer_bytes / 5
        assert (theirs.answer_bytes, theirs.stored_bytes) == (7, 7)
        assert mine.answer_bytes == cache.stats().answer_bytes["in"]
        if served.user:
            assert mine.memory_bytes is None
            assert "not allowed" in printed([mine], 118)
            served.admin.execute_command("ACL", "LOG", "RESET")
            for standin in served.standins:
                standin.refused.clear()
        else:
            used = [served.admin.memory_usage(key) for key in served.entries()]
            assert sum(used) == mine.memory_bytes + theirs.memory_bytes
            assert mine.memory_per_entry == mine.memory_bytes / 4


async def test_a_sample_stands_for_all_and_says_so(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store_many, [(word(n), "x" * 500) for n in range(300)])
        (found,) = await way(cache.contents, sample=70)
        assert (found.sampled, found.told, found.whole) == (70, 70, False)
        assert found.answer_bytes == 70 * 500
        assert found.answers_in == found.answers_stored == 300 * 500
        drawn = {(await way(cache.contents, sample=1))[0].memory_bytes for _ in range(3)}
        assert None not in drawn
        assert "70 of 300" in printed([found], 80)
        assert "~ 146.5 KiB" in printed([found], 80)
        with pytest.raises(ConfigurationError, match="sample=0"):
            await way(cache.contents, sample=0)


async def test_what_is_hidden_or_no_answer_is_counted_apart(plain: Served, way: Way) -> None:
    async with cache_on(plain, encryption_key=SECRET, signing_key=SECRET) as hidden:
        await way(hidden.store, ASKED, LONG)
    async with cache_on(plain, signing_key=SECRET, promote=True) as signed:
        await way(signed.store, "signed", LONG)
        found, apart = await way(signed.contents)
        assert (found.encrypted, found.told, found.answer_bytes) == (0, 1, len(LONG))
        assert (apart.encrypted, apart.told, apart.answers_in) == (1, 0, None)
        assert "1 of the entries looked at are encrypted" in " ".join(printed([apart], 80).split())
        await way(signed.store, ASKED, "y")
        hit = await way(signed.lookup, REWORDED)
        assert hit.tier == "semantic"
        for damaged in (b"damaged", b"sc"):
            plain.admin.hset(hit.key.rsplit(":", 1)[0] + ":" + "0" * 32, "p", damaged)
            found, _ = await way(signed.contents)
            assert (found.sampled, found.aliases, found.told) == (4, 1, 2)


def semcache(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "valkey_semcache.cli", "stats", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_shows_a_table_or_json(either_index: Served) -> None:
    served = either_index
    named = (served.url, "--name", served.name)
    assert "Nothing is stored" in semcache(*named).stdout
    with cache_on(served) as cache:
        cache.store(ASKED, LONG)
    before = sorted(served.admin.keys(f"{served.name}*"))
    shown = semcache(*named).stdout
    for told in ("HashingEmbedder/hashing", served.index, "64 dimensions", "5.3 KiB"):
        assert told in shown
    assert "No figures" in shown
    told = json.loads(semcache(*named, "--json").stdout)
    (index,) = told["indexes"]
    assert (index["entries"], index["kind"], index["whole"]) == (1, served.index, True)
    assert index["sample"]["answer_bytes"] == len(LONG)
    assert sorted(served.admin.keys(f"{served.name}*")) == before, "nothing is written"
    nowhere = semcache("valkey://user:hunter2@127.0.0.1:1", "--timeout", "0.2")
    assert nowhere.returncode == 3
    assert "127.0.0.1" in nowhere.stderr
    assert "hunter2" not in nowhere.stderr + nowhere.stdout
