"""The last step of every look-up that found something: from an envelope to a hit.

Rule of this file: each hit of each tier is made here, with the answer decoded anew, and what
follows a hit (a longer life, a renewal, a copy in this process) is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import LRUCache

from valkey_semcache.errors import SemcacheError, UnreadableError
from valkey_semcache.flow.entries import Entries, milliseconds
from valkey_semcache.flow.notes import Note, Notes
from valkey_semcache.flow.operations import Command, Flow, replies_to
from valkey_semcache.flow.policy import Policy
from valkey_semcache.flow.renewing import Renewing, lock_of
from valkey_semcache.local import LocalCopies
from valkey_semcache.locks import ForkLock
from valkey_semcache.outcome import Hit, Miss, Tier
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope
from valkey_semcache.stored.codec import Codec

TOLERANCE = 1e-6
"""Float32 noise in a similarity, so that a threshold of 1 is met by an equal vector."""

_REMEMBERED = 4096  # entries whose extension this process remembers
_WORTH = 0.01  # share of its life by which a hit must extend an entry's to be worth a command
_UNSEEN = 0.1  # share of a sliding entry's life for which a copy's hits may leave it unextended


class Serving:
    """Makes hits.

    Args:
        entries: Removes what cannot be read.
        logs: Key of a scope's log, or None where the index keeps none.
        counters: Where things are counted.
        notes: Where the entry to renew is noted.
        policy: What follows a hit.
        local: Copies in this process, if it is to hold any.
    """

    def __init__(
        self,
        entries: Entries,
        logs: Callable[[str], str | None],
        counters: Counters,
        notes: Notes,
        policy: Policy,
        local: LocalCopies | None,
    ) -> None:
        self._entries = entries
        self._logs = logs
        self._counters = counters
        self._notes = notes
        share = policy.refresh_after
        self._renewing = None if share is None else Renewing(share, counters)
        self._lifetimes = policy.lifetimes
        self._local = local
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        self._extended: LRUCache[str, float] = LRUCache(_REMEMBERED)

    def serve(
        self,
        tier: Tier,
        address: Address,
        key: str,
        similarity: float,
        envelope: Envelope,
        codec: Codec,
    ) -> Flow[Hit | Miss | None]:
        """The hit, or None if another codec wrote the answer, or none can read it.

        The one caller who is to renew the entry gets a miss.

        Args:
            tier: Where it was found.
            address: The asked question's.
            key: The entry's.
            similarity: Of the two wordings.
            envelope: The entry's.
            codec: Who is to read the answer.
        """
        try:
            hit = _hit(tier, address, key, similarity, envelope, codec)
        except UnreadableError:
            yield from self._entries.remove_unreadable(key)
            return None
        if hit is None or (self._entries.are_signed and self._has_ended(envelope)):
            return None
        if self._renewing is not None and (yield from self._renewing.won(key, envelope)):
            self._notes.leave(address, Note(None, None, key, envelope.question, envelope.sealed))
            share = f"{self._renewing.share:.0%} of its life"
            return Miss("refresh", f"the entry is past {share}", stale=hit)
        if self._lifetimes.sliding:
            yield from self._extend(tier, address, key, envelope)
        if self._local is not None:
            until = self.look_again(envelope)
            self._local.keep(address.key, key, similarity, envelope, until)
        return hit

    def held(self, address: Address, codec: Codec, threshold: float) -> Hit | None:
        """The hit of the local tier, if there is one."""
        found = None if self._local is None else self._local.find(address.key)
        if found is None:
            return None
        key, similarity, envelope = found
        if similarity < threshold - TOLERANCE:
            return None
        try:
            return _hit("local", address, key, similarity, envelope, codec)
        except UnreadableError:
            return None

    def expiry(self, envelope: Envelope, now: float) -> float | None:
        """When an entry that was just served expires, seconds since 1970; None for never."""
        expires = envelope.expires
        if expires is None or not self._lifetimes.sliding:
            return expires
        return max(expires, self._lifetimes.extended(envelope.created, expires, now))

    def look_again(self, envelope: Envelope) -> float | None:
        """Until when a copy may be served without asking Valkey, seconds since 1970."""
        if self._renewing is not None:
            return self._renewing.due_at(envelope)
        now = time.time()
        until = self.expiry(envelope, now)
        if until is None or envelope.expires is None or not self._lifetimes.sliding:
            return until
        # A copy's hits extend nothing in Valkey: what is used must not expire there meanwhile.
        return min(until, now + _UNSEEN * (envelope.expires - envelope.created))

    def _has_ended(self, envelope: Envelope) -> bool:
        """Whether a signed entry's time is up: somebody may have put it back without an expiry."""
        last = envelope.expires
        if last is not None and self._lifetimes.sliding:
            age = self._lifetimes.max_age
            last = None if age is None else envelope.created + age
        return last is not None and time.time() > last

    def _extend(self, tier: Tier, address: Address, key: str, envelope: Envelope) -> Flow[None]:
        """Begin an entry's life anew: what is in Valkey is extended, never shortened."""
        if envelope.expires is None:
            return
        now = time.time()
        until = self._lifetimes.extended(envelope.created, envelope.expires, now)
        with self._lock:
            known = self._extended.get(key, envelope.expires)
            if until - known < _WORTH * (envelope.expires - envelope.created):
                return
            self._extended[key] = until
        keys = {key, address.key} if tier == "exact" else {key}
        log = self._logs(address.scope) if address.semantic else None
        keys |= {log} if log else set()
        left = milliseconds(until - now)
        try:
            yield from replies_to([Command("PEXPIRE", each, left, "GT") for each in sorted(keys)])
        except SemcacheError as error:
            self._counters.failed("extending an entry's life", error)

    def renewed(self, address: Address, key: str, ttl_ms: int) -> Flow[None]:
        """An entry has a new answer: its log must live as long, and its lock is free."""
        commands = [Command("UNLINK", lock_of(key))]
        log = self._logs(address.scope) if address.semantic else None
        if log is not None:
            kept = ("PEXPIRE", log, ttl_ms, "GT") if ttl_ms else ("PERSIST", log)
            commands.append(Command(*kept))
        try:
            yield from replies_to(commands)
        except SemcacheError as error:
            self._counters.failed("finishing a renewal", error)


def _hit(
    tier: Tier, address: Address, key: str, similarity: float, envelope: Envelope, codec: Codec
) -> Hit | None:
    """A hit with a new answer object; None if another codec wrote it.

    Raises:
        UnreadableError: The codec cannot read it.
    """
    if envelope.codec != codec.name:
        return None
    return Hit(
        tier=tier,
        similarity=similarity,
        question=envelope.question,
        answer=codec.decode(envelope.content),
        age=max(0.0, time.time() - envelope.created),
        model=envelope.model,
        usage=dict(envelope.usage) if envelope.usage else {},
        key=key,
        asked=address.key,
    )
