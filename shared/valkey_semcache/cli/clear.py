"""`semcache clear`: the scopes of `clear()`, after asking.

Rule of this file: nothing is removed that was not named and agreed to.
"""

from __future__ import annotations

import json
from typing import Any

import typer

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.objects import loaded
from valkey_semcache.errors import ConfigurationError


class _NoEmbedding:
    """Nothing is embedded here."""

    model = "none"

    def embed(self, texts: Any) -> Any:
        raise ConfigurationError("semcache clear embeds nothing.")


def run(
    url: str | None,
    cache_name: str | None,
    name: str,
    scope: dict[str, str | None],
    *,
    agreed: bool,
    as_json: bool = False,
) -> None:
    """Ask, remove, and say how many there were."""
    if cache_name is not None:
        cache = loaded(cache_name, "--cache")
        core = getattr(cache, "core", cache)
    else:
        core = SemanticCache(_NoEmbedding(), url, name=name, timeout=10.0, fleet_stats=False)
    if not isinstance(core, SemanticCache):
        raise ConfigurationError(f"--cache {cache_name} is a {type(core).__name__}, not a cache.")
    wanted = {what: value for what, value in scope.items() if value is not None}
    told = " and ".join(f"{what} {value!r}" for what, value in wanted.items())
    what = f"the entries of {told}" if wanted else "all entries and indexes"
    with core:
        if not agreed:
            typer.confirm(f"Remove {what} of the cache {core.name!r}?", abort=True, err=as_json)
        removed = core.clear(**wanted)
    print(json.dumps({"removed": removed}) if as_json else f"{removed:,} entries removed.")  # noqa: T201
