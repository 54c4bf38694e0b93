"""The methods of LangChain's cache that take answers out again.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from abc import ABC
from typing import Any

from langchain_core.caches import BaseCache

from langchain_valkey_semcache.asked import Asked
from valkey_semcache import ConfigurationError, Hit, SemanticCache


class Removing(BaseCache, ABC):
    """Deletes and clears."""

    core: SemanticCache
    _asked: Asked

    def delete(self, prompt: str, llm_string: str) -> bool:
        """Remove the answer stored for just these words; whether there was one.

        Args:
            prompt: As LangChain hands it to a cache: `dumps(messages)`, or plain text.
            llm_string: Likewise.

        Raises:
            ServerError: Valkey could not be reached or refused.
            UnknownTenantError: It cannot be told whose answer is meant.
            ValueError: The prompt cannot be read.
        """
        return self.core.delete(self._asked.read(prompt, llm_string))

    async def adelete(self, prompt: str, llm_string: str) -> bool:
        """The same as `delete`, without blocking the event loop."""
        return await self.core.adelete(self._asked.read(prompt, llm_string))

    def reject(self, answer: Any) -> bool:
        """Never again serve this answer for the question that it was served for.

        The stored question still hits it, and so do other wordings. An answer that was found by
        the very words is deleted.

        Args:
            answer: The message that a chat model gave, or its generation, as it came from this
                cache: its `response_metadata["semantic_cache"]` says which entry it is. What a
                completion model gave does not say so: `delete` it by prompt and `llm_string`.

        Returns:
            Whether the entry was still there.

        Raises:
            ConfigurationError: It is no hit, or one of another cache.
            ServerError: Valkey could not be reached or refused.
        """
        return self.core.reject(_hit(answer))

    async def areject(self, answer: Any) -> bool:
        """The same as `reject`, without blocking the event loop."""
        return await self.core.areject(_hit(answer))

    def clear(
        self,
        *,
        namespace: str | None = None,
        llm_string: str | None = None,
        model: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Remove this cache's entries, or those of one tenant, `llm_string` or model's name.

        Raises:
            TypeError: An argument is not one of these; nothing is removed then.
            ServerError: Valkey could not be reached or refused.
        """
        _no_more(kwargs)
        self.core.clear(namespace=namespace, identity=llm_string, model=model)

    async def aclear(
        self,
        *,
        namespace: str | None = None,
        llm_string: str | None = None,
        model: str | None = None,
        **kwargs: Any,
    ) -> None:
        """The same as `clear`, without blocking the event loop."""
        _no_more(kwargs)
        await self.core.aclear(namespace=namespace, identity=llm_string, model=model)


def _hit(answer: Any) -> Hit:
    """The hit behind a message, or a generation with one."""
    message = getattr(answer, "message", answer)
    told = getattr(message, "response_metadata", None) or {}
    hit = Hit.from_note(told.get("semantic_cache"))
    if hit is None:
        raise ConfigurationError(
            "reject() takes a message or generation that came from the cache, with its "
            f"response_metadata['semantic_cache']; this {type(answer).__name__} has none. Was it "
            "the model's own answer, or a completion model's? Then delete(prompt, llm_string) it."
        )
    return hit


def _no_more(unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(
            f"clear() takes namespace=, llm_string= and model=, not {', '.join(unknown)}."
        )
