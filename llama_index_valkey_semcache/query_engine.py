"""`SemanticCacheQueryEngine`: any LlamaIndex query engine, with a cache in front.

Rule of this file: what is asked, found and kept, sync and async. What an engine is stands in
engine_identity.py, what a response is in response_codec.py; all else is the inner engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    StreamingResponse,
)
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_valkey_semcache.engine_calls import EngineCalls
from llama_index_valkey_semcache.engine_front import AskedEngine
from llama_index_valkey_semcache.responses import agiven, given, mark
from llama_index_valkey_semcache.turns import beginning
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.explanation import Explanation
from valkey_semcache.options import TTL, checked_namespace


class SemanticCacheQueryEngine(BaseQueryEngine):
    """A query engine whose responses are looked up before the inner one is asked.

    A hit saves the retrieval as well as the model: it is the whole response, with its source
    nodes, of the kind that the inner engine gives. Its attribute `semantic_cache` says that it
    is one: a mapping with tier, similarity, age and the stored wording; None after a miss. It
    is no part of the response's `metadata`, which other engines write into prompts.

    Args:
        query_engine: The engine to ask on a miss.
        cache: A `llama_index_valkey_semcache.ValkeySemanticCache`.
        corpus_version: Names what is searched and its state, such as `"handbook 2024-05"`, or
            a function that does so, called at each query. Answers of one version are never
            given under another, so it must change whenever the documents do, and two corpora
            must never share one. If the function raises or returns None, the query is not
            cached.
        engine_id: Names the engine with its models and settings, in place of what is read off
            it. Change it whenever they change; prompts are seen in any case.
        namespace: The tenant; None for the cache's own.
        threshold: Cosine similarity from which another wording is served, 0 to 1; None for
            the cache's own.
        ttl: Seconds an entry lives, or a `timedelta`; None for the cache's own.
        should_store: A function from a response (`Response` or `PydanticResponse`, of streams
            the whole) to whether it is stored.
        shared_query_vector: True hands the vector that the cache made of the question on to
            the retriever, which then does not embed it again. It is made by the embedding
            model's method for documents and has length 1; so both must use one model, and one
            that does not treat questions and documents differently.
        coalesce: Whether queries that ask the same at the same time, in one process, wait for
            the first of them. If it fails, or its stream is abandoned, each asks for itself.

    Raises:
        ConfigurationError: `query_engine` or `cache` is not one, an option is not allowed, or
            the vector is to be shared among two embedding models. It is a `ValueError`.
    """

    def __init__(
        self,
        query_engine: BaseQueryEngine,
        cache: SemanticCache,
        *,
        corpus_version: str | Callable[[], str | None],
        engine_id: str | None = None,
        namespace: str | None = None,
        threshold: float | None = None,
        ttl: TTL = None,
        should_store: Callable[[Any], bool] | None = None,
        shared_query_vector: bool = False,
        coalesce: bool = True,
    ) -> None:
        self._query_engine = _checked_engine(query_engine)
        self._front = EngineCalls(
            query_engine,
            _checked_cache(cache),
            corpus_version=corpus_version,
            engine_id=engine_id,
            namespace=namespace,
            threshold=threshold,
            ttl=ttl,
            should_store=should_store,
            shared_query_vector=shared_query_vector,
            coalesce=coalesce,
        )

    @property
    def inner(self) -> BaseQueryEngine:
        """The engine behind the cache."""
        return self._query_engine

    @property
    def cache(self) -> SemanticCache:
        """The cache in front."""
        return self._front.cache

    def with_namespace(self, namespace: str) -> Self:
        """The same engine and cache for one tenant."""
        view = type(self).__new__(type(self))
        view._query_engine = self._query_engine
        view._front = self._front.for_tenant(checked_namespace(namespace))
        return view

    def bypass(self) -> AbstractContextManager[None]:
        """Go around the cache: `with engine.bypass():`.

        Within, queries of this thread or task go to the inner engine; nothing is looked up or
        stored.
        """
        return self._front.bypassed(True)

    def explain(
        self, query: str | QueryBundle, *, neighbours: int = 5, other_tenants: bool = False
    ) -> Explanation:
        """What `query` would find in the cache here and now, and why; nothing is changed by it.

        Args:
            query: The query.
            neighbours: How many stored questions to show of the question's own scope, and of
                others, 0 to 50.
            other_tenants: True shows those of other tenants as well. **Danger**: for operators
                only.

        Raises:
            ConfigurationError: An argument is out of range.
        """
        asked = self._front.explained(_bundle(query))
        if isinstance(asked, Explanation):
            return asked
        how = self._how(asked, neighbours, other_tenants)
        return self._front.cache.explain(asked.question, **how)

    async def aexplain(
        self, query: str | QueryBundle, *, neighbours: int = 5, other_tenants: bool = False
    ) -> Explanation:
        """The same as `explain`, without blocking the event loop."""
        asked = self._front.explained(_bundle(query))
        if isinstance(asked, Explanation):
            return asked
        how = self._how(asked, neighbours, other_tenants)
        return await self._front.cache.aexplain(asked.question, **how)

    def _how(self, asked: AskedEngine, neighbours: int, other_tenants: bool) -> dict[str, Any]:
        return {
            "codec": asked.codec,
            "similarity_threshold": self._front.threshold,
            "neighbours": neighbours,
            "other_tenants": other_tenants,
        }

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        front = self._front
        asked = front.asked(query_bundle)
        if asked is None:
            return mark(self._query_engine.query(query_bundle), None)
        with beginning(asked):
            if (hit := front.find(asked)) is not None:
                return given(hit)
            with asked.heard.listening():
                response = self._query_engine.query(front.handed_on(asked, query_bundle))
        if isinstance(response, StreamingResponse):
            response.response_gen = front.recorded(asked, response, response.response_gen)
        else:
            front.keep(asked, response)
        return mark(response, None)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        front = self._front
        asked = front.asked(query_bundle)
        if asked is None:
            return mark(await self._query_engine.aquery(query_bundle), None)
        with beginning(asked):
            if (hit := await front.afind(asked)) is not None:
                return agiven(hit)
            with asked.heard.listening():
                response = await self._query_engine.aquery(front.handed_on(asked, query_bundle))
        if isinstance(response, AsyncStreamingResponse):
            response.response_gen = front.arecorded(asked, response, response.response_gen)
        elif isinstance(response, StreamingResponse):
            response.response_gen = front.recorded(asked, response, response.response_gen)
        else:
            await front.akeep(asked, response)
        return mark(response, None)

    # The inner engine's own

    @property
    def callback_manager(self) -> CallbackManager:
        """The inner engine's."""
        return self._query_engine.callback_manager

    @callback_manager.setter
    def callback_manager(self, callback_manager: CallbackManager) -> None:
        self._query_engine.callback_manager = callback_manager

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._query_engine, name)

    def get_prompts(self) -> dict[str, BasePromptTemplate]:
        """The inner engine's prompts."""
        return self._query_engine.get_prompts()

    def update_prompts(self, prompts_dict: dict[str, BasePromptTemplate]) -> None:
        """Change the inner engine's prompts; what was stored under others is not found."""
        self._query_engine.update_prompts(prompts_dict)

    def _get_prompts(self) -> PromptDictType:
        return self._query_engine._get_prompts()

    def _get_prompt_modules(self) -> PromptMixinType:
        return self._query_engine._get_prompt_modules()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._query_engine._update_prompts(prompts)

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """The inner engine's `retrieve`; not cached."""
        return self._query_engine.retrieve(query_bundle)

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """The inner engine's `synthesize`; not cached."""
        return self._query_engine.synthesize(query_bundle, nodes, additional_source_nodes)

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """The inner engine's `asynthesize`; not cached."""
        return await self._query_engine.asynthesize(query_bundle, nodes, additional_source_nodes)


def _bundle(query: str | QueryBundle) -> QueryBundle:
    return QueryBundle(query) if isinstance(query, str) else query


def _checked_engine(engine: object) -> BaseQueryEngine:
    if not isinstance(engine, BaseQueryEngine):
        raise ConfigurationError(
            f"query_engine= takes a LlamaIndex query engine, not {type(engine).__name__}. Of an "
            "index it is index.as_query_engine()."
        )
    if isinstance(engine, SemanticCacheQueryEngine):
        raise ConfigurationError(
            "query_engine= is a SemanticCacheQueryEngine already. Use it as it is, or wrap the "
            "engine that is its attribute inner."
        )
    return engine


def _checked_cache(cache: object) -> SemanticCache:
    if not isinstance(cache, SemanticCache):
        raise ConfigurationError(
            "cache= takes a llama_index_valkey_semcache.ValkeySemanticCache, not "
            f"{type(cache).__module__}.{type(cache).__name__}."
        )
    return cache
