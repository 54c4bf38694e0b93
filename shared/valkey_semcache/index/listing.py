"""The indexes of a cache: what there is, and taking one away.

Rule of this file: an embedding model has an index of its own, with its entries. One whose model
is no longer used is left alone until somebody says that it may go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from valkey_semcache.digest import DIGEST_LENGTH
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.operations import Command, Flow, replies_to, unless_wrong_type
from valkey_semcache.index.search import Info, drop_index, graph_name, index_info, index_name
from valkey_semcache.shown import Shown
from valkey_semcache.stored.keys import Pages, entry_pattern, log_pattern

_FIELDS = ("dimension", "generation", "building", "written", "model")


@dataclass(frozen=True, slots=True)
class StoredIndex(Shown):
    """One embedding model's index and entries. Printable, and a table in Jupyter.

    Args:
        id: Digest of the embedding model's name, which its keys carry; for `drop_index`.
        model: The embedding model's name, or None where only exact answers were stored.
        dimension: Of its vectors, or None likewise.
        entries: How many answers are stored for it.
        kind: `search` or `flat`, or None for a cache that is not begun.
        generation: Of its HNSW index; 0 for none.
        in_use: Whether it is this cache's own.
        vectors: How many entries valkey-search can find by meaning; None under `flat`.
        filling: Whether valkey-search is still taking in entries that were there before it.
    """

    id: str
    model: str | None
    dimension: int | None
    entries: int
    kind: str | None
    generation: int
    in_use: bool
    vectors: int | None = None
    filling: bool = False

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("index", self.id + (" (in use)" if self.in_use else "")),
            ("model", self.model or "not known"),
            ("dimension", str(self.dimension or "not known")),
            ("entries", f"{self.entries:,}"),
            ("kind", self.kind or "not begun"),
            ("found by meaning", self._found()),
            ("HNSW generation", str(self.generation or "none")),
        ]

    def _found(self) -> str:
        if self.kind == "flat":
            return "what the scopes' logs name"
        return f"{self.vectors or 0:,}" + (", more to come" if self.filling else "")


def list_indexes(
    name: str, own: str, on_entry: Callable[[str, str], None] | None = None
) -> Flow[list[StoredIndex]]:
    """All indexes of a cache, its own first. Walks all keys.

    Args:
        name: The cache's name.
        own: Digest of the embedding model in use.
        on_entry: Told of each entry: its embedding model's digest and its key.
    """
    is_entry = entry_pattern(name)
    counted: Counter[str] = Counter()
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        entries = [match for key in keys if (match := is_entry.fullmatch(key))]
        counted.update(match[1].decode() for match in entries)
        if on_entry is not None:
            for match in entries:
                on_entry(match[1].decode(), match[0].decode())
    embeddings = [own, *sorted(set(counted) - {own})]
    fields = [f"{field}:{e}" for e in embeddings for field in ("model", "dimension", "generation")]
    meta = Command("HMGET", f"{name}:meta", "index", *fields)
    stored = (yield from unless_wrong_type(meta)) or [None] * (1 + len(fields))
    kind, *told = [None if value is None else value.decode() for value in stored]
    found = []
    for place, embedding in enumerate(embeddings):
        model, dimension, generation = told[3 * place : 3 * place + 3]
        if model is None and not counted[embedding]:
            continue  # not begun
        info = (
            (yield from _info(name, embedding, int(generation or 0))) if kind == "search" else None
        )
        found.append(
            StoredIndex(
                id=embedding,
                model=model,
                dimension=int(dimension) if dimension else None,
                entries=counted[embedding],
                kind=kind,
                generation=int(generation or 0),
                in_use=embedding == own,
                vectors=(info.vectors if info else 0) if kind == "search" else None,
                filling=info is not None and info.filling,
            )
        )
    return found


def _info(name: str, embedding: str, generation: int) -> Flow[Info | None]:
    """The FLAT index's facts, or those of the HNSW index where that is alone."""
    prefix = f"{name}:{embedding}:"
    info = yield from index_info(index_name(prefix))
    if info is None and generation:
        info = yield from index_info(graph_name(prefix, generation))
    return info


def remove_index(name: str, embedding: str) -> Flow[int]:
    """Remove one embedding model's index with all its entries; how many there were.

    Args:
        name: The cache's name.
        embedding: Digest of the embedding model's name.

    Raises:
        ConfigurationError: That is no such digest.
    """
    if not re.fullmatch(f"[0-9a-f]{{{DIGEST_LENGTH}}}", embedding):
        raise ConfigurationError(
            f"drop_index() takes the `id` of one of indexes(), {DIGEST_LENGTH} hex digits, not "
            f"{embedding!r}."
        )
    meta = yield from unless_wrong_type(Command("HMGET", f"{name}:meta", "index"))
    if meta is None or meta[0] != b"flat":
        yield from drop_all(name, embedding)
    is_entry, is_log = entry_pattern(name, embedding), log_pattern(name, embedding)
    removed = 0
    pages = Pages(name)
    while (keys := (yield from pages.next())) is not None:
        ours = [key for key in keys if is_entry.fullmatch(key) or is_log.fullmatch(key)]
        if ours:
            counts = yield from replies_to([Command("UNLINK", key) for key in ours])
            entries = zip(ours, counts, strict=True)
            removed += sum(n for key, n in entries if is_entry.fullmatch(key))
    fields = [f"{field}:{embedding}" for field in _FIELDS]
    yield from unless_wrong_type(Command("HDEL", f"{name}:meta", *fields))
    return removed


def drop_all(name: str, embedding: str) -> Flow[None]:
    """Drop the indexes of one embedding model in the server, of whatever generation."""
    fields = (f"generation:{embedding}", f"building:{embedding}")
    stored = yield from unless_wrong_type(Command("HMGET", f"{name}:meta", *fields))
    numbers = [int(value) for value in stored or () if value and value.isdigit()]
    # The one before may have been left behind by a process that ended between two steps.
    generations = {n for number in numbers for n in (number - 1, number) if n > 0}
    prefix = f"{name}:{embedding}:"
    yield from drop_index(index_name(prefix))
    for generation in sorted(generations):
        yield from drop_index(graph_name(prefix, generation))
