"""Options, checked where they come in.

Rule of this file: each check returns the value in the one form that the rest uses, or raises
a `ConfigurationError` that names the option, the value and what is allowed.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, TypeGuard

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.question import Question

Lifetime: TypeAlias = float | int | timedelta | None
"""Seconds, a `timedelta`, or None for entries that never expire."""

TTL: TypeAlias = Lifetime | Mapping[str, Lifetime] | Callable[[Question, Any], Lifetime]
"""One lifetime for all; or by pattern of the model's name, the most specific one that matches;
or by a function of question and answer."""


if TYPE_CHECKING:
    from valkey_semcache.local import LocalTier
    from valkey_semcache.precision.judging import Judge
    from valkey_semcache.precision.verified import Verified
    from valkey_semcache.telemetry.events import OnEvent
    from valkey_semcache.telemetry.otel import Telemetry


class _Unset(enum.Enum):
    UNSET = "the cache's own"


UNSET: Final = _Unset.UNSET
"""Stands for an argument not given, where None has a meaning of its own."""
Unset: TypeAlias = Literal[_Unset.UNSET]


class Options(TypedDict, total=False):
    """What the adapters' caches hand on to `SemanticCache` as it is; see there for each."""

    namespace_from: Callable[[], str | None] | None
    index: Literal["auto", "search", "flat"]
    embedding_id: str | None
    timeout: float
    connect_timeout: float
    embed_timeout: float | None
    cluster: bool | Literal["auto"]
    on_error: Literal["miss", "raise"]
    max_semantic_chars: int
    volatile: Sequence[str | re.Pattern[str]]
    features: Callable[[str], Iterable[str]] | None
    guards: Sequence[str | Callable[[str, str], str | None]] | None
    judge: Judge | None
    judge_below: float
    judge_timeout: float
    policy: Verified | None
    ttl_jitter: float
    sliding: bool
    max_age: float | timedelta | None
    models: Sequence[str] | None
    should_cache: Callable[[Question], bool] | None
    should_store: Callable[[Question, Any], bool] | None
    store_questions: bool
    promote: bool
    local: LocalTier | None
    refresh_after: float | None
    refresh: Callable[[Question], Any] | None
    max_entries_per_namespace: int | None
    batch_window: float
    compress_over: int | None
    max_answer_bytes: int
    digest_key: bytes | str | None
    signing_key: bytes | str | Sequence[bytes | str] | None
    encryption_key: bytes | str | Sequence[bytes | str] | None
    flat_max_bytes: int
    algorithm: Literal["auto", "flat", "hnsw"]
    m: int | None
    ef_construction: int | None
    ef_runtime: int | None
    initial_cap: int | None
    on_event: OnEvent | None
    telemetry: bool | Telemetry | None
    fleet_stats: bool


def checked_kind(value: object, option: str, kind: type) -> Any:
    """An object of a class of ours, or None."""
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a {kind.__name__}(…), or None."
        )
    return value


def checked_codec(value: Any) -> Any:
    """An object that has what a `Codec` must have, or None."""
    if value is None:
        return None
    name = getattr(value, "name", None)
    named = isinstance(name, str) and name.isascii() and 0 < len(name) < 256
    if not named or not all(callable(getattr(value, m, None)) for m in ("encode", "decode")):
        raise ConfigurationError(
            f"codec={value!r} is not allowed: it takes an object with a name in ASCII, of at most "
            "255 characters, and the methods encode(answer) and decode(content)."
        )
    return value


def check_algorithm(index: str, algorithm: str, parameters: Mapping[str, object]) -> None:
    """Refuse options of an index that is not the one wanted."""
    given = [name for name, value in parameters.items() if value is not None]
    if index == "flat" and (given or algorithm != "auto"):
        option = f"{given[0]}={parameters[given[0]]!r}" if given else f"algorithm={algorithm!r}"
        raise ConfigurationError(
            f"{option} and index='flat' exclude each other: it is for the index of valkey-search. "
            "Leave it out, or give index='search'."
        )
    graph = [name for name in given if name != "initial_cap"]
    if algorithm == "flat" and graph:
        raise ConfigurationError(
            f"{graph[0]}={parameters[graph[0]]!r} and algorithm='flat' exclude each other: it is "
            "for the graph, and there is none. Leave it out, or give algorithm='hnsw' or 'auto'."
        )


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def checked_name(value: object) -> str:
    """A cache's name: it begins every key, and a colon would reach into another cache."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError(
            f"name={value!r} is not allowed: 1 to 64 letters, digits, '_', '.' or '-'."
        )
    return value


def checked_namespace(value: object) -> str:
    """A tenant's name: any text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"namespace={value!r} is not allowed: it takes a string.")
    return value


