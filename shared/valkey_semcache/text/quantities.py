"""Numbers with what makes them another number: sign, unit, currency, a letter, an operator.

Rule of this file: two spellings of one quantity give one string, two quantities two.
"""

from __future__ import annotations

import re
import unicodedata

from valkey_semcache.text import dates, numerals
from valkey_semcache.text.units import UNITS, unit_of

_NUMBER = re.compile(r"[0-9]+(?:[.,:/][0-9]+)*")
_MONEY = re.compile(
    r"(?:(?<!\w)(?:US|CA?|AU?)?\$|[€£¥₹]"
    r"|(?<!\w)(?:USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY|SEK|DKK|NOK|PLN))\s?$"
)
_LETTER = re.compile(r"(?<![^\W_])([A-UW-Za-uw-z])-?$")  # B12, A4; not v2, which is version 2
_HALF = re.compile(r"\s?([aApP])\.?[mM](?!\w)")
_TAIL = re.compile(
    r"\s?(%|°\s?[CFcf]?(?!\w))|([A-Za-zµ]+(?:/[a-z]+)?)(?!\w)"
    r"|[\s-]+([A-Za-zµ]+(?:/[a-z]+)?)(?:[\s-]([A-Za-z]+))?(?:[\s-]([A-Za-z]+))?"
)
_SIGN = re.compile(r"[-–+*^=<>!×÷≤≥/]=?")
_OPERATOR_WORDS = frozenset(("plus", "minus", "times", "multiplied", "divided", "x"))
_OPERATOR_WORD = re.compile(r"(?<=\d\s)(?:x|plus|minus|times|(?:multiplied|divided) by)(?=\s\d)")
_OPERATORS_AS = {
    "x": "*",
    "plus": "+",
    "minus": "-",
    "–": "-",
    "times": "*",
    "multiplied by": "*",
    "×": "*",
    "divided by": "/",
    "÷": "/",
    "==": "=",
    "≤": "<=",
    "≥": ">=",
}
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL_COMMA = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d+,\d{1,2}")
_TIME = re.compile(r"(\d{1,2})[:.](\d\d)")
_COMPARED = frozenset("0123456789.-$€£")
_OPERANDS = frozenset("0123456789($€£-")
_AM_PM = frozenset("aApP")
_SLASHED = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}")
_SCALES = {"k": 3, "K": 3, "M": 6, "B": 9, "b": 9, "bn": 9}
_ORDINAL = frozenset(("st", "nd", "rd", "th"))
# Letters that are units after a blank, too.
_SHORT = frozenset(("m", "g", "l", "s", "h", "t", "w", "v", "c", "f"))

# Blanks that only ever stand inside a number.
_NARROW = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")


def joined(text: str) -> str:
    """`text` without the narrow blanks that group digits; before NFKC makes them blanks."""
    return _NARROW.sub("", text)


def quantities(text: str, words: frozenset[str]) -> list[str]:
    """The dates, times, quantities and operators of a text, labelled.

    Args:
        text: In Unicode NFKC.
        words: Its words in lower case.
    """
    if not text.isascii():
        text = "".join([_ascii(char) for char in text])
    if not numerals.TRIGGERS.isdisjoint(words):
        text = numerals.as_digits(text, words)
    text, found_dates = dates.take_dates(text, months_named=not dates.TRIGGERS.isdisjoint(words))
    found = [f"date:{date}" for date in found_dates]
    found += [_labelled(text, match) for match in _NUMBER.finditer(text)]
    signs = [match[0] for match in _SIGN.finditer(text) if _is_operator(text, match)]
    if not _OPERATOR_WORDS.isdisjoint(words):
        signs += _OPERATOR_WORD.findall(text)
    found += [f"operator:{_OPERATORS_AS.get(sign, sign)}" for sign in signs]
    return found


