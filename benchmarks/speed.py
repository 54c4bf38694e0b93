"""What a hit costs beyond the server's own answer: each line beside the bare client.

    make bench
    SEMCACHE_TEST_URL=valkey://localhost:6379 python -m benchmarks.speed

Writes RESULTS.md and RESULTS.json. The server of `SEMCACHE_TEST_URL` must hold nothing else;
without one, the tests' stand-in for valkey-search and a plain Valkey are started, which is good
for the client's own time, not for the module's. A run takes some five minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import valkey

from benchmarks.setting import about, write
from benchmarks.speed_imports import adapter_import
from benchmarks.speed_least import least, least_stored
from benchmarks.speed_lines import Filled, llama_chat
from benchmarks.speed_setting import Prepared, asked, awake, reworded, servers
from benchmarks.speed_steps import looked_up, stored

ENTRIES = 10_000
FEW = 800  # a search of 200 vectors leaves the processors' caches as they are
TIMES = 600
ROUNDS = 5
Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the report, and what it allows.

    Args:
        what: Is measured.
        kind: `over` the bare client in µs, `share` of its throughput, `ratio`, or `ms`.
        limit: What it allows; infinity where it is commands that count.
        beside: What the bare client does.
    """

    what: str
    kind: str
    limit: float
    beside: str

    def figure(self, row: Row, clock: str) -> float:
        """What is held against the limit, by the clock (`wall`) or in processor time (`cpu`)."""
        if self.kind in ("share", "ratio"):
            return float(row[self.kind].get(clock, row[self.kind].get(f"{clock}_p50")))
        if self.kind == "ms":
            return float(row["ours"][clock])
        return float(row["over"][f"{clock}_p50"])

    def holds(self, row: Row, clock: str) -> bool:
        """Whether the limit is kept."""
        figure = self.figure(row, clock)
        return figure >= self.limit if self.kind == "share" else figure <= self.limit


LINES = {
    "local": Line("local hit", "over", 30, "nothing"),
    "exact": Line("exact hit", "over", 70, "HMGET"),
    "semantic": Line("semantic hit, search index", "over", 130, "HMGET, FT.SEARCH"),
    "semantic few": Line(f"the same with {FEW} entries", "over", 130, "HMGET, FT.SEARCH"),
    "semantic direct": Line("the same with `embed_timeout=None`", "over", 130, "HMGET, FT.SEARCH"),
    "semantic least": Line(
        "the least that it takes in Python (`speed_least.py`)",
        *("over", math.inf, "HMGET, FT.SEARCH"),
    ),
    "semantic few least": Line(f"the least, {FEW} entries", "over", math.inf, "HMGET, FT.SEARCH"),
    "flat": Line(
        *("semantic hit, flat index, all in one scope", "over", 130),
        "HMGET, the log's end, V @ q and argmax, HMGET",
    ),
    "miss": Line(
        *("miss and store, search index", "over", math.inf),
        "one HMGET, one FT.SEARCH, one EVALSHA, one embedding",
    ),
    "store": Line("store, search index", "over", 70, "EVALSHA"),
    "store least": Line("the least that it takes in Python", "over", math.inf, "EVALSHA"),
    "store few": Line(f"the same with {FEW} entries", "over", 70, "EVALSHA"),
    "async exact": Line("async exact, 64 in flight", "share", 0.5, "the same by the async client"),
    "async semantic": Line(
        "async semantic, 64 in flight", "share", 0.75, "the same by the async client"
    ),
    "llama": Line("LlamaIndex, exact `chat`", "ratio", 2.0, "LangChain's exact `lookup`"),
    "import LangChain": Line("import and construct, LangChain", "ms", 120, "its own import"),
    "import LlamaIndex": Line("import and construct, LlamaIndex", "ms", 120, "its own import"),
}
_FEW = {"semantic few", "semantic direct", "semantic few least", "store few"}
_APART = _FEW | {"flat", "import LangChain", "import LlamaIndex"}


