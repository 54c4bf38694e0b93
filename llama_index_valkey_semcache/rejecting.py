"""Rejecting an answer, as LlamaIndex gives it.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from typing import Any

from valkey_semcache import ConfigurationError, Hit, SemanticCache


class Rejecting(SemanticCache):
    """Rejects answers by their responses."""

    def reject(self, hit: Any) -> bool:
        """Never again serve this answer for the question that it was served for.

        The stored question still hits it, and so do other wordings. An answer that was found by
        the very words is deleted.

        Args:
            hit: A `ChatResponse` or `CompletionResponse` that came from this cache, the response
                of a `SemanticCacheQueryEngine`, or a `Hit`.

        Returns:
            Whether the entry was still there.

        Raises:
            ConfigurationError: It is no hit, or one of another cache.
            ServerError: Valkey could not be reached or refused.
        """
        return super().reject(_hit(hit))

    async def areject(self, hit: Any) -> bool:
        """The same as `reject`, without blocking the event loop."""
        return await super().areject(_hit(hit))


def _hit(answer: Any) -> Hit:
    """The hit behind a response."""
    if isinstance(answer, Hit):
        return answer
    told = getattr(answer, "additional_kwargs", None) or {}
    hit = Hit.from_note(told.get("semantic_cache") or getattr(answer, "semantic_cache", None))
    if hit is None:
        raise ConfigurationError(
            "reject() takes a response that came from the cache, with its "
            f"additional_kwargs['semantic_cache']; this {type(answer).__name__} has none. Was it "
            "the model's own answer?"
        )
    return hit
