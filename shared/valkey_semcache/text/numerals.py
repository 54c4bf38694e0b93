"""Numbers written as words or Roman numerals, as digits.

Rule of this file: text in, text out. What may be no number stays as it is: "one" and "a second"
are everyday words, a single I is a pronoun.
"""

from __future__ import annotations

import re

from valkey_semcache.text.units import UNITS

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_UNITS += " fifteen sixteen seventeen eighteen nineteen"
_VALUES = {word: value for value, word in enumerate(_UNITS.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12, "dozen": 12}
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINALS += " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
_ORDINAL_VALUES = {word: value for value, word in enumerate(_ORDINALS.split(), 1)}
_ORDINAL_VALUES |= {word[:-1] + "ieth": _VALUES[word] for word in _TENS.split()}
_SPELLED = frozenset((*_VALUES, *_SCALES, *_ORDINAL_VALUES))
_TIMES = {"twice": "2", "thrice": "3"}


def _roman(value: int) -> str:
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")[value % 10]
    return "X" * (value // 10) + ones


_ROMAN = {_roman(value): str(value) for value in range(2, 40) if value not in (5, 10)}
# In lower case "vi", "xi" and the like are words of their own.
_LOWER_ROMAN = {roman.lower(): digits for roman, digits in _ROMAN.items() if "II" in roman}

TRIGGERS = frozenset((*_SPELLED, *_TIMES, *map(str.lower, _ROMAN), "ww", "wwi", "wwii", "war"))
"""Words, in lower case, without one of which a text holds no number in words."""

_WORDS = re.compile(r"([^\W\d_]+)")
_COUNT = re.compile(r"\s(\d+(?:,\d{3})*(?:\.\d+)?)[\s-]$")
# After these "second" is a time; only after the others is "first" one of several.
_NOT_SECOND = frozenset(("per", "a", "each", "one", "this", "every", "split"))
_BEFORE_FIRST = frozenset(("the", "my", "your", "his", "her", "its", "our", "their", "s", "very"))
_NOT_FIRST = frozenset(("name", "names", "aid", "hand", "time"))
# A capital at the start of a question makes no name.
_OPENERS = "The An A Is Are Does Do Can What Which How When Why My Where Who"
_NO_NAME = frozenset(_OPENERS.split(" "))

_WORLD_WAR = re.compile(r"\b(?:world war|ww) ?(i{1,2}|one|two|1|2)(?!\w)", re.IGNORECASE)
_NTH_WORLD_WAR = re.compile(r"\b([12])(?:st|nd|th) world war\b", re.IGNORECASE)
_WAR_NUMBERS = {"i": "1", "ii": "2", "one": "1", "two": "2", "1": "1", "2": "2"}


def as_digits(text: str, words: frozenset[str]) -> str:
    """`text` with its numbers in digits: "twenty-five" as 25, "second" as 2th, "Henry VIII" as
    Henry 8, "2.5 million" as 2500000.

    Args:
        text: Any text.
        words: Its words in lower case.
    """
    war = not words.isdisjoint(("war", "ww", "wwi", "wwii"))
    if war:
        text = _WORLD_WAR.sub(lambda found: f"world war {_WAR_NUMBERS[found[1].lower()]}", text)
    parts = _WORDS.split(f" {text}")  # separators at even places, words at odd ones
    place = 1
    while place < len(parts):
        word = parts[place]
        lower = word.lower()
        if lower in _SPELLED:
            place = _spelled(parts, place)
        elif lower in _TIMES:
            parts[place] = _TIMES[lower]
        elif word in _ROMAN and _after_name(parts, place):
            parts[place] = _ROMAN[word]
        elif word in _LOWER_ROMAN and place > 1 and parts[place - 1] == " ":
            parts[place] = _LOWER_ROMAN[word]
        place += 2
    text = "".join(parts)
    return _NTH_WORLD_WAR.sub(r"world war \1", text) if war else text


def _after_name(parts: list[str], place: int) -> bool:
    before = parts[place - 2] if place > 1 and parts[place - 1] == " " else ""
    return before[:1].isupper() and before not in _NO_NAME


def _spelled(parts: list[str], place: int) -> int:
    """Replace the run of number words that begins here; the place of its last word."""
    words, last, left = [parts[place].lower()], place, parts[place - 1]
    while last + 2 < len(parts) and parts[last + 1] in (" ", "-"):
        following = parts[last + 2].lower()
        if following in _SPELLED:
            last += 2
            words.append(following)
        elif following == "and" and last + 4 < len(parts) and parts[last + 3] == " ":
            if parts[last + 4].lower() not in _SPELLED:
                break
            last += 4
            words += ["and", parts[last].lower()]
        else:
            break
    after = parts[last + 2].lower() if last + 2 < len(parts) else ""
    if words[-1] == "second" and _is_time(parts, place, words):
        words.pop()
        last -= 2
    if not words:
        return place  # "a second"
    if words == ["one"] and after not in UNITS and last == place:
        return last
    before = parts[place - 2].lower() if place > 1 else ""
    if words == ["first"] and (before not in _BEFORE_FIRST or after in _NOT_FIRST):
        return last
    if len(words) == 1 and words[0] in _SCALES and not (before == "a" or _COUNT.search(left)):
        return last  # "several thousand"
    _replace(parts, place, last, words)
    return last


def _replace(parts: list[str], place: int, last: int, words: list[str]) -> None:
    """Put the numbers of some words where these stood."""
    counted = _COUNT.search(parts[place - 1]) if words[0] in _SCALES else None
    if counted is not None and words[0] != "dozen":
        number = _scaled(counted[1], _SCALES[words[0]])
        parts[place - 1] = parts[place - 1][: counted.start(1)]
        numbers = [number, *_numbers(words[1:])]
    else:
        numbers = _numbers(words)
    parts[place : last + 1] = [" ".join(numbers)] + [""] * (last - place)


def _is_time(parts: list[str], place: int, words: list[str]) -> bool:
    if len(words) > 1:
        return words[-2] not in _TENS.split()
    before = parts[place - 2].lower() if place > 1 else ""
    return before in _NOT_SECOND or any(char.isdigit() for char in parts[place - 1])


def _scaled(number: str, scale: int) -> str:
    """A number in digits times a power of ten."""
    whole, _, part = number.replace(",", "").partition(".")
    zeros = len(str(scale)) - 1
    if len(part) > zeros:
        return f"{int(whole + part[:zeros])}.{part[zeros:]}"
    return str(int(whole + part.ljust(zeros, "0")))


def _numbers(words: list[str]) -> list[str]:
    """The numbers that a run of number words spells, ordinals with "th"."""
    numbers: list[str] = []
    total = current = 0
    fresh = True  # nothing of the number at hand has been read

    def done(ending: str = "") -> None:
        nonlocal total, current, fresh
        if not fresh:
            numbers.append(f"{total + current}{ending}")
        total, current, fresh = 0, 0, True

    for word in words:
        if word == "and":
            if current % 100:
                done()
        elif word in _SCALES:
            scale = _SCALES[word]
            if scale <= 100:
                if current > 99:
                    done()
                current = max(current, 1) * scale
            else:
                total, current = total + max(current, 1) * scale, 0
            fresh = False
        else:
            ordinal = word in _ORDINAL_VALUES
            value = _ORDINAL_VALUES[word] if ordinal else _VALUES[word]
            year = 10 < current <= 20 and value > 9 and not total  # nineteen eighty-four
            tens = current % 100 >= 20 and not current % 10 and value < 10
            if year:
                current *= 100
            elif not (fresh or tens or current % 100 == 0) or not value:
                done()
            current, fresh = current + value, False
            if ordinal:
                done("th")
    done()
    return numbers
