"""The server's URL as a command was given it, or as the environment names it.

Rule of this file: which URL it is, and what to type where there is none. What a URL means is read
by `valkey_semcache.server`.
"""

from __future__ import annotations

import os

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.server.address import from_environment

_VARIABLES = ("VALKEY_URL", "VALKEY_HOST", "REDIS_URL", "REDIS_HOST")


def server_url(url: str | None, typed: str) -> str:
    """The URL that was given, or else the environment's.

    Args:
        url: What was given.
        typed: The command up to its URL, for the message: `semcache stats`, `semcache ask --url`.

    Raises:
        ConfigurationError: There is none, or the environment's cannot be read.
    """
    if url is not None:
        return url
    if not any(os.environ.get(name) for name in _VARIABLES):
        raise ConfigurationError(
            f"No Valkey server was given. Give a URL ({typed} valkey://host:6379) or set "
            "VALKEY_URL (or VALKEY_HOST, REDIS_URL, REDIS_HOST)."
        )
    return from_environment()