def checked_threshold(value: object, option: str = "similarity_threshold") -> float:
    """A cosine similarity, 0 to 1, both included."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a number from 0 (anything in the scope "
            "hits) to 1 (only equal vectors hit)."
        )
    return float(value)


def checked_ttl(value: object, option: str = "ttl") -> float | None:
    """Seconds, or None."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if not _is_number(seconds) or not 0 < seconds <= 1e10:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes seconds above 0, a timedelta, or None "
            "for ever."
        )
    return float(seconds)


def checked_share(value: object, option: str) -> float:
    """A share of a whole: 0 or more, below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a number from 0 to below 1."
        )
    return float(value)


def checked_refresh(share: object, refresh: object) -> float | None:
    """The share of an entry's life from which on it is renewed, or None."""
    if refresh is not None and not callable(refresh):
        raise ConfigurationError(
            f"refresh={refresh!r} is not allowed: it takes a function of the question."
        )
    if refresh is not None and share is None:
        raise ConfigurationError("refresh= needs refresh_after=, such as 0.8, to say when.")
    if share is None:
        return None
    if not _is_number(share) or not 0 < share < 1:
        raise ConfigurationError(
            f"refresh_after={share!r} is not allowed: it takes a number above 0 and below 1."
        )
    return float(share)


def checked_window(value: object, option: str) -> float:
    """Milliseconds to wait for others, 0 for not at all."""
    if not _is_number(value) or not 0 <= value <= 1000:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes milliseconds from 0 to 1000."
        )
    return float(value)


def checked_seconds(value: object, option: str) -> float:
    """A time limit in seconds."""
    if not _is_number(value) or not 0 < value <= 3600:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes seconds above 0, at most 3600."
        )
    return float(value)


def checked_count(value: object, option: str, least: int) -> int:
    """A whole number."""
    if type(value) is not int or value < least:
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a whole number, at least {least}."
        )
    return value


def checked_range(value: object, option: str, least: int, most: int) -> int | None:
    """A whole number within bounds, or None."""
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise ConfigurationError(
            f"{option}={value!r} is not allowed: it takes a whole number from {least} to {most}, "
            "or None for the default."
        )
    return value


def checked_listener(value: Any) -> Any:
    """A function of an event, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"on_event={value!r} is not allowed: it takes a function of an event, or None."
        )
    return value


def checked_flag(value: object, option: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option}={value!r} is not allowed: it takes True or False.")
    return value


def checked_choice(value: Any, option: str, choices: Sequence[object]) -> Any:
    """One of a few values."""
    if not any(
        value is choice or (isinstance(value, str) and value == choice) for choice in choices
    ):
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ConfigurationError(f"{option}={value!r} is not allowed: it takes one of {allowed}.")
    return value


def checked_patterns(value: object) -> tuple[re.Pattern[str], ...]:
    """Regular expressions, compiled."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f"volatile={value!r} is not allowed: it takes a list of patterns.")
    try:
        return tuple(re.compile(pattern) for pattern in value)
    except (re.error, TypeError) as error:
        raise ConfigurationError(
            f"volatile={value!r} holds no regular expression: {error}."
        ) from None


def checked_key(value: object, option: str = "digest_key") -> bytes | None:
    """A secret; never repeated in a message."""
    if value is None:
        return None
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, bytes) or len(data) < 16:
        raise ConfigurationError(f"{option}= takes at least 16 bytes, as bytes or text.")
    return data


def checked_keys(value: object, option: str) -> tuple[bytes, ...]:
    """One secret or several, newest first; none is repeated in a message."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    given = tuple(value) if several else (value,)  # type: ignore[arg-type]
    if value is None:
        return ()
    keys = tuple(key for each in given if (key := checked_key(each, option)) is not None)
    if len(keys) < len(given) or not keys:
        raise ConfigurationError(
            f"{option}= takes one secret of at least 16 bytes, or a list of them, newest first."
        )
    return keys


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
