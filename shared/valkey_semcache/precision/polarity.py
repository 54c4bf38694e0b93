"""The guard against the opposite question: "with eggs" and "without eggs".

Rule of this file: negations and opposites cancel each other, so "not possible" is "impossible".
A question that merely begins in the negative ("Isn't it …?") is no opposite.
"""

from __future__ import annotations

import re

from valkey_semcache.precision.words import Words, stem, word_set

NEGATIONS = word_set(
    "not never without no none nobody nothing nowhere neither nor unable cant dont doesnt "
    "isnt wont didnt non"
)
# What may say the same as a negation: it neither counts as one, nor is its absence one.
_SOFT = frozenset(
    stem(word)
    for word in (
        *("absence", "omit", "omitting", "optional", "remove", "eliminate", "unlike"),
        *("fail", "declined", "stop", "refuse", "lack", "missing", "broken", "avoid", "deny"),
        *("free", "impossible", "except", "instead", "hardly", "wrong", "stuck", "rejected"),
        *("lost", "forgot", "exclude", "less", "against", "unless", "prevent"),
    )
)
# "I don't know how to …" asks how to; "Don't you …", "whether or not" deny nothing.
_WH = r" (?:how|what|where|why|when|who|whom|which|if|whether)\b"
_EMPTY = re.compile(
    r"\b(?:do|did|can|could) not (?:really |quite |yet )?"
    rf"(?:know|understand|remember|see|figure out|tell){_WH}"
    rf"|\bnot (?:quite |really )?sure{_WH}"
    rf"|\bno (?:idea|clue){_WH}"
    r"|\b(?:(?:do not|never) forget|or not|not only|why not|if not|no matter|no one)\b"
)
_OPENS_IN_THE_NEGATIVE = re.compile(
    r"^(?:is|are|was|were|does|did|has|have|could|would|should) not [a-z]"
)
_PREFIXES = ("un", "dis", "in", "im", "il", "ir", "non", "de", "mis", "anti")
# words that only look like a prefix and another word
_NOT_PREFIXED = word_set(
    "inform informed invest increase income into inside intent inquire discover discount "
    "display dispatch discuss disease distance under until union unit united import impress "
    "improve impact imply depart deliver decide describe design demand depend derive detail "
    "install input index indeed instead internet internal include de press port part inland "
    "inlay intend tend instill insure illness missing mission mister antique inset incline "
    "deface disposed"
)
_NOT_PREFIXED_STEMS = frozenset(stem(word) for word in _NOT_PREFIXED)
_PAIRS = (
    *("enable disable", "activate deactivate", "increase decrease", "rise fall", "raise lower"),
    *("include exclude", "import export", "upload download", "buy sell", "before after"),
    *("above below", "more less", "more fewer", "most least", "maximum minimum", "max min"),
    *("highest lowest", "largest smallest", "biggest smallest", "longest shortest", "best worst"),
    *("fastest slowest", "oldest youngest", "oldest newest", "first last", "start stop"),
    *("begin end", "open close", "push pull", "encode decode", "encrypt decrypt", "true false"),
    *("allowed forbidden", "legal illegal", "safe dangerous", "advantage disadvantage"),
    *("pros cons", "arrival departure", "arrive depart", "win lose", "gain lose", "lend borrow"),
    *("deposit withdraw", "send receive", "accept reject", "accept decline", "add remove"),
    *("add delete", "show hide", "hot cold", "warm cold", "cheap expensive", "cheapest dearest"),
    *("easy difficult", "easy hard", "early late", "earliest latest", "left right", "up down"),
    *("inbound outbound", "internal external", "compress decompress", "follow unfollow", "on off"),
    *("even odd", "positive negative", "input output", "hire fire", "love hate", "like dislike"),
    *("better worse", "higher lower", "faster slower", "older younger", "older newer"),
    *("bigger smaller", "larger smaller", "longer shorter", "cheaper dearer", "male female"),
    *("men women", "man woman", "boys girls", "boy girl", "north south", "east west"),
    *("public private", "lock unlock"),
)
_OPPOSITES: dict[str, set[str]] = {}
for _pair in _PAIRS:
    _one, _other = (stem(_word) for _word in _pair.split())
    _OPPOSITES.setdefault(_one, set()).add(_other)
    _OPPOSITES.setdefault(_other, set()).add(_one)


def changed(asked: Words, stored: Words) -> str | None:
    """Whether one question is the opposite of the other, and by which words."""
    mine, other = asked.stem_set, stored.stem_set
    only_mine, only_other = mine - other, other - mine
    if not only_mine and not only_other and asked.lower.count("not") == stored.lower.count("not"):
        return None
    nothing_denied = NEGATIONS.isdisjoint(asked.lower) and NEGATIONS.isdisjoint(stored.lower)
    if nothing_denied and not (only_mine and only_other):
        return None  # there are no two words to be opposites
    flips = _flips(only_mine, only_other)
    negated, negated_other = _negations(asked), _negations(stored)
    differs = bool(negated) != bool(negated_other)
    if differs and not flips and not _SOFT.isdisjoint(only_other if negated else only_mine):
        return None
    if differs == bool(len(flips) % 2):
        return None
    spelled = dict(zip(asked.stems + stored.stems, asked.lower + stored.lower, strict=True))
    seen = [f"{spelled[one]!r} against {spelled[two]!r}" for one, two in flips]
    if differs:
        words = " ".join(negated or negated_other)
        seen.append(f"{words!r} only {'in the question' if negated else 'in the stored one'}")
    return ", ".join(seen)


def _negations(text: Words) -> list[str]:
    if NEGATIONS.isdisjoint(text.lower):
        return []
    joined = " ".join(text.lower)
    if text.text[:3].lower() in ("no,", "no."):
        joined = joined[2:]
    if "not" in text.lower or "no" in text.lower:
        joined = _EMPTY.sub(" ", joined)
        joined = _OPENS_IN_THE_NEGATIVE.sub(" ", joined)
    return [word for word in joined.split() if word in NEGATIONS]


def _flips(only_mine: frozenset[str], only_other: frozenset[str]) -> list[tuple[str, str]]:
    """Words on one side that are the opposite of words on the other."""
    flips = []
    for word in only_mine:
        for opposite in _OPPOSITES.get(word, ()):
            if opposite in only_other:
                flips.append((word, opposite))
    flips += [(word, plain) for word, plain in _prefixed(only_mine, only_other)]
    flips += [(plain, word) for word, plain in _prefixed(only_other, only_mine)]
    return list(dict.fromkeys(flips))


def _prefixed(words: frozenset[str], plain: frozenset[str]) -> list[tuple[str, str]]:
    found = []
    for word in words:
        for prefix in _PREFIXES if word.startswith(_PREFIXES) else ():
            rest = word[len(prefix) :]
            if word.startswith(prefix) and rest in plain and word not in _NOT_PREFIXED_STEMS:
                found.append((word, rest))
    return found
