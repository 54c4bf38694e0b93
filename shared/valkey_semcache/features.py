"""What in a question must match to the letter, whatever the similarity says.

Rule of this file: text in, a tuple of strings out; two questions whose tuples differ never
meet. Finding too much costs a hit, finding too little costs a wrong answer.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_FENCED = re.compile(r"```(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"'`)]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
# A single quote opens only where no letter precedes it: "don't" and "dogs'" quote nothing.
_QUOTED = re.compile(
    r'"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」'
    r"|(?<!\w)‘([^’]+)’|(?<!\w)'([^'\n]+)'(?!\w)"
)
_QUOTE = re.compile("[\"“„«「‘']")
_DIGIT = re.compile(r"\d")
# A sign belongs to a number unless something stands right before it ("2020-2024", "covid-19").
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])-)?(?:(?<![\w.,])[.,]\d+|\d+)(?:[.,:/]\d+)*(?:%|[kKmMbB](?!\w))?"
)
# What stands between or before numbers and changes what they say.
_OPERATOR = re.compile(r"[+*<>=^$€£¥]|(?<=\d)\s*[-–]\s*(?=\d)")
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def exact_features(text: str) -> tuple[str, ...]:
    """The numbers, quotations, links, code and script of `text`, labelled and in order.

    Full-width digits and the like are read as what they stand for (Unicode NFKC); a grouped
    number counts as the plain one ("1,000" as "1000").
    """
    plain, scripts = text, tuple[str, ...]()
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
        scripts = _scripts(plain)
    found = [f"script:{name}" for name in scripts]
    if "`" in text:
        found += [f"code:{code}" for code in _FENCED.findall(text)]
        found += [f"code:{code}" for code in _INLINE.findall(_FENCED.sub(" ", text))]
    # Each pattern is tried only where a character stands without which it cannot match: most
    # questions have none of them, and every look-up waits for this.
    if "@" in plain or "://" in plain or "www." in plain.lower():
        found += [f"link:{link}" for link in _LINK.findall(plain)]
    if _QUOTE.search(text):
        for groups in _QUOTED.findall(text):
            found += [f"quoted:{quoted}" for quoted in groups if quoted]
    if _DIGIT.search(plain) and (numbers := _NUMBER.findall(plain)):
        found += [f"number:{_canonical(number)}" for number in numbers]
        found += [f"operator:{operator.strip()}" for operator in _OPERATOR.findall(plain)]
    return tuple(found)


def _canonical(number: str) -> str:
    """A number as ASCII digits, without thousands separators."""
    if not number.isascii():
        number = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in number)
    return number.replace(",", "") if _GROUPED.fullmatch(number) else number


def _scripts(text: str) -> tuple[str, ...]:
    """The scripts a text is written in, other than Latin; empty for Latin alone.

    Latin beside another script does not count: a product's name inside a Russian question
    does not make it another kind of question. Japanese is one script, its kanji included.
    """
    names = {_script(char) for char in text if char.isalpha()} - {"", "LATIN"}
    if names & {"HIRAGANA", "KATAKANA"}:
        names = (names - {"HIRAGANA", "KATAKANA", "CJK"}) | {"JAPANESE"}
    if "HANGUL" in names:
        names.discard("CJK")
    return tuple(sorted(names))


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """First word of a letter's Unicode name, which for letters is the script."""
    return unicodedata.name(char, "").partition(" ")[0]
