"""The report of benchmarks/growth.py: a page and its charts.

Rule of this file: figures in, Markdown and PNGs out; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

HERE = Path(__file__).parent
WAYS = {
    "search": ("valkey-search, this package", "#1f4e9c"),
    "flat": ("flat index, this package", "#3b7dd8"),
    "plain": ("a plain HNSW index with a tag", "#d9822b"),
}

Row = dict[str, Any]
_PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")


def page(told: Row, name: str) -> str:
    """The page."""
    fillings = told["fillings"]
    module = told.get("module", "no module")
    lines = [
        "# Growth",
        "",
        f"{told['server']}, {module}, Python {told['python']}, {told['date']}. 384 dimensions, "
        "random unit vectors, near copies asked for (similarity 0.95, threshold 0.9), answers of "
        "200 bytes, one client; client and server on one machine of two cores. Whole look-ups. A "
        "plain HNSW index is asked by one bare FT.SEARCH for one neighbour, as other packages do, "
        "with the server's defaults; its entries have a tag for their scope and one in common, for "
        "the line of all. Made by `make bench-growth`.",
        "",
        f"![p50]({name}_p50.png)",
        "",
        f"![recall]({name}_recall.png)",
        "",
        f"![memory]({name}_memory.png)",
        "",
        f"![filling]({name}_filling.png)",
        "",
        "Look-ups: p50 in ms (p95), share of the stored questions found.",
        "",
        _table(told),
        "",
        "Memory and filling, by batches of 1,000; all entries in one scope, or, where that was not "
        "filled, in scopes of each size. Bytes of each entry in Valkey are the growth of "
        "`used_memory` once all is indexed, an answer of 200 bytes among them; in the process, the "
        "growth of its resident memory. This package builds its graph in the background once a "
        "scope has outgrown FLAT, and looks up meanwhile.",
        "",
        "| entries | | bytes in Valkey | bytes in the process | entries stored a second | indexed "
        "after |",
        "|---|---|---|---|---|---|",
    ]
    for row in _whole(fillings):
        held = f"{row['process_bytes']:,.0f}" if "process_bytes" in row else ""
        after = row["ready_seconds"]
        indexed = "at once, no graph" if after is None else f"{after:,.1f} s"
        lines.append(
            f"| {row['total']:,} | {WAYS[row['way']][0]} | {row['bytes']:,.0f} | {held} | "
            f"{row['rate']:,.0f} | {indexed} |"
        )
    for row in fillings:
        if "sync_seconds" in row:
            found = "finds the newest" if row["bound_finds_newest"] else "**misses the newest**"
            lines += [
                "",
                f"A fresh process's first look-up in the flat index over {row['total']:,} entries "
                f"takes {row['sync_seconds']:.2f} s. With `flat_max_bytes={row['bound']:,}`, too "
                f"few for all, the process grows by {row['bound_bytes']:,} bytes, by "
                f"{row['bound_peak']:,} at its peak, and {found}.",
            ]
    lines += [
        "",
        "In these figures is what a process needs once for its first linear algebra, some 3 MB: a "
        "bound of a few megabytes is passed by that.",
    ]
    return "\n".join(lines) + "\n"


def _whole(fillings: list[Row]) -> list[Row]:
    """One filling for each way and number of entries: into one scope, if there was such a one."""
    ordered = sorted(fillings, key=lambda row: bool(row["fill"] == "all"))
    rows = {(row["total"], row["way"]): row for row in ordered}
    return [rows[place] for place in sorted(rows)]


def _table(told: Row) -> str:
    ways = [way for way in WAYS if any(cell["way"] == way for cell in told["cells"])]
    cells = {
        (cell["total"], cell["fill"], cell["scope"], cell["way"]): cell for cell in told["cells"]
    }
    lines = [
        "| entries in the asked scope | " + " | ".join(WAYS[way][0] for way in ways) + " |",
        "|---" * (1 + len(ways)) + "|",
    ]
    for total, fill, scope in dict.fromkeys(place[:3] for place in cells):
        found = [cells.get((total, fill, scope, way)) for way in ways]
        shown = [
            f"{cell['p50']:.2f} ({cell['p95']:.2f}), {cell['recall']:.1%}" if cell else ""
            for cell in found
        ]
        lines.append(f"| {scope:,} of {total:,} | {' | '.join(shown)} |")
    return "\n".join(lines)


def plot(told: Row, name: str) -> None:
    """Write the charts."""
    cells, fillings = told["cells"], _whole(told["fillings"])
    _by_scope(cells, "p50", "look-up, p50 in ms", HERE / f"{name}_p50.png", log=True)
    _by_scope(cells, "recall", "share found", HERE / f"{name}_recall.png")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    _by_total(axes[0], fillings, lambda row: row["bytes"], "bytes an entry in Valkey")
    held = [row for row in fillings if "process_bytes" in row]
    _by_total(axes[1], held, lambda row: row["process_bytes"], "bytes an entry in the process")
    axes[0].set_ylim(0)
    figure.savefig(HERE / f"{name}_memory.png", dpi=110)
    plt.close(figure)
    figure, one = plt.subplots(figsize=(6, 4), layout="constrained")
    _by_total(one, fillings, lambda row: row["rate"], "entries stored a second")
    one.set_ylim(0)
    figure.savefig(HERE / f"{name}_filling.png", dpi=110)
    plt.close(figure)


def _by_scope(
    cells: list[Row], figure_of: str, label: str, path: Path, *, log: bool = False
) -> None:
    """A figure by the size of the asked scope, a panel for each number of entries."""
    totals = sorted({cell["total"] for cell in cells})
    figure, panels = plt.subplots(
        1,
        len(totals),
        figsize=(4 * len(totals), 4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axes, total in zip(panels[0], totals, strict=True):
        for way, (title, colour) in WAYS.items():
            row = sorted(
                (cell["scope"], cell[figure_of])
                for cell in cells
                if cell["way"] == way and cell["total"] == total
            )
            if row:
                axes.plot(*zip(*row, strict=True), "o-", color=colour, label=title, markersize=4)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_PLAIN)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(_PLAIN)
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(0, 1.05)
        axes.set_title(f"{total:,} entries")
        axes.set_xlabel("entries in the asked scope")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel(label)
    panels[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _by_total(axes: Any, rows: list[Row], value: Callable[[Row], float], label: str) -> None:
    for way, (title, colour) in WAYS.items():
        points = sorted((row["total"], value(row)) for row in rows if row["way"] == way)
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=title, markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.set_xlabel("entries")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
