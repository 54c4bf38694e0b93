"""The options of `SemanticCacheQueryEngine`, checked where they come in.

Rule of this file: each check returns the value as the rest uses it, or raises a
`ConfigurationError` that names the option, the value and what is allowed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine

from llama_index_valkey_semcache.engine_identity import embeddings_of
from valkey_semcache import ConfigurationError, SemanticCache


def checked_version(version: Any) -> str | Callable[[], str | None]:
    """The name of what is searched, or a function that gives it."""
    if isinstance(version, str) and version:
        return version
    if callable(version) and not inspect.iscoroutinefunction(version):
        function: Callable[[], str | None] = version
        return function
    raise ConfigurationError(
        f"corpus_version={version!r} is not allowed: it takes a text that names what is searched "
        "and its state, or a plain function that returns one."
    )


def checked_engine_id(value: object) -> str | None:
    """A name, or None."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(f"engine_id={value!r} is not allowed: it takes a text, or None.")


def checked_function(value: Any) -> Callable[[Any], bool] | None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"should_store={value!r} is not allowed: it takes a function of a response, or None."
        )
    checked: Callable[[Any], bool] | None = value
    return checked


def check_one_embedding_model(engine: BaseQueryEngine, cache: SemanticCache) -> None:
    """Refuse to share a vector with a retriever that can be seen to use another model."""
    mine = cache.embedding_id
    for other in embeddings_of(engine):
        if other != mine:
            raise ConfigurationError(
                f"shared_query_vector=True is not possible: the cache embeds with {mine}, the "
                f"engine's retriever with {other}. Give both one model; if it is one under two "
                f"names, make the cache with embedding_id={other!r}."
            )
