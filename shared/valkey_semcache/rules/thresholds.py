"""From which similarity on another wording is served: `similarity_threshold=` in all its forms.

Rule of this file: whatever form it comes in, it leaves here as a similarity from 0 to 1. A rule
that has none for a question is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.options import checked_threshold
from valkey_semcache.question import Question
from valkey_semcache.rules.rules import by_model


@dataclass(frozen=True, slots=True)
class ThresholdRules:
    """Thresholds by model and by tenant. Where both have one for a question, the higher counts.

    Args:
        default: For questions that neither has one for.
        models: By pattern of the model's name, such as `{"gpt-4o*": 0.92}`; the most specific one
            that matches counts, and a model that is not known matches only `"*"`.
        namespaces: By the tenant's name, in full.

    Raises:
        ConfigurationError: A threshold is not from 0 to 1, or there is no mapping.
    """

    default: float = 0.9
    models: Mapping[str, float] = field(default_factory=dict)
    namespaces: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_threshold(self.default, "ThresholdRules(default=…)")
        _checked_table(self.models, "models")
        _checked_table(self.namespaces, "namespaces")

    def __call__(self, question: Question) -> float:
        """The threshold for a question that names its tenant."""
        found = []
        with suppress(KeyError):
            found.append(by_model(self.models, question.model))
        with suppress(KeyError):
            found.append(self.namespaces[question.namespace or ""])
        return max(found, default=self.default)


Threshold: TypeAlias = float | Mapping[str, float] | Callable[[Question], float] | ThresholdRules
"""One similarity for all; or by pattern of the model's name, the most specific one that matches;
or by model and tenant; or by a function of the question."""


class Unsaid(float):
    """A threshold that nobody gave: a policy that learns one is not bound by it."""


UNSAID = Unsaid(0.9)
"""The threshold of a cache that is not told which."""


class Thresholds:
    """The threshold for each question.

    Args:
        given: In any form of `Threshold`.

    Raises:
        ConfigurationError: It is in none of the forms.
    """

    __slots__ = ("_rule", "_shown", "plain")

    def __init__(self, given: Threshold) -> None:
        self.plain: float | None = None
        self._rule: Callable[[Question], float] | None = None
        if isinstance(given, Mapping):
            if "*" not in given:
                raise ConfigurationError(
                    f"similarity_threshold={given!r} is not allowed: rules by model need one for "
                    "'*', which takes every model that no other pattern matches, and those whose "
                    "name is not known."
                )
            self._rule = ThresholdRules(given["*"], dict(given))
        elif callable(given):
            self._rule = given
        else:
            self.plain = checked_threshold(given)
        name = getattr(given, "__name__", None)
        self._shown = str(self.plain) if self._rule is None else (name or repr(given))

    def __repr__(self) -> str:
        return self._shown

    def shown(self, namespace: str) -> float | None:
        """The threshold as far as one can be told without a question; None where it depends."""
        try:
            return self.of(Question("", namespace=namespace))
        except Exception:  # noqa: BLE001 - it is the app's function, and only shown
            return None

    def of(self, question: Question) -> float:
        """The threshold for a question.

        Args:
            question: With the tenant who asks, unless there is one threshold for all.

        Raises:
            ConfigurationError: A function of the app's gave what is no threshold.
        """
        if self._rule is None:
            assert self.plain is not None  # noqa: S101 - one of the two is there
            return self.plain
        return checked_threshold(self._rule(question), "The function for similarity_threshold")


def _checked_table(table: object, name: str) -> None:
    if not isinstance(table, Mapping) or not all(isinstance(key, str) for key in table):
        raise ConfigurationError(
            f"ThresholdRules({name}={table!r}) is not allowed: it takes thresholds by name, such "
            "as {'gpt-4o*': 0.92}."
        )
    for key, value in table.items():
        checked_threshold(value, f"ThresholdRules({name}={{{key!r}: …}})")
