"""A model's cache, and what one call of the model sees of it.

Rule of this file: a call looks up once, stores at most once, and frees those who wait for it
however it ends. Which chunks a call yields is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.language_models import BaseChatModel

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
            if (wait := self._join(question, blocking=True)) is not None:
                wait.wait()
        return self._seen(self._cache.lookup(prompt, llm_string))

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same as `lookup`, without blocking the event loop."""
        if self._cache is None:
            return None
        if self.shared.patience is not None:
            question = self._cache._question(prompt, llm_string)
            if question is None:
                return None
            if (wait := self._join(question, blocking=False)) is not None:
                await wait.awaited()
        return self._seen(await self._cache.alookup(prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answer; those who wait for it look it up."""
        if self._cache is not None:
            self._cache.update(prompt, llm_string, return_val)
        self._finish()

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same as `update`, without blocking the event loop."""
        if self._cache is not None:
            await self._cache.aupdate(prompt, llm_string, return_val)
        self._finish()

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

    def _join(self, question: Question, *, blocking: bool) -> Wait | None:
        core = self.shared.cache.core
        turn = core.coalescer.join(
            core.key_of(question), blocking=blocking, timeout=self.shared.patience
        )
        if isinstance(turn, Wait):
            return turn
        self._lead = turn
        return None

    def _seen(self, found: RETURN_VAL_TYPE | None) -> RETURN_VAL_TYPE | None:
        if found is not None:
            self.hit = True
            self._finish()
        return found

    def _finish(self) -> None:
        if self._lead is not None:
            self._lead.finish()
