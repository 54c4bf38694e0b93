"""Checks of one cache: what is written about it, and its entries.

Rule of this file: only commands that a user with the least rights may send are relied upon; what
others tell (HGETALL, FT._LIST) is taken where it comes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from valkey_semcache.diagnosis.findings import Ask, Check, number, pairs, refused, text
from valkey_semcache.diagnosis.indexes import Written, index_checks
from valkey_semcache.digest import DIGEST_LENGTH, FORMAT
from valkey_semcache.server.cluster import nodes_of

_PAGE = 1000  # keys that one SCAN looks at
_PAGES = 200  # at most so many, so that a large server is not walked through
_OF_A_MODEL = ("dimension", "generation", "building", "written", "model")
_RIGHTS = "Give the rights of README's 'Access rights'."
_HEX = f"[0-9a-f]{{{DIGEST_LENGTH}}}"


@dataclass(frozen=True)
class Found:
    """What there is of a cache.

    Args:
        checks: What is to be said of it.
        kind: The kind of index it was written with, if any.
        learned: Whether a `policy=` keeps labels there.
    """

    checks: list[Check]
    kind: str | None = None
    learned: bool = False


def cache_checks(ask: Ask, name: str, searches: bool) -> Found:
    """What is stored under a cache's name.

    Args:
        ask: Asks the server.
        name: The cache's name.
        searches: Whether the server has valkey-search.
    """
    try:
        keys = _Keys(ask, name)
    except _NotAllowedError as error:
        return Found([Check("cache", "fail", f"keys cannot be listed: {error}", _RIGHTS)])
    entries = keys.entries
    listed = ask("FT._LIST") if searches else []
    indexes = sorted(map(text, listed)) if isinstance(listed, list) else []
    models = {m[1] for i in indexes if (m := re.match(rf"{re.escape(name)}:({_HEX}):", i))}
    models |= set(entries) | _models_in_meta(ask, name)
    meta = _Meta(ask, name, sorted(models))
    checks = [meta.check(searches), _entries_check(entries, keys.all_seen, meta)]
    if searches and meta.kind != "flat":
        for model in sorted(models):
            checks += index_checks(ask, name, model, meta.of(model), entries[model], indexes)
    return Found(checks, meta.kind, keys.learned)


class _NotAllowedError(Exception):
    """The user may not look."""


class _Meta:
    """The cache's meta hash: format, kind of index, and of each model dimension and generation."""

    def __init__(self, ask: Ask, name: str, models: list[str]) -> None:
        self.name = name
        fields = ["format", "index", *(f"{what}:{m}" for m in models for what in _OF_A_MODEL)]
        reply = ask("HMGET", f"{name}:meta", *fields)
        self.error = None if isinstance(reply, list) else reply
        told = reply if isinstance(reply, list) else [None] * len(fields)
        values = [None if value is None else text(value) for value in told]
        self.format: str | None = values[0]
        self.kind: str | None = values[1]
        self._told = dict(zip(fields, values, strict=True))
        self.dimensions = {model: self.of(model).dimension for model in models}

    def of(self, model: str) -> Written:
        """What is written about one embedding model's index."""
        told = [self._told.get(f"{what}:{model}") for what in _OF_A_MODEL]
        dimension, generation, building, written, _ = (
            int(value) if value and value.isdecimal() else None for value in told
        )
        return Written(dimension, generation, building, written, told[-1])

    def check(self, searches: bool) -> Check:
        """Whether this release and this server can go on with what is written."""
        clear = "clear() the cache, or give it another name=."
        if self.error is not None:
            found = f"{self.name}:meta cannot be read: {self.error}"
            return Check("cache", "fail", found, _RIGHTS if refused(self.error) else clear)
        if self.format is None and self.kind is None:
            found = f"{self.name!r} is not begun yet"
            return Check("cache", "pass", found, "The first store creates it.")
        dimensions = ", ".join(str(d) for d in self.dimensions.values() if d is not None)
        found = f"{self.name!r}: format {self.format}, index {self.kind}, "
        found += f"dimensions {dimensions or 'not known'}"
        if self.format is None or not self.format.isdecimal():
            return Check("cache", "fail", found, f"The format is no number: {clear}")
        if int(self.format) > FORMAT:
            return Check(
                *("cache", "fail", found),
                f"This release reads format {FORMAT}: update valkey-semcache, or give the cache "
                "another name=.",
            )
        if self.kind == "search" and not searches:
            return Check(
                *("cache", "fail", found),
                "It was written with valkey-search, which this server has not: use one that has, "
                f"or {clear}",
            )
        if self.kind == "flat" and searches:
            return Check(
                *("cache", "warn", found),
                f"The server could search, but the cache goes on with the flat index: {clear}",
            )
        return Check("cache", "pass", found)


def _models_in_meta(ask: Ask, name: str) -> set[str]:
    """Digests of the embedding models that the meta hash names, if it may be read whole."""
    found = (re.fullmatch(rf"dimension:({_HEX})", f) for f in pairs(ask("HGETALL", f"{name}:meta")))
    return {match[1] for match in found if match}


class _Keys:
    """A cache's keys: how many entries each embedding model has, and whether there are labels.

    `all_seen` is False where not all keys of the server were looked at.
    """

    def __init__(self, ask: Ask, name: str) -> None:
        self.entries: Counter[str] = Counter()
        self.all_seen, self.learned = True, False
        is_entry = re.compile(rf"{re.escape(name)}:({_HEX}):{_HEX}:{_HEX}")
        for node in _nodes(ask):
            cursor: Any = 0
            for _ in range(_PAGES):
                reply = node("SCAN", cursor, "MATCH", f"{name}:*", "COUNT", _PAGE)
                if not isinstance(reply, tuple | list):
                    raise _NotAllowedError(reply)
                cursor = int(reply[0])
                keys = [text(key) for key in reply[1]]
                self.entries.update(m[1] for key in keys if (m := is_entry.fullmatch(key)))
                self.learned |= any(key.startswith(f"{name}:learned:") for key in keys)
                if cursor == 0:
                    break
            self.all_seen &= cursor == 0


def _nodes(ask: Ask) -> Iterator[Ask]:
    for node in nodes_of(ask.client):
        yield ask if node is None else Ask(ask.client.get_valkey_connection(node))


def _entries_check(entries: Counter[str], all_seen: bool, meta: _Meta) -> Check:
    found = f"{'' if all_seen else 'at least '}{number(entries.total(), 'entry', 'entries')}"
    if len(entries) > 1:
        found += f" of {len(entries)} embedding models"
    # An entry that is found by its very words only needs no index.
    strays = sum(count for model, count in entries.items() if meta.dimensions.get(model) is None)
    if strays:
        return Check(
            *("entries", "warn", f"{found}, {strays} of them of a model without an index"),
            "They are found by their very words only. The next store by meaning creates the "
            "index; or clear() the cache.",
        )
    return Check("entries", "pass", found)
