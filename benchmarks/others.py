"""Other packages for the same purpose, on the same server, with the same vectors.

    python -m venv .venv-others
    .venv-others/bin/pip install -e . betterdb-semantic-cache litellm 'redis<6'
    SEMCACHE_TEST_URL=valkey://localhost:6379 .venv-others/bin/python -m benchmarks.others

Writes OTHERS.md and OTHERS.json. Needs a server with valkey-search that holds nothing else. Each
package is used through its own public interface: `betterdb-semantic-cache` by `check` and `store`,
a category for each scope; LiteLLM by its `Cache` of the type `valkey-semantic`, a model for each
scope. One that is not installed is left out. All get the same ready-made vectors, are asked for the
same rewordings (similarity 0.95, to be served from 0.9), and store one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import valkey
import valkey.asyncio

from benchmarks.setting import RandomEmbedder, about, p50, p95, write
from valkey_semcache import Question, SemanticCache

SCOPES = ("loans", "cards", "insurance", "travel")
ANSWER = "You find this in the menu under your own name, third line from above. " * 14

# Nobody is to be told of this run, nor asked for prices.
os.environ["BETTERDB_TELEMETRY"] = "off"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

Row = dict[str, Any]
Call = Callable[[str, str], Awaitable[Any]]


def asked(number: int) -> str:
    """A question without digits."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return f"what is to be done about the matter of {letters}"


class Vectors:
    """Ready-made vectors, made once for all packages."""

    model = "prepared-384"

    def __init__(self, count: int) -> None:
        source = RandomEmbedder()
        self.rows: dict[str, list[float]] = {}
        for number in range(count):
            for text in (asked(number), f"{asked(number)}~"):
                self.rows[text] = source.vector(text).tolist()

    def embed(self, texts: list[str]) -> list[list[float]]:
        return [self.rows[text] for text in texts]

    async def aembed(self, texts: list[str]) -> list[list[float]]:
        return self.embed(texts)

    async def one(self, text: str) -> list[float]:
        # `betterdb-semantic-cache` embeds a word of its own to learn the dimension.
        return self.rows.get(text, self.rows[asked(0)])


async def ours(url: str, vectors: Vectors, count: int, times: int) -> Row:
    """This package, by `astore` and `alookup`."""
    async with SemanticCache(vectors, url, name="others-ours", timeout=30.0) as cache:

        async def store(scope: str, text: str) -> None:
            assert await cache.astore(Question(text, context=scope), ANSWER)

        async def look_up(scope: str, text: str) -> bool:
            hit = await cache.alookup(Question(text, context=scope))
            return bool(hit) and hit.question == text.rstrip("~")

        return await measured(store, look_up, count, times)


async def betterdb(url: str, vectors: Vectors, count: int, times: int) -> Row:
    """`betterdb-semantic-cache`, which is async."""
    from betterdb_semantic_cache import SemanticCache as Cache
    from betterdb_semantic_cache import SemanticCacheOptions
    from betterdb_semantic_cache.types import CacheCheckOptions, CacheStoreOptions

    client = valkey.asyncio.Valkey.from_url(url)
    cache = Cache(
        SemanticCacheOptions(
            client=client, embed_fn=vectors.one, name="others_betterdb", default_threshold=0.1
        )
    )
    await cache.initialize()

    async def store(scope: str, text: str) -> None:
        await cache.store(text, f"{text}: {ANSWER}", CacheStoreOptions(category=scope))

    async def look_up(scope: str, text: str) -> bool:
        options = CacheCheckOptions(category=scope, filter=f"@category:{{{scope}}}")
        found = await cache.check(text, options)
        return found.hit and str(found.response).startswith(text.rstrip("~"))

    try:
        return await measured(store, look_up, count, times)
    finally:
        await cache.flush()
        await cache.shutdown()
        await client.aclose()


