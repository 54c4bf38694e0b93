"""Bytes in Valkey for each entry, by the dimension of the vectors.

    python -m benchmarks.sizing --plain valkey://localhost:6379 --search valkey://localhost:6380

Needs servers that hold nothing else: a plain Valkey for the flat index, one with valkey-search for
the other; either may be left out. Entries are stored as an app stores them, all of one scope, and
what `used_memory` has grown by is divided by their number. So it holds all that an entry costs:
its hash, its key, and its line in the flat index's log or its place in the module's index. Answers
have 1,000 bytes, which is too little to be compressed (`compress_over`).
"""

from __future__ import annotations

import argparse
import random
import string
import sys
import time
from typing import Any

import valkey

from benchmarks.setting import RandomEmbedder, about, write
from valkey_semcache import Question, SemanticCache

DIMENSIONS = (384, 768, 1_536, 3_072)
COUNT = 20_480  # a whole number of the blocks by which the module's indexes grow
ANSWER = 1_000
KINDS = ("flat", "search", "hnsw")


def letters(count: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_letters, k=count))


def asked(number: int) -> Question:
    """A question of some fifty letters without digits: those would be an exact feature."""
    return Question(f"{letters(24, number)} {letters(24, -number)}", identity="gpt-4o")


def used(client: valkey.Valkey) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def settled(client: valkey.Valkey) -> int:
    """The memory in use, once it no longer changes by more than 0.1%."""
    before = used(client)
    while True:
        time.sleep(0.5)
        now = used(client)
        if abs(now - before) < before / 1000:
            return now
        before = now


def measure(url: str, kind: str, dimension: int, count: int) -> dict[str, Any]:
    """Bytes an entry, all told, and of its hash alone."""
    algorithm: Any = "hnsw" if kind == "hnsw" else "flat"
    options: dict[str, Any] = {"index": "flat"} if kind == "flat" else {"index": "search"}
    if kind != "flat":
        options |= {"algorithm": algorithm}
    embedder = RandomEmbedder(dimension)
    with (
        valkey.Valkey.from_url(url) as client,
        SemanticCache(
            embedder, url, name="sizing", timeout=60.0, on_error="raise", **options
        ) as cache,
    ):
        cache.clear()
        before = settled(client)
        for begin in range(0, count, 1000):
            numbers = range(begin, min(begin + 1000, count))
            stored = cache.store_many([(asked(n), letters(ANSWER, n)) for n in numbers])
            assert all(stored)
        after = settled(client)
        keys = [cache.key_of(cache.settled(asked(n))) for n in range(0, count, count // 200)]
        hashes = [int(client.memory_usage(key, samples=0) or 0) for key in keys]
        found = cache.lookup(asked(count // 2))
        assert found
        assert len(found.answer) == ANSWER
        cache.clear()
    return {
        "index": kind,
        "dimension": dimension,
        "entries": count,
        "bytes": (after - before) / count,
        "hash": sum(hashes) / len(hashes),
    }


def page(facts: dict[str, Any]) -> str:
    rows = facts["rows"]
    told = {(row["index"], row["dimension"]): row for row in rows}
    kinds = [kind for kind in KINDS if any(row["index"] == kind for row in rows)]
    heads = {
        "flat": "any Valkey, the flat index",
        "search": "valkey-search, FLAT",
        "hnsw": "valkey-search, HNSW",
    }
    lines = [
        "# Bytes for each entry",
        "",
        f"{facts['on']}, Python {facts['python']}, {facts['date']}. Growth of `used_memory` over "
        f"{rows[0]['entries']:,} entries of one scope, divided by their number; answers of "
        "1,000 bytes, not compressed, questions of 49 letters, a TTL. In brackets the entry's hash "
        "alone (`MEMORY USAGE`). Made by `python -m benchmarks.sizing`.",
        "",
        "| dimensions | " + " | ".join(heads[kind] for kind in kinds) + " |",
        "|---" * (1 + len(kinds)) + "|",
    ]
    for dimension in DIMENSIONS:
        cells = [told[kind, dimension] for kind in kinds]
        shown = [f"{cell['bytes']:,.0f} ({cell['hash']:,.0f})" for cell in cells]
        lines.append(f"| {dimension:,} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def empty(url: str) -> dict[str, str]:
    """What a server is, if it holds nothing."""
    with valkey.Valkey.from_url(url) as client:
        if client.dbsize():
            sys.exit(f"A server is not empty; this measures on such as hold nothing else: {url}")
        return about(client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", help="URL of a Valkey without modules")
    parser.add_argument("--search", help="URL of a Valkey with valkey-search")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--name", default="SIZING")
    options = parser.parse_args()
    urls = {"flat": options.plain, "search": options.search, "hnsw": options.search}
    kinds = [kind for kind in KINDS if urls[kind]]
    if not kinds:
        sys.exit("Neither --plain nor --search names a server.")
    servers = {url: empty(url) for url in dict.fromkeys(urls[kind] for kind in kinds)}
    rows = []
    for kind in kinds:
        for dimension in DIMENSIONS:
            rows.append(measure(urls[kind], kind, dimension, options.count))
            print(rows[-1], flush=True)
    named = [" with ".join(f[n] for n in ("server", "module") if n in f) for f in servers.values()]
    some = next(iter(servers.values()))
    facts = {"on": "; ".join(named), "python": some["python"], "date": some["date"], "rows": rows}
    write(options.name, facts, page(facts))


if __name__ == "__main__":
    main()
