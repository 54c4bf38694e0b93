"""A process that ends with work in flight: at once, in silence, and leaving whole entries."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import SemanticCache

APP = """
import asyncio, atexit, itertools, logging, sys, threading, time
from tests.embedders import HashingEmbedder
from tests.words import word
from valkey_semcache import LocalTier, SemanticCache

way, url, index, name = sys.argv[1:]
logging.getLogger("valkey_semcache").setLevel("ERROR")  # that renewals hang it says, too

class Embedder(HashingEmbedder):
    aembed = None  # in async calls a thread embeds, too

    def embed(self, texts):
        if any("hang" in text for text in texts):
            threading.Event().wait()
        return super().embed(texts)

def hung(question):
    threading.Event().wait()

async def ahung(question):
    await asyncio.Event().wait()

numbers = itertools.count()
cache = SemanticCache(
    Embedder(), url, index=index, name=name, timeout=20.0, ttl=600, embed_timeout=30.0,
    refresh_after=0.000001, refresh=hung if way == "sync" else ahung,
    local=LocalTier(), promote=True,
)
stored = 0

def asked():
    number = next(numbers)
    return word(number) + " is what this one is about", f"answer {number} " * 200

def work():
    global stored
    while True:
        question, answer = asked()
        done = cache.store(question, answer)
        stored += done
        cache.lookup(question)
        cache.lookup("tell me please " + question)

async def awork():
    global stored
    while True:
        question, answer = asked()
        done = await cache.astore(question, answer)
        stored += done
        await cache.alookup(question)
        await cache.alookup("tell me please " + question)

async def main():
    tasks = [asyncio.create_task(awork()) for _ in range(8)]
    tasks += [asyncio.create_task(cache.alookup(f"hang {word(n)}")) for n in range(3)]
    while stored < 100:
        await asyncio.sleep(0.005)

# What an app may still ask while it ends.
atexit.register(lambda: print("at exit", cache.lookup("asked at exit").reason))
if way == "sync":
    for n in range(8):
        threading.Thread(target=work, daemon=True).start()
    for n in range(3):
        threading.Thread(target=cache.lookup, args=(f"hang {word(n)}",), daemon=True).start()
    while stored < 100:
        time.sleep(0.005)
else:
    asyncio.run(main())
assert any(t.name == "semcache-refresh" for t in threading.enumerate()) or way == "async"
print("ends", flush=True)
"""


def test_a_process_that_ends_with_work_in_flight(either_index: Served, way: Way) -> None:
    """Threads and tasks look up and store, renewals hang, and so does the embedding model."""
    where = (either_index.url, either_index.index, either_index.name)
    command = [sys.executable, "-c", APP, way.name, *where]
    root = Path(__file__).parents[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, **pipes) as app:  # type: ignore[call-overload]
        assert app.stdout is not None
        watch = threading.Timer(30, app.kill)  # who waits in vain is told so
        watch.start()
        first = app.stdout.readline()
        watch.cancel()
        began = time.monotonic()
        out, told = app.communicate(timeout=30)
        took = time.monotonic() - began
    assert (first, app.returncode, told) == ("ends\n", 0, ""), told
    assert out.startswith("at exit ")
    assert took < 3
    # What it was storing just then is there with all that belongs to it, or not at all.
    keys = either_index.entries()
    assert len(keys) >= 100
    with either_index.admin.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
        assert min(pipeline.execute()) > 0
    options = either_index.options | {"on_error": "raise"}
    with SemanticCache(HashingEmbedder(), **options) as cache:
        entries = list(cache.export_entries())[1:]
        for entry in entries:
            hit = cache.lookup(entry["question"])
            assert hit, "it is whole"
            assert hit.answer.startswith("answer ")
            assert hit.answer == hit.answer[: hit.answer.index(" ", 7) + 1] * 200
        assert not cache.stats().errors
