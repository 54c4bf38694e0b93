"""The language of filters: text to a tree of conditions.

A condition is data; what satisfies it is found in `index.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.standin.args import CommandError, show
from tests.standin.release import Release
from tests.standin.schema import NumericField, Schema, TagField, TextField

SHORTEST_PREFIX = 2
SPACES = b" \t\n\r\v\f"
TagsOrNumber = frozenset[bytes] | float | None


@dataclass(frozen=True)
class TagIs:
    """One of these tags; one that ends in `*` stands for all that begin so."""

    field: TagField
    tags: tuple[bytes, ...]

    def accepts(self, values: Mapping[bytes, TagsOrNumber]) -> bool:
        found = values.get(self.field.alias)
        return isinstance(found, frozenset) and any(x in found for x in self._exact()) | any(
            tag.startswith(prefix) for prefix in self._prefixes() for tag in found
        )

    def _exact(self) -> list[bytes]:
        return [fold(self.field, x) for x in self.tags if not x.endswith(b"*")]

    def _prefixes(self) -> list[bytes]:
        return [fold(self.field, x[:-1]) for x in self.tags if x.endswith(b"*")]


@dataclass(frozen=True)
class InRange:
    field: NumericField
    low: float
    high: float
    with_low: bool
    with_high: bool

    def accepts(self, values: Mapping[bytes, TagsOrNumber]) -> bool:
        found = values.get(self.field.alias)
        if not isinstance(found, float):
            return False
        above = found >= self.low if self.with_low else found > self.low
        return above and (found <= self.high if self.with_high else found < self.high)


@dataclass(frozen=True)
class Both:
    left: Condition
    right: Condition

    def accepts(self, values: Mapping[bytes, TagsOrNumber]) -> bool:
        return self.left.accepts(values) and self.right.accepts(values)


@dataclass(frozen=True)
class Either:
    left: Condition
    right: Condition

    def accepts(self, values: Mapping[bytes, TagsOrNumber]) -> bool:
        return self.left.accepts(values) or self.right.accepts(values)


@dataclass(frozen=True)
class Not:
    inner: Condition

    def accepts(self, values: Mapping[bytes, TagsOrNumber]) -> bool:
        return not self.inner.accepts(values)


Condition = TagIs | InRange | Both | Either | Not


def fold(field: TagField, tag: bytes) -> bytes:
    """A tag as it is compared: only ASCII letters are alike in both cases."""
    return tag if field.case_sensitive else tag.lower()


def split_tags(field: TagField, text: bytes) -> frozenset[bytes]:
    """The tags that a document's value holds."""
    parts = (x.strip(SPACES) for x in text.split(field.separator))
    return frozenset(fold(field, x) for x in parts if x)


def to_number(text: bytes) -> float | None:
    """A document's number; None if it is none, in which case it is not indexed."""
    try:
        value = float(text.decode("ascii").replace("_", "x"))
    except ValueError:
        return None
    return None if math.isnan(value) else value


def read_filter(release: Release, schema: Schema, text: bytes) -> Condition | None:
    """The condition that a filter states; None if it lets everything pass."""
    return _FilterReader(release, schema, text.strip(SPACES)).read()


