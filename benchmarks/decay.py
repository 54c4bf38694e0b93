"""No decay: ten times the live size stored and expired, and what a store and the memory cost then.

    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.decay

Needs a server with valkey-search that holds nothing else. In each round as many entries are stored
as are alive at once, and those of the round before expire. Beside the cache stands a plain HNSW
index over keys of the same size, written and deleted in the same way, as other packages use it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import valkey
from rich.progress import track

from benchmarks.index_pair import ANSWER, asked, cache, letters
from benchmarks.setting import RandomEmbedder, about, p50, timed, write
from valkey_semcache import Question, SemanticCache

PLAIN = "plain"


def memory(client: valkey.Valkey) -> float:
    """MiB in use."""
    info: Any = client.info("memory")
    return float(info["used_memory"]) / 2**20


class Ours:
    """The cache, with HNSW alone: the case in which decay would show."""

    def __init__(self, url: str) -> None:
        self.cache: SemanticCache = cache(url, "decay", "hnsw")

    def store(self, name: str) -> None:
        self.cache.store(Question(name), ANSWER)

    def remove(self, name: str) -> None:
        self.cache.delete(Question(name))

    def finds(self, name: str) -> bool:
        return bool(self.cache.lookup(Question(f"{name}~")))

    def told(self) -> str:
        return f"generation {self.cache.stats().generation}"


class Plain:
    """One HNSW index, made once."""

    def __init__(self, client: valkey.Valkey) -> None:
        self.client = client
        self.embedder = RandomEmbedder()
        vector = ("TYPE", "FLOAT32", "DIM", 384, "DISTANCE_METRIC", "COSINE")
        schema = ("SCHEMA", "s", "TAG", "v", "VECTOR", "HNSW", len(vector), *vector)
        client.execute_command("FT.CREATE", PLAIN, "ON", "HASH", "PREFIX", 1, "plain:", *schema)

    def store(self, name: str) -> None:
        vector = self.embedder.vector(name).astype("<f4").tobytes()
        self.client.hset(f"plain:{name}", mapping={"s": "a", "v": vector, "p": ANSWER})

    def remove(self, name: str) -> None:
        self.client.unlink(f"plain:{name}")

    def finds(self, name: str) -> bool:
        vector = self.embedder.vector(f"{name}~").astype("<f4").tobytes()
        query = ("(@s:{a})=>[KNN 3 @v $q AS d]", "PARAMS", 2, "q", vector, "DIALECT", 2)
        reply: Any = self.client.execute_command("FT.SEARCH", PLAIN, *query)
        return bool(reply[0])

    def told(self) -> str:
        return ""


def run(kept: Ours | Plain, client: valkey.Valkey, live: int, rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    before = memory(client)
    for number in range(rounds):
        spent = []
        for place in track(range(live), description=f"{type(kept).__name__} round {number + 1}"):
            name = asked(letters(number), place)
            spent.append(timed(lambda n=name: kept.store(n))[0])
            if number:
                kept.remove(asked(letters(number - 1), place))
        time.sleep(1.0)
        found = sum(
            kept.finds(asked(letters(number), place)) for place in range(0, live, live // 200)
        )
        rows.append(
            {
                "round": number + 1,
                "store": p50(spent),
                "mib": memory(client) - before,
                "found": found / len(range(0, live, live // 200)),
                "told": kept.told(),
            }
        )
        print(rows[-1], flush=True)
    return rows


def page(facts: dict[str, str], live: int, runs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "# No decay",
        "",
        f"{facts['server']}, {facts.get('module')}, Python {facts['python']}, {facts['date']}. "
        f"{live:,} entries alive, 384 dimensions; each round stores as many and removes those of "
        "the round before. p50 of a store in ms, memory in MiB, share found. Made by "
        "`python -m benchmarks.decay`.",
        "",
        "| round | the cache, HNSW alone | | | | one HNSW index, made once | | |",
        "|---|---|---|---|---|---|---|---|",
        "| | store | memory | found | | store | memory | found |",
    ]
    for ours, plain in zip(runs["ours"], runs["plain"], strict=True):
        cells = [str(ours["round"])]
        for row in (ours, plain):
            cells += [f"{row['store']:.2f}", f"{row['mib']:.0f}", f"{row['found']:.1%}"]
            cells += [row["told"]] if row is ours else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    url = os.environ.get("SEMCACHE_TEST_URL") or sys.exit("SEMCACHE_TEST_URL names no server.")
    with valkey.Valkey.from_url(url) as client:
        if client.dbsize():
            sys.exit("The server is not empty; this measures on one that holds nothing else.")
        facts = about(client)
        ours = Ours(url)
        runs = {"ours": run(ours, client, options.live, options.rounds)}
        ours.cache.clear()
        time.sleep(1.0)
        runs["plain"] = run(Plain(client), client, options.live, options.rounds)
        client.execute_command("FT.DROPINDEX", PLAIN)
        for key in client.scan_iter("plain:*", count=1000):
            client.unlink(key)
    write("DECAY", {**facts, "live": options.live, **runs}, page(facts, options.live, runs))


if __name__ == "__main__":
    main()
