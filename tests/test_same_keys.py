"""Threads, tasks and processes that store and look up the same few questions all at once.

No entry is ever torn: a mixture of two answers, an answer with another's usage, a vector of another
question. None is left without its TTL.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import PATIENT
from tests.words import word
from valkey_semcache import Hit, SemanticCache

QUESTIONS = [f"{word(number)} and {word(number + 40)} is what is asked" for number in range(8)]
ROUNDS = 2
WORKERS = 3  # threads, and as many tasks
TTL = 500.0


def answer_of(writer: str, number: int) -> str:
    """An answer of which any part tells the whole."""
    return f"{writer}-{number} " * (100 + number)


def torn(outcome: Any) -> str | None:
    """What is wrong with a hit."""
    if not isinstance(outcome, Hit):
        return None
    writer, _, number = outcome.answer.split(" ")[0].rpartition("-")
    if outcome.answer != answer_of(writer, int(number)):
        return "a mixture of answers"
    return None if outcome.usage == {"n": int(number)} else "another answer's usage"


def contend(url: str, index: Any, name: str, who: str) -> list[str]:
    """Store and look up from threads and tasks of this process; what went wrong."""
    wrong: list[str] = []
    options = {"index": index, "name": name, **PATIENT, "ttl": TTL, "on_error": "raise"}
    cache = SemanticCache(HashingEmbedder(), url, **options, promote=True)

    def steps(worker: str) -> Any:
        for number in range(ROUNDS * len(QUESTIONS)):
            asked = QUESTIONS[(number + len(worker)) % len(QUESTIONS)]
            yield asked, answer_of(worker, number), {"n": number}

    def work(worker: str) -> None:
        try:
            for asked, answer, usage in steps(worker):
                cache.store(asked, answer, usage=usage)
                seen = [cache.lookup(asked), cache.lookup(f"{asked} now")]
                wrong.extend(what for what in map(torn, seen) if what)
        except Exception as error:  # noqa: BLE001 - told to the test
            wrong.append(repr(error))

    async def awork(worker: str) -> None:
        for asked, answer, usage in steps(worker):
            await cache.astore(asked, answer, usage=usage)
            seen = [await cache.alookup(asked), await cache.alookup(f"{asked} now")]
            wrong.extend(what for what in map(torn, seen) if what)

    async def all_tasks() -> None:
        await asyncio.gather(*(awork(f"{who}task{n}") for n in range(WORKERS)))
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await cache.aclose()

    threads = [threading.Thread(target=work, args=(f"{who}thread{n}",)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    asyncio.run(all_tasks())
    return wrong + [f"counted: {kind}" for kind in cache.stats().errors]


def test_no_entry_is_torn_and_none_lacks_its_ttl(either_index: Served) -> None:
    where = (either_index.url, either_index.index, either_index.name)
    call = "import sys; from tests.test_same_keys import contend; print(contend(*sys.argv[1:]))"
    root = Path(__file__).parents[1]
    others = [
        subprocess.Popen(
            [sys.executable, "-c", call, *where, who], cwd=root, stdout=subprocess.PIPE, text=True
        )
        for who in ("one", "two")
    ]
    assert contend(*where, "here") == []
    assert [other.communicate(timeout=120)[0] for other in others] == ["[]\n"] * 2
    admin = either_index.admin
    for key in either_index.entries():
        assert 0 < admin.pttl(key) <= 1000 * TTL, key
    with SemanticCache(HashingEmbedder(), **either_index.options, on_error="raise") as cache:
        for asked in QUESTIONS:
            for text in (asked, f"{asked} please"):
                hit = cache.lookup(text)
                assert hit
                assert hit.question == asked
                assert torn(hit) is None
            vector = np.frombuffer(admin.hget(hit.key, "v") or b"", "<f4")
            right = np.asarray(hashed(asked))
            assert float(vector @ right) / np.linalg.norm(right) > 0.9999
