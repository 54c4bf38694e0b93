"""Dates in their forms.

Rule of this file: a date is found where a day and a month, or a month and a year, stand together;
which of the two numbers in 3/4 is the month nobody can tell, so that stays as it is.
"""

from __future__ import annotations

import re

MONTHS = "january february march april may june july august september october november december"
_NUMBERS = {name: number for number, name in enumerate(MONTHS.split(), 1)}
_NUMBERS |= {name[:3]: number for name, number in list(_NUMBERS.items())} | {"sept": 9}

TRIGGERS = frozenset(_NUMBERS)
"""Words, in lower case, without one of which no month is named."""

_MONTH = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_DATE = re.compile(
    rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?[\s-](?P<month>{_MONTH})\b\.?"
    r"(?:[,\s-]+(?P<year>\d{4})\b)?"
    rf"|\b(?P<month2>{_MONTH})\b\.?\s+(?:the\s+)?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?![\w:]|[.,]\d)"
    r"(?:,?\s+(?P<year2>\d{4})\b)?"
    rf"|\b(?P<month3>{_MONTH})\b\.?,?\s+(?:of\s+)?(?P<year3>\d{{4}})\b",
    re.IGNORECASE,
)
_NUMERIC = re.compile(
    r"(?<![\w.-])(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})(?![\w-])"
    r"|(?<![\w.-])(?P<day2>\d{1,2})\.(?P<month2>\d{1,2})\.(?P<year2>\d{4})(?![\w])"
)


def take_dates(text: str, *, months_named: bool) -> tuple[str, list[str]]:
    """The text without its dates, and these as `2023-03-05`, `--03-05` or `2023-03`.

    Args:
        text: With numbers as digits.
        months_named: Whether a month's name is in it.
    """
    dates: list[str] = []

    def take(found: re.Match[str]) -> str:
        parts = {
            name[:-1] if name[-1] in "23" else name: value
            for name, value in found.groupdict().items()
            if value
        }
        month = parts["month"].lower()
        number = int(month) if month.isdigit() else _NUMBERS[month]
        day = int(parts.get("day", 0))
        if number > 12 or day > 31:
            return found[0]
        date = f"{parts.get('year', '-')}-{number:02}"
        dates.append(f"{date}-{day:02}" if day else date)
        return " "

    if "-" in text or text.count(".") > 1:
        text = _NUMERIC.sub(take, text)
    if months_named:
        text = _DATE.sub(take, text)
    return text, dates
