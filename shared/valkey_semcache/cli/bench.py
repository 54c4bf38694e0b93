"""`semcache bench`: what a hit, a miss and a store take on the user's own server.

Rule of this file: only what was really measured is shown, and beside it what the bare client takes
for the same bytes. Under a name of its own; what was stored is removed, whatever happens.
"""

from __future__ import annotations

import json
import secrets
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.errors import ServerUnreachableError

_WORDS = ("how", "what", "why", "when", "where", "who", "which", "does", "can", "should")
_OTHER_WORDS = " please"
_UNCOUNTED = 10  # look-ups of each kind, before those that count


class _Drawn:
    """Vectors drawn by the text: near for texts that begin alike. Embedding takes next to no time,
    so that the server is what is measured."""

    model = "bench"

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> list[Any]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Any:
        topic = text.removesuffix(_OTHER_WORDS)
        vector = np.random.default_rng(zlib.crc32(topic.encode())).standard_normal(self.dimensions)
        if topic != text:
            vector[:4] *= 1.05
        return vector.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Measured:
    """How long one kind of call took, in milliseconds."""

    what: str
    calls: int
    p50: float
    p95: float
    per_second: float


def run(
    url: str | None,
    *,
    entries: int,
    calls: int,
    answer_bytes: int,
    dimensions: int,
    index: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Store, look up, show, and clear away.

    Args:
        url: The server; None for the environment's.
        entries: Answers that are stored, in one scope.
        calls: Look-ups of each kind.
        answer_bytes: Of each answer.
        dimensions: Of the vectors.
        index: The kind of index.
        timeout: Seconds to wait for each answer.
        as_json: Whether JSON is printed.
    """
    name = f"semcache-bench-{secrets.token_hex(4)}"
    options: dict[str, Any] = {"name": name, "index": index, "timeout": timeout, "guards": ()}
    options |= {"compress_over": None, "ttl": 3600, "on_error": "raise", "fleet_stats": False}
    with SemanticCache(_Drawn(dimensions), url, **options) as cache:
        try:
            measured = list(_measure(cache, entries, calls, "x" * answer_bytes))
            kind = cache.stats().index or "?"
        finally:
            cache.clear()
    about = {"entries": entries, "answer_bytes": answer_bytes, "dimensions": dimensions}
    if as_json:
        told = {**about, "index": kind, "milliseconds": [asdict(one) for one in measured]}
        print(json.dumps(told, indent=2))  # noqa: T201
    else:
        _show(measured, {**about, "index": kind})


def _measure(cache: SemanticCache, entries: int, calls: int, answer: str) -> list[Measured]:
    topics = [f"{_WORDS[n % len(_WORDS)]} {n:08d}x" for n in range(entries)]
    # A number is an exact feature; letters keep all in one scope.
    topics = [topic.translate(str.maketrans("0123456789", "abcdefghij")) for topic in topics]
    asked = [topics[n % entries] for n in range(calls)]
    stored = _timed("store", topics, lambda topic: cache.store(topic, answer))
    client, key = cache._drive.server.line().client, cache.key_of(cache.settled(topics[0]))
    bare = _timed(
        "bare client: HMGET of an entry", asked, lambda _: client.execute_command("HMGET", key, "p")
    )
    return [
        stored,
        bare,
        _timed("hit, the very words", asked, cache.lookup, hits=True),
        _timed("hit, other words", [t + _OTHER_WORDS for t in asked], cache.lookup, hits=True),
        _timed("miss", [f"unheard {topic}" for topic in asked], cache.lookup, hits=False),
    ]


def _timed(
    what: str, given: Sequence[str], call: Callable[[str], Any], hits: bool | None = None
) -> Measured:
    """Each call timed by itself, look-ups after some that are not counted.

    Raises:
        ServerUnreachableError: A call did not come to what it was to measure.
    """
    times = []
    uncounted = [] if what == "store" else given[:_UNCOUNTED]
    for place, text in enumerate([*uncounted, *given]):
        begun = time.perf_counter()
        outcome = call(text)
        spent = time.perf_counter() - begun
        if hits is not None and bool(outcome) != hits:
            raise ServerUnreachableError(f"The server lost entries while measuring: {outcome!r}.")
        if place >= len(uncounted):
            times.append(1000 * spent)
    cuts = statistics.quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 20
    return Measured(
        what=what,
        calls=len(times),
        p50=round(statistics.median(times), 4),
        p95=round(cuts[18], 4),
        per_second=round(1000 * len(times) / sum(times), 1),
    )


def _show(measured: Sequence[Measured], about: dict[str, Any]) -> None:
    console = Console(highlight=False)
    title = (
        f"\n{about['entries']:,} entries of {about['answer_bytes']:,} bytes, vectors of "
        f"{about['dimensions']:,}, index {about['index']}, one call after the other"
    )
    console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("call", ratio=1)
    for header in ("calls", "p50 ms", "p95 ms", "per second"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in measured:
        table.add_row(
            *(one.what, f"{one.calls:,}", f"{one.p50:.3f}", f"{one.p95:.3f}"),
            f"{one.per_second:,.0f}",
        )
    console.print(table)
    console.print(
        "Embedding is left out: it comes on top of hits by other words and of misses.", style="dim"
    )
