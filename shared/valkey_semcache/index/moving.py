"""From one kind of index to the other, with all that is stored.

Rule of this file: entries stay as they are, for both kinds have the same. What finds them is made
first, then the meta hash says so, then the old is taken away: stopped anywhere between, the
same command does the rest.
"""

from __future__ import annotations

import secrets

from valkey_semcache.errors import IndexKindError, ServerReplyError
from valkey_semcache.flow.operations import Command, Flow, Script, replies_to
from valkey_semcache.index.contract import IndexKind
from valkey_semcache.index.listing import drop_all, list_indexes
from valkey_semcache.index.scripts import LOG
from valkey_semcache.index.search import SearchIndex, is_unknown_command
from valkey_semcache.index.settings import Parameters
from valkey_semcache.stored.keys import Pages, entry_pattern, log_pattern


def reindex(name: str, own: str, kind: IndexKind) -> Flow[int]:
    """Let a cache's entries be found by the other kind of index; how many there are.

    Under `search` the server takes them in by itself, in the background.

    Args:
        name: The cache's name.
        own: Digest of an embedding model, listed even if it has no entries.
        kind: The kind to go over to.

    Raises:
        IndexKindError: The server has no valkey-search.
    """
    found = [index for index in (yield from list_indexes(name, own)) if index.dimension]
    if kind == "search":
        for index in found:
            try:
                made = (0, index.dimension or 0, Parameters(), index.model or "")
                yield from SearchIndex(f"{name}:{index.id}:", *made).create()
            except ServerReplyError as error:
                if not is_unknown_command(error):
                    raise
                raise IndexKindError(
                    "The server has no module valkey-search, so the cache stays with the flat "
                    "index. Use a server that has it, for example the image valkey/valkey-bundle."
                ) from error
        yield Command("HSET", f"{name}:meta", "index", kind)
        yield from _unlink_logs(name)
    else:
        yield from _write_logs(name)
        yield Command("HSET", f"{name}:meta", "index", kind)
        for index in found:
            yield from drop_all(name, index.id)
            # The next HNSW index, if there is ever one, begins anew.
            fields = (f"{field}:{index.id}" for field in ("building", "written"))
            yield Command("HDEL", f"{name}:meta", *fields)
            yield Command("HSET", f"{name}:meta", f"generation:{index.id}", 0)
    return sum(index.entries for index in found)


def _write_logs(name: str) -> Flow[None]:
    """Note every entry that can be met by meaning in its scope's log."""
    is_entry = entry_pattern(name)
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        entries = [match for key in keys if (match := is_entry.fullmatch(key))]
        if not entries:
            continue
        tags = yield from replies_to([Command("HMGET", m[0], "s") for m in entries])
        lives = yield from replies_to([Command("PTTL", m[0]) for m in entries])
        for match, tag, left in zip(entries, tags, lives, strict=True):
            if isinstance(tag, list) and tag[0] == match[2] and left != -2:
                embedding, scope, text = (part.decode() for part in match.groups())
                ttl_ms = max(0, int(left))
                token = secrets.token_hex(8)
                yield Script(LOG, f"{name}:log:{embedding}:{scope}", token, ttl_ms, text)


def _unlink_logs(name: str) -> Flow[None]:
    is_log = log_pattern(name)
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        logs = [key for key in keys if is_log.fullmatch(key)]
        if logs:
            yield from replies_to([Command("UNLINK", key) for key in logs])
