"""Clearing: all of a cache, or what one namespace, identity or model stored.

Rule of this file: an operation of its own beside the look-ups. It walks the keys of this
cache's name and removes key by key; FLUSHDB and FLUSHALL are never sent.
"""

from __future__ import annotations

import re
from typing import Any

from valkey_semcache.digest import DIGEST_LENGTH
from valkey_semcache.index.search import drop_index, index_name
from valkey_semcache.operations import Command, Flow, Nodes, replies_to, unless_wrong_type

_PAGE = 1000  # keys that one SCAN looks at


def clear_all(name: str, prefix: str) -> Flow[int]:
    """Remove everything under the cache's name, its indexes first.

    An index emptied key by key stays slow, so it is dropped and created anew at the next use.

    Args:
        name: The cache's name.
        prefix: `NAME:EMB:` of the embedding model in use; others are found by their entries.

    Returns:
        How many entries were removed.
    """
    is_entry, is_ours = _entry_pattern(name), _our_pattern(name)
    meta = yield from unless_wrong_type(Command("HMGET", f"{name}:meta", "index"))
    # A flat cache has no index in the server, and perhaps no right to drop one.
    has_indexes = meta is None or meta[0] != b"flat"
    dropped: set[str] = set()
    removed = 0
    if has_indexes:
        dropped.add(prefix)
        yield from drop_index(index_name(prefix))
    pages = _Pages(name)
    while (keys := (yield from pages.next())) is not None:
        others = {m[0].decode() for key in keys if (m := is_entry.match(key))} - dropped
        for other in others if has_indexes else ():
            dropped.add(other)
            yield from drop_index(index_name(other))
        ours = [key for key in keys if is_ours.fullmatch(key)]
        if ours:
            counts = yield from replies_to([Command("UNLINK", key) for key in ours])
            removed += sum(n for key, n in zip(ours, counts, strict=True) if is_entry.match(key))
    return removed


def clear_matching(name: str, wanted: dict[str, str]) -> Flow[int]:
    """Remove the entries whose fields are as wanted.

    Args:
        name: The cache's name.
        wanted: Digests by field: `n` namespace, `i` identity, `m` model. All must match.

    Returns:
        How many entries were removed.
    """
    is_entry = _entry_pattern(name)
    fields, expected = list(wanted), [digest.encode() for digest in wanted.values()]
    removed = 0
    pages = _Pages(name)
    while (keys := (yield from pages.next())) is not None:
        entries = [key for key in keys if is_entry.match(key)]
        if entries:
            values = yield from replies_to([Command("HMGET", key, *fields) for key in entries])
            gone = [key for key, v in zip(entries, values, strict=True) if v == expected]
            if gone:
                removed += sum((yield from replies_to([Command("UNLINK", key) for key in gone])))
    return removed


class _Pages:
    """The keys that begin with a cache's name, page by page, over all nodes of a cluster."""

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


_HEX = b"[0-9a-f]{%d}" % DIGEST_LENGTH


def _our_pattern(name: str) -> re.Pattern[bytes]:
    """Matches the keys that a cache of this name writes, and no other that begins alike."""
    parts = (name.encode().replace(b".", rb"\."), _HEX, _HEX, _HEX, _HEX, _HEX)
    return re.compile(b"%s:(?:meta|%s:%s:%s|log:%s:%s)" % parts)


def _entry_pattern(name: str) -> re.Pattern[bytes]:
    """Matches an entry's key from its start, `NAME:EMB:`."""
    return re.compile(b"%s:%s:(?=%s:)" % (name.encode().replace(b".", rb"\."), _HEX, _HEX))
