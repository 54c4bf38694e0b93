"""Whether `policy=Verified(max_error=δ)` keeps its bound on streams, and what it serves.

    make bench-verified        or        python -m benchmarks.verified [RUNS]

Writes benchmarks/VERIFIED.md, VERIFIED.json and two plots; about five minutes on two cores. The
streams are Banking77's, from the folder that SEMCACHE_BENCH_DATA names (by default
../shared/data). The policy itself decides, with labels packed and read as Valkey holds them; in
place of Valkey's index stand similarities that were computed once. One run is made again by a real
cache on a real Valkey, and must agree.
"""

from __future__ import annotations

import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.progress import track

from benchmarks import precision_data as data
from benchmarks import verified_page as page
from benchmarks.precision_data import Stream
from benchmarks.precision_rules import DEFAULTS, Known
from benchmarks.setting import write
from benchmarks.verified_stream import Fixed, Near, Outcomes, Policy, changed, streamed
from valkey_semcache import SemanticCache, Verified

RUNS = 20
ERRORS = (0.005, 0.01, 0.02, 0.05)
GRID = [round(0.6 + 0.01 * step, 2) for step in range(40)]
"""Fixed thresholds, of which the best in hindsight is looked for."""

REAL = 5_000  # requests of the run through a real cache
PART = 500  # requests that a point of the drawn learning stands for


def measured(stream: Stream, near: Near, seed: int) -> dict[str, Any]:
    """One run: the policy at each bound, and the best fixed threshold for it in hindsight."""
    fixed = _Fixed(stream, near)
    found = {}
    for bound in ERRORS:
        policy = Policy(Verified(bound, same_answer="exact", seed=seed))
        outcomes = streamed(stream, near, policy)
        threshold, best = fixed.best(bound)
        found[str(bound)] = {
            "verified": outcomes.figures,
            "labels": policy.labels,
            "fixed": {"threshold": threshold, **best},
        }
    return found


class _Fixed:
    """A stream at fixed thresholds, each asked once."""

    def __init__(self, stream: Stream, near: Near) -> None:
        self._stream, self._near = stream, near
        self._known: dict[int, dict[str, float]] = {}

    def best(self, bound: float) -> tuple[float, dict[str, float]]:
        """The threshold with the most hits of those that hold the bound, and its figures."""
        low, high = -1, len(GRID) - 1  # the first does not hold, the last does
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds(middle, bound) else (middle, high)
        # Errors are not quite monotone: those just below may hold again.
        holding = [p for p in range(max(0, high - 3), high + 1) if self._holds(p, bound)]
        place = max(holding, key=lambda each: self._known[each]["hits"])
        return GRID[place], self._known[place]

    def _holds(self, place: int, bound: float) -> bool:
        if place not in self._known:
            fixed = streamed(self._stream, self._near, Fixed(GRID[place]))
            self._known[place] = fixed.figures
        return self._known[place]["wrong"] <= bound


def learning(stream: Stream, near: Near, bound: float, labels: Sequence[str]) -> list[list[float]]:
    """Hits and wrong answers of every PART requests; `labels` are from halfway on."""
    policy = Policy(Verified(bound, same_answer="exact", seed=0))
    outcomes = streamed(stream, near, policy, labels)
    return outcomes.parts(PART)


def real(stream: Stream, vectors: Any, bound: float) -> dict[str, Any]:
    """The same requests asked of a real cache, and of the policy on computed similarities."""
    near = Near(stream.texts, vectors)
    short = Stream(stream.name, stream.texts, stream.labels, stream.order[:REAL])
    computed = streamed(short, near, Policy(Verified(bound, same_answer="exact", seed=0)))
    policy = Verified(bound, same_answer="exact", seed=0)
    outcomes = Outcomes()
    embedder = Known(stream.texts, vectors)
    with SemanticCache(
        *(embedder, "embedded://"),
        name=f"real-{len(stream.order)}",  # the server is one for the whole process
        policy=policy,
        on_error="raise",
        ttl=None,
        timeout=10,
    ) as cache:
        for asked in short.order:
            text, label = stream.texts[asked], stream.labels[asked]
            found = cache.lookup(text)
            if not found:
                cache.store(text, label)
                outcomes.add("miss")
            elif found.tier == "exact":
                outcomes.add("exact")
            else:
                outcomes.add("right" if found.answer == label else "wrong")
    same = sum(mine == other for mine, other in zip(outcomes.each, computed.each, strict=True))
    return {
        "requests": len(short.order),
        "bound": bound,
        "real": outcomes.figures,
        "computed": computed.figures,
        "same": same / len(short.order),
        "report": str(policy.report()),
    }


_shared: dict[str, Any] = {}


def _begin(folder: Any, near: Near) -> None:
    """What a process of the pool has by being forked."""
    _shared.update(folder=folder, near=near)


def _run(seed: int) -> dict[str, dict[str, Any]]:
    """Both streams of a seed."""
    streams = data.banking_streams(_shared["folder"], seed)
    return {stream.name: measured(stream, _shared["near"], seed) for stream in streams}


def main() -> None:
    """Measure and write."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    folder = data.folder()
    if folder is None:
        sys.exit("Banking77 is not there: SEMCACHE_BENCH_DATA names no folder.")
    began = time.monotonic()
    first = data.banking_streams(folder)
    vectors = data.embedded(first[0].texts, "Banking77")
    near = Near(first[0].texts, vectors, DEFAULTS)
    found: dict[str, list[dict[str, Any]]] = {stream.name: [] for stream in first}
    forked = multiprocessing.get_context("fork")
    with forked.Pool(2, _begin, (folder, near)) as pool:
        for run in track(pool.imap(_run, range(runs)), description="runs", total=runs):
            for name, figures in run.items():
                found[name].append(figures)
    shuffled = first[0]
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "runs": runs,
        "streams": found,
        "learning": {
            str(bound): learning(shuffled, near, bound, shuffled.labels) for bound in ERRORS
        },
        "change": {
            str(bound): learning(shuffled, near, bound, changed(shuffled.labels))
            for bound in (0.01, 0.05)
        },
        "part": PART,
        "real": [real(stream, vectors, 0.02) for stream in first],
    }
    facts["minutes"] = round((time.monotonic() - began) / 60, 1)
    page.plots(facts)
    write("VERIFIED", facts, page.page(facts))
    assert all(run["same"] > 0.99 for run in facts["real"]), "a real cache decides otherwise"


if __name__ == "__main__":
    main()
