"""What the flows of one cache do beyond the plain look-up and store.

Rule of this file: checked values only, from cache.py to the flows. All is off by default, so that
a look-up without options does nothing for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from valkey_semcache.local import LocalTier
from valkey_semcache.precision.guards import Guards
from valkey_semcache.precision.judging import Judging
from valkey_semcache.rules.lifetimes import Lifetimes, lifetime_rule
from valkey_semcache.stored.compression import MAX_ANSWER_BYTES
from valkey_semcache.stored.sealing import Seal

if TYPE_CHECKING:
    from valkey_semcache.precision.verified import Verified


@dataclass(frozen=True, slots=True)
class Policy:
    """The options that flows heed; see `SemanticCache` for each.

    Args:
        lifetimes: How long entries live, and whether hits extend it.
        store_questions: Whether the questions' texts are kept in Valkey.
        promote: Whether a wording that hit by meaning is remembered, to hit exactly next time.
        compress_over: Answers of more bytes are compressed; None for none.
        max_answer_bytes: Larger answers are neither stored nor read.
        refresh_after: Share of its life from which on an entry is renewed; None for never.
        max_entries_per_namespace: Entries of one tenant, about; None for any number.
        guards: What is asked whether two questions that are near are the same.
        judge: What is asked whether a candidate that is near, but not quite, may be served.
        verified: Serves by meaning only where the share of errors stays in bounds.
        local: Bounds of the copies in this process; None for none.
        seal: Signs and encrypts what is stored; None for neither.
    """

    lifetimes: Lifetimes = field(default_factory=lambda: Lifetimes(lifetime_rule(3600)))
    store_questions: bool = True
    promote: bool = False
    compress_over: int | None = None
    max_answer_bytes: int = MAX_ANSWER_BYTES
    refresh_after: float | None = None
    max_entries_per_namespace: int | None = None
    guards: Guards = field(default_factory=lambda: Guards(()))
    judge: Judging | None = None
    verified: Verified | None = None
    local: LocalTier | None = None
    seal: Seal | None = None
