"""Whether two questions that look alike ask for the same thing.

Rule of this file: two texts in, a reason or None out; no I/O and no model. A guard sees only what
is already at hand, the asked question and the stored one, and says what it saw in words. The
words that guards go by are English; in other languages they let everything pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.precision import polarity, word_order
from valkey_semcache.precision.words import Words, word_set
from valkey_semcache.text.dates import MONTHS
from valkey_semcache.text.units import LONE, unit_of

Guard: TypeAlias = Callable[[str, str], str | None]
"""From the asked question and the stored one to why they are not the same, or None."""

DEFAULT = ("polarity", "order", "dates", "units")
"""The guards of a cache that is not told which."""

_DAYS = word_set("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = word_set(MONTHS)
_SEASONS = word_set("spring summer autumn fall winter")
_UNCERTAIN = word_set("may march spring fall")  # also everyday words: only after one of these
_BEFORE_DATE = word_set("in by until till since last next this early late mid during every")
_RELATIVE = word_set("today tomorrow yesterday tonight")
_SPAN = re.compile(r"\b(this|next|last|previous|past|coming)\s(week|month|year|quarter|weekend)\b")
_SPAN_AS = {"previous": "last", "past": "last", "coming": "next"}
_TIME_OF_DAY = word_set("morning afternoon evening night noon midnight")
_SPANS = word_set("this next last previous past coming")
# Without one of these there is no date.
_OF_DATES = _MONTHS | _SEASONS | _RELATIVE | _SPANS | _DAYS | _TIME_OF_DAY
_OF_DATES |= {f"{word}s" for word in _DAYS | _TIME_OF_DAY}


def dates(asked: Words, stored: Words) -> str | None:
    """Other weekdays, months, seasons, or days relative to now; or such against none."""
    if _OF_DATES.isdisjoint(asked.lower) and _OF_DATES.isdisjoint(stored.lower):
        return None
    named, others = _dates(asked), _dates(stored)
    if named == others:
        return None
    return f"{_listed(named - others) or 'no date'} is not {_listed(others - named) or 'no date'}"


def units(asked: Words, stored: Words) -> str | None:
    """Other units without a number beside them: "in miles", "in kilometres"."""
    if LONE.isdisjoint(asked.lower) or LONE.isdisjoint(stored.lower):
        return None
    named, others = _units(asked), _units(stored)
    if named - others and others - named:
        return f"{_listed(named - others)} is not {_listed(others - named)}"
    return None


def names(asked: Words, stored: Words) -> str | None:
    """Other proper names, which are told by a capital inside a sentence."""
    mine = _names(asked) - frozenset(stored.lower)
    others = _names(stored) - frozenset(asked.lower)
    if mine and others:
        return f"{_listed(mine)} is not {_listed(others)}"
    return None


_GUARDS: dict[str, Callable[[Words, Words], str | None]] = {
    "polarity": polarity.changed,
    "order": word_order.changed,
    "dates": dates,
    "units": units,
    "names": names,
}


# Words that ask, and say nothing of what is asked for: but for `names`, which goes by capitals
# ("terminal A"), they are nothing to any guard.
_MANNERS = word_set("please tell show give explain me can could would you i the a an")
# Where one of these stands, what stands beside it counts too.
_SEEN = polarity.NEGATIONS | _OF_DATES | LONE


class Guards:
    """Some guards, asked in turn.

    Args:
        chosen: Names of the cache's own guards, and functions of the app's.
    """

    def __init__(self, chosen: Sequence[str | Guard]) -> None:
        self._own = tuple((name, _GUARDS[name]) for name in chosen if isinstance(name, str))
        self._always = tuple((name, guard) for name, guard in self._own if guard is names)
        self._given = tuple(guard for guard in chosen if not isinstance(guard, str))

    def __bool__(self) -> bool:
        return bool(self._own or self._given)

    def refusal(self, asked: str, stored: str | None) -> str | None:
        """Why the answer to `stored` does not answer `asked`, with the guard's name; or None.

        Args:
            asked: The question at hand.
            stored: The candidate's; None if its text was not kept.
        """
        if stored is None:
            return "its question is not kept (store_questions=False), so no guard can read it"
        if self._own:
            mine, other = Words(asked), Words(stored)
            for name, guard in self._always if _ask_the_same(mine, other) else self._own:
                if reason := guard(mine, other):
                    return f"{name}: {reason}"
        for given in self._given:
            if reason := given(asked, stored):
                return f"{getattr(given, '__name__', type(given).__name__)}: {reason}"
        return None


def _ask_the_same(asked: Words, stored: Words) -> bool:
    """Whether two questions differ in the manner of asking only, so that no guard but `names` sees
    anything.

    Most that are found do; the guards take ten times as long.
    """
    mine = [word for word in asked.lower if word not in _MANNERS]
    other = [word for word in stored.lower if word not in _MANNERS]
    return mine == other and _SEEN.isdisjoint(mine)


def checked_guards(value: object, store_questions: bool) -> Guards:
    """The guards that an option names; None for the default ones, where questions are kept.

    Raises:
        ConfigurationError: One is not known, or there are no questions for them to read.
    """
    if value is None:
        return Guards(DEFAULT if store_questions else ())
    known = ", ".join(repr(name) for name in _GUARDS)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(
            f"guards={value!r} is not allowed: it takes a list of {known} and functions of two "
            "questions; () for none."
        )
    chosen = tuple(value)
    for guard in chosen:
        if not callable(guard) and not (isinstance(guard, str) and guard in _GUARDS):
            raise ConfigurationError(
                f"guards= does not know {guard!r}: it takes {known}, and functions of the asked "
                "question and the stored one that return a reason, or None."
            )
    if chosen and not store_questions:
        raise ConfigurationError(
            f"guards={value!r} and store_questions=False exclude each other: a guard reads the "
            "stored question. Keep the questions, or give guards=()."
        )
    return Guards(chosen)


def _dates(text: Words) -> frozenset[str]:
    found = set()
    for place, word in enumerate(text.lower):
        singular = word[:-1] if word.endswith("s") else word
        if singular in _DAYS or word in _RELATIVE or singular in _TIME_OF_DAY:
            found.add(singular if singular in _DAYS or singular in _TIME_OF_DAY else word)
        elif (word in _MONTHS or word in _SEASONS) and _is_date(text, place):
            found.add("autumn" if word == "fall" else word)
    spans = _SPAN.findall(" ".join(text.lower))
    return frozenset(found | {f"{_SPAN_AS.get(which, which)} {span}" for which, span in spans})


def _is_date(text: Words, place: int) -> bool:
    word = text.lower[place]
    if word not in _UNCERTAIN:
        return True
    if place and text.lower[place - 1] in _BEFORE_DATE:
        return True
    capital = text.words[place][0].isupper() and not text.opens[place]
    return capital and word in _MONTHS


def _units(text: Words) -> frozenset[str]:
    found = set()
    for place, word in enumerate(text.lower):
        if word in LONE:
            following = text.lower[place : place + 3]
            per_hour = following[:2] == ["km", "h"]
            found.add("km/h" if per_hour else unit_of(following))
    return frozenset(found)


def _names(text: Words) -> frozenset[str]:
    return frozenset(
        word.lower()
        for place, word in enumerate(text.words)
        if word[0].isupper() and not text.opens[place] and word.lower() not in _NO_NAMES
    )


_NO_NAMES = _DAYS | _MONTHS | {f"{day}s" for day in _DAYS} | {"i"}


def _listed(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in sorted(words))
