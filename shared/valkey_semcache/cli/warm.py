"""`semcache warm`: questions with their answers from a file into a cache.

Rule of this file: showing and counting. What is stored, and how, is the cache's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.objects import loaded
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.methods.filling import Filled
from valkey_semcache.methods.rows import BadRow, Row, read_rows
from valkey_semcache.question import Question

_SHOWN = 20  # bad lines told one by one


def run(
    file: Path, cache_name: str, llm_name: str | None, *, again: bool, as_json: bool = False
) -> bool:
    """Store what is in the file; whether all lines were read and stored."""
    console = Console(highlight=False, soft_wrap=True)
    cache = loaded(cache_name, "--cache")
    core = getattr(cache, "core", cache)
    if not isinstance(core, SemanticCache):
        raise ConfigurationError(f"--cache {cache_name} is a {type(cache).__name__}, not a cache.")
    warms = getattr(cache, "warm", None)
    if (warms is None) != (llm_name is None):
        need = "asks no model: leave --llm out" if warms is None else "needs --llm module:object"
        raise ConfigurationError(f"The cache {cache_name} {need}.")
    bad: list[BadRow] = []
    total = sum(1 for _ in read_rows(file))
    with _bar(console, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=total)
        rows = _good(read_rows(file), bad)
        options: dict[str, Any] = {"again": again, "progress": lambda n: bar.advance(task, n)}
        if warms is None or llm_name is None:
            filled = core.fill(_questions(rows), **options)
        else:
            filled = warms(loaded(llm_name, "--llm"), rows, **options)
    if as_json:
        told = {"stored": filled.stored, "there": filled.there, "failed": filled.failed}
        lines = [{"line": row.line, "reason": row.reason} for row in bad]
        print(json.dumps({**told, "bad_lines": lines}))  # noqa: T201
    else:
        _tell(console, filled, bad, core)
    return not bad and not filled.failed


def _good(rows: Iterable[Row | BadRow], bad: list[BadRow]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            yield row


def _questions(rows: Iterable[Row]) -> Iterator[tuple[Question, str]]:
    for row in rows:
        yield Question(row.question, context=row.system, namespace=row.namespace), row.answer


def _bar(console: Console, *, disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=disable
    )


def _tell(console: Console, filled: Filled, bad: list[BadRow], core: SemanticCache) -> None:
    for row in bad[:_SHOWN]:
        console.print(f"line {row.line}: {row.reason}", style="yellow", markup=False)
    if len(bad) > _SHOWN:
        console.print(f"and {len(bad) - _SHOWN:,} lines more", style="yellow")
    told = f"{filled.stored:,} stored, {filled.there:,} there already"
    if bad:
        told += f", {len(bad):,} {'line' if len(bad) == 1 else 'lines'} not read"
    if filled.failed:
        stats = core.stats()
        reasons = {**stats.not_stored, **stats.errors}
        why = ", ".join(f"{name} {count}" for name, count in reasons.items())
        told += f", {filled.failed:,} not stored ({why})"
    console.print(told, style="red" if filled.failed else "green")