def _is_operator(text: str, match: re.Match[str]) -> bool:
    """Whether a sign stands between numbers, parentheses or single letters, as in "5 + x"."""
    sign, (start, end) = match[0], match.span()
    right = text[end : end + 3]
    after = right.lstrip()
    if sign[0] in "<>≤≥" and after[:1] in _COMPARED:
        return True
    letter = after[:1].isalpha() and not after[1:2].isalpha()
    if not (after[:1] in _OPERANDS or letter or (after[:1] == "." and after[1:2].isdigit())):
        return False
    # A range, a date, a fraction or a hyphen: "2020-2024", "1/2", "B-12".
    if sign in ("-", "–", "/") and right == after and (sign == "/" or not after[0].isalpha()):
        return False
    left = text[max(0, start - 3) : start].rstrip()
    if not left[-1:].isalpha():
        return left[-1:] == ")" or left[-1:].isdigit()
    return not left[-2:-1].isalpha()


def _ascii(char: str) -> str:
    """A decimal digit of any script as ASCII; the fraction slash as a slash."""
    if char > "9" and char.isdecimal():
        return str(unicodedata.decimal(char))
    return "/" if char == "\u2044" else char


def _labelled(text: str, match: re.Match[str]) -> str:
    """A number with what stands around it."""
    number, (start, end) = match[0], match.span()
    if ":" in number or text[end : end + 4].lstrip()[:1] in _AM_PM:
        half = _HALF.match(text, end)
        if half is not None or _TIME.fullmatch(number):
            return f"time:{_clock(number, half[1].lower() if half else '')}"
    sign, money, letter, point = _before(text, start) if start else ("", "", "", "")
    number = _canonical(point + number)
    tail = _TAIL.match(text, end)
    if tail is None:
        unit = ""
    elif tail[3]:
        unit = _unit_after(tail)
    else:
        unit = (tail[1] or tail[2]).replace(" ", "")
        if unit in _SCALES and _is_plain(number):
            number, unit = _shifted(number, _SCALES[unit]), ""
            if not money and (following := _TAIL.match(text, tail.end())) and following[3]:
                unit = _unit_after(following)
        elif unit in _ORDINAL:
            unit = "th"
        else:
            unit = unit.lower()
            unit = UNITS.get(f"°{unit}" if unit in ("c", "f") else unit, unit)
    unit = money or unit
    return f"number:{sign}{letter}{number}{' ' if unit else ''}{unit}"


def _before(text: str, start: int) -> tuple[str, str, str, str]:
    """Sign, currency, letter and decimal point right before a number, each "" if there is none."""
    sign = money = letter = point = ""
    last = text[start - 1]
    if last in ".," and not (start > 1 and (text[start - 2].isalnum() or text[start - 2] in ".,")):
        point, start = last, start - 1
        last = text[start - 1 : start]
    around = text[max(0, start - 6) : start]
    if not last:
        return sign, money, letter, point
    if found := _MONEY.search(around):
        money = UNITS[found[0].strip().lower()]
        start -= len(found[0])
        last = text[start - 1 : start] if start else ""
    elif found := _LETTER.search(around):
        return sign, money, found[1].lower(), point
    # "2020-2024" and "covid-19" have no sign.
    if last == "-" and not (start > 1 and (text[start - 2].isalnum() or text[start - 2] in ")]_")):
        sign = "-"
    return sign, money, letter, point


def _unit_after(tail: re.Match[str]) -> str:
    """The unit that the next words name."""
    words = [word.lower() for word in tail.group(3, 4, 5) if word]
    if len(words[0]) == 1:
        if words[0] not in _SHORT:
            return ""
        words[0] = f"°{words[0]}" if words[0] in ("c", "f") else words[0]
    return unit_of(words)


def _clock(number: str, half: str) -> str:
    hours, _, minutes = number.replace(".", ":").partition(":")
    hour = int(hours) if hours.isdigit() else 0
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return f"{hour:02}:{minutes or '00'}"


def _canonical(number: str) -> str:
    """Without thousands separators, with a decimal point and a digit before it."""
    if _GROUPED.fullmatch(number):
        number = number.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(number):
        number = number.replace(".", "").replace(",", ".")
    elif _SLASHED.fullmatch(number):
        number = "/".join(part.lstrip("0") or "0" for part in number.split("/"))
    return "0" + number if number[0] in ".," else number


def _is_plain(number: str) -> bool:
    return number.count(".") < 2 and number.replace(".", "").isdigit()


def _shifted(number: str, places: int) -> str:
    """A number times a power of ten."""
    whole, _, part = number.partition(".")
    if len(part) > places:
        return f"{int(whole + part[:places])}.{part[places:]}"
    return str(int(whole + part.ljust(places, "0")))
