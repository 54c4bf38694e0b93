"""Arguments and options that several commands of `semcache` have, and what exit codes say.

Rule of this file: one spelling and one help text for each, everywhere.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

NOT_ALL = 1
"""Nothing was found, a check failed, or not all was done."""

WRONG_USE = 2
"""An argument or an option is wrong, or there is no such object. (Typer's own code for it.)"""

NO_SERVER = 3
"""Valkey could not be reached, or refused."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 nothing found, a check failed or not all was done; 2 wrong arguments; "
    "3 Valkey could not be reached or refused."
)

Url: TypeAlias = Annotated[
    str | None,
    typer.Argument(help="The server's URL; without it the environment's (VALKEY_URL, …)."),
]
Name: TypeAlias = Annotated[str, typer.Option(help="The cache's name.")]
Cache: TypeAlias = Annotated[str, typer.Option(help="The app's cache, as module:object.")]
CacheInstead: TypeAlias = Annotated[
    str | None,
    typer.Option(help="The app's cache, as module:object, instead of URL and name."),
]
Timeout: TypeAlias = Annotated[float, typer.Option(help="Seconds to wait for each answer.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
