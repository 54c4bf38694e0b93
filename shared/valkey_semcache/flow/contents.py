"""What a cache holds, and what that takes, as the server alone can tell.

Rule of this file: nothing is written and nothing is opened with a key. What is not allowed, or
hidden by encryption, is left out and said to be.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from valkey_semcache.errors import NewerFormatError, ServerReplyError, UnreadableError
from valkey_semcache.flow.operations import Command, Flow, Pipeline
from valkey_semcache.index.listing import StoredIndex, list_indexes
from valkey_semcache.shown import Shown
from valkey_semcache.stored.answer import ALIAS_CODEC, ENCRYPTED, codec_of, content_sizes, flags_of
from valkey_semcache.stored.sealing import Seal

_BATCH = 50  # entries in one pipeline: answers may be long
_KEYLESS = Seal()  # takes a signature off without checking it


@dataclass(frozen=True, slots=True)
class Contents(Shown):
    """One embedding model's index, with what a sample of its entries takes.

    Args:
        index: The index, with the number of its entries.
        sampled: Entries that were looked at, drawn at random.
        aliases: Those of them that only point to another wording's answer.
        encrypted: Those of them whose answer's bytes are hidden.
        told: Those of them whose answer's bytes can be told.
        answer_bytes: What the answers of `told` had before compression.
        stored_bytes: What they have in Valkey.
        memory_bytes: What all sampled entries take there, with keys, vectors and Valkey's own
            bookkeeping, but without indexes and logs (`MEMORY USAGE`); None if it is not allowed.
    """

    index: StoredIndex
    sampled: int = 0
    aliases: int = 0
    encrypted: int = 0
    told: int = 0
    answer_bytes: int = 0
    stored_bytes: int = 0
    memory_bytes: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the sample is all that there is."""
        return self.sampled >= self.index.entries

    @property
    def memory_per_entry(self) -> float | None:
        """Bytes in Valkey for each entry, its key and vector, without indexes and logs."""
        if self.memory_bytes is None or not self.sampled:
            return None
        return self.memory_bytes / self.sampled

    @property
    def answers_in(self) -> float | None:
        """Bytes of all answers before compression, as far as the sample tells."""
        return self._for_all(self.answer_bytes)

    @property
    def answers_stored(self) -> float | None:
        """Bytes of all answers in Valkey, likewise."""
        return self._for_all(self.stored_bytes)

    def _for_all(self, in_sample: int) -> float | None:
        return in_sample * self.index.entries / self.sampled if self.told else None

    def _rows(self) -> list[tuple[str, str]]:
        each = self.memory_per_entry
        return [
            *self.index._rows(),
            ("entries looked at", f"{self.sampled:,}"),
            ("their answers", f"{self.answer_bytes:,} bytes, stored as {self.stored_bytes:,}"),
            ("memory for each", "not allowed to know" if each is None else f"{each:,.0f} bytes"),
        ]


@dataclass(slots=True)
class Drawn:
    """A sample of keys drawn at random while they pass by (reservoir sampling)."""

    size: int
    source: random.Random = field(default_factory=random.Random)
    seen: int = 0
    keys: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.seen += 1
        if len(self.keys) < self.size:
            self.keys.append(key)
        elif (place := self.source.randrange(self.seen)) < self.size:
            self.keys[place] = key


def contents_of(name: str, own: str, sample: int) -> Flow[list[Contents]]:
    """All indexes of a cache with what their entries take. Walks all keys.

    Args:
        name: The cache's name.
        own: Digest of the embedding model in use.
        sample: Entries of each index that are looked at.
    """
    drawn: dict[str, Drawn] = {}

    def draw(embedding: str, key: str) -> None:
        drawn.setdefault(embedding, Drawn(sample)).add(key)

    indexes = yield from list_indexes(name, own, draw)
    found = []
    for index in indexes:
        keys = drawn[index.id].keys if index.id in drawn else []
        found.append((yield from _looked_at(index, keys)))
    return found


def _looked_at(index: StoredIndex, keys: Sequence[str]) -> Flow[Contents]:
    counts = dict.fromkeys(
        ("sampled", "aliases", "encrypted", "told", "answer_bytes", "stored_bytes"), 0
    )
    memory: int | None = 0
    for batch in _batches(keys):
        replies: list[Any] = yield Pipeline([Command("HMGET", key, "p") for key in batch])
        taken: list[Any] = yield Pipeline([Command("MEMORY USAGE", key) for key in batch])
        for key, reply, used in zip(batch, replies, taken, strict=True):
            data = None if isinstance(reply, ServerReplyError) else reply[0]
            if data is None:
                continue  # gone meanwhile, or none of ours
            counts["sampled"] += 1
            for what, count in _told(key, data).items():
                counts[what] += count
            memory = memory + used if isinstance(used, int) and memory is not None else None
    return Contents(index, **counts, memory_bytes=memory if counts["sampled"] else None)


def _told(key: str, data: bytes) -> dict[str, int]:
    """What one entry adds to the counts; nothing if it cannot be read."""
    try:
        flags = flags_of(data)
        if codec_of(data) == ALIAS_CODEC.encode():
            return {"aliases": 1}
        if flags & ENCRYPTED:
            return {"encrypted": 1}
        before, after = content_sizes(_KEYLESS.open(key, data).data)
        return {"told": 1, "answer_bytes": before, "stored_bytes": after}
    except (UnreadableError, NewerFormatError):
        return {}


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(keys), _BATCH):
        yield keys[begin : begin + _BATCH]
