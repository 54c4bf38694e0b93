"""`semcache doctor`: what is right and wrong with a server and a cache on it.

Rule of this file: showing. What is found out is found by `valkey_semcache.diagnosis`.
"""

from __future__ import annotations

import json

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from valkey_semcache.diagnosis import Diagnosis, diagnose

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def run(url: str | None, name: str, timeout: float, *, as_json: bool) -> bool:
    """Look, show, and say whether nothing failed."""
    found = diagnose(url, name=name, timeout=timeout, connect_timeout=timeout)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))  # noqa: T201 - not for rich to wrap
    else:
        _show(found)
    return found.ok


def _show(found: Diagnosis) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("check", min_width=9)
    table.add_column("", no_wrap=True)
    table.add_column("what was found, and what to do", ratio=1)
    for check in found.checks:
        told = Text(check.found)
        if check.advice:
            told.append(f"\n{check.advice}", style="dim" if check.verdict == "pass" else "")
        table.add_row(check.name, Text(check.verdict, style=_STYLES[check.verdict]), told)
    console.print(Text(f"\nServer {found.server}, cache {found.cache}", style="bold"))
    console.print(table)
    counts = {v: sum(c.verdict == v for c in found.checks) for v in _STYLES}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(Text(summary, style="green" if found.ok else "bold red"))
