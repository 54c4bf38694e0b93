"""The methods of LangChain's cache that take answers out again.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from abc import ABC
from typing import Any

from langchain_core.caches import BaseCache

from langchain_valkey_semcache.asked import Asked
from valkey_semcache import SemanticCache


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


def _no_more(unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(
            f"clear() takes namespace=, llm_string= and model=, not {', '.join(unknown)}."
        )
