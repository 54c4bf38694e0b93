"""How a cache stands in front of a LlamaIndex model: the options of `SemanticCacheLLM`, checked.

Rule of this file: each option is checked once, where it comes in. What the cache has an option
for as well is None here for the cache's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from valkey_semcache import ConfigurationError
from valkey_semcache.options import (
    TTL,
    UNSET,
    Unset,
    checked_choice,
    checked_flag,
    checked_namespace,
    checked_threshold,
    checked_ttl,
)

Mode: TypeAlias = Literal["auto", "exact", "off"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one `SemanticCacheLLM`; see there.

    `ttl` is UNSET, which the cache takes for its own, where None was given.
    """

    namespace: str | None
    model_id: str | None
    mode: Mode
    question_vars: tuple[str, ...]
    threshold: float | None
    ttl: TTL | Unset
    cache_tool_calls: bool
    should_store: Callable[[Any], bool] | None
    coalesce: bool

    @classmethod
    def checked(
        cls,
        *,
        namespace: str | None,
        model_id: str | None,
        mode: Mode,
        question_vars: Sequence[str],
        threshold: float | None,
        ttl: TTL,
        cache_tool_calls: bool,
        should_store: Callable[[Any], bool] | None,
        coalesce: bool,
    ) -> Settings:
        """The options as they are used.

        Raises:
            ConfigurationError: One is not allowed.
        """
        return cls(
            namespace=None if namespace is None else checked_namespace(namespace),
            model_id=_checked_text(model_id, "model_id"),
            mode=checked_choice(mode, "mode", ("auto", "exact", "off")),
            question_vars=_checked_names(question_vars),
            threshold=None if threshold is None else checked_threshold(threshold, "threshold"),
            ttl=UNSET if ttl is None else checked_ttl(ttl),
            cache_tool_calls=checked_flag(cache_tool_calls, "cache_tool_calls"),
            should_store=_checked_function(should_store),
            coalesce=checked_flag(coalesce, "coalesce"),
        )


def _checked_text(value: object, option: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(f"{option}={value!r} is not allowed: it takes a text, or None.")


def _checked_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ConfigurationError(
        f"question_vars={value!r} is not allowed: it takes names of template variables, such as "
        "('query_str', 'question')."
    )


def _checked_function(value: Any) -> Callable[[Any], bool] | None:
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"should_store={value!r} is not allowed: it takes a function from an answer to True "
            "or False, or None."
        )
    checked: Callable[[Any], bool] | None = value
    return checked
