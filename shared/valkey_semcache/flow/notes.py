"""What a process remembers between a look-up and the store that follows.

Rule of this file: bounded, thread-safe, expiring; losing any of it costs an embedding, never
an answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache, TTLCache

from valkey_semcache.embedding import Vector
from valkey_semcache.locks import ForkLock
from valkey_semcache.outcome import Neighbour
from valkey_semcache.question import Address

if TYPE_CHECKING:
    from valkey_semcache.flow.verifying import Check


@dataclass(frozen=True, slots=True)
class Note:
    """What a look-up that missed knew.

    Args:
        vector: The question's vector; None if it was not needed.
        nearest: The nearest entry and why it was not served, if one was seen.
        renews: Key of the entry that is to be renewed with the answer.
        question: That entry's wording, if texts are kept.
        sealed: Digest of the vector that entry was signed with, if it was.
        check: What the policy wants the fresh answer to be compared with.
    """

    vector: Vector | None
    nearest: Neighbour | None = None
    renews: str | None = None
    question: str | None = None
    sealed: bytes | None = None
    check: Check | None = None


class Notes:
    """The notes of misses, the vectors of recent texts, and where texts were stored.

    Args:
        notes: How many misses to remember.
        seconds: How long a miss is remembered.
        vectors: How many texts' vectors to remember.
    """

    def __init__(self, notes: int = 4096, seconds: float = 600, vectors: int = 512) -> None:
        self._sizes = notes, seconds, vectors
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        notes, seconds, vectors = self._sizes
        self._notes: TTLCache[tuple[str, str], Note] = TTLCache(notes, seconds, time.monotonic)
        self._vectors: LRUCache[str, Vector] = LRUCache(vectors)
        self._stored: LRUCache[tuple[str, str], str] = LRUCache(notes)

    def leave(self, address: Address, note: Note) -> None:
        """Remember a miss for the store that may follow, in whatever thread or task."""
        with self._lock:
            self._notes[address.scope, address.text_digest] = note

    def take(self, address: Address) -> Note | None:
        """The note on this question, once."""
        with self._lock:
            note: Note | None = self._notes.pop((address.scope, address.text_digest), None)
            return note

    def vector(self, address: Address) -> Vector | None:
        """The vector of the same text, if it was embedded lately."""
        with self._lock:
            vector: Vector | None = self._vectors.get(address.text_digest)
            return vector

    def keep(self, address: Address, vector: Vector) -> None:
        """Remember a text's vector."""
        with self._lock:
            self._vectors[address.text_digest] = vector

    def stored(self, address: Address) -> None:
        """Remember under which family a text was stored."""
        with self._lock:
            self._stored[address.namespace_digest, address.text_digest] = address.family

    def elsewhere(self, address: Address) -> bool:
        """Whether this process stored the tenant's same text last under another family."""
        asked = address.namespace_digest, address.text_digest
        with self._lock:
            return bool(self._stored.get(asked, address.family) != address.family)

    def clear(self) -> None:
        """Forget all but the vectors, which are true whatever is stored."""
        with self._lock:
            self._notes.clear()
            self._stored.clear()
