"""The guard against the same question the other way round: "from A to B", "from B to A".

Rule of this file: a changed order matters only where two things change sides of a word between
them. "A and B", "between B and A" are the same either way; so is what merely moves to the front.
"""

from __future__ import annotations

from valkey_semcache.precision.words import Words, word_set

_DIRECTED = word_set(
    "to from into onto in on than over before after by of as under above below for against "
    "through inside behind with per at without not instead via using until rather"
)
_SYMMETRIC = word_set(
    "and or vs versus between both distance far difference differences differ differs "
    "different compare compared comparison same similar equal equals equivalent combine mix "
    "together connect sync"
)
_STOPWORDS = word_set(
    "a an the is are was were be been do does did can could will would should shall may might "
    "must have has had i you he she it we they me my your his her its our their what which "
    "who whom whose how when where why that this these those there please and or so if s t am "
    "any some much many long get way best tell give show explain one"
)

_NEAR = 3  # things beside a word of direction that it may join


def changed(asked: Words, stored: Words) -> str | None:
    """Whether two things have changed places, and which."""
    mine, other = asked.stems, stored.stems
    if mine == other or ("by" in asked.lower) != ("by" in stored.lower):
        return None  # "A beat B" and "B was beaten by A" are the same
    my_set, other_set = asked.stem_set, stored.stem_set
    shared = my_set & other_set
    differing = len(my_set) + len(other_set) - 2 * len(shared)
    if 2 * differing > len(shared):
        return None
    if _shared_things(asked, shared) == _shared_things(stored, shared):
        return None  # all in their places
    if not _SYMMETRIC.isdisjoint(asked.lower + stored.lower):
        return None
    framed, framed_there = _frames(asked), _frames(stored)
    if framed is not None and framed_there is not None and framed == framed_there[::-1]:
        return _told(asked, *framed)
    same_words = sorted(mine) == sorted(other)
    for place, pivot in enumerate(asked.lower):
        directed = pivot in _DIRECTED
        if pivot not in stored.lower or not (directed or (same_words and pivot not in _STOPWORDS)):
            continue
        found = _crossed(asked, stored, place, directed)
        if found is not None:
            return _told(asked, *found)
    return None


def _shared_things(text: Words, shared: frozenset[str]) -> list[str]:
    """What both texts have, in its order, without stopwords."""
    return [
        stem
        for word, stem in zip(text.lower, text.stems, strict=True)
        if stem in shared and word not in _STOPWORDS
    ]


def _told(asked: Words, one: str, other: str) -> str:
    first, second = (asked.lower[asked.stems.index(stem)] for stem in (one, other))
    return f"{first!r} and {second!r} have changed places"


def _crossed(asked: Words, stored: Words, place: int, directed: bool) -> tuple[str, str] | None:
    """Two things that stand on other sides of a word; near it, if it is one of direction."""
    left, right = _sides(asked, place, directed)
    pivot = asked.lower[place]
    for there, word in enumerate(stored.lower):
        if word != pivot:
            continue
        left_there, right_there = _sides(stored, there, directed)
        here, away = set(left) & set(right), set(left_there) & set(right_there)
        to_right = [word for word in left if word in right_there and word not in here | away]
        to_left = [word for word in right if word in left_there and word not in here | away]
        if to_right and to_left:
            return to_right[-1], to_left[0]
    return None


def _sides(text: Words, place: int, directed: bool) -> tuple[list[str], list[str]]:
    """What stands left and right of a word: without stopwords, up to the next word of direction."""
    start, end = 0, len(text.lower)
    if directed:
        for before in range(place - 1, -1, -1):
            if text.lower[before] in _DIRECTED:
                start = before + 1
                break
        for after in range(place + 1, len(text.lower)):
            if text.lower[after] in _DIRECTED:
                end = after
                break
    left, right = _things(text, start, place), _things(text, place + 1, end)
    return (left[-_NEAR:], right[:_NEAR]) if directed else (left, right)


def _things(text: Words, start: int, end: int) -> list[str]:
    return [
        text.stems[place]
        for place in range(start, end)
        if text.lower[place] not in _STOPWORDS and text.lower[place] not in _DIRECTED
    ]


def _frames(text: Words) -> tuple[str, str] | None:
    """What follows "from" and what follows "to", if each stands there once."""
    if text.lower.count("from") != 1 or text.lower.count("to") != 1:
        return None
    places = text.lower.index("from"), text.lower.index("to")
    found = []
    for place in places:
        things = _things(text, place + 1, len(text.lower))
        if not things:
            return None
        found.append(things[0])
    return found[0], found[1]
