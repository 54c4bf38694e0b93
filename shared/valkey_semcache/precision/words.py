"""A text as words, for what compares two questions.

Rule of this file: words as they stand, in lower case, and without their endings. What a word means
is decided elsewhere.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?:\n\"“]\s*$")
_CONTRACTION = re.compile(r"['’]|cannot", re.IGNORECASE)
_CONTRACTED = {"can't": "can", "cannot": "can", "won't": "will", "shan't": "shall", "ain't": "is"}
_ASCII = "".join(map(chr, range(128)))
_APART = "".join(sign if _WORD.fullmatch(sign) else " " for sign in _ASCII)  # for `translate`
_ENDINGS = ("ing", "ies", "ied", "es", "ed", "s", "e", "y")


def word_set(words: str) -> frozenset[str]:
    """The words of a list with blanks between them."""
    return frozenset(words.split())


class Words:
    """The words of one text.

    Args:
        text: Any text.
    """

    __slots__ = ("_opens", "_stem_set", "_stems", "_words", "lower", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._words: list[str] | None = None
        self._opens: list[bool] | None = None
        self._stems: list[str] | None = None
        self._stem_set: frozenset[str] | None = None
        lower = text.lower()
        if text.isascii() and "'" not in lower and "cannot" not in lower:
            self.lower = lower.translate(_APART).split()  # a fifth of what a pattern takes
        else:
            self.lower = [word.lower() for word in self.words]

    @property
    def words(self) -> list[str]:
        """The words as they stand."""
        if self._words is None:
            self._words = _WORD.findall(self.text)
            if _CONTRACTION.search(self.text):
                self._words = [part for word in self._words for part in _parts(word)]
        return self._words

    @property
    def opens(self) -> list[bool]:
        """Whether each word opens a sentence."""
        if self._opens is None:
            opens: list[bool] = []
            end = 0
            for match in _WORD.finditer(self.text):
                first = not opens or bool(_SENTENCE_END.search(self.text, end, match.start()))
                end = match.end()
                opens += (first, *(False for _ in _parts(match[0])[1:]))
            self._opens = opens
        return self._opens

    @property
    def stems(self) -> list[str]:
        """The words without their endings."""
        if self._stems is None:
            self._stems = [stem(word) for word in self.lower]
        return self._stems

    @property
    def stem_set(self) -> frozenset[str]:
        """The same, each once."""
        if self._stem_set is None:
            self._stem_set = frozenset(self.stems)
        return self._stem_set


def _parts(word: str) -> tuple[str, ...]:
    """A contracted word as what it stands for: "don't" as do, not; "what's" as what, is."""
    if "'" not in word and "’" not in word and word.lower() != "cannot":
        return (word,)
    plain = word.replace("’", "'")
    known = _CONTRACTED.get(plain.lower())
    if known is not None:
        return known.capitalize() if word[0].isupper() else known, "not"
    if plain.lower().endswith("n't"):
        return plain[:-3], "not"
    head, _, tail = plain.partition("'")
    return (head,) if tail.lower() in ("s", "ll", "re", "ve", "d", "m") else (plain,)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A word in lower case without its ending, so that "enables" and "enabling" are one.

    Not a linguist's stem: it only has to be the same for the forms of one word.
    """
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word
