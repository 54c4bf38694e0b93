"""What `on_event=` is told: plain values, one for each look-up, store, error and breaker's change.

Rule of this file: facts only, and no text of who asked: the only text is the stored wording, which
a hit shows its caller anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from valkey_semcache.outcome import Hit, Miss, MissReason, Tier


@dataclass(frozen=True, slots=True)
class LookupEvent:
    """A look-up came to an end.

    Args:
        outcome: `"hit"` or `"miss"`.
        tier: Of a hit: `"local"`, `"exact"` or `"semantic"`; None for a miss.
        reason: Of a miss, as one word, see `Miss`; None for a hit.
        detail: Of a miss, in words, which may quote questions; "" for a hit.
        similarity: Of the wording served, or of the nearest one refused, -1 to 1; None if there
            was none.
        question: That stored wording; None when texts are not kept.
        model: Name of the model that was asked for, or that gave the answer; "" if not known.
        usage: Tokens that a hit's answer cost once, by name.
        age: Seconds since a hit's answer was stored; None for a miss.
        error: Kind of the error that made it a miss; None if none did.
        cache: The cache's name.
        index: `"search"` or `"flat"`; None before the first use of one.
        seconds: The look-up took, with all that follows; None if nobody took the time.
        embedding_seconds: Of these, waiting for the embedding model.
        server_seconds: Of these, waiting for Valkey.
        batch: Look-ups in the same batch, whose times these are; 1 for one by itself.
    """

    outcome: Literal["hit", "miss"]
    tier: Tier | None
    reason: MissReason | None
    detail: str
    similarity: float | None
    question: str | None
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    age: float | None = None
    error: str | None = None
    cache: str = ""
    index: str | None = None
    seconds: float | None = None
    embedding_seconds: float = 0.0
    server_seconds: float = 0.0
    batch: int = 1

    @classmethod
    def of(
        cls,
        outcome: Hit | Miss,
        model: str = "",
        error: str | None = None,
        cache: str = "",
        index: str | None = None,
        seconds: float | None = None,
        embedding_seconds: float = 0.0,
        server_seconds: float = 0.0,
        batch: int = 1,
    ) -> Self:
        """The event of an outcome; arguments as for the class."""
        told: dict[str, Any] = {
            "cache": cache,
            "index": index,
            "seconds": seconds,
            "embedding_seconds": embedding_seconds,
            "server_seconds": server_seconds,
            "batch": batch,
        }
        if isinstance(outcome, Hit):
            return cls(
                outcome="hit",
                tier=outcome.tier,
                reason=None,
                detail="",
                similarity=outcome.similarity,
                question=outcome.question,
                model=model or outcome.model,
                usage=outcome.usage,
                age=outcome.age,
                **told,
            )
        near = outcome.nearest
        return cls(
            outcome="miss",
            tier=None,
            reason=outcome.reason,
            detail=outcome.detail,
            similarity=None if near is None else near.similarity,
            question=None if near is None else near.question,
            model=model,
            error=error if outcome.reason == "error" else None,
            **told,
        )


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """An answer was stored, or was not.

    Args:
        stored: Whether it was.
        reason: Why not, in words; "" if it was.
        model: Name of the model that gave it; "" if not known.
        error: Kind of the error that kept it out; None if none did.
        cache: The cache's name.
        index: `"search"` or `"flat"`; None before the first use of one.
        seconds: The store took; None if it was never begun.
        embedding_seconds: Of these, waiting for the embedding model.
        server_seconds: Of these, waiting for Valkey.
        batch: Stores in the same batch, whose times these are; 1 for one by itself.
    """

    stored: bool
    reason: str = ""
    model: str = ""
    error: str | None = None
    cache: str = ""
    index: str | None = None
    seconds: float | None = None
    embedding_seconds: float = 0.0
    server_seconds: float = 0.0
    batch: int = 1


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Something failed, and the app goes on without it.

    Args:
        doing: What failed, in words: `"a look-up"`, `"a store"`, …
        kind: The error's class.
        message: What it says.
        cache: The cache's name.
    """

    doing: str
    kind: str
    message: str
    cache: str = ""


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """The circuit breaker opened, or closed again.

    Args:
        state: `"open"`: Valkey is left alone for half a second at a time; `"closed"`.
        cache: The cache's name.
    """

    state: Literal["open", "closed"]
    cache: str = ""


Event: TypeAlias = LookupEvent | StoreEvent | ErrorEvent | BreakerEvent
OnEvent: TypeAlias = Callable[[Event], object]
"""Told of each event, in the thread or task where it happens."""

collected: ContextVar[list[Event] | None] = ContextVar("valkey_semcache_events", default=None)
"""Where the events of what is called now are gathered beside all else; None for nowhere."""


@contextmanager
def collecting() -> Iterator[list[Event]]:
    """Gather the events of what is called inside, for an adapter to pass them on."""
    events: list[Event] = []
    token = collected.set(events)
    try:
        yield events
    finally:
        collected.reset(token)
