"""`cached(model, cache)`: a chat model whose streams are cached too.

Rule of this file: what is taken, what is refused, and in which words.
"""

from __future__ import annotations

from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.base import RunnableBindingBase

from langchain_valkey_semcache.cache import ValkeySemanticCache
from langchain_valkey_semcache.calls import ModelCache, NamespaceFrom
from langchain_valkey_semcache.model import cached_class, cached_copy
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.options import checked_flag, checked_seconds

M = TypeVar("M")


def cached(
    model: M,
    cache: ValkeySemanticCache,
    *,
    namespace_from: NamespaceFrom | None = None,
    coalesce: bool = True,
    coalesce_timeout: float = 30.0,
) -> M:
    """A copy of a chat model that is cached in all its ways: also `stream` and `astream`.

    LangChain's own cache knows `invoke` only. Here a hit is streamed word by word, with tool calls
    and usage in the last chunk; a miss is passed through as it comes, and stored when it was read
    to its end and ended well. `invoke` and `stream` share entries, also with other apps that use
    the same cache by `set_llm_cache`.

    Args:
        model: A chat model, also one that is bound (`bind_tools`, `with_config`, `with_retry`).
            It is not changed itself. The copy is of a subclass of the model's own class.
        cache: The cache.
        namespace_from: Gives the tenant of a call by its config (a `RunnableConfig`). When it
            gives None or raises, the call is not cached. By default the cache decides.
        coalesce: Whether calls that ask the same at the same time, in one process, wait for the
            first of them. If it fails or its stream is abandoned, each calls for itself.
        coalesce_timeout: Seconds that a call waits for another at most.

    Returns:
        The cached model. One that is already cached in this way is given back as it is.

    Raises:
        ConfigurationError: The model is none, or something built of several; or the cache is no
            `ValkeySemanticCache`.
    """
    shared = model_cache(cache, namespace_from, coalesce, coalesce_timeout)
    made: M = _cached(model, shared)
    return made


def model_cache(
    cache: ValkeySemanticCache,
    namespace_from: NamespaceFrom | None,
    coalesce: bool,
    coalesce_timeout: float,
) -> ModelCache:
    """The cache as one model's own, its options checked."""
    if not isinstance(cache, ValkeySemanticCache):
        raise ConfigurationError(
            "The cache must be a langchain_valkey_semcache.ValkeySemanticCache, not "
            f"{type(cache).__module__}.{type(cache).__name__}. Arguments are "
            "cached(model, cache) and SemanticCacheMiddleware(cache)."
        )
    patience = checked_seconds(coalesce_timeout, "coalesce_timeout")
    return ModelCache(
        cache, namespace_from, patience if checked_flag(coalesce, "coalesce") else None
    )


def _cached(model: Any, shared: ModelCache) -> Any:
    if isinstance(model, BaseChatModel):
        if isinstance(model.cache, ModelCache) and model.cache.is_like(shared):
            return model
        copy = cached_copy(model, cached_class(type(model)))
        copy.__dict__.pop("_serialized", None)
        copy.__dict__["cache"] = shared
        return copy
    if isinstance(model, RunnableBindingBase):
        bound = _cached(model.bound, shared)
        return model if bound is model.bound else model.model_copy(update={"bound": bound})
    raise ConfigurationError(
        f"cached() takes a chat model, also a bound one, but no {type(model).__name__}. Cache "
        "the model first and build on what you get: cached(model, cache)"
        ".with_structured_output(…), or prompt | cached(model, cache)."
    )
