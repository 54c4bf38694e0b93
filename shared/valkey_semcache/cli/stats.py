"""`semcache stats`: what all processes have done with a cache, what it holds, and what that takes.

Rule of this file: looking and showing. What is counted is counted by `SemanticCache`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli import fleet
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.contents import Contents
from valkey_semcache.telemetry.fleet import FleetStats

_STEP = 1024
_WALK_SECONDS = 60.0  # between two walks over all keys


class _NoEmbedding:
    """Nothing is embedded here."""

    model = "none"

    def embed(self, texts: Any) -> Any:
        raise ConfigurationError("semcache stats embeds nothing.")


def run(
    url: str | None,
    name: str,
    sample: int,
    timeout: float,
    *,
    as_json: bool,
    watch: bool = False,
    interval: float = 2.0,
    times: int | None = None,
    least: float | None = None,
) -> bool:
    """Look and show; with `watch` again and again, until Ctrl-C or for so many times.

    Returns:
        Whether the hit rate of the last hour is at least `least`; True if that is None.
    """
    options: dict[str, Any] = {"name": name, "timeout": timeout, "fleet_stats": False}
    with SemanticCache(_NoEmbedding(), url, **options) as cache:
        look = _Look(cache, sample)
        if not watch:
            _show(look, Console(highlight=False), as_json=as_json)
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(look, interval, times, as_json=as_json)
        short = None if least is None else look.below(least)
        if short is not None:
            print(f"semcache: {short}", file=sys.stderr)  # noqa: T201 - not for rich to wrap
        return short is None


class _Look:
    """What is known of a cache: its figures at each look, its contents at the first of each minute.

    Args:
        cache: The cache.
        sample: Entries of each index that are looked at.
    """

    def __init__(self, cache: SemanticCache, sample: int) -> None:
        self._cache = cache
        self._sample = sample
        self._walked = 0.0
        self.contents: list[Contents] = []
        self.windows: list[FleetStats] = []

    def again(self) -> None:
        """Look once more; walking all keys is for once a minute."""
        self.windows = fleet.read(self._cache)
        if not self._walked or time.monotonic() - self._walked > _WALK_SECONDS:
            self.contents = self._cache.contents(sample=self._sample)
            self._walked = time.monotonic()

    def below(self, least: float) -> str | None:
        """Why the last hour's hit rate is not `least`; None if it is."""
        hour = self.windows[fleet.WINDOWS.index(60)] if self.windows else None
        if hour is None or not hour.lookups:
            # Nothing to go by is no reason to be content, if a rate is wanted.
            told = "processes tell of theirs with fleet_stats=True"
            why = f"no look-ups were told of in the last hour ({told}), so there is no hit rate"
            return f"{why} to compare with {least:.1%}." if least > 0 else None
        if hour.hit_rate >= least:
            return None
        return f"the last hour's hit rate is {hour.hit_rate:.1%}, below {least:.1%}."

    def view(self) -> Fitting:
        """All of it, for a screen."""
        name = Text(f"\nCache {self._cache.name}", style="bold")
        return Fitting([name, *fleet.view(self.windows), *_contents(self.contents)])

    def plain(self) -> dict[str, Any]:
        """All of it, for programs."""
        indexes = [_plain(one) for one in self.contents]
        told = {"cache": self._cache.name, "at": time.time()}
        return told | {"fleet": fleet.plain(self.windows), "indexes": indexes}


class Fitting:
    """One part below another: in a terminal that is too low, those at the top and whole.

    Args:
        parts: The parts.
    """

    def __init__(self, parts: Sequence[RenderableType]) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What fits, and a line that says so if it is not all."""
        heights = [len(console.render_lines(part, options, pad=False)) for part in self.parts]
        if sum(heights) <= console.size.height:
            yield from self.parts
            return
        left = console.size.height - 1  # for the line at the end
        for part, height in zip(self.parts, heights, strict=True):
            left -= height
            if left < 0:
                break
            yield part
        yield Text("More in a higher terminal, or without --watch.", style="dim")


def _show(look: _Look, console: Console, *, as_json: bool) -> None:
    look.again()
    if as_json:
        print(json.dumps(look.plain(), indent=2))  # noqa: T201 - not for rich to wrap
    else:
        console.print(*look.view().parts, sep="\n")


def _watch(look: _Look, interval: float, times: int | None, *, as_json: bool) -> None:
    """Show until there is a Ctrl-C: one screen that changes, or all of it anew each time.

    Anew where there is no terminal to change, and as a line of JSON if that is wanted.
    """
    rounds = itertools.count() if times is None else range(times)
    console = Console(highlight=False)
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        for number in rounds:
            if number:
                time.sleep(interval)
            look.again()
            if as_json:
                print(json.dumps(look.plain()), flush=True)  # noqa: T201
            elif live is None:
                console.print(*look.view().parts, sep="\n")
            else:
                live.update(look.view(), refresh=True)


def show(name: str, found: Sequence[Contents], console: Console) -> None:
    """Print a cache's contents as a table.

    Args:
        name: The cache's name.
        found: What `contents()` gave.
        console: Where to.
    """
    console.print(Group(Text(f"\nCache {name}", style="bold"), *_contents(found)))


def _contents(found: Sequence[Contents]) -> list[RenderableType]:
    if not found:
        return [Text("Nothing is stored under this name.")]
    shown: list[RenderableType] = []
    for one in found:
        # Beside the figures, long names would be broken and figures cut in 80 columns.
        index = one.index
        dimension = f"{index.dimension:,} dimensions, " if index.dimension else ""
        shown += [
            Text(f"embedding model {index.model or 'not known: exact answers only'}"),
            Text(f"{dimension}id {index.id}", style="dim"),
            _figures(one),
        ]
    return [*shown, *(Text(line, style="dim") for line in _notes(found))]


def _figures(one: Contents) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("index")
    for column in ("entries", "answers", "stored", "memory each"):
        table.add_column(column, justify="right", no_wrap=True)
    about = "" if one.whole else "~ "
    each = one.memory_per_entry
    table.add_row(
        _index(one),
        f"{one.index.entries:,}",
        about + _size(one.answers_in),
        about + _size(one.answers_stored),
        "not allowed" if each is None and one.sampled else about + _size(each),
    )
    return table


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
