"""`semcache sample`: near pairs of a live cache, for a person to label.

Rule of this file: asking and writing. Which pairs are drawn is the cache's own. A label is in the
file as soon as it is given; a pair that is in the file is not asked about again.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.objects import loaded
from valkey_semcache.diagnosis.findings import number
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.sampling import NearPair, Sampled
from valkey_semcache.precision.labelled import Labelled, read

_COLUMNS: tuple[str, ...] = ("a", "b", "same", "similarity")
_KEYS = {"y": "yes", "n": "no", "s": "skip", "q": "quit", "\x03": "quit", "\x04": "quit"}
_ASKS = "Does one answer do for both?  [y]es  [n]o  [s]kip  [q]uit "


def run(file: Path | None, cache_name: str, *, as_json: bool, **wanted: Any) -> None:
    """List the pairs, or ask about each and write the labels into the file.

    Args:
        file: Where labels go; None to list only.
        cache_name: The app's cache, as `module:object`.
        as_json: Whether to list the pairs as JSON.
        wanted: What `near_pairs` takes.
    """
    core = core_of(cache_name)
    done = labelled_in(file)
    sampled = core.near_pairs(**wanted)
    pairs = [pair for pair in sampled.pairs if _key(pair.a, pair.b) not in done]
    if as_json:
        typer.echo(json.dumps([asdict(pair) for pair in pairs], ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    if file is None or not sys.stdin.isatty():
        console.print(_table(pairs))
        console.print(_found(sampled, pairs))
        if file is not None:
            console.print(f"Nothing is written into {file}: labels are asked for in a terminal.")
        return
    console.print(_found(sampled, pairs))
    labels = ask(pairs, Labels(file), console, typer.getchar)
    new = "1 label is" if len(labels) == 1 else f"{len(labels)} labels are"
    tune = shlex.join(["semcache", "tune", str(file), "--cache", cache_name])
    console.print(Text(f"{new} new in {file}. Now: {tune}"))


def core_of(cache_name: str) -> SemanticCache:
    """The cache that `module:object` names, without its framework.

    Raises:
        ConfigurationError: It is none.
    """
    cache = loaded(cache_name, "--cache")
    core = getattr(cache, "core", cache)
    if not isinstance(core, SemanticCache):
        raise ConfigurationError(f"--cache {cache_name} is a {type(cache).__name__}, not a cache.")
    return core


class Labels:
    """A file to which labels are added, CSV or JSONL by its name.

    Args:
        path: The file; None to keep them nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, pair: NearPair, same: bool) -> Labelled:
        """Write one label down."""
        word = "yes" if same else "no"
        values = (pair.a, pair.b, word, round(pair.similarity, 4))
        if self._path is not None:
            fresh = not self._path.exists() or not self._path.stat().st_size
            with self._path.open("a", newline="", encoding="utf-8") as file:
                if _is_jsonl(self._path):
                    line = dict(zip(_COLUMNS, values, strict=True))
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                else:
                    csv.writer(file).writerows([_COLUMNS, values] if fresh else [values])
        return Labelled(pair.a, pair.b, same)


def ask(
    pairs: Iterable[NearPair], labels: Labels, console: Console, key: Callable[[], str]
) -> list[Labelled]:
    """Ask about each pair until all are labelled or somebody quits.

    Args:
        pairs: The pairs.
        labels: Where labels go.
        console: Where pairs are shown.
        key: Waits for a key and returns it.
    """
    given, pairs = [], list(pairs)
    for place, pair in enumerate(pairs, 1):
        console.print(_shown(pair, f"{place} of {len(pairs)}"))
        word = _answer(console, key)
        console.print(word)
        if word == "quit":
            break
        if word != "skip":
            given.append(labels.add(pair, word == "yes"))
    return given


def _answer(console: Console, key: Callable[[], str]) -> str:
    console.print(Text(_ASKS, style="bold"), end="")
    while True:
        try:
            word = _KEYS.get(key().lower())
        except (EOFError, KeyboardInterrupt):
            return "quit"
        if word is not None:
            return word


def labelled_in(file: Path | None) -> set[frozenset[str]]:
    """The pairs that a file has labels for.

    Raises:
        ConfigurationError: It holds something else, which nothing is to be added to.
    """
    if file is None or not file.exists() or not file.stat().st_size:
        return set()
    held = read(file)
    header = _COLUMNS
    if not _is_jsonl(file):
        with file.open(newline="", encoding="utf-8") as lines:
            header = tuple(next(csv.reader(lines)))
    if not isinstance(held[0], Labelled) or header != _COLUMNS:
        raise ConfigurationError(
            f"{file} was not written by semcache sample: it must be new, or have the columns "
            f"{', '.join(_COLUMNS)}."
        )
    return {_key(pair.a, pair.b) for pair in held if isinstance(pair, Labelled)}


def _key(a: str, b: str) -> frozenset[str]:
    return frozenset((a, b))


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson", ".json")


def _shown(pair: NearPair, title: str) -> Panel:
    lines = [_plain(pair.a), _plain(pair.b)]
    if pair.guarded is not None:
        lines.append(f"(the guards keep them apart: {_plain(pair.guarded)})")
    return Panel(
        Text("\n\n".join(lines)), title=title, subtitle=f"similarity {pair.similarity:.4f}"
    )


def _plain(text: str) -> str:
    """A stored text without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _table(pairs: Iterable[NearPair]) -> Table:
    table = Table()
    table.add_column("similarity", justify="right", no_wrap=True)
    for name in ("a", "b", "guards"):
        table.add_column(name, overflow="fold")
    for pair in sorted(pairs, key=lambda pair: -pair.similarity):
        texts = (Text(_plain(each or "")) for each in (pair.a, pair.b, pair.guarded))
        table.add_row(f"{pair.similarity:.4f}", *texts)
    return table


def _found(sampled: Sampled, pairs: list[NearPair]) -> str:
    stored = number(sampled.entries, "stored question", "stored questions")
    told = f"{number(len(pairs), 'pair', 'pairs')} to label, of {stored} looked at"
    known = len(sampled.pairs) - len(pairs)
    labelled = f", and {known} that {'is' if known == 1 else 'are'} labelled already"
    return f"{told}{labelled if known else ''}."
