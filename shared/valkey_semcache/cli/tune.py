"""`semcache tune`: precision, recall and wrong answers by threshold, on labelled questions.

Rule of this file: showing. What is measured, and how, is in tuning.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.objects import loaded
from valkey_semcache.diagnosis.findings import number
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.precision.labelled import Labelled, read
from valkey_semcache.precision.plotting import changing
from valkey_semcache.precision.tuning import Tuning, tune


def run(
    pairs: Path | None,
    cache: str | None,
    live: int | None,
    precision: float,
    confidence: float,
    png: Path | None,
    *,
    as_json: bool = False,
) -> bool:
    """Show the figures; whether a threshold for the wanted precision was found."""
    console = Console(highlight=False, soft_wrap=True)
    labelled = _live(cache, live, console) if pairs is None else read(pairs)
    tuning = tune(labelled, _cache(cache), confidence)
    found = tuning.threshold_for(precision)
    if png is not None:
        tuning.plot().savefig(png, dpi=110)
    if as_json:
        told = {**asdict(tuning), "wanted": precision, "found": found}
        print(json.dumps(told, indent=2))  # noqa: T201 - not for rich to wrap
        return found is not None
    console.print(_table(tuning))
    if png is not None:
        console.print(f"Plotted in {png}.")
    console.print(_advice(tuning, precision, found))
    return found is not None


def _live(name: str | None, count: int | None, console: Console) -> list[Labelled]:
    """Pairs of a live cache, labelled here and now."""
    if name is None or count is None:
        raise ConfigurationError(
            "There is nothing to tune with: name a file of labelled questions, or --cache "
            "module:object and --live COUNT to label pairs of a live cache now."
        )
    from valkey_semcache.cli.sample import Labels, ask, core_of

    pairs = core_of(name).near_pairs(count=count).pairs
    return ask(pairs, Labels(None), console, typer.getchar)


def _cache(name: str | None) -> Any:
    if name is not None:
        cache = loaded(name, "--cache")
        if not isinstance(getattr(cache, "core", cache), SemanticCache):
            raise ConfigurationError(f"--cache {name} is a {type(cache).__name__}, not a cache.")
        return cache
    from valkey_semcache.offline import MiniLM

    # Nothing connects to it: only its rules are asked.
    return SemanticCache(MiniLM(), "valkey://unused.invalid")


def _table(tuning: Tuning) -> Table:
    table = Table(
        title=f"{number(tuning.pairs, 'pair', 'pairs')}, {tuning.confidence:.0%} intervals",
        box=box.SIMPLE_HEAD,
    )
    for name in ("threshold", "precision", "recall", "wrong, of all"):
        table.add_column(name, justify="right")
    for row in changing(tuning.rows):
        if round(row.threshold * 100) % 5 == 0 or row.threshold > 0.9:
            shares = (str(share) for share in (row.precision, row.recall, row.wrong))
            own = "bold" if tuning.threshold == row.threshold else ""
            table.add_row(f"{row.threshold:.2f}", *shares, style=own)
    apart = number(tuning.kept_apart, "pair", "pairs")
    table.caption = f"{apart} can never meet (other numbers, or a guard)"
    return table


def _advice(tuning: Tuning, precision: float, found: float | None) -> str:
    if found is None:
        return (
            f"No threshold has a precision of {precision:.1%} with {tuning.confidence:.0%} "
            "confidence\non these pairs: label more of them, or want less."
        )
    row = tuning.at(found)
    return (
        f"similarity_threshold={found:.2f} has a precision of at least {precision:.1%} with "
        f"{tuning.confidence:.0%} confidence,\nand finds {row.recall.value:.1%} of what could be "
        "found."
    )
