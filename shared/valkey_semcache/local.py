"""The local tier: answers that this process holds beside Valkey.

Rule of this file: copies only, bounded in bytes and age, and none older than the entry itself
may become. What this process deletes, rejects or clears is gone here at once; what others do
is seen once a copy's time is up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from cachetools import TLRUCache

from valkey_semcache.locks import ForkLock
from valkey_semcache.options import checked_count, checked_seconds
from valkey_semcache.stored.answer import Envelope

_OVERHEAD = 1000  # bytes that a copy takes besides its content and its question, measured
_POINTER = 700  # bytes of a wording that points to a copy
_SETTLED = 5.0  # seconds after which no look-up that began before a delete is still under way


@dataclass(frozen=True, slots=True)
class LocalTier:
    """For `local=`: how much this process may hold, and for how long.

    Args:
        max_bytes: Memory for the copies, about; those not asked for longest go first.
        ttl: Seconds a copy is served without asking Valkey. As long may a process serve what
            another one has deleted, cleared or replaced.

    Raises:
        ConfigurationError: One of them is out of range.
    """

    max_bytes: int = 64 * 2**20
    ttl: float = 30.0

    def __post_init__(self) -> None:
        checked_count(self.max_bytes, "LocalTier(max_bytes)", 1024)
        checked_seconds(self.ttl, "LocalTier(ttl)")


class _Held(NamedTuple):
    """An entry's envelope, or where another wording's lies (then `source` is its key)."""

    envelope: Envelope | None
    source: str
    created: float
    similarity: float
    until: float
    size: int


class LocalCopies:
    """The copies of one cache, by the key of the question asked.

    Another wording of a stored question is held as a pointer to that entry's copy: dropping
    the copy ends them all.

    Args:
        tier: The bounds.
    """

    def __init__(self, tier: LocalTier) -> None:
        self._tier = tier
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        self._held: TLRUCache[str, _Held] = TLRUCache(
            self._tier.max_bytes,
            ttu=lambda key, held, now: held.until,
            timer=time.monotonic,
            getsizeof=lambda held: held.size,
        )
        self._dropped: dict[str, float] = {}
        self._cleared = -_SETTLED

    def find(self, asked: str) -> tuple[str, float, Envelope] | None:
        """Key, similarity and envelope of the entry that was served for a question's key."""
        with self._lock:
            try:
                held = self._held[asked]  # `get` would look for the key, and at the clock, twice
            except KeyError:
                return None
            if held.envelope is not None:
                return asked, 1.0, held.envelope
            copy = self._held.get(held.source)
            if copy is None or copy.envelope is None or copy.created != held.created:
                del self._held[asked]
                return None
            return held.source, held.similarity, copy.envelope

    def keep(
        self, asked: str, key: str, similarity: float, envelope: Envelope, expires: float | None
    ) -> None:
        """Hold what was just served, unless this process has taken it out meanwhile.

        Args:
            asked: Key of the question asked.
            key: Key of the entry served.
            similarity: Of the two.
            envelope: The entry's.
            expires: When it is to be looked at in Valkey again, seconds since 1970.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._cleared < _SETTLED:
                return
            if any(now - self._dropped.get(k, -_SETTLED) < _SETTLED for k in (asked, key)):
                return
            held = self._held.get(key)
            if held is not None and held.created > envelope.created:
                return
            self._put(asked, key, similarity, envelope, expires)

    def written(self, key: str, envelope: Envelope, expires: float | None) -> None:
        """Hold what this process has just stored; arguments as for `keep`."""
        with self._lock:
            self._dropped.pop(key, None)
            self._put(key, key, 1.0, envelope, expires)

    def drop(self, key: str) -> None:
        """Let an entry or a wording go, and keep out what a look-up under way still brings."""
        now = time.monotonic()
        with self._lock:
            self._held.pop(key, None)
            self._dropped[key] = now
            if len(self._dropped) > 1024:
                recent = {k: at for k, at in self._dropped.items() if now - at < _SETTLED}
                self._dropped = recent

    def clear(self) -> None:
        """Let all go."""
        with self._lock:
            self._begin()
            self._cleared = time.monotonic()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, about."""
        return int(self._held.currsize)

    def _put(
        self, asked: str, key: str, similarity: float, envelope: Envelope, expires: float | None
    ) -> None:
        left = self._tier.ttl if expires is None else min(self._tier.ttl, expires - time.time())
        size = len(envelope.content) + 4 * len(envelope.question or "") + _OVERHEAD
        if left <= 0 or size > self._tier.max_bytes:
            self._held.pop(key, None)
            return
        until = time.monotonic() + left
        self._held[key] = _Held(envelope, key, envelope.created, 1.0, until, size)
        if asked != key and size + _POINTER <= self._tier.max_bytes:
            self._held[asked] = _Held(None, key, envelope.created, similarity, until, _POINTER)
