"""The fleet's figures on the screen: hit rates, times, savings, by window and by model.

Rule of this file: showing. What is counted is read by `SemanticCache.fleet_stats`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.telemetry.fleet import FleetStats
from valkey_semcache.telemetry.histogram import shown

WINDOWS = (5, 60, None)
"""Minutes that are shown side by side; None for all."""

_NAME = 24  # characters of a model's name in a line
_TIERS = ("local", "exact", "semantic")


def read(cache: SemanticCache) -> list[FleetStats]:
    """The figures of each window."""
    return [cache.fleet_stats(minutes=minutes) for minutes in WINDOWS]


def view(windows: list[FleetStats]) -> list[RenderableType]:
    """The figures as tables."""
    whole = windows[-1]
    if whole.since is None:
        return [
            Text(
                "No figures: no process with fleet_stats=True has looked up or stored yet.",
                style="dim",
            )
        ]
    found: list[RenderableType] = [_by_window(windows)]
    busy = next((w for w in windows[1:] if w.lookups_by_model), None)
    if busy is not None:
        found.append(_by_model(busy))
    at_work = f"{whole.processes} process{'' if whole.processes == 1 else 'es'} at work."
    found.append(Text(f"{at_work} Each tells once a second; times are to a tenth.", style="dim"))
    return found


def plain(windows: list[FleetStats]) -> dict[str, Any]:
    """The figures for programs."""
    whole = windows[-1]
    return {
        "since": whole.since,
        "processes": whole.processes,
        "windows": {str(w.minutes or "all"): _plain(w) for w in windows},
    }


def _by_window(windows: list[FleetStats]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("all processes")
    for window in windows:
        table.add_column(_title(window), justify="right", no_wrap=True)

    def row(name: str, cell: Callable[[FleetStats], str], style: str = "") -> None:
        table.add_row(name, *map(cell, windows), style=style)

    row("look-ups", lambda w: f"{w.lookups:,}")
    row("hit rate", lambda w: _share(sum(w.hits.values()), w.lookups), "bold green")
    for tier in _TIERS:
        if any(tier in window.hits for window in windows):
            row(f"  {tier}", lambda w, t=tier: _share(w.hits.get(t, 0), w.lookups))  # type: ignore[misc]
    for name, kinds in (("hits", _TIERS), ("misses", ("miss",))):
        row(
            f"{name} p50, p95",
            lambda w, k=kinds: f"{shown(w.quantile(0.5, *k))}, {shown(w.quantile(0.95, *k))}",  # type: ignore[misc]
        )
    row("saved tokens", lambda w: f"{tokens(w.saved_tokens):,}")
    if any(window.saved_usd for window in windows):
        row("saved USD, about", lambda w: f"{sum(w.saved_usd.values(), Decimal()):,.4f}")
    row("answers stored", lambda w: f"{w.stored:,}")
    for kind in sorted({kind for window in windows for kind in window.errors}):
        row(kind, lambda w, k=kind: f"{w.errors.get(k, 0):,}", "red")  # type: ignore[misc]
    if not windows[-1].errors:
        row("errors", lambda w: "0")
    row("breaker opened", lambda w: f"{w.breaker_opened:,}")
    return table


def _by_model(window: FleetStats) -> Table:
    # Close together and with headers of two lines: all of it has to fit in 80 columns.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 0))
    names = {model: _in_lines(model or "(unnamed)") for model in window.lookups_by_model}
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    table.add_column(f"model,\n{_title(window)}", overflow="fold", min_width=min(longest, 18))
    tiers = [tier for tier in _TIERS if tier in window.hits]
    columns = ["look-ups", "hit\nrate", *tiers, "saved\ntokens"]
    money = window.saved_usd
    for column in [*columns, "saved\nUSD"] if money else columns:
        table.add_column(column, justify="right", no_wrap=True)
    order = sorted(window.lookups_by_model.items(), key=lambda item: -sum(item[1].values()))
    for model, counts in order:
        total = sum(counts.values())
        usd = money.get(model)
        table.add_row(
            Text(names[model]),
            f"{total:,}",
            _share(total - counts.get("miss", 0), total),
            *(_share(counts.get(tier, 0), total) for tier in tiers),
            f"{tokens(window.saved_by_model.get(model, {})):,}",
            *(["-" if usd is None else f"{usd:,.4f}"] if money else []),
        )
    return table


def _in_lines(model: str) -> str:
    """A model's name, where it is long in lines that end at its hyphens or slashes."""
    lines = [""]
    for part in re.split(r"(?<=[-/:@])", model):
        if lines[-1] and len(lines[-1]) + len(part) > _NAME:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def tokens(usage: Mapping[str, int]) -> int:
    """All tokens, by the total if the model gave one."""
    return usage.get("total_tokens") or usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


def _title(window: FleetStats) -> str:
    if window.minutes is None:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(window.since))
        return f"since {begun}"
    return "last hour" if window.minutes == 60 else f"last {window.minutes} min"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _plain(window: FleetStats) -> dict[str, Any]:
    saved = window.saved_usd
    return {
        "lookups": window.lookups,
        "hit_rate": window.hit_rate if window.lookups else None,
        "hits": window.hits,
        "misses": window.misses,
        "lookups_by_model": window.lookups_by_model,
        "seconds": {
            kind: {"p50": window.quantile(0.5, kind), "p95": window.quantile(0.95, kind)}
            for kind in window.seconds
        },
        "stored": window.stored,
        "not_stored": window.not_stored,
        "errors": window.errors,
        "embeddings": window.embeddings,
        "breaker_opened": window.breaker_opened,
        "saved_tokens": window.saved_tokens,
        "saved_by_model": window.saved_by_model,
        "saved_usd": {model: float(usd) for model, usd in saved.items()},
    }
