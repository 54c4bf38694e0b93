"""How a look-up goes, step by step.

Rule of this file: decisions, no I/O. Each flow is a generator that yields what it wants done
(operations.py) and is sent the outcome; drive.py runs it, sync or async. What must hold on
every path (a scope is never crossed, an unreadable entry is a miss) is decided here, once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.embedding import Vector
from valkey_semcache.errors import ForgedError, IndexLostError, SemcacheError, UnreadableError
from valkey_semcache.flow.entries import Entries, fields_of, is_rejected, milliseconds
from valkey_semcache.flow.exact import ExactTier
from valkey_semcache.flow.judging import Hearing
from valkey_semcache.flow.notes import Note, Notes
from valkey_semcache.flow.operations import Embed, Flow, Script
from valkey_semcache.flow.policy import Policy
from valkey_semcache.flow.serving import TOLERANCE, Serving
from valkey_semcache.flow.storing import Storing
from valkey_semcache.index.contract import Candidate, Fields, VectorIndex
from valkey_semcache.index.scripts import STORE_ALIAS
from valkey_semcache.index.settings import IndexSettings
from valkey_semcache.local import LocalCopies
from valkey_semcache.locks import ForkLock
from valkey_semcache.outcome import Hit, Miss, MissReason, Neighbour
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import ALIAS_CODEC, Alias, Envelope, place_of
from valkey_semcache.stored.codec import Codec

if TYPE_CHECKING:
    from valkey_semcache import vectors
    from valkey_semcache.flow import verifying
    from valkey_semcache.index import opening, search
else:
    vectors = at_first_use("valkey_semcache.vectors")
    verifying = at_first_use("valkey_semcache.flow.verifying")
    opening = at_first_use("valkey_semcache.index.opening")
    search = at_first_use("valkey_semcache.index.search")

CANDIDATES = 3
"""Neighbours asked for: release 1.0.2 can return nothing for one that has just expired."""

_MOST = 3000  # neighbours asked for when all nearer ones were gone or refused
_MOST_GUARDED = 12  # neighbours that guards may refuse before a look-up gives up


class Flows:
    """The flows of one cache, and what they share: index, notes, counters.

    Args:
        index_settings: What the index is made with.
        notes: What look-ups leave for stores.
        counters: Where things are counted.
        policy: What they do beyond the plain look-up and store.
    """

    def __init__(
        self,
        index_settings: IndexSettings,
        notes: Notes,
        counters: Counters,
        policy: Policy,
    ) -> None:
        self.notes = notes
        self._index_settings = index_settings
        self._counters = counters
        self._policy = policy
        self.guards, self.sliding = policy.guards, policy.lifetimes.sliding
        limits = policy.max_answer_bytes, policy.compress_over
        self.entries = Entries(counters, *limits, policy.seal)
        local = None if policy.local is None else LocalCopies(policy.local)
        self._local = local
        self._serving = Serving(self.entries, self._logs, counters, notes, policy, local)
        verified = policy.verified
        self._exact = ExactTier(self.entries, self._serving, aliases=verified is None)
        self._verifying: verifying.Verifying | None = None
        if verified is not None:
            self._verifying = verifying.Verifying(verified, self.entries, counters, policy.seal)
        self.exact, self.index_for = self._exact.find, self._index
        stored = self.entries, self._serving, notes, self._index, self._vector
        storing = Storing(*stored, counters, policy, local, self._verifying)
        self.store, self.delete, self.reject = storing.store, storing.delete, storing.reject
        self._opened: VectorIndex | None = None
        self._dimension: int | None = None
        self._lock = ForkLock()

    @property
    def index(self) -> VectorIndex | None:
        """The index in use, if one has been opened."""
        return self._opened

    def lookup(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | Miss]:
        """Local, exact, then by meaning. A miss leaves its vector for the store that follows."""
        if self._verifying is None:
            return (yield from self._lookup(address, codec, threshold, None))
        policy, family = self._verifying.policy, verifying.log_of(address)
        policy.asked(family)
        weighing = self._verifying.weighing(codec)
        outcome = yield from self._lookup(address, codec, threshold, weighing)
        if isinstance(outcome, Hit) and outcome.key != address.key:
            policy.served(family)
        return outcome

    def _lookup(
        self, address: Address, codec: Codec, threshold: float, weighing: verifying.Weighing | None
    ) -> Flow[Hit | Miss]:
        hit = self._serving.held(address, codec, threshold) if self._local is not None else None
        if hit is not None:
            return hit
        found = yield from self._exact.find(address, codec, threshold)
        if found is not None:
            return found
        if not address.semantic:
            return Miss("exact_only", f"not stored in these very words; {address.exact_reason}")
        vector = yield from self._vector(address)
        outcome = yield from self._by_meaning(address, vector, codec, threshold, weighing)
        if isinstance(outcome, Miss) and outcome.reason != "refresh":
            check = None if weighing is None else weighing.check
            self.notes.leave(address, Note(vector, outcome.nearest, check=check))
        return outcome

    def forget(self) -> None:
        """Let go of what this process knows of entries and index; they were removed."""
        self.notes.clear()
        if self._verifying is not None:
            self._verifying.policy.forget(f"{self._index_settings.name}:")
        if self._local is not None:
            self._local.clear()
        with self._lock:
            index, self._opened, self._dimension = self._opened, None, None
        if index is not None:
            index.forget()

    # By meaning

    def _by_meaning(
        self,
        address: Address,
        vector: Vector,
        codec: Codec,
        threshold: float,
        weighing: verifying.Weighing | None,
    ) -> Flow[Hit | Miss]:
        count, judge = CANDIDATES, self._policy.judge
        hearing = None if judge is None else Hearing(judge, self._counters, codec)
        until = time.monotonic() + self._index_settings.timeout
        least = threshold - TOLERANCE if weighing is None else -1.0
        while True:
            index, candidates = yield from self._nearest(address, vector, count, least)
            outcome, passed_over = yield from self._chosen(
                address, vector, index, candidates, codec, threshold, hearing, weighing, until
            )
            if isinstance(outcome, Hit) or passed_over < count or count >= _MOST:
                return outcome
            # All were gone, unreadable or rejected: what lies behind them may do.
            count *= 4

    def _nearest(
        self, address: Address, vector: Vector, count: int, least: float
    ) -> Flow[tuple[VectorIndex, Sequence[Candidate]]]:
        """The index and what it finds; one that was lost is made anew."""
        index = yield from self._index(len(vector))
        try:
            return index, (yield from index.nearest(address.scope, vector, count, least))
        except IndexLostError:
            self._opened = None
            index = yield from self._index(len(vector))
            return index, (yield from index.nearest(address.scope, vector, count, least))

    def _chosen(
        self,
        address: Address,
        vector: Vector,
        index: VectorIndex,
        candidates: Sequence[Candidate],
        codec: Codec,
        threshold: float,
        hearing: Hearing | None,
        weighing: verifying.Weighing | None,
        until: float,
    ) -> Flow[tuple[Hit | Miss, int]]:
        """The first candidate that may be served, or why none may; and how many were passed
        over for another reason than being too far away.

        Each that is passed over may cost a command or two, and somebody may have written
        thousands that are none: from `until` on, by the monotonic clock, no more are looked at.
        """
        reason: MissReason = "no_neighbour"
        detail = "nothing is stored in this scope"
        nearest: Neighbour | None = None
        passed_over = guarded = 0
        scope_prefix = address.key[: -len(address.text_digest)]
        for candidate in candidates:
            passed_over += 1
            if passed_over > CANDIDATES and time.monotonic() > until:
                detail = detail if nearest else "those near could not be read, and time is up"
                return self._miss(address, reason, detail, nearest), 0
            if not candidate.key.startswith(scope_prefix):
                continue
            fields = candidate.fields
            if fields is None:
                fields = yield from index.read(address.scope, candidate)
                if fields is None:
                    continue
            try:
                envelope = self.entries.opened(candidate.key, fields[b"p"])
            except UnreadableError as error:
                yield from self.entries.put_away(candidate.key, error)
                continue
            if self.entries.are_signed:
                similarity = yield from self._verified(candidate, fields, envelope, vector)
                if similarity is None:
                    continue
                candidate = candidate._replace(similarity=similarity)
            refusal = yield from self._refused(
                address, candidate, fields, envelope, threshold, hearing
            )
            if refusal is None and weighing is not None:
                others = candidates[passed_over:]
                refusal = yield from weighing.refusal(address, candidate, envelope, others)
            if refusal is None:
                hit = yield from self._serving.serve(
                    "semantic", address, candidate.key, candidate.similarity, envelope, codec
                )
                if isinstance(hit, Miss):
                    return hit, 0
                if hit is not None:
                    if self._policy.promote:
                        yield from self._remember_wording(address, candidate, envelope)
                    return hit, 0
                continue
            if nearest is None:
                reason, detail = refusal
                nearest = Neighbour(envelope.question, candidate.similarity, detail, candidate.key)
            if refusal[0] in ("unjudged", "unverified"):
                reason, detail = refusal
            if refusal[0] in ("below_threshold", "unjudged", "unverified"):
                # Those that follow are farther away still; a judge that fails is left alone.
                return self._miss(address, reason, detail, nearest), 0
            guarded += refusal[0] == "guarded"
            if guarded == _MOST_GUARDED or (hearing is not None and hearing.is_over):
                return self._miss(address, reason, detail, nearest), 0
        return self._miss(address, reason, detail, nearest), passed_over

    def _refused(
        self,
        address: Address,
        candidate: Candidate,
        fields: Fields,
        envelope: Envelope,
        threshold: float,
        hearing: Hearing | None = None,
    ) -> Flow[tuple[MissReason, str] | None]:
        """Why a candidate may not be served; None if it may. All who can refuse one are here;
        the judge is asked in a hearing only."""
        refusal = _refusal(address, candidate, fields, threshold)
        if refusal is None and self.guards:
            reason = self.guards.refusal(address.text, envelope.question)
            refusal = None if reason is None else ("guarded", reason)
        if refusal is None and hearing is not None:
            refusal = yield from hearing.refusal(address, candidate, envelope)
        return refusal

    def _verified(
        self, candidate: Candidate, fields: Fields, envelope: Envelope, vector: Vector
    ) -> Flow[float | None]:
        """The similarity to a signed entry's own vector, whatever the server says it is."""
        stored = fields.get(b"v")
        if stored is None or not self.entries.is_vector_of(envelope, stored):
            forged = ForgedError("The entry's vector is not the one it was signed with.")
            yield from self.entries.remove_unreadable(candidate.key, forged)
            return None
        return min(1.0, vectors.similarity(vector, stored))

    def _miss(
        self, address: Address, reason: MissReason, detail: str, nearest: Neighbour | None = None
    ) -> Miss:
        return Miss(reason, detail, nearest, self.notes.elsewhere(address))

    def _remember_wording(
        self, address: Address, candidate: Candidate, envelope: Envelope
    ) -> Flow[None]:
        """Write an alias, so that the same words hit exactly next time."""
        now = time.time()
        expires = self._serving.expiry(envelope, now)
        left = None if expires is None else expires - now
        if left is not None and left <= 0:
            return
        source = candidate.key.rpartition(":")[2]
        alias = Envelope(
            place=place_of(address.key),
            codec=ALIAS_CODEC,
            content=Alias(source, envelope.created, candidate.similarity).pack(),
            created=now,
            expires=expires,
            model=envelope.model,
        )
        try:
            packed = self.entries.packed(address.key, alias)
            ttl_ms = milliseconds(left)
            yield Script(STORE_ALIAS, address.key, ttl_ms, *fields_of(address, packed))
        except SemcacheError as error:
            self._counters.failed("promoting a wording", error)

    # Shared steps

    def _logs(self, scope: str) -> str | None:
        """Key of the scope's log, which must outlive its entries; None if there is none."""
        index = self.index
        if index is not None and index.kind == "search":
            return None
        return f"{self._index_settings.log_prefix}{scope}"

    def _index(self, dimension: int) -> Flow[VectorIndex]:
        index = self._opened
        if index is None and self._dimension in (None, dimension):
            searched = partial(self._counters.count, "searches")
            opened = yield from opening.open_index(self._index_settings, dimension, searched)
            with self._lock:
                index = self._opened = self._opened or opened
                self._dimension = index.dimension
        if index is None or index.dimension != dimension:
            # Remembered here too: a server that lost its data knows of no dimension.
            raise search.dimension_mismatch(self._dimension, dimension, self._index_settings.model)
        return index

    def _vector(self, address: Address) -> Flow[Vector]:
        vector = self.notes.vector(address)
        if vector is None:
            self._counters.count("embeddings")
            embedded: Vector = yield Embed(address.text)
            vector = embedded
            self.notes.keep(address, vector)
        return vector


def _refusal(
    address: Address, candidate: Candidate, fields: Fields, threshold: float
) -> tuple[MissReason, str] | None:
    """Why a candidate may not be served; None if it may."""
    if not candidate.similarity >= threshold - TOLERANCE:
        return "below_threshold", f"similarity {candidate.similarity:.4f} < {threshold}"
    if is_rejected(address, fields.get(b"x")):
        return "rejected", "this answer was rejected for this question"
    return None
