"""The keys of a cache: which are ours, and a walk over them.

Rule of this file: a key is ours if it has the exact shape that the cache writes; strangers'
keys that begin alike are not. The walk is by SCAN, page by page, over all nodes of a cluster.
"""

from __future__ import annotations

import re
from typing import Any

from valkey_semcache.digest import DIGEST_LENGTH
from valkey_semcache.flow.operations import Command, Flow, Nodes

_PAGE = 1000  # keys that one SCAN looks at
_HEX = b"[0-9a-f]{%d}" % DIGEST_LENGTH


def our_pattern(name: str) -> re.Pattern[bytes]:
    """Matches, as a whole, the keys that a cache of this name writes."""
    parts = (_literal(name), _HEX, _HEX, _HEX, _HEX, _HEX, _HEX)
    shapes = b"meta|(?:lock:)?%s:%s:%s|(?:log|learned):%s:%s|quota:%s|stats:(?:total|[0-9]{1,12})"
    return re.compile(b"%s:(?:" % parts[0] + shapes % parts[1:] + b")")


def entry_pattern(name: str, embedding: str | None = None) -> re.Pattern[bytes]:
    """Matches an entry's key; the groups are embedding, scope and text.

    Args:
        name: The cache's name.
        embedding: Digest of one embedding model's name; None for any.
    """
    own = embedding.encode() if embedding else _HEX
    return re.compile(b"%s:(%s):(%s):(%s)" % (_literal(name), own, _HEX, _HEX))


def log_pattern(name: str, embedding: str | None = None) -> re.Pattern[bytes]:
    """Matches the key of a scope's log; the groups are embedding and scope."""
    own = embedding.encode() if embedding else _HEX
    return re.compile(b"%s:log:(%s):(%s)" % (_literal(name), own, _HEX))


class Pages:
    """The keys that begin with a cache's name, page by page."""

    def __init__(self, name: str) -> None:
        self._pattern = f"{name}:*"
        self._nodes: list[Any] | None = None
        self._cursor: Any = 0

    def next(self) -> Flow[list[bytes] | None]:
        """The next page, perhaps empty; None after the last."""
        if self._nodes is None:
            self._nodes = yield Nodes()
        if not self._nodes:
            return None
        scan = ("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", _PAGE)
        self._cursor, keys = yield Command(*scan, node=self._nodes[0])
        if int(self._cursor) == 0:
            self._nodes = self._nodes[1:]
        return list(keys)


def _literal(name: str) -> bytes:
    return name.encode().replace(b".", rb"\.")
