"""No cliff: FLAT, HNSW, and the pair of both, by the size of the asked scope.

    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.index_pair

Needs a server with valkey-search that holds nothing else. Three caches look at the same entries:
one uses FLAT alone, one HNSW alone, one the pair, each through `lookup`. Asked is for near copies
of stored questions (similarity 0.95, threshold 0.9). The figures are those of whole look-ups: an
HMGET, a vector that is ready-made, an FT.SEARCH.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from typing import Any

import valkey
from rich.progress import track

from benchmarks.setting import RandomEmbedder, about, p50, p95, timed, write
from valkey_semcache import Question, SemanticCache

SIZES = (50, 200, 1_000, 5_000, 20_000)
TOTAL = 100_000
ANSWER = "x" * 200


def cache(url: str, name: str, algorithm: str) -> SemanticCache:
    return SemanticCache(
        RandomEmbedder(),
        url,
        name=name,
        index="search",
        algorithm=algorithm,  # type: ignore[arg-type]
        timeout=30.0,
        ttl=None,
        on_error="raise",
    )


def fill(url: str, name: str, scopes: dict[str, int]) -> None:
    """Store so many questions in each scope."""
    with cache(url, name, "flat") as store:
        entries = [(scope, n) for scope, count in scopes.items() for n in range(count)]
        for scope, number in track(entries, description=f"filling {name}"):
            store.store(Question(asked(scope, number), context=scope), ANSWER)


def asked(scope: str, number: int) -> str:
    """A question without digits: those would be an exact feature."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return f"{scope} question {letters}"


def warm(kept: SemanticCache, scope: str, size: int, times: int) -> None:
    for number in random.Random(1).choices(range(size), k=times):
        kept.lookup(Question(asked(scope, number) + "~", context=scope))


def measure(kept: SemanticCache, scope: str, size: int, times: int) -> dict[str, float]:
    """p50, p95 in ms and the share found, over so many look-ups of different questions."""
    spent, found = [], 0
    for number in random.Random(2).choices(range(size), k=times):
        question = Question(asked(scope, number) + "~", context=scope)
        ms, outcome = timed(lambda q=question: kept.lookup(q))
        spent.append(ms)
        found += bool(outcome) and outcome.question == asked(scope, number)
    return {"p50": p50(spent), "p95": p95(spent), "found": found / times}


def run(url: str, total: int, sizes: tuple[int, ...], times: int) -> list[dict[str, Any]]:
    rows = []
    rest = total - sum(sizes)
    for name, scopes in (
        ("many", {f"s{letters(size)}": size for size in sizes} | {"rest": rest}),
        ("one", {"all": total}),
    ):
        fill(url, name, scopes)
        largest = max(scopes, key=lambda scope: scopes[scope])
        with (
            cache(url, name, "flat") as flat,
            cache(url, name, "hnsw") as hnsw,
            cache(url, name, "auto") as pair,
        ):
            wait_for_graph(pair, largest, scopes[largest])
            for scope, size in scopes.items():
                if scope == "rest":
                    continue
                few = max(60, min(times, 20_000_000 // (size + 1) // 10))
                warm(pair, scope, size, 30)
                row: dict[str, Any] = {"total": total, "scope": size}
                row["flat"] = measure(flat, scope, size, few)
                row["hnsw"] = measure(hnsw, scope, size, few)
                row["pair"] = measure(pair, scope, size, times)
                rows.append(row)
                print(row, flush=True)
            print(pair.stats())
            pair.clear()
    return rows


def letters(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def wait_for_graph(pair: SemanticCache, scope: str, size: int) -> None:
    """Look up in the largest scope until HNSW serves it."""
    began = time.monotonic()
    while not pair.stats().outgrown:
        warm(pair, scope, size, 5)
        time.sleep(0.5)
        if time.monotonic() - began > 1800:
            sys.exit(f"HNSW did not come within half an hour: {pair.stats()}")
    print(f"HNSW serves {scope} after {time.monotonic() - began:.0f} s")


def page(facts: dict[str, str], rows: list[dict[str, Any]]) -> str:
    lines = [
        "# The index pair: no cliff",
        "",
        f"{facts['server']}, {facts.get('module', 'no module')}, Python {facts['python']}, "
        f"{facts['date']}. 384 dimensions, random unit vectors, near copies asked for (similarity "
        "0.95, threshold 0.9), one client on a machine of two cores shared with other work. Whole "
        "look-ups, p50 in ms (p95), share of the stored questions found; 400 look-ups a cell, of "
        "the slow ones at least 60. Made by `python -m benchmarks.index_pair`.",
        "",
        "| entries in the asked scope | FLAT alone | HNSW alone | the pair | pair / the better |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = []
        for kind in ("flat", "hnsw", "pair"):
            told = row[kind]
            cells.append(f"{told['p50']:.2f} ({told['p95']:.2f}), {told['found']:.1%}")
        better = min(row["flat"]["p50"], row["hnsw"]["p50"])
        cells.append(f"{row['pair']['p50'] / better:.2f}")
        lines.append(f"| {row['scope']:,} of {row['total']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--total", type=int, default=TOTAL)
    parser.add_argument("--times", type=int, default=600)
    parser.add_argument("--name", default="INDEX_PAIR")
    options = parser.parse_args()
    url = os.environ.get("SEMCACHE_TEST_URL") or sys.exit("SEMCACHE_TEST_URL names no server.")
    sizes = tuple(size for size in SIZES if size < options.total)
    with valkey.Valkey.from_url(url) as client:
        if client.dbsize():
            sys.exit("The server is not empty; this measures on one that holds nothing else.")
        facts = about(client)
    rows = run(url, options.total, sizes, options.times)
    write(options.name, {**facts, "rows": rows}, page(facts, rows))


if __name__ == "__main__":
    main()
