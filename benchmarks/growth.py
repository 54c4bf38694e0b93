"""How look-ups, memory and filling grow with the entries and with the asked scope.

    make bench-growth
    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.growth --totals 1000 10000

Writes GROWTH.md, GROWTH.json and a chart for each figure. With `SEMCACHE_TEST_URL`, a server with
valkey-search that holds nothing else, three ways of searching are measured on it, one after the
other: the cache with the search index, the cache with the flat index, and, beside them, a plain
HNSW index filtered by a tag, as other packages use it. Without, there is a plain Valkey and the
flat index alone: the stand-in's times are none of a server's.

Asked is for near copies of stored questions (similarity 0.95, threshold 0.9) of random directions,
the hardest for a graph; found is what was stored under that very question. With 100,000 entries it
takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import valkey

from benchmarks.growth_page import page, plot
from benchmarks.index_pair import ANSWER, asked, letters
from benchmarks.setting import RandomEmbedder, about, p50, p95, write
from benchmarks.sizing import settled
from valkey_semcache import Question, SemanticCache

TOTALS = (1_000, 10_000, 100_000)
SIZES = (1, 50, 200, 1_000, 5_000, 20_000)
SECONDS = 3.0  # that a cell is measured for, at most
LEAST = 20  # look-ups of a cell, however long they take
BATCH = 1_000
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

Row = dict[str, Any]
Entry = tuple[str, int]  # a scope and a number


class Cached:
    """The cache, on one of its indexes."""

    def __init__(self, url: str, index: Literal["search", "flat"], name: str) -> None:
        self.index = index
        self.cache = cache(url, name, index)

    def fill(self, entries: list[Entry]) -> None:
        stored = self.cache.store_many([(question(*entry), ANSWER) for entry in entries])
        assert all(stored)

    def ready(self, scope: str, size: int, seconds: float) -> None:
        """Look up until a scope that has outgrown FLAT is served by HNSW."""
        until = time.monotonic() + seconds
        while self.index == "search" and time.monotonic() < until:
            for number in range(5):
                self.find(scope, number)
            if self.cache.stats().outgrown:
                return
            time.sleep(0.2)

    def find(self, scope: str, number: int) -> bool:
        hit = self.cache.lookup(question(scope, number, near=True))
        return bool(hit) and hit.question == asked(scope, number)

    def close(self) -> None:
        self.cache.clear()
        self.cache.close()


class PlainHNSW:
    """An HNSW index with the server's defaults and a tag for the scope, one neighbour asked for."""

    def __init__(self, url: str, name: str) -> None:
        self.client = valkey.Valkey.from_url(url, socket_timeout=60)
        self.name = name
        self.embedder = RandomEmbedder()
        self.client.execute_command(
            *("FT.CREATE", name, "ON", "HASH", "PREFIX", 1, f"{name}:", "SCHEMA", "s", "TAG"),
            *("v", "VECTOR", "HNSW", 6, "TYPE", "FLOAT32", "DIM", 384),
            *("DISTANCE_METRIC", "COSINE"),
        )

    def fill(self, entries: list[Entry]) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for scope, number in entries:
                text = asked(scope, number)
                fields = {"s": scope, "v": self.vector(text), "q": text, "answer": ANSWER}
                pipeline.hset(f"{self.name}:{text.replace(' ', '-')}", mapping=fields)
            pipeline.execute()

    def ready(self, scope: str, size: int, seconds: float) -> None:
        """It is."""

    def find(self, scope: str, number: int) -> bool:
        text = asked(scope, number)
        reply: Any = self.client.execute_command(
            *("FT.SEARCH", self.name, f"(@s:{{{scope}}})=>[KNN 1 @v $q AS d]"),
            *("PARAMS", 2, "q", self.vector(f"{text}~"), "RETURN", 3, "d", "q", "answer"),
            *("TIMEOUT", 30_000, "DIALECT", 2),
        )
        return len(reply) > 2 and text.encode() in reply[2]

    def vector(self, text: str) -> bytes:
        return np.asarray(self.embedder.vector(text), np.float32).tobytes()

    def close(self) -> None:
        self.client.execute_command("FT.DROPINDEX", self.name)
        for keys in batches(self.client.scan_iter(f"{self.name}:*", count=BATCH)):
            self.client.unlink(*keys)
        self.client.close()


def cache(url: str, name: str, index: str, **options: Any) -> SemanticCache:
    """A cache for many entries that stay."""
    options = {"timeout": 60.0, "flat_max_bytes": 2**30} | options
    kind: Any = index
    return SemanticCache(
        RandomEmbedder(), url, name=name, index=kind, ttl=None, on_error="raise", **options
    )


def question(scope: str, number: int, *, near: bool = False) -> Question:
    return Question(asked(scope, number) + ("~" if near else ""), context=scope)


def batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    values = iter(values)
    while batch := list(islice(values, BATCH)):
        yield batch


def spread(total: int) -> Iterator[dict[str, int]]:
    """So many entries in scopes of each size, and in one."""
    sizes = [size for size in SIZES if size < total / 2]
    scopes = {f"s{letters(size)}": size for size in sizes}
    yield scopes | {"rest": total - sum(sizes)}
    yield {"all": total}


