"""Clearing: all of a cache, or what one namespace, identity or model stored.

Rule of this file: an operation of its own beside the look-ups. It walks the keys of this
cache's name and removes key by key; FLUSHDB and FLUSHALL are never sent.
"""

from __future__ import annotations

from valkey_semcache.flow.operations import Command, Flow, replies_to, unless_wrong_type
from valkey_semcache.index.listing import drop_all
from valkey_semcache.stored.keys import Pages, entry_pattern, our_pattern


def clear_all(name: str, embedding: str) -> Flow[int]:
    """Remove everything under the cache's name, its indexes first.

    An index emptied key by key stays slow, so it is dropped and created anew at the next use.

    Args:
        name: The cache's name.
        embedding: Digest of the embedding model in use; others are found by their entries.

    Returns:
        How many entries were removed.
    """
    is_entry, is_ours = entry_pattern(name), our_pattern(name)
    meta = yield from unless_wrong_type(Command("HMGET", f"{name}:meta", "index"))
    # A flat cache has no index in the server, and perhaps no right to drop one.
    has_indexes = meta is None or meta[0] != b"flat"
    dropped: set[str] = set()
    removed = 0
    if has_indexes:
        dropped.add(embedding)
        yield from drop_all(name, embedding)
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        others = {m[1].decode() for key in keys if (m := is_entry.fullmatch(key))} - dropped
        for other in others if has_indexes else ():
            dropped.add(other)
            yield from drop_all(name, other)
        ours = [key for key in keys if is_ours.fullmatch(key)]
        if ours:
            counts = yield from replies_to([Command("UNLINK", key) for key in ours])
            entries = zip(ours, counts, strict=True)
            removed += sum(n for key, n in entries if is_entry.fullmatch(key))
    return removed


def clear_matching(name: str, wanted: dict[str, str]) -> Flow[int]:
    """Remove the entries whose fields are as wanted.

    Args:
        name: The cache's name.
        wanted: Digests by field: `n` namespace, `i` identity, `m` model. All must match.

    Returns:
        How many entries were removed.
    """
    is_entry = entry_pattern(name)
    fields, expected = list(wanted), [digest.encode() for digest in wanted.values()]
    removed = 0
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        entries = [key for key in keys if is_entry.fullmatch(key)]
        if entries:
            values = yield from replies_to([Command("HMGET", key, *fields) for key in entries])
            gone = [key for key, v in zip(entries, values, strict=True) if v == expected]
            if gone:
                removed += sum((yield from replies_to([Command("UNLINK", key) for key in gone])))
    return removed
