"""`semcache reindex`: from one kind of index to the other.

Rule of this file: showing, and waiting for the server. How it is done is in index/moving.py.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from valkey_semcache.cache import SemanticCache
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.options import checked_choice

_PAUSE = 0.2  # seconds between two looks at the server's progress


class _NoEmbedding:
    """Nothing is embedded here."""

    model = "none"

    def embed(self, texts: Any) -> Any:
        raise ConfigurationError("semcache reindex embeds nothing.")


def run(url: str | None, name: str, to: str, timeout: float, *, as_json: bool = False) -> None:
    """Move over, wait until the server has taken all in, and say how many there were."""
    kind = checked_choice(to, "--to", ("search", "flat"))
    with SemanticCache(_NoEmbedding(), url, name=name, timeout=timeout) as cache:
        entries = cache.reindex(kind)
        if kind == "search":
            _wait(cache, quiet=as_json or not sys.stdout.isatty())
    if as_json:
        print(json.dumps({"cache": name, "index": kind, "entries": entries}))  # noqa: T201
    else:
        print(f"{entries:,} entries of {name!r} are found by index={kind!r} now.")  # noqa: T201


def _wait(cache: SemanticCache, *, quiet: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, transient=True, disable=quiet) as progress:
        task = progress.add_task("the server takes them in")
        while True:
            began = time.monotonic()
            indexes = cache.indexes()
            progress.update(
                task,
                total=sum(index.entries for index in indexes),
                completed=sum(index.vectors or 0 for index in indexes),
            )
            if not any(index.filling for index in indexes):
                return
            # Each look walks all keys: as long a pause as the look took.
            time.sleep(max(_PAUSE, time.monotonic() - began))
