"""Rules by which an app says what is cached: by model, by question, by answer.

Rule of this file: rules decide, they do not look up. A rule of the app's that raises is an error
like any other: the call goes on without the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, TypeVar

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.question import Question

ShouldCache: TypeAlias = Callable[[Question], bool]
"""Whether a question is looked up, and its answer stored, at all."""

ShouldStore: TypeAlias = Callable[[Question, Any], bool]
"""Whether an answer is stored. It is given as the codec takes it: a string, LangChain's list of
generations, LlamaIndex's response."""

T = TypeVar("T")


def matches(model: str, pattern: str) -> bool:
    """Whether a model's name matches a pattern such as `gpt-4o*` (`*`, `?`, `[…]`, by case).

    A name that is not known, "", matches only `*`.
    """
    return fnmatchcase(model, pattern) if model else pattern == "*"


def by_model(table: Mapping[str, T], model: str) -> T:
    """The value of the most specific pattern that a model's name matches.

    That is the one with the most characters that are no wildcards; of several, the first.

    Raises:
        KeyError: None matches.
    """
    found = [pattern for pattern in table if matches(model, pattern)]
    if not found:
        raise KeyError(model)
    return table[max(found, key=_weight)]


def _weight(pattern: str) -> int:
    return sum(character not in "*?[]" for character in pattern)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which questions and answers a cache takes.

    Args:
        models: Patterns of model names; None for all.
        should_cache: Asked about every question; None takes all.
        should_store: Asked about every answer; None takes all.
    """

    models: tuple[str, ...] | None = None
    should_cache: ShouldCache | None = None
    should_store: ShouldStore | None = None

    @classmethod
    def of(cls, models: Any, should_cache: Any, should_store: Any) -> Selection:
        """The selection by its options, checked.

        Raises:
            ConfigurationError: One of them is of the wrong type.
        """
        return cls(
            _patterns(models),
            checked_function(should_cache, "should_cache", "question"),
            checked_function(should_store, "should_store", "question and answer"),
        )

    @property
    def takes_all(self) -> bool:
        """Whether every question is taken."""
        return self.models is None and self.should_cache is None

    def refusal(self, question: Question) -> str | None:
        """Why a question is neither looked up nor its answer stored; None if it is."""
        if self.models is not None and not any(matches(question.model, p) for p in self.models):
            return "its model is none of models="
        if self.should_cache is not None and not self.should_cache(question):
            return "should_cache() said no"
        return None

    def refusal_to_store(self, question: Question, answer: Any) -> str | None:
        """Why an answer is not stored; None if it is."""
        if self.should_store is not None and not self.should_store(question, answer):
            return "should_store() said no"
        return None


def checked_function(value: Any, option: str, of: str) -> Any:
    """A function, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a function of {of}, or None."
        )
    return value


def _patterns(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(
            f"models={value!r} is not allowed: it takes a list of patterns such as ['gpt-4o*']."
        )
    patterns = tuple(value)
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ConfigurationError(
            f"models={value!r} is not allowed: it takes patterns of model names, at least one."
        )
    return patterns