async def litellm(url: str, vectors: Vectors, count: int, times: int) -> Row:
    """LiteLLM's cache of the type `valkey-semantic`, by its sync methods."""
    import litellm as package
    from litellm.caching.caching import Cache

    class Ready(package.CustomLLM):  # type: ignore[misc]
        def embedding(self, *args: Any, **kwargs: Any) -> Any:
            given, response = kwargs["input"], kwargs["model_response"]
            texts = [given] if isinstance(given, str) else given
            response.data = [
                {"object": "embedding", "index": place, "embedding": vectors.rows[text]}
                for place, text in enumerate(texts)
            ]
            return response

    package.custom_provider_map = [{"provider": "ready", "custom_handler": Ready()}]
    server = valkey.Valkey.from_url(url).connection_pool.connection_kwargs
    cache = Cache(
        type="valkey-semantic",  # type: ignore[arg-type]
        host=server["host"],
        port=str(server["port"]),
        similarity_threshold=0.9,
        valkey_semantic_cache_embedding_model="ready/made",
        valkey_semantic_cache_index_name="others_litellm",
    )

    def call(scope: str, text: str) -> Row:
        return {"model": scope, "messages": [{"role": "user", "content": text}]}

    async def store(scope: str, text: str) -> None:
        # As its completions are: JSON.
        cache.add_cache(json.dumps({"answer": f"{text}: {ANSWER}"}), **call(scope, text))

    async def look_up(scope: str, text: str) -> bool:
        found = cache.get_cache(**call(scope, text))
        return found is not None and text.rstrip("~") in str(found)

    return await measured(store, look_up, count, times)


async def measured(store: Call, look_up: Call, count: int, times: int) -> Row:
    """Stores a second; look-ups' wall and processor times in ms, and the share found."""
    numbers = list(range(count))
    random.Random(3).shuffle(numbers)
    began = time.perf_counter()
    for number in numbers:
        await store(SCOPES[number % len(SCOPES)], asked(number))
    stored = count / (time.perf_counter() - began)
    wall, cpu, found = [], [], 0
    for number in random.Random(4).choices(range(count), k=times + 20):
        began, busy = time.perf_counter(), time.process_time()
        found += bool(await look_up(SCOPES[number % len(SCOPES)], f"{asked(number)}~"))
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - busy))
    wall, cpu = wall[20:], cpu[20:]
    return {
        "stores_a_second": stored,
        "wall_p50": p50(wall),
        "wall_p95": p95(wall),
        "cpu_p50": p50(cpu),
        "found": found / (times + 20),
    }


PACKAGES = {
    "valkey-semcache": ours,
    "betterdb-semantic-cache": betterdb,
    "litellm": litellm,
}


def page(told: Row) -> str:
    lines = [
        "# Beside other packages",
        "",
        f"{told['server']}, {told.get('module', 'no module')}, Python {told['python']}, "
        f"{told['date']}. {told['entries']:,} entries in 4 scopes, 384 dimensions, random unit "
        "vectors, ready-made, answers of 1 kB, one client. Other wordings of stored questions are "
        "asked for (similarity 0.95); found is what was stored under that very question. Each "
        "package through its own public interface and with its own defaults, this one among them; "
        "LiteLLM asks for vectors through its own `embedding()`, whose time is within. "
        "Made by `python -m benchmarks.others`.",
        "",
        "| package | look-up, p50 in ms (p95) | of it processor time | found | stores a second |",
        "|---|---|---|---|---|",
    ]
    for name, row in told["packages"].items():
        if "reason" in row:
            lines.append(f"| {name} | {row['reason']} | | | |")
        else:
            lines.append(
                f"| {name} {row['version']} | {row['wall_p50']:.2f} ({row['wall_p95']:.2f}) | "
                f"{row['cpu_p50']:.2f} | {row['found']:.1%} | {row['stores_a_second']:,.0f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=5_000)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--name", default="OTHERS")
    options = parser.parse_args()
    url = os.environ.get("SEMCACHE_TEST_URL") or sys.exit("SEMCACHE_TEST_URL names no server.")
    vectors = Vectors(options.entries)
    packages: dict[str, Row] = {}
    with valkey.Valkey.from_url(url) as client:
        if client.dbsize():
            sys.exit("The server is not empty; this measures on one that holds nothing else.")
        facts = about(client)
        for name, measure in PACKAGES.items():
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                packages[name] = {"reason": "not installed"}
                print(f"{name} is not installed, so it is left out.", flush=True)
                continue
            try:
                row = asyncio.run(measure(url, vectors, options.entries, options.times))
                packages[name] = {"version": version, **row}
            except Exception as error:  # noqa: BLE001 - what others cannot do is a result too
                packages[name] = {"reason": f"{version} failed: {type(error).__name__}: {error}"}
            print(name, packages[name], flush=True)
            empty(client)
    told = {**facts, "entries": options.entries, "packages": packages}
    write(options.name, told, page(told))


def empty(client: valkey.Valkey) -> None:
    """Remove what a package has left on this server of ours."""
    for name in client.execute_command("FT._LIST"):  # type: ignore[union-attr]
        client.execute_command("FT.DROPINDEX", name)
    client.flushdb()


if __name__ == "__main__":
    main()
