"""Questions with their answers, from a file.

Rule of this file: a line that cannot be read is told of and passed over, never guessed at.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkey_semcache.errors import ConfigurationError

_FIELDS = ("question", "answer", "namespace", "system")


@dataclass(frozen=True, slots=True)
class Row:
    """A question and its answer.

    Args:
        question: What a user would ask.
        answer: The answer, as text.
        namespace: The tenant; None for the cache's own.
        system: The system prompt under which it would be asked, or "".
    """

    question: str
    answer: str
    namespace: str | None = None
    system: str = ""

    @classmethod
    def of(cls, value: Any) -> Row:
        """A row from a row, a mapping with its fields, or a pair of question and answer.

        Raises:
            ConfigurationError: It is none, or lacks a question or an answer.
        """
        if isinstance(value, Row):
            return value
        if isinstance(value, tuple | list) and len(value) == 2:
            value = dict(zip(_FIELDS, value, strict=False))
        if not isinstance(value, Mapping):
            raise ConfigurationError("A row is an object with a question and an answer.")
        given = {name: value.get(name) for name in _FIELDS}
        wrong = [n for n, v in given.items() if not isinstance(v, str | None)]
        if wrong:
            raise ConfigurationError(f"The row's {wrong[0]} is no text.")
        for name in ("question", "answer"):
            if not (given[name] or "").strip():
                raise ConfigurationError(f"The row has no {name}.")
        namespace = given["namespace"] or None
        return cls(str(given["question"]), str(given["answer"]), namespace, given["system"] or "")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row.

    Args:
        line: Its number in the file, from 1 on.
        reason: Why, in words.
    """

    line: int
    reason: str


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a file, one after the other.

    Args:
        path: `*.csv` with a header, else one JSON object a line. Fields: `question`, `answer`,
            and, if wanted, `namespace` and `system`. UTF-8.

    Raises:
        ConfigurationError: A CSV file has no columns `question` and `answer`.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix.lower() == ".csv":
            table = csv.DictReader(file)
            if not {"question", "answer"} <= set(table.fieldnames or ()):
                raise ConfigurationError(
                    f"{path.name} has the columns {', '.join(table.fieldnames or ()) or '(none)'}; "
                    "its first line must name question and answer."
                )
            while True:
                try:
                    value = next(table, None)
                except csv.Error as error:
                    yield BadRow(table.line_num, f"it is no CSV: {error}")
                    continue
                if value is None:
                    return
                yield _row(value, table.line_num)
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield BadRow(number, f"it is no JSON: {error}")
                else:
                    yield _row(value, number)


def _row(value: Any, line: int) -> Row | BadRow:
    try:
        return Row.of(value)
    except ConfigurationError as error:
        return BadRow(line, str(error))
