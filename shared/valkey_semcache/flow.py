"""How a look-up, a store and a delete go, step by step.

Rule of this file: decisions, no I/O. Each flow is a generator that yields what it wants done
(operations.py) and is sent the outcome; drive.py runs it, sync or async. What must hold on
every path (a scope is never crossed, an unreadable entry is a miss) is decided here, once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from valkey_semcache.answer import ALIAS_CODEC, Alias, Envelope, place_of, unpack, unpack_alias
from valkey_semcache.codec import Codec
from valkey_semcache.embedding import Vector
from valkey_semcache.errors import (
    IndexLostError,
    NewerFormatError,
    SemcacheError,
    ServerReplyError,
    UnreadableError,
)
from valkey_semcache.index.contract import ENTRY_FIELDS, Candidate, Fields, VectorIndex
from valkey_semcache.index.opening import IndexSettings, open_index
from valkey_semcache.index.scripts import STORE, STORE_ALIAS
from valkey_semcache.locks import ForkLock
from valkey_semcache.notes import Note, Notes
from valkey_semcache.operations import (
    Argument,
    Command,
    Embed,
    Flow,
    Script,
    is_wrong_type,
    unless_wrong_type,
)
from valkey_semcache.outcome import Hit, Miss, MissReason, Neighbour
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters

CANDIDATES = 3
"""Neighbours asked for: release 1.0.2 can return nothing for one that has just expired."""

TOLERANCE = 1e-6
"""Float32 noise in a similarity, so that a threshold of 1 is met by an equal vector."""

_MOST = 3000  # neighbours asked for when all nearer ones were gone or refused


class Flows:
    """The flows of one cache, and what they share: index, notes, counters.

    Args:
        index_settings: What the index is made with.
        notes: What look-ups leave for stores.
        counters: Where things are counted.
        store_questions: Whether the questions' texts are kept in Valkey.
        promote: Whether a wording that hit by meaning is remembered, to hit exactly next time.
    """

    def __init__(
        self,
        index_settings: IndexSettings,
        notes: Notes,
        counters: Counters,
        *,
        store_questions: bool,
        promote: bool,
    ) -> None:
        self.notes = notes
        self._index_settings = index_settings
        self._counters = counters
        self._store_questions = store_questions
        self._promote = promote
        self._indexes: dict[int, VectorIndex] = {}
        self._lock = ForkLock()

    @property
    def index(self) -> VectorIndex | None:
        """The index in use, if one has been opened."""
        return next(iter(self._indexes.values()), None)

    def lookup(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | Miss]:
        """Exact, then by meaning. A miss leaves its vector for the store that follows."""
        hit = yield from self._exact(address, codec, threshold)
        if hit is not None:
            return hit
        if not address.semantic:
            return Miss("exact_only", f"not stored in these very words; {address.exact_reason}")
        vector = yield from self._vector(address)
        outcome = yield from self._by_meaning(address, vector, codec, threshold)
        if isinstance(outcome, Miss):
            self.notes.leave(address, Note(vector, outcome.nearest))
        return outcome

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
        note = self.notes.take(address)
        now = time.time()
        envelope = Envelope(
            place=place_of(address.key),
            codec=codec,
            content=content,
            created=now,
            expires=None if ttl is None else now + ttl,
            model=address.model,
            question=address.text if self._store_questions else None,
            usage=usage,
        )
        fields = _fields(address, envelope)
        ttl_ms = _milliseconds(ttl)
        if not address.semantic:
            yield Script(STORE, address.key, ttl_ms, 0, *fields)
        else:
            vector = note.vector if note else (yield from self._vector(address))
            index = yield from self._index(len(vector))
            fields += ("s", address.scope, "b", address.family, "v", vector.tobytes())
            yield Script(STORE, address.key, ttl_ms, 1, *fields)
            yield from index.added(address.scope, address.text_digest, vector, ttl_ms)
        self.notes.stored(address)

    def delete(self, address: Address) -> Flow[bool]:
        """Remove the entry of just these words; whether there was one."""
        removed = yield Command("UNLINK", address.key)
        return bool(removed)

    def forget(self) -> None:
        """Let go of what this process knows of entries and index; they were removed."""
        self.notes.clear()
        with self._lock:
            for index in self._indexes.values():
                index.forget()
            self._indexes.clear()

    # The exact tier

    def _exact(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | None]:
        data = yield from self._read(address.key)
        if data is None:
            return None
        envelope = yield from self._envelope(address.key, data)
        if envelope is None:
            return None
        if envelope.codec == ALIAS_CODEC:
            return (yield from self._by_alias(address, envelope, codec, threshold))
        return (yield from self._hit("exact", address.key, 1.0, envelope, codec))

    def _read(self, key: str) -> Flow[bytes | None]:
        """An entry's envelope. A key of another type is none of ours and gives way."""
        try:
            data: bytes | None = (yield Command("HMGET", key, "p"))[0]
        except ServerReplyError as error:
            if not is_wrong_type(error):
                raise
            yield from self._remove_unreadable(key)
            return None
        return data

    def _by_alias(
        self, address: Address, envelope: Envelope, codec: Codec, threshold: float
    ) -> Flow[Hit | None]:
        """The answer an alias points to, if that entry still is the one it was made from."""
        try:
            alias = unpack_alias(envelope.content)
        except UnreadableError:
            yield from self._remove_unreadable(address.key)
            return None
        key = address.key[: -len(address.text_digest)] + alias.source
        values = yield from unless_wrong_type(Command("HMGET", key, *ENTRY_FIELDS))
        data, rejected = values or (None, None)
        source = None if data is None else (yield from self._envelope(key, data))
        if (
            source is None
            or source.created != alias.created
            or _is_rejected(address, rejected)
            or source.codec == ALIAS_CODEC
        ):
            yield Command("UNLINK", address.key)
            return None
        if alias.similarity < threshold - TOLERANCE:
            return None
        return (yield from self._hit("exact", key, alias.similarity, source, codec))

    # By meaning

    def _by_meaning(
        self, address: Address, vector: Vector, codec: Codec, threshold: float
    ) -> Flow[Hit | Miss]:
        count = CANDIDATES
        while True:
            index = yield from self._index(len(vector))
            try:
                candidates = yield from index.nearest(address.scope, vector, count)
            except IndexLostError:
                self._indexes.pop(len(vector), None)
                index = yield from self._index(len(vector))
                candidates = yield from index.nearest(address.scope, vector, count)
            outcome, passed_over = yield from self._judged(
                address, index, candidates, codec, threshold
            )
            if isinstance(outcome, Hit) or passed_over < count or count >= _MOST:
                return outcome
            # All were gone, unreadable or rejected: what lies behind them may do.
            count *= 4

    def _judged(
        self,
        address: Address,
        index: VectorIndex,
        candidates: Sequence[Candidate],
        codec: Codec,
        threshold: float,
    ) -> Flow[tuple[Hit | Miss, int]]:
        """The first candidate that may be served, or why none may; and how many were passed
        over for another reason than being too far away."""
        reason: MissReason = "no_neighbour"
        detail = "nothing is stored in this scope"
        nearest: Neighbour | None = None
        passed_over = 0
        for candidate in candidates:
            passed_over += 1
            if not candidate.key.startswith(address.key[: -len(address.text_digest)]):
                continue
            fields = candidate.fields
            if fields is None:
                fields = yield from index.read(address.scope, candidate)
                if fields is None:
                    continue
            envelope = yield from self._envelope(candidate.key, fields[b"p"])
            if envelope is None:
                continue
            refusal = _refusal(address, candidate, fields, threshold)
            if refusal is None:
                hit = yield from self._hit(
                    "semantic", candidate.key, candidate.similarity, envelope, codec
                )
                if hit is not None:
                    yield from self._remember_wording(address, candidate, envelope)
                    return hit, 0
                continue
            if nearest is None:
                reason, detail = refusal
                nearest = Neighbour(envelope.question, candidate.similarity, detail, candidate.key)
            if refusal[0] == "below_threshold":
                # Those that follow are farther away still.
                return self._miss(address, reason, detail, nearest), 0
        return self._miss(address, reason, detail, nearest), passed_over

    def _miss(
        self, address: Address, reason: MissReason, detail: str, nearest: Neighbour | None = None
    ) -> Miss:
        return Miss(reason, detail, nearest, self.notes.elsewhere(address))

    def _remember_wording(
        self, address: Address, candidate: Candidate, envelope: Envelope
    ) -> Flow[None]:
        """Write an alias, so that the same words hit exactly next time."""
        now = time.time()
        left = None if envelope.expires is None else envelope.expires - now
        if not self._promote or (left is not None and left <= 0):
            return
        source = candidate.key.rpartition(":")[2]
        alias = Envelope(
            place=place_of(address.key),
            codec=ALIAS_CODEC,
            content=Alias(source, envelope.created, candidate.similarity).pack(),
            created=now,
            expires=envelope.expires,
            model=envelope.model,
        )
        try:
            yield Script(STORE_ALIAS, address.key, _milliseconds(left), *_fields(address, alias))
        except SemcacheError as error:
            self._counters.failed("promoting a wording", error)

    # Shared steps

    def _index(self, dimension: int) -> Flow[VectorIndex]:
        index = self._indexes.get(dimension)
        if index is None:
            opened = yield from open_index(self._index_settings, dimension)
            with self._lock:
                index = self._indexes.setdefault(dimension, opened)
        return index

    def _vector(self, address: Address) -> Flow[Vector]:
        vector = self.notes.vector(address)
        if vector is None:
            self._counters.count("embeddings")
            embedded: Vector = yield Embed(address.text)
            vector = embedded
            self.notes.keep(address, vector)
        return vector

    def _envelope(self, key: str, data: bytes) -> Flow[Envelope | None]:
        """An entry's envelope; one that cannot be read is deleted, a newer one left alone."""
        try:
            envelope = unpack(data)
            if envelope.place != place_of(key):
                raise UnreadableError("The envelope belongs to another entry.")
            return envelope
        except NewerFormatError:
            return None
        except UnreadableError:
            yield from self._remove_unreadable(key)
            return None

    def _hit(
        self, tier: str, key: str, similarity: float, envelope: Envelope, codec: Codec
    ) -> Flow[Hit | None]:
        """The hit, with the answer decoded anew; None if another codec wrote it, or none can."""
        if envelope.codec != codec.name:
            return None
        try:
            answer = codec.decode(envelope.content)
        except UnreadableError:
            yield from self._remove_unreadable(key)
            return None
        return Hit(
            tier="exact" if tier == "exact" else "semantic",
            similarity=similarity,
            question=envelope.question,
            answer=answer,
            age=max(0.0, time.time() - envelope.created),
            model=envelope.model,
            usage=envelope.usage or {},
            key=key,
        )

    def _remove_unreadable(self, key: str) -> Flow[None]:
        self._counters.count("errors", "UnreadableError")
        self._counters.warn("unreadable", "An entry of the cache was unreadable and is removed.")
        yield Command("UNLINK", key)


def _refusal(
    address: Address, candidate: Candidate, fields: Fields, threshold: float
) -> tuple[MissReason, str] | None:
    """Why a candidate may not be served; None if it may."""
    if not candidate.similarity >= threshold - TOLERANCE:
        return "below_threshold", f"similarity {candidate.similarity:.4f} < {threshold}"
    if _is_rejected(address, fields.get(b"x")):
        return "rejected", "this answer was rejected for this question"
    return None


def _is_rejected(address: Address, rejected: bytes | None) -> bool:
    return rejected is not None and address.text_digest.encode() in rejected.split()


def _fields(address: Address, envelope: Envelope) -> tuple[Argument, ...]:
    """The fields that every entry has, names and values in turn."""
    digests = ("m", address.model_digest, "n", address.namespace_digest)
    return (*digests, "i", address.identity_digest, "p", envelope.pack())


def _milliseconds(seconds: float | None) -> int:
    """A TTL for the scripts: whole milliseconds, at least 1; 0 for none."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
