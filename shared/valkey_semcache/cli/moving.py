"""`semcache export` and `semcache import`: a cache's entries as JSONL.

Rule of this file: files and showing. What an entry is, the library knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.objects import loaded
from valkey_semcache.errors import ConfigurationError


def export(cache_name: str, file: Path, *, vectors: bool, as_json: bool = False) -> None:
    """Write a cache's entries into a file, which is there at once or not at all."""
    core = _core(cache_name)
    part = file.with_name(f"{file.name}.part")
    count = -1  # the header is no entry
    # Plain text, even of a cache that is encrypted: for nobody else to read.
    part.unlink(missing_ok=True)
    with open(part, "x", encoding="utf-8", opener=_for_its_owner) as out:
        for count, line in enumerate(core.export_entries(vectors=vectors)):  # noqa: B007
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    part.replace(file)
    told = {"exported": count, "file": str(file), "vectors": vectors}
    print(json.dumps(told) if as_json else f"{count:,} entries exported to {file}, as plain text.")  # noqa: T201


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def import_(cache_name: str, file: Path, *, as_json: bool = False) -> bool:
    """Store a file's entries; whether all were."""
    core = _core(cache_name)
    console = Console(highlight=False, soft_wrap=True)
    bad: list[int] = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        total = max(0, sum(1 for _ in lines) - 1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(file.name, total=total)
        done = core.import_entries(_lines(file, bad), progress=lambda n: bar.advance(task, n))
    failed = done.failed + len(bad)
    if as_json:
        told = {"stored": done.stored, "expired": done.expired, "failed": failed, "bad_lines": bad}
        print(json.dumps(told))  # noqa: T201
        return not failed
    for number in bad[:20]:
        console.print(f"line {number}: it is no JSON", style="yellow")
    summary = f"{done.stored:,} stored, {done.expired:,} expired"
    console.print(summary + (f", {failed:,} not stored" if failed else ""))
    return not failed


def _lines(file: Path, bad: list[int]) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                bad.append(number)


def _core(cache_name: str) -> SemanticCache:
    cache = loaded(cache_name, "--cache")
    core = getattr(cache, "core", cache)
    if not isinstance(core, SemanticCache):
        raise ConfigurationError(f"--cache {cache_name} is a {type(cache).__name__}, not a cache.")
    return core