class _FilterReader:
    def __init__(self, release: Release, schema: Schema, text: bytes) -> None:
        self.release, self.schema, self.text = release, schema, text
        self.at = 0

    def read(self) -> Condition | None:
        star = re.fullmatch(rb"\s*(\(?)\s*\*\s*(\)?)\s*", self.text)
        if star:
            if star[1] and not star[2]:
                raise CommandError("Missing `)`")
            if star[1] or not star[2]:
                return None
            raise self._unexpected(len(self.text) - 1)
        found = self._expression()
        if self.at < len(self.text):
            raise self._unexpected(self.at)
        return found

    def _expression(self) -> Condition | None:
        """AND binds tighter than `|`; the right side of `|` reaches to the end of the bracket."""
        found: Condition | None = None
        self._skip_spaces()
        while self.at < len(self.text) and self._here() != b")":
            negate = self._match(b"-")
            part: Condition | None
            if self._match(b"("):
                part = self._bracket()
            elif self._match(b"|"):
                if negate:
                    raise self._unexpected(self.at - 1)
                return self._either(found)
            else:
                part = self._field_condition()
            if part is not None:
                part = Not(part) if negate else part
                found = part if found is None else Both(found, part)
            self._skip_spaces()
        return found

    def _bracket(self) -> Condition | None:
        part = self._expression()
        if not self._match(b")"):
            here = show(self._here())
            raise CommandError(f"Expected ')' after expression got '{here}'. Position: {self.at}")
        if part is None and self.release.text_fields:
            raise CommandError(f"Empty brackets detected at Position: {self.at - 1}")
        return part

    def _either(self, left: Condition | None) -> Condition | None:
        right = self._expression()
        if left is not None and right is not None:
            return Either(left, right)
        if self.release.text_fields:
            raise CommandError("Missing OR term")
        return left if right is None else right

    def _field_condition(self) -> Condition:
        if self._here() != b"@" and self.release.text_fields:
            raise self._text_query()
        alias = self._field_name()
        if self._match(b"["):
            return self._range(alias)
        if self._match(b"{"):
            return self._tags(alias)
        if self.release.text_fields:
            raise self._text_query()
        here = show(self._here())
        raise CommandError(f"Expected '[', '{{', got '{here}'. Position: {self.at}")

    def _text_query(self) -> CommandError:
        if any(isinstance(x, TextField) for x in self.schema.fields.values()):
            return CommandError("ERR the stand-in does not model queries of text fields")
        return CommandError("Index does not have any text field")

    def _field_name(self) -> bytes:
        if not self._match(b"@"):
            raise self._unexpected(self.at, ", expecting `@`")
        start = self.at
        while self.at < len(self.text) and self._here() not in b": \t\n\r\v\f":
            self.at += 1
        alias = self.text[start : self.at]
        if not self._match(b":"):
            raise self._unexpected(self.at, ", expecting `:`")
        return alias

    def _range(self, alias: bytes) -> InRange:
        field = self.schema.fields.get(alias)
        if not isinstance(field, NumericField):
            raise CommandError(f"`{show(alias)}` is not indexed as a numeric field")
        with_low = not self._match(b"(")
        low = self._number()
        if self._here() == b" " or self._skip_spaces() == b",":
            self.at += 1
        else:
            middle = "," if self.release.text_fields else "|"
            raise CommandError(
                f"Expected space or `{middle}` between start and end values of a numeric field. "
                f"Position: {self.at}"
            )
        with_high = not self._match(b"(")
        high = self._number()
        if not self._match(b"]"):
            here = show(self._here())
            raise CommandError(f"Expected ']' got '{here}'. Position: {self.at}")
        if low > high or (low == high and not (with_low and with_high)):
            raise CommandError(
                "Start and end values of a numeric field indicate an empty range. "
                f"Position: {self.at}"
            )
        return InRange(field, low, high, with_low, with_high)

    def _number(self) -> float:
        self._skip_spaces()
        shape = rb"[+-]?inf|-?[\d.]*"
        if self.release.text_fields:
            shape += rb"([eE][+-]?[\d.]*)?"
        found = re.compile(shape, re.IGNORECASE).match(self.text, self.at)
        text = found[0] if found else b""
        self.at += len(text)
        try:
            return float(text)
        except ValueError:
            raise CommandError(f"Invalid number: {show(text)}") from None

    def _tags(self, alias: bytes) -> TagIs:
        field = self.schema.fields.get(alias)
        if not isinstance(field, TagField):
            raise CommandError(f"`{show(alias)}` is not indexed as a tag field")
        self._skip_spaces()
        inner = rb"(?:\\.|[^}\\]|\\$)*" if self.release.tags_escape else rb"[^}]*"
        found = re.compile(inner, re.DOTALL).match(self.text, self.at)
        end = found.end() if found else self.at
        if end >= len(self.text):
            raise CommandError("Missing closing TAG bracket, '}'")
        text, self.at = self.text[self.at : end], end + 1
        return TagIs(field, tuple(self._split_tags(field, text)))

    def _split_tags(self, field: TagField, text: bytes) -> list[bytes]:
        on = self.release.tags_split_on or field.separator
        if self.release.tags_escape:
            shape = rb"(?:\\.|[^\\" + re.escape(on) + rb"]|\\$)+"
            parts = re.findall(shape, text, re.DOTALL)
        else:
            parts = text.split(on)
        tags = []
        for part in (x.strip(SPACES) for x in parts):
            if part.endswith(b"**"):
                raise CommandError(f"Tag string `{show(part)}` ends with multiple *.")
            if part.endswith(b"*") and len(part) <= SHORTEST_PREFIX:
                if self.release.short_prefix_is_error:
                    raise CommandError(
                        f"Tag string `{show(part)}` is too short for prefix wildcard."
                    )
                continue
            if self.release.tags_escape:
                part = re.sub(rb"\\(.)", rb"\1", part, flags=re.DOTALL)
            if part:
                tags.append(part)
        return tags

    def _skip_spaces(self) -> bytes:
        while self.at < len(self.text) and self._here() in SPACES:
            self.at += 1
        return self._here()

    def _here(self) -> bytes:
        return self.text[self.at : self.at + 1]

    def _match(self, expected: bytes) -> bool:
        found = self._skip_spaces() == expected
        self.at += found
        return found

    def _unexpected(self, at: int, more: str = "") -> CommandError:
        here = show(self.text[at : at + 1])
        return CommandError(f"Unexpected character at position {at + 1}: `{here}`{more}")
