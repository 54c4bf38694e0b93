"""Reliability, for as long as one likes: faults one after another, and what the workers noticed.

    make soak            # or: python -m benchmarks.soak --minutes 20

Sixteen workers look up and store on each index, sync and async, while every fault of
`tests/chaos/faults.py` comes in a random order. Then the machine of `tests/test_isolation.py`
walks 20,000 steps on each index beside a dictionary. Writes RELIABILITY.md and RELIABILITY.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.setting import write
from tests.chaos.faults import FAULTS, Site
from tests.chaos.fleet import WORKERS, ByWords, Fleet
from valkey_semcache import SemanticCache

LONG = {"paused": 5.0}
"""Seconds for which a fault lasts where not a random time of up to two."""
WELL = (0.2, 0.6)
"""Seconds of normal service between two faults, at least and at most."""
STEPS = 20_000


def run(index: str, way: str, seconds: float, seed: int) -> dict[str, Any]:
    """All faults on one index in one way, over and over for so many seconds."""
    dice = random.Random(f"{index} {way} {seed}")
    console = Console()
    tried: dict[str, list[float]] = {}
    with Site(index, seed) as site, site.cache() as cache:
        fleet = Fleet(cache, way, deadline=1.0, seed=seed)
        began = time.monotonic()
        with fleet.at_work():
            fleet.until_hit_by_meaning(20)
            while time.monotonic() - began < seconds:
                order = sorted(FAULTS)
                dice.shuffle(order)
                for name in order:
                    mend = FAULTS[name](site)
                    try:
                        time.sleep(LONG.get(name) or dice.uniform(0.2, 2.0))
                    finally:
                        mend()
                    tried.setdefault(name, []).append(fleet.until_hit_by_meaning(20))
                    time.sleep(dice.uniform(*WELL))
                    if time.monotonic() - began > seconds and len(tried) == len(FAULTS):
                        break
                console.print(f"{index} {way}: {fleet.told()}", highlight=False)
        stats = cache.stats()
    return {
        "index": index,
        "way": way,
        "seconds": round(time.monotonic() - began),
        "faults": sum(map(len, tried.values())),
        "calls": sum(fleet.seen.values()),
        "hits": fleet.seen["exact"] + fleet.seen["semantic"],
        "wrong answers": len(fleet.wrong),
        "exceptions": len(fleet.raised),
        "calls over 1 s": len(fleet.slow),
        "slowest call": round(fleet.slowest, 3),
        "recoveries over 1 s": sum(t > 1 for times in tried.values() for t in times),
        "recovery": {name: [round(t, 3) for t in times] for name, times in sorted(tried.items())},
        "errors": dict(stats.errors),
        "breaker at the end": stats.breaker,
    }


def open_breaker() -> dict[str, Any]:
    """Microseconds of a look-up while the circuit breaker is open, sync and async."""

    async def timed(way: str) -> dict[str, float]:
        cache = SemanticCache(ByWords(), "valkey://127.0.0.1:1", index="flat")
        took: list[float] = []
        while len(took) < 10_000:
            await cache.alookup("which colour have the apples")  # fails, until it is open
            while cache.stats().breaker == "open":
                began = time.perf_counter()
                if way == "sync":
                    cache.lookup("which colour have the apples")
                else:
                    await cache.alookup("which colour have the apples")
                took.append(1e6 * (time.perf_counter() - began))
        median, high = np.percentile(took, [50, 95])
        return {"p50": round(float(median), 1), "p95": round(float(high), 1)}

    return {way: asyncio.run(timed(way)) for way in ("sync", "async")}


def isolation() -> dict[str, Any]:
    """The state machine, 20,000 steps on each index."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command.append("tests/test_isolation.py")
    environment = os.environ | {"SEMCACHE_SOAK_STEPS": str(STEPS)}
    began = time.monotonic()
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=root, check=False)
    took = round(time.monotonic() - began)
    return {"steps on each index": STEPS, "agrees": done.returncode == 0, "seconds": took}


def page(
    runs: list[dict[str, Any]], machine: dict[str, Any], breaker: dict[str, Any], date: str
) -> str:
    rows = ("seconds", "faults", "calls", "hits", "wrong answers", "exceptions")
    rows += ("calls over 1 s", "slowest call", "recoveries over 1 s", "breaker at the end")
    lines = [
        "# Reliability",
        "",
        f"Made by `make soak`, {date}. {WORKERS} workers, a server of the run's own behind a "
        "proxy, time limits of 0.15 s for server and embedding and 0.5 s for connecting. Every "
        "answer from the cache is checked. A machine shared with other work makes calls slower "
        "than they are.",
        "",
        "| | " + " | ".join(f"{run['index']}, {run['way']}" for run in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    for row in rows:
        cells = [f"{run[row]:,}" if isinstance(run[row], int) else str(run[row]) for run in runs]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += [
        "",
        "Seconds from a fault's end to the next hit by meaning, the longest of all its times:",
        "",
        "| fault | " + " | ".join(f"{run['index']}, {run['way']}" for run in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    for name in sorted(FAULTS):
        cells = [f"{max(run['recovery'][name]):.2f}" for run in runs]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    verdict = "agreed at every step" if machine["agrees"] else "**disagreed**"
    lines += [
        "",
        f"Beside a dictionary, {machine['steps on each index']:,} steps of stores, look-ups, "
        "deletes, clears and expiries on each index, by three caches at once, sync and async: "
        f"{verdict} ({machine['seconds']} s).",
        "",
        "While the circuit breaker is open, a look-up takes (median, 95th percentile): "
        + ", ".join(f"{way} {t['p50']} µs, {t['p95']} µs" for way, t in breaker.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for the faults, in all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    each = options.minutes * 60 / 4
    ways = [(index, way) for index in ("flat", "search") for way in ("sync", "async")]
    runs = [run(index, way, each, options.seed) for index, way in ways]
    machine = isolation()
    date = time.strftime("%Y-%m-%d")
    breaker = open_breaker()
    facts = {"date": date, "seed": options.seed, "runs": runs, "isolation": machine}
    facts["open breaker, µs"] = breaker
    write("RELIABILITY", facts, page(runs, machine, breaker, date))
    bad = any(run["wrong answers"] or run["exceptions"] for run in runs) or not machine["agrees"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
