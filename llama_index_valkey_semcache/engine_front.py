"""`EngineFront`: a cache in front of one query engine. What may be asked of it and kept in it.

Rule of this file: whatever fails here, the engine is asked and its response passed on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.schema import QueryBundle

from llama_index_valkey_semcache import events, listening
from llama_index_valkey_semcache.canonical import UnreadablePromptError, file_digest
from llama_index_valkey_semcache.engine_identity import EngineWalk
from llama_index_valkey_semcache.engine_options import (
    check_one_embedding_model,
    checked_engine_id,
    checked_function,
    checked_version,
)
from llama_index_valkey_semcache.identity import UnnamableError
from llama_index_valkey_semcache.response_codec import Kept, ResponseCodec
from llama_index_valkey_semcache.responses import reason_not_to_store, whole
from llama_index_valkey_semcache.turns import Asked
from valkey_semcache import Hit, Miss, Question, SemanticCache
from valkey_semcache.blocks import Block
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.explanation import Explanation
from valkey_semcache.options import (
    TTL,
    UNSET,
    Unset,
    checked_flag,
    checked_namespace,
    checked_threshold,
    checked_ttl,
)

logger = logging.getLogger("valkey_semcache")


class UnknownCorpusError(ValueError):
    """It cannot be told which version of the corpus is searched."""


@dataclass(slots=True)
class AskedEngine(Asked):
    """A query that the cache takes part in.

    Args:
        question: What is asked.
        codec: Reads and writes its response.
        version: The corpus's when it was asked.
        wordless: Whether the engine gives sources without words.
        heard: What the models say while it is answered.
    """

    version: str
    wordless: bool
    heard: listening.Heard = field(default_factory=listening.Heard)


class EngineFront:
    """A cache in front of one query engine; see `SemanticCacheQueryEngine` for the options."""

    def __init__(
        self,
        engine: BaseQueryEngine,
        cache: SemanticCache,
        *,
        corpus_version: str | Callable[[], str | None],
        engine_id: str | None,
        namespace: str | None,
        threshold: float | None,
        ttl: TTL,
        should_store: Callable[[Any], bool] | None,
        shared_query_vector: bool,
        coalesce: bool,
    ) -> None:
        self.engine = engine
        self.cache = cache
        self.corpus_version = checked_version(corpus_version)
        self.engine_id = checked_engine_id(engine_id)
        self.namespace = None if namespace is None else checked_namespace(namespace)
        self.threshold = None if threshold is None else checked_threshold(threshold, "threshold")
        self.ttl: TTL | Unset = UNSET if ttl is None else checked_ttl(ttl)
        self.should_store = checked_function(should_store)
        self.shares_vector = checked_flag(shared_query_vector, "shared_query_vector")
        self.coalesce = checked_flag(coalesce, "coalesce")
        if self.shares_vector:
            check_one_embedding_model(engine, cache)
        self.bypassed: Block[bool] = Block()
        self._warned: set[str] = set()
        self._compared = False
        listening.begin()

    def for_tenant(self, namespace: str) -> Self:
        """The same for one tenant."""
        front = copy.copy(self)
        front.namespace = namespace
        return front

    # What is asked

    def asked(self, bundle: QueryBundle) -> AskedEngine | None:
        """What a query asks, or None for one that the cache takes no part in."""
        if self.bypassed.value():
            return None
        try:
            return self._read(bundle)
        except UnknownCorpusError as error:
            self._missed(str(error))
            return None
        except UnknownTenantError as error:
            self.cache.of_nobody(error)
            self._missed(str(error))
            return None
        except Exception as error:  # noqa: BLE001 - whatever it holds, the query goes on
            self._warn(
                type(error).__name__,
                "Queries to %s are not cached: %s. If it is a part that has no name, pass "
                "engine_id= with a name that stands for the engine and all its settings.",
                type(self.engine).__name__,
                error,
            )
            self._missed(f"{type(error).__name__}: {error}")
            return None

    def explained(self, bundle: QueryBundle) -> AskedEngine | Explanation:
        """What a query asks, or why the cache takes no part in it; nothing is counted."""
        if self.bypassed.value():
            return self.cache.unexplained("within bypass()", bundle.query_str)
        try:
            return self._read(bundle)
        except Exception as error:  # noqa: BLE001 - as a look-up, which misses
            return self.cache.unexplained(f"{type(error).__name__}: {error}", bundle.query_str)

    def _read(self, bundle: QueryBundle) -> AskedEngine:
        """What a query asks, and of whom.

        Raises:
            Exception: It cannot be told.
        """
        walk = EngineWalk(self.engine, self.engine_id)
        version = self._version()
        beside, exact_reason = _beside_the_text(bundle)
        question = self.cache.settled(
            Question(
                text=bundle.query_str,
                # Not the context, of which `volatile` patterns take parts away.
                identity=json.dumps(["query engine", beside, version, walk.identity]),
                model=walk.model,
                namespace=self.namespace,
                exact_only=exact_reason,
            )
        )
        return AskedEngine(question, ResponseCodec(walk.output_cls), version, walk.wordless)

    def handed_on(self, asked: AskedEngine, bundle: QueryBundle) -> QueryBundle:
        """The query as the engine gets it: a copy, since retrievers write vectors into it."""
        if self.shares_vector and bundle.embedding is None and not asked.question.exact_only:
            vector = self.cache.vector_of(asked.question)
            if vector is not None:
                return replace(bundle, embedding=vector.tolist())
        return replace(bundle)

    def _version(self) -> str:
        version: object = self.corpus_version
        if callable(version):
            try:
                version = version()
            except Exception as error:
                self.cache.failed("corpus_version", error)
                raise UnknownCorpusError(f"corpus_version raised {type(error).__name__}") from error
        if not isinstance(version, str) or not version:
            raise UnknownCorpusError(f"corpus_version gave {version!r}, not a text")
        return version

    # What is found

    def find(self, asked: AskedEngine) -> Hit | None:
        """A stored response, after waiting for the same query if one is under way."""
        cache, wait = self.cache, None
        if self.coalesce and (wait := asked.turn(cache, blocking=True)) is not None:
            wait.wait()
        with events.passed_on(cache):
            outcome = cache.lookup(
                asked.question, codec=asked.codec, similarity_threshold=self.threshold
            )
        return _found(asked, outcome or asked.shared(cache, wait))

    async def afind(self, asked: AskedEngine) -> Hit | None:
        """The same as `find`, without blocking the event loop."""
        cache, wait = self.cache, None
        if self.coalesce and (wait := asked.turn(cache, blocking=False)) is not None:
            await wait.awaited()
        with events.passed_on(cache):
            outcome = await cache.alookup(
                asked.question, codec=asked.codec, similarity_threshold=self.threshold
            )
        return _found(asked, outcome or asked.shared(cache, wait))

    # What is kept

    def keep(self, asked: AskedEngine, response: Any) -> None:
        """Store an engine's response, if it is one to give to others."""
        with asked:
            if self._worth_keeping(asked, response):
                with events.passed_on(self.cache):
                    self.cache.store(asked.question, response, **self._how(asked))
                asked.kept(self.cache, response)
                self._kept(asked)

    async def akeep(self, asked: AskedEngine, response: Any) -> None:
        """The same as `keep`, without blocking the event loop."""
        with asked:
            if self._worth_keeping(asked, response):
                with events.passed_on(self.cache):
                    await self.cache.astore(asked.question, response, **self._how(asked))
                asked.kept(self.cache, response)
                self._kept(asked)

    # Steps of the above

    def _worth_keeping(self, asked: AskedEngine, response: Any) -> bool:
        try:
            reason = reason_not_to_store(response, asked.heard.cut, asked.wordless)
            if reason is None and self._version() != asked.version:
                reason = "the corpus changed meanwhile"
        except Exception:  # noqa: BLE001 - the answer has been paid for and is passed on
            reason = "unreadable answer"
        reason = reason or self._refusal(response)
        if reason is not None:
            self._skip(reason)
        return reason is None

    def _refusal(self, response: Kept) -> str | None:
        """Why the app does not want a response stored; None if it does."""
        if self.should_store is None:
            return None
        try:
            return None if self.should_store(whole(response)) else "should_store said no"
        except Exception as error:  # noqa: BLE001 - likewise
            self.cache.failed("should_store", error)
            return "should_store raised"

    def _skip(self, reason: str) -> None:
        with events.passed_on(self.cache):
            self.cache.skip(reason)

    def _missed(self, detail: str) -> None:
        with events.passed_on(self.cache):
            self.cache.missed(detail)

    def _how(self, asked: AskedEngine) -> dict[str, Any]:
        return {"codec": asked.codec, "ttl": self.ttl, "usage": dict(asked.heard.usage)}

    def _kept(self, asked: AskedEngine) -> None:
        if self._compared:
            return
        self._compared = True
        *_, before = json.loads(asked.question.identity)
        try:
            changed = EngineWalk(self.engine, self.engine_id).identity != before
        except UnnamableError:
            changed = True
        if changed:
            self._warn(
                "changes",
                "%s changes its own settings when it is asked, so its responses are not found "
                "again. Pass engine_id= with a name that stands for the engine and all of them.",
                type(self.engine).__name__,
            )

    def _warn(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning, once for each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *arguments)


def _found(asked: AskedEngine, outcome: Hit | Miss | None) -> Hit | None:
    if not isinstance(outcome, Hit):
        return None
    asked.found()
    return outcome


def _beside_the_text(bundle: QueryBundle) -> tuple[list[Any], str]:
    """What a query holds beside its text, and why it is then found by the very same only.

    Raises:
        UnreadablePromptError: It cannot be told what it holds.
    """
    if type(bundle) is not QueryBundle:
        raise UnreadablePromptError(f"the query is a {type(bundle).__name__}")
    if bundle.image_path is not None:
        image = file_digest(bundle.image_path)
        return ["image", image, bundle.custom_embedding_strs], "the query is about an image"
    if bundle.embedding is not None:
        vector = hashlib.sha256(json.dumps(bundle.embedding).encode()).hexdigest()
        return ["vector", vector], "the query brings its own vector"
    if bundle.custom_embedding_strs not in (None, [bundle.query_str]):
        return ["texts", bundle.custom_embedding_strs], "the query brings its own texts to embed"
    return [], ""
