"""A model's cache, and what one call of the model sees of it.

Rule of this file: a call looks up once, stores at most once, and frees those who wait for it
however it ends. Which chunks a call yields is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.language_models import BaseChatModel

from langchain_valkey_semcache.telling import of_run
from valkey_semcache import Question
from valkey_semcache.coalesce import Lead, Wait

if TYPE_CHECKING:
    from langchain_valkey_semcache.cache import ValkeySemanticCache

NamespaceFrom: TypeAlias = Callable[[Any], str | None]
"""The tenant of a call, by the call's `RunnableConfig` or an agent's `runtime.context`."""


class ModelCache(BaseCache):
    """A cache as the own one of models made by `cached()`: it stands in their field `cache`.

    Args:
        cache: The cache.
        namespace_from: Tells a call's tenant; None for the cache's own.
        patience: Seconds that a call waits for an identical one at most; None for not at all.
    """

    def __init__(
        self,
        cache: ValkeySemanticCache,
        namespace_from: NamespaceFrom | None,
        patience: float | None,
    ) -> None:
        self.cache = cache
        self.namespace_from = namespace_from
        self.patience = patience

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cache!r})"

    def __deepcopy__(self, memo: object) -> Self:
        """A cache is shared, not copied."""
        return self

    def is_like(self, other: ModelCache) -> bool:
        """Whether a model with this cache behaves as one with the other."""
        return (
            self.cache is other.cache
            and self.namespace_from is other.namespace_from
            and self.patience == other.patience
        )

    def of_tenant(self, config: Any) -> ValkeySemanticCache | None:
        """The cache of a call's tenant; None, and a miss counted, when there is none to be had."""
        if self.namespace_from is None:
            return self.cache
        try:
            # None is no tenant's name either, and refused like all else that is not one.
            return self.cache.with_namespace(self.namespace_from(config))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            self.cache.core.missed(f"namespace_from named no tenant: {type(error).__name__}")
            return None

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """As the cache does."""
        return self.cache.lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """As the cache does."""
        return await self.cache.alookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """As the cache does."""
        self.cache.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """As the cache does."""
        await self.cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """As the cache does."""
        self.cache.clear(**kwargs)


class CallCache(BaseCache):
    """The cache for one call. It is to be used in a `with`, which ends the call.

    Args:
        shared: The model's cache.
        model: The model that is called, as its user holds it; None in an agent's middleware.
        config: What the tenant is told by: the call's config, or an agent's context.
        streams: Whether the call is one of `stream` and its kin.
    """

    def __init__(
        self, shared: ModelCache, model: BaseChatModel | None, config: Any, *, streams: bool = False
    ) -> None:
        self.model = model
        self.config = config
        self.streams = streams
        self.shared = shared
        self.hit = False
        self.run_manager: Any = None  # of the model's run, once it is known
        self._cache: ValkeySemanticCache | None = None
        self._lead: Lead | None = None

    def __enter__(self) -> Self:
        self._cache = self.shared.of_tenant(self.config)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lead is not None:
            self._lead.give_up()

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The stored answer, after waiting for the same call if one is under way."""
        if self._cache is None:
            return None
        if self.shared.patience is not None:
            question = self._cache._question(prompt, llm_string)
            if question is None:
                return None
            turn = self._join(question, blocking=True)
            if isinstance(turn, Wait) and turn.wait():
                found = self._cache.lookup(prompt, llm_string)
                return self._seen(self._shared(question, turn) if found is None else found)
        with of_run(self.run_manager):
            return self._seen(self._cache.lookup(prompt, llm_string))

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same as `lookup`, without blocking the event loop."""
        if self._cache is None:
            return None
        if self.shared.patience is not None:
            question = self._cache._question(prompt, llm_string)
            if question is None:
                return None
            turn = self._join(question, blocking=False)
            if isinstance(turn, Wait) and await turn.awaited():
                found = await self._cache.alookup(prompt, llm_string)
                return self._seen(self._shared(question, turn) if found is None else found)
        with of_run(self.run_manager):
            return self._seen(await self._cache.alookup(prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answer; those who wait for it look it up, or share it in an outage."""
        if self._cache is not None:
            with of_run(self.run_manager):
                self._finish(self._cache.kept(prompt, llm_string, return_val))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same as `update`, without blocking the event loop."""
        if self._cache is not None:
            with of_run(self.run_manager):
                self._finish(await self._cache.akept(prompt, llm_string, return_val))

    def skip(self, reason: str) -> None:
        """Count an answer that is not stored."""
        if self._cache is not None:
            self._cache.core.skip(reason)

    def paused(self, yes: bool) -> None:
        """Whether the call stands still at a yield."""
        if self._lead is not None:
            self._lead.paused(yes)

    def clear(self, **kwargs: Any) -> None:
        """Nothing that a call does."""
        raise NotImplementedError

    def _join(self, question: Question, *, blocking: bool) -> Lead | Wait:
        core = self.shared.cache.core
        turn = core.turn(question, blocking=blocking, timeout=self.shared.patience)
        if isinstance(turn, Lead):
            self._lead = turn
        return turn

    def _shared(self, question: Question, turn: Wait) -> RETURN_VAL_TYPE | None:
        """What the call that was waited for gave, where it is not to be found in Valkey."""
        if turn.result is None or self._cache is None:
            return None
        return self._cache.shared(question, turn.result)

    def _seen(self, found: RETURN_VAL_TYPE | None) -> RETURN_VAL_TYPE | None:
        if found is not None:
            self.hit = True
            self._finish()
        return found

    def _finish(self, kept: tuple[Question, Any] | None = None) -> None:
        if self._lead is not None:
            shares = kept is not None and self._lead.awaited
            core = self.shared.cache.core
            self._lead.finish(core.to_share(*kept) if kept and shares else None)
