"""What in a question must match to the letter, whatever the similarity says.

Rule of this file: text in, a tuple of strings out; two questions whose tuples differ never
meet. Finding too much costs a hit, finding too little costs a wrong answer. Every look-up waits
for this, so each pattern is tried only where something stands without which it cannot match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.text import numerals
from valkey_semcache.text.quantities import joined, quantities

Features: TypeAlias = Callable[[str], Iterable[str]]
"""A function of the app's own: from a question's text to what must match to the letter in it."""

_FENCED = re.compile(r"```(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_ADDRESS = re.compile(
    r"(?:https?://|www\.)[^\s<>\"'`)]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE
)
_SITES = "com|org|net|edu|gov|io|dev|app|info|eu|uk|de|fr|es|it|nl|ch|at|jp|cn|in|br|ca|au|us"
_SITE = re.compile(
    rf"(?<![\w.@/-])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:{_SITES})(?![\w-])(?:/[^\s<>\"'`)]*)?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:https?://)?[^/?#]+", re.IGNORECASE)
# A single quote opens only where no letter precedes it: "don't" and "dogs'" quote nothing.
_QUOTED = re.compile(
    r'"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」'
    r"|(?<!\w)‘([^’]+)’|(?<!\w)'([^'\n]+)'(?!\w)"
)
_APOSTROPHE = re.compile(r"'(?<!\w')")
_DOTTED = re.compile(r"\w\.[A-Za-z]")
_FILE = re.compile(
    r"\b[\w-]+\.(?:py|ipynb|ts|tsx|json|ya?ml|toml|csv|tsv|txt|md|html?|css|sh|bat|exe|cfg|conf|ini"
    r"|env|log|sql|db|xml|pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|mp[34]|zip|tar|gz|cpp|hpp|rs|go"
    r"|java|kt|rb|php)\b"
)
# Code that nobody has marked as such: each pattern with what a text must hold to be tried on it.
_CODE_LIKE = (
    ("_", re.compile(r"\b\w+_\w+")),
    ("()", re.compile(r"\b[\w.]+(?=\(\))")),
    (" -", re.compile(r"(?<=\s)--?[A-Za-z][\w-]*")),
    ("/", re.compile(r"(?<![\w/.:])(?:~|\.{1,2})?/[\w.-]*\w(?:/[\w.-]*\w)*")),
    ("++", re.compile(r"(?<!\w)[A-Za-z]\+\+")),
    ("#", re.compile(r"(?<!\w)[A-Za-z]#(?!\w)")),
)
_DIGIT = re.compile(r"\d")
_ASCII_DIGIT = re.compile(r"[0-9]")
_BLANKS = {ord(char): " " for char in "\t\n\r.,;:!?()[]{}<>\"'`-/+*=%$&@#~^|\\_0123456789"}
_ASCII_BLANKS = bytes(ord(_BLANKS.get(code, chr(code))) for code in range(128)).ljust(256)


@lru_cache(maxsize=1024)  # a question is read at its look-up and at its store, and comes again
def exact_features(text: str) -> tuple[str, ...]:
    """The numbers, dates, quotations, links, code and script of `text`, labelled.

    Full-width digits and the like are read as what they stand for (Unicode NFKC). Spellings of
    one quantity are one: "1,000" and "1000", "5 km" and "5 kilometres", "two" and "2", "$100" and
    "100 USD", "5 March 2023" and "2023-03-05". Numbers count in their order; quotations, links and
    code in any, which the guard `order` looks after.
    """
    plain = text
    found: list[str] = []
    digit = _ASCII_DIGIT
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", joined(text)).replace("\u2212", "-")
        found += [f"script:{name}" for name in _scripts(plain)]
        digit = _DIGIT
    literals: set[str] = set()
    unlinked = plain
    if "." in plain or "@" in plain or "://" in plain:
        unlinked = _take_links(plain, literals)
    if "`" in text:
        literals.update(f"code:{code}" for code in _FENCED.findall(text))
        literals.update(f"code:{code}" for code in _INLINE.findall(_FENCED.sub(" ", text)))
    if '"' in text or ("'" in text and _APOSTROPHE.search(text)) or not text.isascii():
        for groups in _QUOTED.findall(text):
            literals.update(f"quoted:{quoted}" for quoted in groups if quoted)
    for sign, pattern in _CODE_LIKE:
        if sign in unlinked:
            literals.update(f"code:{code}" for code in pattern.findall(unlinked))
    found += sorted(literals)
    words = _words(plain)
    if digit.search(plain) or not numerals.TRIGGERS.isdisjoint(words):
        found += quantities(plain, frozenset(words))
    return tuple(found)


def checked_features(value: object) -> Features | None:
    """A function of a text, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"features={value!r} is not allowed: it takes a function from a question's text to a "
            "list of strings, or None."
        )
    return value


def own_features(function: Features, text: str) -> tuple[str, ...]:
    """What the app's function finds, labelled.

    Raises:
        ConfigurationError: It returned something else than strings.
    """
    values = function(text)
    found = (values,) if isinstance(values, str) else tuple(values)
    if isinstance(values, str) or not all(isinstance(value, str) for value in found):
        raise ConfigurationError(
            f"features= returned {values!r}; it must return a list of strings, which may be empty."
        )
    return tuple(f"own:{value}" for value in found)


def _words(text: str) -> list[str]:
    if text.isascii():  # bytes are translated three times as fast
        return text.lower().encode().translate(_ASCII_BLANKS).decode().split()
    return text.lower().translate(_BLANKS).split()


def _take_links(text: str, found: set[str]) -> str:
    """The text without its links, addresses and names of files, which are put into `found`."""

    def take(link: re.Match[str]) -> str:
        found.add(f"link:{_canonical_link(link[0])}")
        return " "

    if "@" in text or "://" in text or "www." in text.lower():
        text = _ADDRESS.sub(take, text)
    if _DOTTED.search(text):
        text = _SITE.sub(take, text)
        found.update(f"code:{name}" for name in _FILE.findall(text))
    return text


def _canonical_link(link: str) -> str:
    """A link without the sentence's own punctuation, its host in lower case."""
    link = link.rstrip(".,;:!?")
    host = _HOST.match(link)
    if host is not None and "@" not in link:
        link = host[0].lower() + link[host.end() :]
    return link.rstrip("/")


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
