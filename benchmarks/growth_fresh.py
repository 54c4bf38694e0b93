"""The flat index in a process that knows nothing yet: what its first look-up costs.

Rule of this file: each measurement has a process of its own, which this file is too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.index_pair import asked
from benchmarks.setting import RandomEmbedder
from valkey_semcache import Question, SemanticCache

Row = dict[str, Any]
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def cache(url: str, name: str, index: str, **options: Any) -> SemanticCache:
    """A cache for many entries that stay."""
    options = {"timeout": 60.0, "flat_max_bytes": 2**30, "fleet_stats": False} | options
    kind: Any = index
    return SemanticCache(
        RandomEmbedder(), url, name=name, index=kind, ttl=None, on_error="raise", **options
    )


def question(scope: str, number: int, *, near: bool = False) -> Question:
    return Question(asked(scope, number) + ("~" if near else ""), context=scope)


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
        "bound_peak": tight["peak"],
        "bound_finds_newest": tight["found"],
    }


def in_fresh_process(url: str, name: str, total: int, bound: int) -> Row:
    words = [url, name, str(total), str(bound)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth_fresh", *words],
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
        return {
            "seconds": seconds,
            "bytes": resident() - before,
            "peak": most_resident() - before,
            "found": found,
        }


def most_resident() -> int:
    """The most bytes that this process had. `ru_maxrss` would be its parent's, if that had more."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE


if __name__ == "__main__":
    address, its_name, count, at_most = sys.argv[1:]
    print(json.dumps(first_look_up(address, its_name, int(count), int(at_most))))
