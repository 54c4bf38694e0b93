"""`ValkeySemanticCache`, a LangChain `BaseCache` over the core.

Rule of this file: translate a call, pass it on, translate what comes back.
"""

from __future__ import annotations

import copy
from typing import Any, Self, Unpack

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache

from langchain_valkey_semcache.answers import given_back, reason_not_to_store, usage_of
from langchain_valkey_semcache.codec import GenerationCodec
from langchain_valkey_semcache.embeddings import embedding_model
from langchain_valkey_semcache.prompt import read_prompt
from valkey_semcache import Hit, Miss, Question, SemanticCache, Stats
from valkey_semcache.options import TTL, Options


class ValkeySemanticCache(BaseCache):
    """A semantic cache for LangChain: `set_llm_cache(ValkeySemanticCache(embeddings, url))`.

    A request is split: the last human message's text is compared by meaning; system prompt,
    earlier turns, tools, and the model with its parameters (`llm_string`) must be the same.
    An outage of Valkey or of the embedding model makes misses, never an exception.

    Args:
        embeddings: A LangChain `Embeddings`; its document method is used.
        url: The server; see `valkey_semcache.SemanticCache` for this and all that follows.
        similarity_threshold: Cosine similarity from which another wording is served, 0 to 1.
        ttl: Seconds an entry lives, or a `timedelta`; None for ever.
        name: Begins every key of this cache.
        namespace: The tenant.
        client: Your own `valkey.Valkey`.
        async_client: Your own `valkey.asyncio.Valkey`.
        options: `index`, `embedding_id`, `timeout`, `connect_timeout`, `cluster`, `on_error`,
            `max_semantic_chars`, `volatile`, `store_questions`, `promote`, `digest_key` and
            `flat_max_bytes` of `valkey_semcache.SemanticCache`.

    Raises:
        ConfigurationError: An argument is out of range or of the wrong type, or no server is
            given. It is a `ValueError`.
    """

    def __init__(
        self,
        embeddings: Any,
        url: str | None = None,
        *,
        similarity_threshold: float = 0.9,
        ttl: TTL = 3600,
        name: str = "semcache",
        namespace: str = "",
        client: Any = None,
        async_client: Any = None,
        **options: Unpack[Options],
    ) -> None:
        self.core = SemanticCache(
            embedding_model(embeddings, options.get("embedding_id")),
            url,
            similarity_threshold=similarity_threshold,
            ttl=ttl,
            name=name,
            namespace=namespace,
            client=client,
            async_client=async_client,
            codec=GenerationCodec(),
            **options,
        )

    def __repr__(self) -> str:
        return repr(self.core).replace(type(self.core).__name__, type(self).__name__, 1)

    def with_namespace(self, namespace: str) -> Self:
        """The same cache for another tenant: same server, index and counters."""
        view = copy.copy(self)
        view.core = self.core.with_namespace(namespace)
        return view

    def lookup(self, prompt: str, llm_string: str) -> list[Any] | None:
        """The stored generations for this prompt or one that means the same, or None."""
        question = self._question(prompt, llm_string)
        return None if question is None else _generations(self.core.lookup(question))

    async def alookup(self, prompt: str, llm_string: str) -> list[Any] | None:
        """The same as `lookup`, without blocking the event loop."""
        question = self._question(prompt, llm_string)
        return None if question is None else _generations(await self.core.alookup(question))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep a model's answer, unless it is empty, cut off, or a call for a tool."""
        question = self._to_store(prompt, llm_string, return_val)
        if question is not None:
            self.core.store(question, return_val, usage=usage_of(return_val))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same as `update`, without blocking the event loop."""
        question = self._to_store(prompt, llm_string, return_val)
        if question is not None:
            await self.core.astore(question, return_val, usage=usage_of(return_val))

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

    def stats(self) -> Stats:
        """What this cache has done in this process."""
        return self.core.stats()

    def close(self) -> None:
        """Close the sync connections that were opened here."""
        self.core.close()

    async def aclose(self) -> None:
        """Close this event loop's connections, and the sync ones."""
        await self.core.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _question(self, prompt: str, llm_string: str) -> Question | None:
        try:
            return read_prompt(prompt, llm_string)
        except Exception as error:  # noqa: BLE001 - whatever a prompt holds, the call goes on
            self.core.missed(str(error))
            return None

    def _to_store(
        self, prompt: str, llm_string: str, generations: RETURN_VAL_TYPE
    ) -> Question | None:
        try:
            question = read_prompt(prompt, llm_string)
            reason = reason_not_to_store(generations)
        except Exception:  # noqa: BLE001 - whatever they hold, the call goes on
            reason = "unreadable prompt or answer"
        if reason is not None:
            self.core.skip(reason)
            return None
        return question


def _generations(outcome: Hit | Miss) -> list[Any] | None:
    return given_back(outcome) if isinstance(outcome, Hit) else None


def _no_more(unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(
            f"clear() takes namespace=, llm_string= and model=, not {', '.join(unknown)}."
        )
