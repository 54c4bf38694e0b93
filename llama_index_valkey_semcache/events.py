"""Events of the cache, through LlamaIndex's instrumentation.

Rule of this file: plain facts of one look-up or store. Nothing is built where nobody listens.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.events import BaseEvent

from valkey_semcache import Hit, Miss

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
    """

    tier: str
    similarity: float
    question: str | None
    age: float
    model: str
    usage: dict[str, int]

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
    """

    reason: str
    detail: str
    similarity: float | None

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheMissEvent"


class SemanticCacheStoreEvent(BaseEvent):
    """A model's answer was stored, or was not.

    Attributes:
        stored: Whether it was.
        reason: Why not, in words; empty if it was.
    """

    stored: bool
    reason: str = ""

    @classmethod
    def class_name(cls) -> str:
        """The event's name."""
        return "SemanticCacheStoreEvent"


def looked_up(outcome: Hit | Miss) -> None:
    """Tell of a look-up."""
    if not _heard():
        return
    if isinstance(outcome, Hit):
        event: BaseEvent = SemanticCacheHitEvent(
            tier=outcome.tier,
            similarity=outcome.similarity,
            question=outcome.question,
            age=outcome.age,
            model=outcome.model,
            usage=dict(outcome.usage),
        )
    else:
        nearest = outcome.nearest
        event = SemanticCacheMissEvent(
            reason=outcome.reason,
            detail=outcome.detail,
            similarity=None if nearest is None else nearest.similarity,
        )
    dispatcher.event(event)


def kept(stored: bool, reason: str = "") -> None:
    """Tell of a store."""
    if _heard():
        dispatcher.event(SemanticCacheStoreEvent(stored=stored, reason=reason))


def _heard() -> bool:
    """Whether any handler listens: an event takes longer to build than an entry to read."""
    at: Any = dispatcher
    while at is not None:
        if any(not isinstance(handler, NullEventHandler) for handler in at.event_handlers):
            return True
        at = at.parent if at.propagate else None
    return False
