"""`Front`: a cache in front of one model. What may be asked of it, found in it and kept.

Rule of this file: no method of an LLM, no template, no stream's chunk; those are translated
elsewhere. Whatever fails here, the model is asked and its answer passed on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

from llama_index.core.llms.llm import LLM

from llama_index_valkey_semcache import events, listening
from llama_index_valkey_semcache.answers import (
    asks_for_tools,
    marked,
    reason_not_to_store,
    usage_of,
)
from llama_index_valkey_semcache.identity import UnnamableError, model_identity
from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.prompt import Reading
from llama_index_valkey_semcache.settings import Settings
from llama_index_valkey_semcache.turns import Asked
from valkey_semcache import Codec, Hit, Miss, Question, SemanticCache
from valkey_semcache.blocks import Block
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.explanation import Explanation

logger = logging.getLogger("valkey_semcache")

_C = TypeVar("_C")


class Front:
    """A cache in front of one model.

    Args:
        llm: The model.
        cache: The cache; None passes everything on to the model.
        settings: How the one stands in front of the other.
    """

    def __init__(self, llm: LLM, cache: SemanticCache | None, settings: Settings) -> None:
        self.llm = llm
        self.cache = cache
        self.settings = settings
        self._bypass: Block[bool] = Block()
        self._warned: set[str] = set()
        self._compared = False
        listening.begin()

    def bypassed(self) -> AbstractContextManager[None]:
        """Within, this thread or task goes around the cache: nothing is found or kept."""
        return self._bypass(True)

    # What is asked

    def asked(
        self, read: Callable[[], Reading], call: Mapping[str, Any], codec: Codec
    ) -> Asked | None:
        """What a request asks, or None for one that the cache takes no part in.

        Args:
            read: Reads the question; it may raise.
            call: The call's arguments beside the prompt.
            codec: For the answer.
        """
        cache = self.cache
        if cache is None or self.settings.mode == "off" or self._bypass.value():
            return None
        try:
            # Whose it is, is settled now: a stream may be read, and stored, elsewhere.
            namespace = self.settings.namespace
            question = self._question(
                read, call, cache.tenant() if namespace is None else namespace
            )
        except UnknownTenantError as error:
            cache.of_nobody(error)
            self._missed(cache, str(error))
            return None
        except Exception as error:  # noqa: BLE001 - whatever they hold, the call goes on
            self._warn(
                type(error).__name__,
                "Requests to %s are not cached: %s. If it is a parameter that has no name, pass "
                "model_id= with a name that stands for the model and all its parameters.",
                type(self.llm).__name__,
                error,
            )
            self._missed(cache, f"{type(error).__name__}: {error}")
            return None
        return Asked(question, codec)

    def _question(
        self, read: Callable[[], Reading], call: Mapping[str, Any], namespace: str | None
    ) -> Question:
        """What a request asks; it may raise whatever `read` raises."""
        metadata = self.llm.metadata  # made anew each time, by some from long tables
        identity = model_identity(self.settings.model_id or self.llm, call, metadata)
        reading = read()
        return Question(
            text=reading.text,
            context=reading.context,
            identity=identity,
            model=metadata.model_name,
            namespace=namespace,
            exact_only=reading.exact_reason or (self.settings.mode == "exact" and "mode='exact'"),
        )

    def explained(
        self,
        cache: SemanticCache,
        read: Callable[[], Reading],
        call: Mapping[str, Any],
        codec: Codec,
    ) -> Asked | Explanation:
        """What a request asks, or why the cache takes no part in it; nothing is counted."""
        if self.settings.mode == "off" or self._bypass.value():
            return cache.unexplained("mode='off', or within bypass()")
        try:
            return Asked(self._question(read, call, self.settings.namespace), codec)
        except Exception as error:  # noqa: BLE001 - as a look-up, which misses
            return cache.unexplained(f"{type(error).__name__}: {error}")

    # What is found

    def find(self, asked: Asked | None) -> Any:
        """A stored answer, or None."""
        if asked is None or self.cache is None:
            return None
        how: dict[str, Any] = {
            "codec": asked.codec,
            "similarity_threshold": self.settings.threshold,
        }
        cache, wait = self.cache, None
        if self.settings.coalesce and (wait := asked.turn(cache, blocking=True)) is not None:
            wait.wait()
        if not events.is_heard():  # as `passed_on` would see too, but it is not for nothing
            outcome = cache.lookup(asked.question, **how)
        else:
            with events.passed_on(cache):
                outcome = cache.lookup(asked.question, **how)
        return self._found(asked, outcome or asked.shared(cache, wait))

    async def afind(self, asked: Asked | None) -> Any:
        """The same as `find`, without blocking the event loop."""
        if asked is None or self.cache is None:
            return None
        how: dict[str, Any] = {
            "codec": asked.codec,
            "similarity_threshold": self.settings.threshold,
        }
        cache, wait = self.cache, None
        if self.settings.coalesce and (wait := asked.turn(cache, blocking=False)) is not None:
            await wait.awaited()
        if not events.is_heard():
            outcome = await cache.alookup(asked.question, **how)
        else:
            with events.passed_on(cache):
                outcome = await cache.alookup(asked.question, **how)
        return self._found(asked, outcome or asked.shared(cache, wait))

    # What is kept

    def keep(self, asked: Asked | None, answer: Any, heard: Heard | None = None) -> None:
        """Store a model's answer, if it is one to give to others.

        Args:
            asked: The request, or None, of which nothing is kept.
            answer: The answer.
            heard: What was heard of the models that made it; None for what it says itself.
        """
        if asked is None or self.cache is None or not self._worth_keeping(answer, heard):
            return
        cache, how = self.cache, self._how(asked, answer, heard)
        if not events.is_heard():
            cache.store(asked.question, answer, **how)
        else:
            with events.passed_on(cache):
                cache.store(asked.question, answer, **how)
        self._kept(cache, asked, answer)

    async def akeep(self, asked: Asked | None, answer: Any, heard: Heard | None = None) -> None:
        """The same as `keep`, without blocking the event loop."""
        if asked is None or self.cache is None or not self._worth_keeping(answer, heard):
            return
        cache, how = self.cache, self._how(asked, answer, heard)
        if not events.is_heard():
            await cache.astore(asked.question, answer, **how)
        else:
            with events.passed_on(cache):
                await cache.astore(asked.question, answer, **how)
        self._kept(cache, asked, answer)

    # Steps of the above

    def _worth_keeping(self, answer: Any, heard: Heard | None) -> bool:
        reason = (heard and heard.cut) or self._reason_not_to_keep(answer)
        if reason is not None:
            self._skip(reason)
        return reason is None

    def _reason_not_to_keep(self, answer: Any) -> str | None:
        try:
            reason = reason_not_to_store(answer, self.settings.cache_tool_calls)
        except Exception:  # noqa: BLE001 - the model has been paid; its answer is passed on
            return "unreadable answer"
        if reason is not None or self.settings.should_store is None:
            return reason
        try:
            return None if self.settings.should_store(answer) else "should_store said no"
        except Exception as error:  # noqa: BLE001 - likewise
            self._warn("should_store", "An answer is not cached: should_store raised %r", error)
            return "should_store raised"

    def _skip(self, reason: str) -> None:
        if self.cache is not None:
            with events.passed_on(self.cache):
                self.cache.skip(reason)

    def _missed(self, cache: SemanticCache, detail: str) -> None:
        with events.passed_on(cache):
            cache.missed(detail)

    def _how(self, asked: Asked, answer: Any, heard: Heard | None) -> dict[str, Any]:
        how: dict[str, Any] = {
            "codec": asked.codec,
            "ttl": self.settings.ttl,
            "usage": usage_of(answer) if heard is None else dict(heard.usage),
        }
        if asks_for_tools(answer):
            how["exact_only"] = True
        return how

    def _found(self, asked: Asked, outcome: Hit | Miss | None) -> Any:
        if not isinstance(outcome, Hit):
            return None
        asked.found()
        return marked(outcome)

    def _kept(self, cache: SemanticCache, asked: Asked, answer: Any) -> None:
        asked.kept(cache, answer)
        with suppress(UnnamableError):  # it could be named before
            self._warn_of_changes(asked)

    def _warn_of_changes(self, asked: Asked) -> None:
        """After the first answer, say so if the model is no longer the one that was asked."""
        if self._compared or self.settings.model_id is not None:
            return
        self._compared = True
        before, _ = json.loads(asked.question.identity)
        after, _ = json.loads(model_identity(self.llm, {}))
        if changed := sorted(name for name in after if before.get(name) != after[name]):
            self._warn(
                "changes",
                "%s changes its %s when it is asked, so its answers are not found again. Pass "
                "model_id= with a name that stands for the model and all its parameters.",
                type(self.llm).__name__,
                ", ".join(changed),
            )

    def _warn(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning, once for each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *arguments)
