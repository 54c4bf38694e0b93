"""How a store, a delete and a rejection go, step by step.

Rule of this file: decisions, no I/O. An entry is written in one atomic step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from valkey_semcache.answer import Envelope, place_of
from valkey_semcache.embedding import Vector
from valkey_semcache.entries import fields_of, milliseconds
from valkey_semcache.index.contract import VectorIndex
from valkey_semcache.index.scripts import REJECT, STORE
from valkey_semcache.local import LocalCopies
from valkey_semcache.notes import Note, Notes
from valkey_semcache.operations import Command, Flow, Script
from valkey_semcache.outcome import Hit
from valkey_semcache.policy import Policy
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters

MOST_REJECTED = 100
"""Questions that an entry may be rejected for; from then on it is found by its own words only."""


class Storing:
    """The flows that write.

    Args:
        notes: What look-ups left for stores.
        index: Opens the index for vectors of a dimension.
        vector: Embeds a question, unless it was embedded lately.
        counters: Where bytes are counted.
        policy: What is stored, and how.
        local: Copies in this process, if it is to hold any.
    """

    def __init__(
        self,
        notes: Notes,
        index: Callable[[int], Flow[VectorIndex]],
        vector: Callable[[Address], Flow[Vector]],
        counters: Counters,
        policy: Policy,
        local: LocalCopies | None,
    ) -> None:
        self._notes = notes
        self._index = index
        self._vector = vector
        self._counters = counters
        self._policy = policy
        self._local = local

    def store(
        self,
        address: Address,
        codec: str,
        content: bytes,
        ttl: float | None,
        usage: Mapping[str, int] | None,
    ) -> Flow[None]:
        """Write an entry in one atomic step; the flat index notes it in a second.

        Args:
            address: The question's.
            codec: Name of the codec that wrote `content`.
            content: The answer.
            ttl: Seconds until it expires, or None for never.
            usage: Tokens the answer cost.
        """
        note = self._notes.take(address)
        now = time.time()
        envelope = Envelope(
            place=place_of(address.key),
            codec=codec,
            content=content,
            created=now,
            expires=None if ttl is None else now + ttl,
            model=address.model,
            question=address.text if self._policy.store_questions else None,
            usage=usage,
        )
        if self._local is not None:
            self._local.drop(address.key)
        yield from self._write(address, envelope, milliseconds(ttl), note)
        if self._local is not None:
            self._local.written(address.key, envelope)
        self._notes.stored(address)

    def delete(self, address: Address) -> Flow[bool]:
        """Remove the entry of just these words; whether there was one."""
        try:
            removed = yield Command("UNLINK", address.key)
        finally:
            if self._local is not None:
                self._local.drop(address.key)
        return bool(removed)

    def reject(self, hit: Hit) -> Flow[bool]:
        """Never again serve this entry for this question; whether it was still there.

        An answer rejected for its own words is deleted.
        """
        try:
            if hit.asked == hit.key:
                done = yield Command("UNLINK", hit.key)
            else:
                asked = hit.asked.rpartition(":")[2]
                done = yield Script(REJECT, hit.key, asked, MOST_REJECTED)
        finally:
            if self._local is not None:
                self._local.drop(hit.asked)
        return bool(done)

    def _write(
        self, address: Address, envelope: Envelope, ttl_ms: int, note: Note | None
    ) -> Flow[None]:
        """One script, and what the index notes of it."""
        packed = envelope.pack(self._policy.compress_over)
        fields = fields_of(address, packed)
        if not address.semantic:
            yield Script(STORE, address.key, ttl_ms, 0, *fields)
        else:
            vector = note.vector if note else (yield from self._vector(address))
            index = yield from self._index(len(vector))
            fields += ("s", address.scope, "b", address.family, "v", vector.tobytes())
            yield Script(STORE, address.key, ttl_ms, 1, *fields)
            yield from index.added(address.scope, address.text_digest, vector, ttl_ms)
        self._counters.count("bytes", "in", len(envelope.content))
        self._counters.count("bytes", "stored", len(packed))
