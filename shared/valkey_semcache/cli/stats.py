"""`semcache stats`: what a cache holds, and what that takes.

Rule of this file: showing. What is counted is counted by `SemanticCache.contents`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.contents import Contents

_STEP = 1024


class _NoEmbedding:
    """Nothing is embedded here."""

    model = "none"

    def embed(self, texts: Any) -> Any:
        raise ConfigurationError("semcache stats embeds nothing.")


def run(url: str | None, name: str, sample: int, timeout: float, *, as_json: bool) -> None:
    """Look and show."""
    with SemanticCache(_NoEmbedding(), url, name=name, timeout=timeout) as cache:
        found = cache.contents(sample=sample)
        if as_json:
            told = {"cache": cache.name, "indexes": [_plain(one) for one in found]}
            print(json.dumps(told, indent=2))  # noqa: T201 - not for rich to wrap
        else:
            show(cache.name, found, Console(highlight=False))


def show(name: str, found: Sequence[Contents], console: Console) -> None:
    """Print a cache's contents as a table.

    Args:
        name: The cache's name.
        found: What `contents()` gave.
        console: Where to.
    """
    console.print(Text(f"\nCache {name}", style="bold"))
    if not found:
        console.print("Nothing is stored under this name.")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("embedding model", overflow="fold")
    table.add_column("index")
    for column in ("entries", "answers", "stored", "memory each"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        about = "" if one.whole else "~ "
        each = one.memory_per_entry
        table.add_row(
            _model(one),
            _index(one),
            f"{one.index.entries:,}",
            about + _size(one.answers_in),
            about + _size(one.answers_stored),
            "not allowed" if each is None and one.sampled else about + _size(each),
        )
    console.print(table)
    for line in _notes(found):
        console.print(line, style="dim")


def _model(one: Contents) -> str:
    index = one.index
    dimension = f"\n{index.dimension:,} dimensions" if index.dimension else ""
    return f"{index.model or 'not known: exact answers only'}{dimension}\n{index.id}"


def _index(one: Contents) -> str:
    index = one.index
    kind = index.kind or "not begun"
    if index.generation:
        kind += f"\nHNSW generation {index.generation}"
    if index.filling:
        kind += "\nfilling up"
    return kind


def _notes(found: Sequence[Contents]) -> list[str]:
    notes = [
        "answers: their bytes before compression; stored: their bytes in Valkey; memory each: "
        "of an entry with key and vector, without indexes and logs."
    ]
    if not all(one.whole for one in found):
        looked = ", ".join(f"{one.sampled:,} of {one.index.entries:,}" for one in found)
        notes.append(f"~ by a random sample of the entries: {looked}.")
    if hidden := sum(one.encrypted for one in found):
        notes.append(f"{hidden:,} of the entries looked at are encrypted: not in answers, stored.")
    if aliases := sum(one.aliases for one in found):
        notes.append(f"{aliases:,} of those looked at are other wordings of stored questions.")
    notes.append(
        "Hits, misses, errors and savings are counted in each process, by cache.stats(); they are "
        "not in Valkey."
    )
    return notes


def _size(count: float | None) -> str:
    """Bytes in the unit that fits, or a dash."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _STEP or unit == "GiB":
            break
        count /= _STEP
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"


def _plain(one: Contents) -> dict[str, Any]:
    index = asdict(one.index)
    del index["in_use"]  # no app's embedding model is known here
    sample = {name: value for name, value in asdict(one).items() if name != "index"}
    return {
        **index,
        "sample": sample,
        "whole": one.whole,
        "answers_in": one.answers_in,
        "answers_stored": one.answers_stored,
        "memory_per_entry": one.memory_per_entry,
    }
