"""How look-ups, memory and filling grow with the entries and with the asked scope.

    make bench-growth
    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.growth --totals 1000 10000
    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.growth --totals 100000 --add

Writes GROWTH.md, GROWTH.json and a chart for each figure. With `SEMCACHE_TEST_URL`, a server with
valkey-search that holds nothing else, three ways of searching are measured on it, one after the
other: the cache with the search index, the cache with the flat index, and, beside them, a plain
HNSW index filtered by a tag, as other packages use it. Without, there is a plain Valkey and the
flat index alone: the stand-in's times are none of a server's.

Asked is for near copies of stored questions (similarity 0.95, threshold 0.9) of random directions,
the hardest for a graph; found is what was stored under that very question. What takes its time is
building a graph of 100,000 entries, some five minutes on two cores, which the plain index does once
and the cache twice: with `--add`, `--ways` and `--fills` it can be done in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice, product
from typing import Any, Literal

import numpy as np
import valkey

from benchmarks.growth_fresh import cache, fresh_process, question
from benchmarks.growth_page import page, plot
from benchmarks.index_pair import ANSWER, asked, letters
from benchmarks.setting import HERE, RandomEmbedder, about, p50, p95, write
from benchmarks.sizing import settled

TOTALS = (1_000, 10_000, 100_000)
SIZES = (1, 50, 200, 1_000, 5_000, 20_000)
SECONDS = 3.0  # that a cell is measured for, at most
LEAST = 20  # look-ups of a cell, however long they take
BATCH = 1_000
EVERYTHING = "everything"

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

    def ready(self, scope: str, size: int, seconds: float) -> bool:
        """Wait until a scope that has outgrown FLAT is served by HNSW; False if none is."""
        until = time.monotonic() + seconds
        while self.index == "search" and time.monotonic() < until:
            for number in range(3):
                self.find(scope, number)
            if self.cache.stats().outgrown:
                return True
            # Look-ups in a large scope take the processors from what builds the graph.
            time.sleep(min(2.0, seconds / 20))
        return self.index == "flat"

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
        """Store entries, each under its scope's tag and under one that all have."""
        with self.client.pipeline(transaction=False) as pipeline:
            for scope, number in entries:
                text = asked(scope, number)
                fields = {
                    "s": f"{scope},{EVERYTHING}",
                    "v": self.vector(text),
                    "q": text,
                    "answer": ANSWER,
                }
                pipeline.hset(f"{self.name}:{text.replace(' ', '-')}", mapping=fields)
            pipeline.execute()

    def ready(self, scope: str, size: int, seconds: float) -> bool:
        """It is."""
        return True

    def find(self, scope: str, number: int, tag: str = "") -> bool:
        text = asked(scope, number)
        reply: Any = self.client.execute_command(
            *("FT.SEARCH", self.name, f"(@s:{{{tag or scope}}})=>[KNN 1 @v $q AS d]"),
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


def batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    values = iter(values)
    while batch := list(islice(values, BATCH)):
        yield batch


def spread(total: int) -> dict[str, dict[str, int]]:
    """So many entries in scopes of each size, and in one."""
    sizes = [size for size in SIZES if size < total / 2]
    scopes = {f"s{letters(size)}": size for size in sizes}
    return {"spread": scopes | {"rest": total - sum(sizes)}, "all": {"all": total}}


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


def run(
    url: str, ways: list[str], totals: list[int], fills: list[str], wait: float
) -> tuple[list[Row], list[Row]]:
    """Cells (a way, so many entries, a scope) and fillings (a way, so many entries)."""
    cells, fillings = [], []
    with valkey.Valkey.from_url(url) as client:
        for total, way, fill in product(totals, ways, fills):
            if way == "plain" and fill == "all":
                continue  # all of its entries have one tag in common
            scopes = spread(total)[fill]
            name = f"growth-{way}-{letters(total)}-{fill}"
            searched = PlainHNSW(url, name) if way == "plain" else Cached(url, way, name)  # type: ignore[arg-type]
            about_it = {"way": way, "total": total, "fill": fill}
            try:
                patience = wait if total > 20_000 else 5.0
                fillings.append(about_it | filled(client, searched, scopes, patience))
                for scope, size in scopes.items():
                    cells.append(about_it | measured(searched.find, scope, size))
                    print(cells[-1], flush=True)
                if isinstance(searched, PlainHNSW):
                    find = partial(searched.find, tag=EVERYTHING)
                    cell = measured(find, "rest", scopes["rest"])
                    cells.append(about_it | cell | {"fill": "all", "scope": total})
                    print(cells[-1], flush=True)
                if way == "flat" and fill == "all":
                    fillings[-1] |= fresh_process(url, name, total)
                print(fillings[-1], flush=True)
            finally:
                searched.close()
    return cells, fillings


def filled(
    client: valkey.Valkey, searched: Cached | PlainHNSW, scopes: dict[str, int], wait: float
) -> Row:
    """Entries a second, how long their index takes after that, and the bytes in the server."""
    before = settled(client)
    entries = [(scope, n) for scope, count in scopes.items() for n in range(count)]
    if len(scopes) > 1:  # of one scope, the last is the newest
        random.Random(3).shuffle(entries)
    began = time.perf_counter()
    for batch in batches(entries):
        searched.fill(batch)
    seconds = time.perf_counter() - began
    largest = max(scopes, key=lambda scope: scopes[scope])
    ready = searched.ready(largest, scopes[largest], wait)
    return {
        "seconds": seconds,
        "rate": len(entries) / seconds,
        "ready_seconds": time.perf_counter() - began if ready else None,
        "bytes": (settled(client) - before) / len(entries),
    }


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


def added(known: list[Row], rows: list[Row]) -> list[Row]:
    """The rows, and what was known of others."""
    new = {(row["way"], row["total"], row["fill"]) for row in rows}
    others = [row for row in known if (row["way"], row["total"], row["fill"]) not in new]
    return sorted(others + rows, key=lambda row: (row["total"], row["fill"] == "all"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--totals", type=int, nargs="+", default=list(TOTALS))
    parser.add_argument("--ways", nargs="+", help="of search, flat and plain; all by default")
    parser.add_argument("--wait", type=float, default=600.0, help="seconds for the HNSW index")
    parser.add_argument("--fills", nargs="+", default=["spread", "all"], help="of these two")
    parser.add_argument("--add", action="store_true", help="to the figures that are there")
    parser.add_argument("--name", default="GROWTH")
    options = parser.parse_args()
    with server() as (url, ways, facts):
        ways = [way for way in ways if way in (options.ways or ways)]
        cells, fillings = run(url, ways, options.totals, options.fills, options.wait)
    if options.add:
        known = json.loads((HERE / f"{options.name}.json").read_text())
        cells, fillings = added(known["cells"], cells), added(known["fillings"], fillings)
    told = {**facts, "cells": cells, "fillings": fillings}
    write(options.name, told, page(told, options.name))
    plot(told, options.name)


if __name__ == "__main__":
    main()
