"""How long an entry lives: the option `ttl=` in all its forms, and what shortens or extends it.

Rule of this file: arithmetic of seconds. Whatever form a TTL comes in, it leaves here as seconds
above 0, or None for ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.options import TTL, checked_ttl
from valkey_semcache.question import Question
from valkey_semcache.rules.rules import by_model

Rule: TypeAlias = Callable[[Question, Any], float | None]
"""Seconds that an answer to a question lives, or None for ever."""

_random = random.SystemRandom()  # has no state that forked workers would share


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long entries live.

    Args:
        ttl: The rule, as `lifetime_rule` gives it.
        jitter: The largest share of its TTL that an entry's life is shortened by, 0 to below 1.
        sliding: Whether a hit begins an entry's life anew.
        max_age: Seconds after which an entry ends in spite of hits; None for never.
    """

    ttl: Rule
    jitter: float = 0.0
    sliding: bool = False
    max_age: float | None = None

    def of(self, question: Question, answer: Any, rule: Rule | None = None) -> float | None:
        """Seconds that an answer lives; None for ever.

        Args:
            question: What was asked.
            answer: As the codec takes it.
            rule: Instead of the cache's own.

        Raises:
            ConfigurationError: A function of the app's gave what is no TTL.
        """
        seconds = (rule or self.ttl)(question, answer)
        if seconds is None:
            return None
        if self.sliding and self.max_age is not None:
            seconds = min(seconds, self.max_age)
        if self.jitter:
            seconds *= 1 - self.jitter * _random.random()
        return seconds

    def extended(self, created: float, expires: float, now: float) -> float:
        """When an entry expires after a hit, in seconds since 1970: its whole life from now on,
        but never past `max_age`.

        Args:
            created: Of the entry, seconds since 1970.
            expires: As it was to expire when it was stored.
            now: The time of the hit.
        """
        extended = now + (expires - created)
        return extended if self.max_age is None else min(extended, created + self.max_age)


def lifetime_rule(ttl: TTL) -> Rule:
    """A function of question and answer, whatever form the TTL was given in.

    Raises:
        ConfigurationError: It is in none of the forms.
    """
    if isinstance(ttl, Mapping):
        table = {pattern: _plain(value) for pattern, value in ttl.items()}
        if "*" not in table or not all(isinstance(pattern, str) for pattern in table):
            raise ConfigurationError(
                f"ttl={ttl!r} is not allowed: rules by model need one for '*', which takes every "
                "model that no other pattern matches, and those whose name is not known."
            )
        return lambda question, answer: by_model(table, question.model)
    if callable(ttl):
        function = ttl
        return lambda question, answer: _plain(function(question, answer))
    seconds = checked_ttl(ttl)
    return lambda question, answer: seconds


def _plain(value: float | int | timedelta | None) -> float | None:
    return checked_ttl(value)
