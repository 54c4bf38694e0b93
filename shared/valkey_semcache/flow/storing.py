"""How a store, a delete and a rejection go, step by step.

Rule of this file: decisions, no I/O. An entry is written in one atomic step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import SemcacheError
from valkey_semcache.flow.entries import Entries, fields_of, milliseconds
from valkey_semcache.flow.notes import Note, Notes
from valkey_semcache.flow.operations import Command, Flow, Script, replies_to
from valkey_semcache.flow.policy import Policy
from valkey_semcache.flow.serving import Serving
from valkey_semcache.index.contract import VectorIndex
from valkey_semcache.index.scripts import QUOTA, REJECT, RENEW, STORE
from valkey_semcache.local import LocalCopies
from valkey_semcache.outcome import Hit
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope, place_of
from valkey_semcache.stored.codec import Codec

if TYPE_CHECKING:
    from valkey_semcache.flow.verifying import Verifying

MOST_REJECTED = 100
"""Questions that an entry may be rejected for; from then on it is found by its own words only."""


class Storing:
    """The flows that write.

    Args:
        entries: Packs them.
        serving: Knows how long copies in this process are good for.
        notes: What look-ups left for stores.
        index: Opens the index for vectors of a dimension.
        vector: Embeds a question, unless it was embedded lately.
        counters: Where bytes are counted.
        policy: What is stored, and how.
        local: Copies in this process, if it is to hold any.
        verifying: Compares fresh answers with what would have been served, if it is to be.
    """

    def __init__(
        self,
        entries: Entries,
        serving: Serving,
        notes: Notes,
        index: Callable[[int], Flow[VectorIndex]],
        vector: Callable[[Address], Flow[Vector]],
        counters: Counters,
        policy: Policy,
        local: LocalCopies | None,
        verifying: Verifying | None = None,
    ) -> None:
        self._entries = entries
        self._serving = serving
        self._notes = notes
        self._index = index
        self._vector = vector
        self._counters = counters
        self._policy = policy
        self._local = local
        self._verifying = verifying

    def store(
        self,
        address: Address,
        codec: Codec,
        content: bytes,
        ttl: float | None,
        usage: Mapping[str, int] | None,
    ) -> Flow[None]:
        """Write an entry in one atomic step; the flat index notes it in a second.

        Args:
            address: The question's.
            codec: That wrote `content`.
            content: The answer.
            ttl: Seconds until it expires, or None for never.
            usage: Tokens the answer cost.
        """
        note = self._notes.take(address)
        now = time.time()
        envelope = Envelope(
            place=place_of(address.key),
            codec=codec.name,
            content=content,
            created=now,
            expires=None if ttl is None else now + ttl,
            model=address.model,
            question=address.text if self._policy.store_questions else None,
            usage=usage,
        )
        if self._local is not None:
            self._local.drop(address.key)
        renews = None if note is None else note.renews
        if note is not None and renews is not None and address.semantic:
            renewed = yield from self._renew(address, renews, note, envelope)
            if renewed:
                return
        ttl_ms = milliseconds(ttl)
        yield from self._write(address, envelope, ttl_ms, note)
        if self._policy.max_entries_per_namespace is not None:
            yield from self._within_quota(address, address.key, ttl_ms)
        if renews == address.key:
            self._counters.count("renewed")
            yield from self._serving.renewed(address, address.key, ttl_ms)
        if self._local is not None:
            self._local.written(address.key, envelope, self._serving.look_again(envelope))
        self._notes.stored(address)
        if self._verifying is not None and note is not None and note.check is not None:
            yield from self._verifying.compare(address, codec, content, note.check)

    def _renew(self, address: Address, key: str, note: Note, envelope: Envelope) -> Flow[bool]:
        """Give the entry that asked for it the new answer; False if it is gone.

        Whatever wording brought the answer, the entry keeps its own question and vector.

        Args:
            address: The question that was asked.
            key: The entry's.
            note: What the look-up knew of the entry.
            envelope: Of the answer, as it would be stored under the asked words.
        """
        envelope = envelope._replace(place=place_of(key), question=note.question)
        packed = self._entries.packed(key, envelope, sealed=note.sealed)
        left = None if envelope.expires is None else envelope.expires - envelope.created
        ttl_ms = milliseconds(left)
        if self._local is not None:
            self._local.drop(key)
        if not (yield Script(RENEW, key, ttl_ms, packed)):
            return False
        self._counters.count("renewed")
        self._count_bytes(envelope, packed)
        if self._local is not None:
            self._local.written(key, envelope, self._serving.look_again(envelope))
        self._notes.stored(address)
        yield from self._serving.renewed(address, key, ttl_ms)
        yield from self._within_quota(address, key, ttl_ms)
        return True

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
                if done and self._verifying is not None:
                    yield from self._verifying.rejected(hit)
        finally:
            if self._local is not None:
                self._local.drop(hit.asked)
        return bool(done)

    def _write(
        self, address: Address, envelope: Envelope, ttl_ms: int, note: Note | None
    ) -> Flow[None]:
        """One script, and what the index notes of it."""
        if not address.semantic:
            packed = self._entries.packed(address.key, envelope)
            yield Script(STORE, address.key, ttl_ms, 0, *fields_of(address, packed))
        else:
            vector = None if note is None else note.vector
            if vector is None:
                vector = yield from self._vector(address)
            index = yield from self._index(len(vector))
            packed = self._entries.packed(address.key, envelope, vector)
            fields = fields_of(address, packed)
            fields += ("s", address.scope, "b", address.family, "v", vector.tobytes())
            yield Script(STORE, address.key, ttl_ms, 1, *fields)
            yield from index.added(address.scope, address.text_digest, vector, ttl_ms)
        self._count_bytes(envelope, packed)

    def _within_quota(self, address: Address, key: str, ttl_ms: int) -> Flow[None]:
        """Remove the tenant's oldest entries if it has more than it may."""
        most = self._policy.max_entries_per_namespace
        if most is None:
            return
        name = key.partition(":")[0]
        listed = f"{name}:quota:{address.namespace_digest}"
        try:
            noted = Script(QUOTA, listed, key, f"{time.time():.6f}", most, ttl_ms)
            gone = [member.decode() for member in (yield noted)]
            if gone:
                removed = yield from replies_to([Command("UNLINK", each) for each in gone])
                self._counters.count("evicted", "", sum(removed))
        except SemcacheError as error:
            self._counters.failed("keeping a tenant within its quota", error)
            return
        if self._local is not None:
            for each in gone:
                self._local.drop(each)

    def _count_bytes(self, envelope: Envelope, packed: bytes) -> None:
        self._counters.wrote(len(envelope.content), len(packed))
