"""What a process remembers between a look-up and the store that follows.

Rule of this file: bounded, thread-safe, expiring; losing any of it costs an embedding, never
an answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from valkey_semcache.embedding import Vector
from valkey_semcache.locks import ForkLock
from valkey_semcache.outcome import Neighbour
from valkey_semcache.question import Address

if TYPE_CHECKING:
    from valkey_semcache.flow.verifying import Check


V = TypeVar("V")


class Note(NamedTuple):
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
        self._most, self._seconds, self._most_vectors = notes, seconds, vectors
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        # By key, the oldest first. `cachetools` would keep the order in Python.
        self._notes: OrderedDict[str, tuple[float, Note]] = OrderedDict()
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._stored: OrderedDict[str, str] = OrderedDict()

    def leave(self, address: Address, note: Note) -> None:
        """Remember a miss for the store that may follow, in whatever thread or task."""
        now = time.monotonic()
        with self._lock:
            notes = self._notes
            _keep(notes, address.key, (now, note), self._most)
            while notes and next(iter(notes.values()))[0] < now - self._seconds:
                notes.popitem(last=False)

    def take(self, address: Address) -> Note | None:
        """The note on this question, once."""
        with self._lock:
            left, note = self._notes.pop(address.key, (0.0, None))
        return note if time.monotonic() - left <= self._seconds else None

    def vector(self, address: Address) -> Vector | None:
        """The vector of the same text, if it was embedded lately."""
        with self._lock:
            return _found(self._vectors, address.text_digest)

    def keep(self, address: Address, vector: Vector) -> None:
        """Remember a text's vector."""
        with self._lock:
            _keep(self._vectors, address.text_digest, vector, self._most_vectors)

    def stored(self, address: Address) -> None:
        """Remember under which family a text was stored."""
        asked = address.namespace_digest + address.text_digest
        with self._lock:
            _keep(self._stored, asked, address.family, self._most)

    def elsewhere(self, address: Address) -> bool:
        """Whether this process stored the tenant's same text last under another family."""
        asked = address.namespace_digest + address.text_digest
        with self._lock:
            family = _found(self._stored, asked)
        return family is not None and family != address.family

    def clear(self) -> None:
        """Forget all but the vectors, which are true whatever is stored."""
        with self._lock:
            self._notes.clear()
            self._stored.clear()


def _keep(table: OrderedDict[str, V], key: str, value: V, most: int) -> None:
    """Put down what is the newest now, and forget the oldest if there are too many."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)


def _found(table: OrderedDict[str, V], key: str) -> V | None:
    """What is put down under a key, asked for lately now."""
    value = table.get(key)
    if value is not None:
        table.move_to_end(key)
    return value
