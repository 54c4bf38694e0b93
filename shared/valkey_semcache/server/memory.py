"""How much memory an embedded server may take, and what it does when that is used up.

Rule of this file: text of a URL's options in, numbers out, no I/O. What Valkey would read as
something else than it looks like is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from valkey_semcache.errors import ConfigurationError

LEAST = 4 * 2**20
"""Bytes; an empty server takes a good one of them."""

POLICIES = (
    *("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu"),
    *("volatile-random", "volatile-ttl", "noeviction"),
)

# As in valkey.conf: kb, mb and gb are powers of 1,024, k, m and g of 1,000.
_UNITS: dict[str, int] = {
    **dict.fromkeys(("", "b"), 1),
    **{unit: 1000**power for power, unit in enumerate(("k", "m", "g"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("kb", "mb", "gb"), 1)},
}


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """What a server's data may take.

    Args:
        maxmemory: Bytes.
        policy: What goes when they are used up, one of `POLICIES`.
    """

    maxmemory: int
    policy: str = "allkeys-lru"

    def __str__(self) -> str:
        return f"maxmemory={self.maxmemory} and maxmemory-policy={self.policy}"


def memory_limit(query: str) -> MemoryLimit | None:
    """The limit that the options of an `embedded:` URL set, or None if there are none.

    Args:
        query: What follows the question mark: `maxmemory=4gb&maxmemory-policy=allkeys-lfu`.

    Raises:
        ConfigurationError: It has another option, one twice, a size that cannot be read or is
            too small, or no such policy.
    """
    if not query:
        return None
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= {"maxmemory", "maxmemory-policy"}:
        raise ConfigurationError(
            "The embedded: URL has options that an embedded server does not know, or one twice. "
            "It knows maxmemory and maxmemory-policy, as in embedded://?maxmemory=4gb; a question "
            "mark in a path is written %3F."
        )
    if "maxmemory" not in options:
        raise ConfigurationError(
            "The embedded: URL has maxmemory-policy but no maxmemory, so it would never count. "
            "Write for example embedded://?maxmemory=4gb&maxmemory-policy=allkeys-lfu."
        )
    policy = options.get("maxmemory-policy", "allkeys-lru").lower()
    if policy not in POLICIES:
        raise ConfigurationError(
            f"maxmemory-policy={policy!r} in the embedded: URL is none of {', '.join(POLICIES)}."
        )
    return MemoryLimit(_bytes(options["maxmemory"]), policy)


def _bytes(size: str) -> int:
    match = re.fullmatch(r"([0-9]{1,18})([a-z]{0,2})", size.lower())
    if match is None or match[2] not in _UNITS:
        raise ConfigurationError(
            f"maxmemory={size!r} in the embedded: URL is no size. Write bytes, or a whole number "
            "with kb, mb or gb: embedded://?maxmemory=4gb."
        )
    found = int(match[1]) * _UNITS[match[2]]
    if found < LEAST:
        raise ConfigurationError(
            f"maxmemory={size!r} in the embedded: URL is too little: a server without any entry "
            f"takes more than one MB. Give it {LEAST // 2**20}mb at least, or leave the option out "
            "for no limit."
        )
    if found >= 2**63:
        raise ConfigurationError(f"maxmemory={size!r} in the embedded: URL is more than there is.")
    return found