def measured(find: Callable[[str, int], bool], scope: str, size: int) -> Row:
    """p50 and p95 in ms and the share found, over look-ups of different questions."""
    lot = random.Random(2)
    for number in lot.choices(range(size), k=5):
        find(scope, number)
    spent, found, until = [], 0, time.perf_counter() + SECONDS
    while len(spent) < LEAST or (time.perf_counter() < until and len(spent) < 400):
        number = lot.randrange(size)
        began = time.perf_counter()
        found += find(scope, number)
        spent.append(1000 * (time.perf_counter() - began))
    return {"scope": size, "p50": p50(spent), "p95": p95(spent), "recall": found / len(spent)}


def run(url: str, ways: list[str], totals: list[int], wait: float) -> tuple[list[Row], list[Row]]:
    """Cells (a way, so many entries, a scope) and fillings (a way, so many entries)."""
    cells, fillings = [], []
    with valkey.Valkey.from_url(url) as client:
        for total in totals:
            for way in ways:
                for place, scopes in enumerate(spread(total)):
                    name = f"growth-{way}-{letters(total)}-{place}"
                    searched = PlainHNSW(url, name) if way == "plain" else Cached(url, way, name)  # type: ignore[arg-type]
                    about_it = {"way": way, "total": total, "all": "all" in scopes}
                    try:
                        fillings.append(about_it | filled(client, searched, scopes))
                        largest = max(scopes, key=lambda scope: scopes[scope])
                        searched.ready(largest, scopes[largest], wait if total > 20_000 else 5.0)
                        for scope, size in scopes.items():
                            if scope != "rest":
                                cell = measured(searched.find, scope, size)
                                cells.append(about_it | cell)
                                print(cells[-1], flush=True)
                        if way == "flat" and "all" in scopes:
                            fillings[-1] |= fresh_process(url, name, total)
                            print(fillings[-1], flush=True)
                    finally:
                        searched.close()
    return cells, fillings


def filled(client: valkey.Valkey, searched: Cached | PlainHNSW, scopes: dict[str, int]) -> Row:
    """Entries a second, and what each takes in the server."""
    before = settled(client)
    entries = [(scope, n) for scope, count in scopes.items() for n in range(count)]
    if len(scopes) > 1:  # of one scope, the last is the newest
        random.Random(3).shuffle(entries)
    began = time.perf_counter()
    for batch in batches(entries):
        searched.fill(batch)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "rate": len(entries) / seconds,
        "bytes": (settled(client) - before) / len(entries),
    }


# The flat index in a process that knows nothing yet


def fresh_process(url: str, name: str, total: int) -> Row:
    """What the flat index costs a process: the first look-up, and memory, with and without a
    bound that is too low for all vectors."""
    free = in_fresh_process(url, name, total, 2**30)
    bound = max(2**20, total * 384)  # a fourth of what the vectors take
    tight = in_fresh_process(url, name, total, bound)
    return {
        "sync_seconds": free["seconds"],
        "process_bytes": free["bytes"] / total,
        "bound": bound,
        "bound_bytes": tight["bytes"],
        "bound_finds_newest": tight["found"],
    }


def in_fresh_process(url: str, name: str, total: int, bound: int) -> Row:
    words = [url, name, str(total), str(bound)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", "--first-look-up", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    told: Row = json.loads(done.stdout)
    return told


def first_look_up(url: str, name: str, total: int, bound: int) -> Row:
    """Of this process: seconds, and the memory that it has more afterwards."""
    with cache(url, name, "flat", flat_max_bytes=bound) as kept:
        # Opens the index and warms up all else, in a scope of its own.
        kept.lookup(question("nothing", 1))
        before = resident()
        began = time.perf_counter()
        found = bool(kept.lookup(question("all", total - 1, near=True)))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "bytes": resident() - before, "found": found}


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE


@contextmanager
def server() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """A server that holds nothing else, what can be measured on it, and what it is."""
    url = os.environ.get("SEMCACHE_TEST_URL")
    if url:
        with valkey.Valkey.from_url(url) as client:
            if client.dbsize():
                sys.exit("The server is not empty; this measures on one that holds nothing else.")
            yield url, ["search", "flat", "plain"], about(client)
        return
    from tests.standin import PlainValkey

    with PlainValkey() as plain, valkey.Valkey.from_url(plain.url) as client:
        yield plain.url, ["flat"], about(client)


def main() -> None:
    if sys.argv[1:2] == ["--first-look-up"]:
        url, name, total, bound = sys.argv[2:]
        print(json.dumps(first_look_up(url, name, int(total), int(bound))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--totals", type=int, nargs="+", default=list(TOTALS))
    parser.add_argument("--ways", nargs="+", help="of search, flat and plain; all by default")
    parser.add_argument("--wait", type=float, default=240.0, help="seconds for the HNSW index")
    parser.add_argument("--name", default="GROWTH")
    options = parser.parse_args()
    with server() as (url, ways, facts):
        ways = [way for way in ways if way in (options.ways or ways)]
        cells, fillings = run(url, ways, options.totals, options.wait)
    told = {**facts, "cells": cells, "fillings": fillings}
    write(options.name, told, page(told, options.name))
    plot(told, options.name)


if __name__ == "__main__":
    main()
