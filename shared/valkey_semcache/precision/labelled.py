"""Labelled questions, read from CSV or JSONL.

Rule of this file: a file in, checked values out; what cannot be read is an error that names the
line, never a guess.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkey_semcache.errors import ConfigurationError

_YES = frozenset(("yes", "y", "true", "1", "same"))
_NO = frozenset(("no", "n", "false", "0", "different"))
_NAMES = {"question_a": "a", "question_b": "b", "label": "same", "intent": "group"}
_NAMES |= {"text": "question", "category": "group"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Two questions, and whether one answer does for both."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Grouped:
    """A question, and the group of questions with which it shares an answer."""

    question: str
    group: str


def read(path: Path) -> list[Labelled] | list[Grouped]:
    """Labelled pairs (`a`, `b`, `same`: yes or no), or questions by group (`question`, `group`).

    Args:
        path: `.jsonl` with an object a line, or CSV with a header; further columns are left alone.

    Raises:
        ConfigurationError: It is neither, or a line cannot be read.
    """
    rows = list(_rows(path))
    if not rows:
        raise ConfigurationError(f"{path} holds no labelled questions.")
    if {"a", "b", "same"} <= set(rows[0][1]):
        return [
            Labelled(_text(row, "a", at), _text(row, "b", at), _same(row.get("same"), at))
            for at, row in rows
        ]
    if {"question", "group"} <= set(rows[0][1]):
        return [Grouped(_text(row, "question", at), _text(row, "group", at)) for at, row in rows]
    raise ConfigurationError(
        f"{path} has the columns {', '.join(rows[0][1])}; it must have a, b and same (yes or no), "
        "or question and group."
    )


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with where it stands, its columns by our names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
            reader = csv.DictReader(file)
            for row in reader:
                yield f"{path}, line {reader.line_num}", _named(row)
            return
        for number, line in enumerate(file, 1):
            at = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigurationError(f"{at} is no JSON: {error}.") from None
            if not isinstance(row, dict):
                raise ConfigurationError(f"{at} holds no JSON object.")
            yield at, _named(row)


def _named(row: Mapping[Any, Any]) -> dict[str, Any]:
    named = {}
    for name, value in row.items():
        plain = str(name).strip().lower().replace(" ", "_")
        named[_NAMES.get(plain, plain)] = value
    return named


def _text(row: Mapping[str, Any], name: str, at: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{at}: {name} is {value!r}; it must be a text.")
    return value


def _same(value: object, at: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES | _NO:
        return word in _YES
    raise ConfigurationError(f"{at}: same is {value!r}; it must be yes or no.")
