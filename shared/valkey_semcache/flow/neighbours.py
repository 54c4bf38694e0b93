"""What is near a question, in its scope and in others.

Rule of this file: what a look-up never sees is looked for here, to say what keeps it away. It is
bounded, and what was left out is said. Of another tenant nothing is shown to who has not asked for
it, and of an entry that is not proven to be the tenant's own, no text where texts are secret.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import SearchTimeoutError, ServerReplyError
from valkey_semcache.explanation import Near
from valkey_semcache.flow.differences import ENTRY, Differences, Entry
from valkey_semcache.flow.entries import Entries
from valkey_semcache.flow.operations import Command, Flow, replies_to
from valkey_semcache.index.contract import VectorIndex
from valkey_semcache.index.reading import ReadingIndex
from valkey_semcache.question import Address
from valkey_semcache.stored.answer import ALIAS_CODEC
from valkey_semcache.stored.keys import Pages, entry_pattern
from valkey_semcache.vectors import similarity

LOOKED_AT = 64
"""Entries around a question, of all scopes, that valkey-search is asked for."""

WALKED = 5000
"""Entries of other scopes that are looked at one by one where no index reaches over scopes."""

_PAGES = 200  # of 1,000 keys each
_BATCH = 250  # entries read in one pipeline


class Elsewhere:
    """Finds what other scopes hold near a question.

    Args:
        address: The question's.
        differences: Says what keeps an entry away.
        entries: Reads them.
        sealed: Whether texts are to be shown of proven entries only.
        other_tenants: Whether other tenants' entries are looked for too.
    """

    def __init__(
        self,
        address: Address,
        differences: Differences,
        entries: Entries,
        *,
        sealed: bool,
        other_tenants: bool,
    ) -> None:
        self._address = address
        self._differences = differences
        self._entries = entries
        self._sealed = sealed
        self._other_tenants = other_tenants
        self.remarks: list[str] = []

    def nearest(self, index: VectorIndex, vector: Vector, count: int) -> Flow[list[Near]]:
        """At most `count` entries of other scopes, the nearest first."""
        if isinstance(index, ReadingIndex):
            keys = yield from self._by_index(index, vector)
        else:
            keys = yield from self._walked()
        found: list[Near] = []
        for start in range(0, len(keys), _BATCH):
            read = yield from self._read(keys[start : start + _BATCH], vector)
            found = heapq.nlargest(count, [*found, *read], key=lambda near: near.similarity)
        return found

    def same_words(self, count: int) -> Flow[list[Near]]:
        """Entries of just these words in other scopes, for a question that has no vector."""
        keys = yield from self._walked(self._address.text_digest)
        return (yield from self._read(keys[:_BATCH], None))[:count]

    def _by_index(self, index: ReadingIndex, vector: Vector) -> Flow[list[str]]:
        """Keys of what is near, by two searches: the same but for the exact features, and all."""
        keys: dict[str, None] = {}
        for where in f"(@b:{{{self._address.family}}})", "*":
            try:
                candidates = yield from index.around(where, vector, LOOKED_AT)
            except SearchTimeoutError:
                self.remarks.append("Other scopes hold too much to be searched in time.")
                break
            keys.update((candidate.key, None) for candidate in candidates)
            if where == "*" and len(candidates) == LOOKED_AT:
                self.remarks.append(
                    f"Of other scopes, what is among the {LOOKED_AT} entries nearest of all, or "
                    "nearest with the same context, is shown."
                )
        return [key for key in keys if self._is_elsewhere(key)]

    def _walked(self, text_digest: str | None = None) -> Flow[list[str]]:
        """Keys of entries in other scopes, as a bounded walk meets them.

        Args:
            text_digest: Of the words that are looked for; None for any.
        """
        name, embedding, *_ = self._address.key.split(":")
        is_entry = entry_pattern(name, embedding)
        pages = Pages(f"{name}:{embedding}")
        keys: list[str] = []
        for _ in range(_PAGES):
            page = yield from pages.next()
            if page is None:
                return keys
            for key in page:
                match = is_entry.fullmatch(key)
                if match and text_digest in (None, match[3].decode()):
                    keys.append(key.decode())
            keys = [key for key in keys if self._is_elsewhere(key)]
            if len(keys) > WALKED:
                break
        self.remarks.append(
            f"Other scopes were not looked through to the end: {len(keys[:WALKED]):,} entries were."
        )
        return keys[:WALKED]

    def _is_elsewhere(self, key: str) -> bool:
        return not key.startswith(self._address.key[: -len(self._address.text_digest)])

    def _read(self, keys: Sequence[str], vector: Vector | None) -> Flow[list[Near]]:
        """What is there, and may be shown."""
        if not keys:
            return []
        replies = yield from replies_to([Command("HMGET", key, *ENTRY) for key in keys])
        found = []
        for key, values in zip(keys, replies, strict=True):
            if isinstance(values, ServerReplyError) or values[0] is None:
                continue
            entry = Entry.of(key, values)
            if not self._other_tenants and entry.namespace != self._address.namespace_digest:
                continue
            similarity = similarity_to(vector, entry.vector)
            if similarity is None:
                continue
            near = yield from self._near(entry, values[0], similarity)
            found += [] if near is None else [near]
        return found

    def _near(self, entry: Entry, data: bytes, similarity: float) -> Flow[Near | None]:
        envelope = yield from self._entries.envelope(entry.key, data)
        if envelope is None or envelope.codec == ALIAS_CODEC:
            return None
        difference = self._differences.of(entry, envelope)
        question = envelope.question
        if self._sealed and not difference.proven and not self._other_tenants:
            question = None
        return Near(question, similarity, difference.told, difference.parts, key=entry.key)


def similarity_to(vector: Vector | None, stored: bytes | None) -> float | None:
    """Cosine similarity to a stored unit vector; 1 if the words alone are compared, None if the
    two cannot be compared."""
    if vector is None:
        return 1.0
    if stored is None or len(stored) != vector.nbytes:
        return None
    return min(1.0, max(-1.0, similarity(vector, stored)))


def merged(*lists: Iterable[Near]) -> tuple[Near, ...]:
    """Several lists as one, the nearest first."""
    return tuple(sorted((near for found in lists for near in found), key=lambda n: -n.similarity))
