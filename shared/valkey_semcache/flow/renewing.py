"""Renewing answers before they expire: which are due, and who renews one.

Rule of this file: of all callers in all processes one renews an entry, the others are served the
old answer meanwhile. Who it is is settled by a lock in Valkey that ends by itself: if the renewal
fails, the old answer serves on, and another caller's turn comes.
"""

from __future__ import annotations

import secrets
import time

from valkey_semcache.errors import SemcacheError
from valkey_semcache.flow.entries import milliseconds
from valkey_semcache.flow.operations import Flow, Script
from valkey_semcache.index.scripts import LOCK
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope

LOCK_SECONDS = 30.0
"""How long one caller has for a renewal before it is another one's turn."""


class Renewing:
    """Decides about entries that are past a share of their life.

    Args:
        share: From which on an entry is due, above 0 and below 1.
        counters: Where errors are counted.
    """

    def __init__(self, share: float, counters: Counters) -> None:
        self.share = share
        self._counters = counters

    def due_at(self, envelope: Envelope) -> float | None:
        """When an entry is due, seconds since 1970; None for never."""
        if envelope.expires is None:
            return None
        return envelope.created + self.share * (envelope.expires - envelope.created)

    def won(self, key: str, envelope: Envelope) -> Flow[bool]:
        """Whether this caller is to renew an entry: it is due, and nobody else is at it."""
        due, now = self.due_at(envelope), time.time()
        if due is None or now < due or envelope.expires is None:
            return False
        left = min(LOCK_SECONDS, max(0.0, envelope.expires - now))
        try:
            won = yield Script(LOCK, lock_of(key), secrets.token_hex(8), milliseconds(left))
        except SemcacheError as error:
            self._counters.failed("taking the lock of a renewal", error)
            return False
        return bool(won)


def lock_of(key: str) -> str:
    """Key of the lock on an entry, `NAME:lock:EMB:SCOPE:TEXT`."""
    name, _, rest = key.partition(":")
    return f"{name}:lock:{rest}"
