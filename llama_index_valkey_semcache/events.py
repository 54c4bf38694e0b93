"""Events of the cache, through LlamaIndex's instrumentation.

Rule of this file: translating. What an event says is the core's (`valkey_semcache.telemetry`), and
nothing is built where nobody listens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.events import BaseEvent

from valkey_semcache import ErrorEvent, Event, LookupEvent, SemanticCache, StoreEvent
from valkey_semcache.telemetry.events import collecting

dispatcher = get_dispatcher(__name__)


class SemanticCacheHitEvent(BaseEvent):
    """An answer was given from the cache; no model was asked.

    Attributes:
        tier: `"local"`, `"exact"` or `"semantic"`.
        similarity: Cosine similarity of the two wordings, -1 to 1.
        question: The stored wording, or None when texts are not kept.
        age: Seconds since it was stored.
        model: Name of the model that gave the answer.
        usage: Tokens that it cost then, by name.
        index: `"search"` or `"flat"`; None before the first use of one.
        seconds: The look-up took.
        embedding_seconds: Of these, waiting for the embedding model, with `on_event=` or
            `telemetry=` of the cache; 0 where nobody takes this time.
        server_seconds: Of these, waiting for Valkey, likewise.
    """

    tier: str
    similarity: float
    question: str | None
    age: float
    model: str
    usage: dict[str, int]
    index: str | None = None
    seconds: float | None = None
    embedding_seconds: float = 0.0
    server_seconds: float = 0.0

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheHitEvent"


class SemanticCacheMissEvent(BaseEvent):
    """The cache had no answer, and the model is asked.

    Attributes:
        reason: Why, as one word; see `valkey_semcache.Miss`.
        detail: Why, in words.
        similarity: That of the nearest stored question, or None.
        model: Name of the model that is asked.
        index: As for a hit, and so are the times.
        seconds: None for what was not looked up.
        embedding_seconds: See above.
        server_seconds: See above.
    """

    reason: str
    detail: str
    similarity: float | None
    model: str = ""
    index: str | None = None
    seconds: float | None = None
    embedding_seconds: float = 0.0
    server_seconds: float = 0.0

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheMissEvent"


class SemanticCacheStoreEvent(BaseEvent):
    """A model's answer was stored, or was not.

    Attributes:
        stored: Whether it was.
        reason: Why not, in words; empty if it was.
        model: Name of the model that gave it.
        index: As for a hit, and so are the times.
        seconds: None for what was not to be stored.
        embedding_seconds: See above.
        server_seconds: See above.
    """

    stored: bool
    reason: str = ""
    model: str = ""
    index: str | None = None
    seconds: float | None = None
    embedding_seconds: float = 0.0
    server_seconds: float = 0.0

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheStoreEvent"


class SemanticCacheErrorEvent(BaseEvent):
    """Something failed in the cache, and the call goes on without it.

    Attributes:
        doing: What failed, in words.
        kind: The error's class.
        message: What it says.
    """

    doing: str
    kind: str
    message: str

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheErrorEvent"


class SemanticCacheBreakerEvent(BaseEvent):
    """The circuit breaker opened, or closed again.

    Attributes:
        state: `"open"` or `"closed"`.
    """

    state: str

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheBreakerEvent"


@contextmanager
def passed_on(cache: SemanticCache) -> Iterator[None]:
    """Tell LlamaIndex of what the cache does inside, once it is done."""
    if not is_heard():
        yield
        return
    cache.hear()
    with collecting() as events:
        try:
            yield
        finally:
            for event in tuple(events):  # what a listener brings about is not told it again
                dispatcher.event(_translated(event))


def _translated(event: Event) -> BaseEvent:
    if isinstance(event, LookupEvent | StoreEvent):
        told: dict[str, Any] = {
            "model": event.model,
            "index": event.index,
            "seconds": event.seconds,
            "embedding_seconds": event.embedding_seconds,
            "server_seconds": event.server_seconds,
        }
        if isinstance(event, StoreEvent):
            return SemanticCacheStoreEvent(stored=event.stored, reason=event.reason, **told)
        if event.outcome == "miss":
            told |= {"reason": event.reason, "detail": event.detail}
            return SemanticCacheMissEvent(similarity=event.similarity, **told)
        told |= {"tier": event.tier, "similarity": event.similarity, "age": event.age}
        return SemanticCacheHitEvent(question=event.question, usage=dict(event.usage), **told)
    if isinstance(event, ErrorEvent):
        return SemanticCacheErrorEvent(doing=event.doing, kind=event.kind, message=event.message)
    return SemanticCacheBreakerEvent(state=event.state)


def is_heard() -> bool:
    """Whether any handler listens: an event takes longer to build than an entry to read."""
    at: Any = dispatcher
    while at is not None:
        if any(not isinstance(handler, NullEventHandler) for handler in at.event_handlers):
            return True
        at = at.parent if at.propagate else None
    return False