class Runs:
    """The rows that several rounds give; of each line the middle one counts.

    Args:
        only: Lines that are wanted; none for all.
    """

    def __init__(self, only: set[str]) -> None:
        self._only = only
        self._taken: dict[str, list[Row]] = {}

    def wants(self, names: set[str]) -> bool:
        """Whether one of these is wanted."""
        return not self._only or bool(self._only & names)

    def take(self, name: str, measure: Callable[[], Row]) -> None:
        """Measure a line, if it is wanted."""
        if self.wants({name}):
            row = measure()
            self._taken.setdefault(name, []).append(row)
            line = LINES[name]
            wall, cpu = line.figure(row, "wall"), line.figure(row, "cpu")
            print(f"{name}: wall {wall:.2f}, cpu {cpu:.2f}, limit {line.limit}", flush=True)

    def rows(self) -> Row:
        """Each line's row, with the figures of all rounds."""
        rows: Row = {}
        for name, taken in self._taken.items():
            line = LINES[name]
            taken.sort(key=lambda row, line=line: line.figure(row, "wall"))
            figures = [line.figure(row, "wall") for row in taken]
            rows[name] = taken[len(taken) // 2] | {"rounds": figures}
        return rows


def run(
    search_url: str, plain_url: str, entries: int, times: int, rounds: int, only: set[str]
) -> Row:
    """Measure all lines so many times, one after the other, and once where the time goes."""
    runs, steps = Runs(only), {}
    few = max(200, times // 3)
    embeddings = Prepared(max(entries, FEW) + 4 * few)
    if runs.wants(set(LINES) - _APART):
        filled = Filled(search_url, "search", embeddings, entries, 4, times)
        for _ in range(rounds):
            filled.times = times
            runs.take("exact", filled.exact)
            runs.take("local", filled.local)
            runs.take("semantic", filled.semantic)
            runs.take("semantic least", lambda: least(filled))
            runs.take("async exact", lambda: filled.in_flight(asked, 5))
            runs.take("llama", lambda: llama_chat(filled))
            filled.times = few
            runs.take("store", filled.stored)
            runs.take("store least", lambda: least_stored(filled))
            runs.take("miss", filled.missed_and_stored)
            runs.take("async semantic", lambda: filled.in_flight(reworded, 3))
        if not only:
            steps["exact hit"] = looked_up(filled, reworded_too=False)
            steps["semantic hit, search index"] = looked_up(filled, reworded_too=True)
            steps["store without a look-up before"] = stored(filled)
        filled.close()
    if runs.wants(_FEW):
        filled = Filled(search_url, "search", embeddings, FEW, 4, min(times, FEW))
        direct = filled.using(embed_timeout=None)
        for _ in range(rounds):
            runs.take("semantic few", filled.semantic)
            runs.take("semantic direct", direct.semantic)
            runs.take("semantic few least", lambda: least(filled))
            runs.take("store few", lambda: filled.of(few).stored())
        filled.close()
    if runs.wants({"flat"}):
        filled = Filled(plain_url, "flat", embeddings, entries, 1, few)
        for _ in range(rounds):
            runs.take("flat", filled.semantic)
        if not only:
            steps["semantic hit, flat index"] = looked_up(filled, reworded_too=True)
        filled.close()
    for framework in ("LangChain", "LlamaIndex"):
        runs.take(f"import {framework}", lambda f=framework: adapter_import(f, 7))
    return runs.rows() | ({"steps": steps} if steps else {})


def page(facts: Row, rows: Row) -> str:
    lines = [
        "# Speed: what a hit costs beyond the server's own answer",
        "",
        f"{facts['on']}, Python {facts['python']}, {facts['date']}. {facts['entries']:,} entries, "
        "384 dimensions, 4 scopes, answers of 1,000 characters with a provider's metadata, the "
        "cache's default options. Times from the prompt's string to the list of generations, "
        "beside the bare client (`valkey-py` with `libvalkey`, the same time limits) sending the "
        "same commands with ready-made vectors and decoding nothing, in turns in one run, each "
        "call on another question, whose prompt LangChain writes in between. Medians in µs, 95th "
        "percentiles in brackets; CPU is this process's own. All lines are measured in "
        f"{facts['rounds']} rounds, one after the other: of each the middle round is shown, with "
        "what the others found. Made by `make bench`.",
        "",
        _AWAKE[facts["awake"]],
        "",
        "| what | at most | beyond, wall | in each round | beyond, CPU | bare, wall | bare, CPU | "
        "ours, wall | ours, CPU | on the wire; embeddings |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, line in LINES.items():
        if name in rows:
            lines.append(f"| {' | '.join(cells(line, rows[name]))} |")
    if rows.keys() >= {*_FEW, "semantic", "semantic least", "store", "store least"}:
        lines += ["", why(rows)]
    if "steps" in rows:
        lines += ["", *_WHERE, *steps_table(rows["steps"])]
    return "\n".join(lines) + "\n"


_BECAUSE = (
    ", as other work keeps them in an app. A virtual machine that only waits gives its processor "
    "away and gets it back late and cold: left alone (`--asleep`) a bare HMGET takes two to three "
    "times as long, and so does all that follows it."
)
_AWAKE = {
    "polling": f"The processors are kept awake by polling when they are idle{_BECAUSE}",
    "loops": f"The processors are kept awake by loops of the lowest priority{_BECAUSE}",
    "asleep": "Idle processors fall asleep, and wake up late and with cold caches.",
}
_WHERE = (
    "## Where the time goes",
    "",
    "The same calls, timed between their commands and in them: medians of processor time in µs, by "
    "the clock in brackets. What stands before the first command is reading the prompt and naming "
    "the entry; after the last one, opening what came, deciding and building the answer. The "
    "embedding's vectors are ready-made: what it costs is the way to another thread and back, "
    "which `embed_timeout=` needs, and a vector out of a list of floats. The commands go over "
    "connections of the cache's own and cost less than the bare client's. The interpreter runs "
    "each step from cold caches, after a wait for the server: in a tight loop without a server "
    "the same steps take a third to a half.",
    "",
)


def why(rows: Row) -> str:
    """What the lines over few entries show."""

    def over(name: str) -> str:
        return f"{LINES[name].figure(rows[name], 'cpu'):.0f} µs"

    return (
        "Client and server share two processors and their caches here. A search reads all vectors "
        f"of a scope: 2,500 are 4 MB, and the client's own code and data have to come from memory "
        f"again afterwards. That is why the same steps cost {over('semantic')} of processor time "
        f"with 10,000 entries and {over('semantic few')} with {FEW} (200 in each scope), and a "
        f"store {over('store')} and {over('store few')}. Without a thread of its own for the "
        f"embedding, which `embed_timeout=` needs, it is {over('semantic direct')}. What a hit "
        "cannot do without, with such a thread and nothing else that this cache offers, takes "
        f"{over('semantic least')} in Python, and {over('semantic few least')} with {FEW} entries; "
        f"a store {over('store least')}. A server on another machine was not measured."
    )


def steps_table(steps: Row) -> list[str]:
    """A table for each call, its steps in a row."""
    lines = []
    for call, taken in steps.items():
        lines += [
            f"| {call} | {' | '.join(step for step, *_ in taken)} |",
            f"|---|{'---|' * len(taken)}",
            f"| | {' | '.join(f'{cpu:.0f} ({wall:,.0f})' for _, cpu, wall in taken)} |",
            "",
        ]
    return lines[:-1]


def cells(line: Line, row: Row) -> list[str]:
    """A line of the page's table."""
    unit = {"over": " µs", "share": "", "ratio": "x", "ms": " ms"}[line.kind]
    at_most = f"{line.limit:g}{unit}" if line.kind != "share" else f"{line.limit:.0%} at least"
    if line.kind == "over" and line.beside != "nothing":
        at_most = line.beside if line.limit == math.inf else f"{line.beside} + {at_most}"
    told = [line.what, at_most]

    def shown(figure: float) -> str:
        digits = 2 if line.kind == "ratio" else 0
        return f"{figure:.0%}" if line.kind == "share" else f"{figure:,.{digits}f}"

    for clock in ("wall", "cpu"):
        figure = shown(line.figure(row, clock)) + unit
        told.append(figure if line.holds(row, clock) else f"**{figure}**")
    told.insert(3, ", ".join(shown(figure) for figure in row["rounds"]))
    for who in ("bare", "ours"):
        for clock in ("wall", "cpu"):
            found = row.get(who, {})
            if f"{clock}_p50" in found:
                told.append(f"{found[f'{clock}_p50']:,.0f} ({found[f'{clock}_p95']:,.0f})")
            elif line.kind == "share":
                told.append(f"{found[clock]:,.0f}/s")
            else:
                told.append("")
    sent = row.get("commands", "")
    if "embeddings" in row:
        sent = f"{sent or 'nothing'}; {row['embeddings']:g}"
    return [*told, sent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--times", type=int, default=TIMES, help="calls of each line")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times that all is measured")
    parser.add_argument("--only", nargs="*", default=[], choices=list(LINES), metavar="LINE")
    parser.add_argument("--name", default="RESULTS")
    parser.add_argument("--asleep", action="store_true", help="let idle processors fall asleep")
    options = parser.parse_args()
    with (
        servers() as (search_url, plain_url, stand_in),
        awake(wanted=not options.asleep) as how_awake,
    ):
        with valkey.Valkey.from_url(search_url) as client:
            if client.dbsize():
                sys.exit("The server is not empty; this measures on one that holds nothing else.")
            facts: Row = dict(about(client))
        facts["on"] = stand_in or " with ".join(
            facts[n] for n in ("server", "module") if n in facts
        )
        how = options.entries, options.times, options.rounds, set(options.only)
        rows = run(search_url, plain_url, *how)
    facts |= {"entries": options.entries, "rounds": options.rounds, "awake": how_awake}
    write(options.name, {**facts, "lines": rows}, page(facts, rows))


if __name__ == "__main__":
    main()
