"""One index: the documents it knows, and which of them a query finds.

It is told what the documents hold and reads nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.standin.filters import (
    Both,
    Condition,
    Either,
    InRange,
    TagIs,
    TagsOrNumber,
    fold,
    split_tags,
    to_number,
)
from tests.standin.query import Knn
from tests.standin.release import Release
from tests.standin.schema import NumericField, Schema, TagField, VectorField

Mask = NDArray[np.bool_]
Vector = NDArray[np.float32]
FIRST_ROOM = 64
# HNSW gives way to comparing one by one when a filter leaves at most this share of the vectors.
PREFILTERED_SHARE = 0.001


@dataclass
class Found:
    key: bytes
    distance: float


class Vectors:
    """The vectors of one field, by row; under COSINE as unit vectors."""

    def __init__(self, field: VectorField) -> None:
        self.field = field
        self.matrix: Vector = np.zeros((FIRST_ROOM, field.dimensions or 0), np.float32)
        self.present: Mask = np.zeros(FIRST_ROOM, np.bool_)
        self.order: NDArray[np.int64] = np.zeros(FIRST_ROOM, np.int64)
        self.added = 0

    def grow(self, room: int) -> None:
        self.matrix = _grown(self.matrix, room)
        self.present = _grown(self.present, room)
        self.order = _grown(self.order, room)

    def put(self, row: int, value: bytes | None) -> bool:
        """Whether the value could be indexed, or there was none."""
        if value is None or len(value) != self.field.size:
            was_present = bool(self.present[row])
            self.present[row] = False
            return value is None or was_present
        self.matrix[row] = self.prepare(np.frombuffer(value, "<f4"))
        if not self.present[row]:
            self.present[row] = True
            self.order[row] = self.added
            self.added += 1
        return True

    def prepare(self, vector: Vector) -> Vector:
        vector = vector.astype(np.float32)
        if self.field.metric != "COSINE":
            return vector
        length = np.sqrt(np.einsum("i,i->", vector, vector))
        # A vector of nothing but zeros is left alone: its distance to all others is 1.
        return vector if length == 0 else vector * (np.float32(1) / length)

    def distances(self, rows: NDArray[np.int64], query: Vector) -> Vector:
        # Rows without a gap need no copy.
        first, end = int(rows[0]), int(rows[-1]) + 1
        chosen = self.matrix[first:end] if end - first == len(rows) else self.matrix[rows]
        # einsum, not @: it adds in one thread and in the same order every time.
        if self.field.metric == "L2":
            apart = chosen - query
            squared: Vector = np.einsum("ij,ij->i", apart, apart)
            return squared
        similar: Vector = np.einsum("ij,j->i", chosen, query)
        return np.float32(1) - similar


class Index:
    """The documents under the prefixes of one schema."""

    def __init__(self, release: Release, schema: Schema) -> None:
        self.release, self.schema = release, schema
        self.failures = 0
        self.rows: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._free: list[int] = []
        self._alive: Mask = np.zeros(FIRST_ROOM, np.bool_)
        fields = schema.fields.values()
        self.vectors = {x.alias: Vectors(x) for x in fields if isinstance(x, VectorField)}
        self.tags: dict[bytes, dict[bytes, set[int]]] = {
            x.alias: {} for x in fields if isinstance(x, TagField)
        }
        self._tags_of: dict[bytes, dict[int, frozenset[bytes]]] = {x: {} for x in self.tags}
        self.numbers: dict[bytes, NDArray[np.float64]] = {
            x.alias: np.full(FIRST_ROOM, np.nan) for x in fields if isinstance(x, NumericField)
        }

    def covers(self, key: bytes) -> bool:
        return any(key.startswith(x) for x in self.schema.prefixes)

    @property
    def identifiers(self) -> list[bytes]:
        """The fields of a hash that this index reads."""
        return [x.identifier for x in self.schema.fields.values()]

    # Documents.

    def put(self, key: bytes, values: Sequence[bytes | None]) -> None:
        """A document as it is now; `values` are in the order of `identifiers`."""
        row = self.rows.get(key)
        if row is None:
            row = self._new_row(key)
        for field, value in zip(self.schema.fields.values(), values, strict=True):
            if isinstance(field, VectorField):
                indexed = self.vectors[field.alias].put(row, value)
            elif isinstance(field, TagField):
                indexed = self._put_tags(row, field, value)
            elif isinstance(field, NumericField):
                number = None if value is None else to_number(value)
                was_number = not np.isnan(self.numbers[field.alias][row])
                self.numbers[field.alias][row] = np.nan if number is None else number
                indexed = value is None or number is not None or was_number
            else:
                indexed = True
            self.failures += not indexed

    def drop(self, key: bytes) -> None:
        """A document that is gone."""
        row = self.rows.pop(key, None)
        if row is None:
            return
        for vectors in self.vectors.values():
            vectors.put(row, None)
        for field in self.schema.fields.values():
            if isinstance(field, TagField):
                self._put_tags(row, field, None)
        for numbers in self.numbers.values():
            numbers[row] = np.nan
        self._alive[row] = False
        self._free.append(row)

    def _new_row(self, key: bytes) -> int:
        if self._free:
            row = self._free.pop()
            self._keys[row] = key
        else:
            row = len(self._keys)
            self._keys.append(key)
            if row >= len(self._alive):
                room = 2 * row
                self._alive = _grown(self._alive, room)
                for vectors in self.vectors.values():
                    vectors.grow(room)
                self.numbers = {x: _grown(y, room, np.nan) for x, y in self.numbers.items()}
        self.rows[key] = row
        self._alive[row] = True
        return row

    def _put_tags(self, row: int, field: TagField, value: bytes | None) -> bool:
        now = frozenset[bytes]() if value is None else split_tags(field, value)
        rows_of, tags_of = self.tags[field.alias], self._tags_of[field.alias]
        before = tags_of.pop(row, frozenset())
        for tag in before - now:
            rows_of[tag].discard(row)
            if not rows_of[tag]:
                del rows_of[tag]
        for tag in now - before:
            rows_of.setdefault(tag, set()).add(row)
        if now:
            tags_of[row] = now
        return value is None or bool(now) or bool(before)

    def parse(self, values: Mapping[bytes, bytes]) -> dict[bytes, TagsOrNumber]:
        """A hash's tags and numbers by alias, to hold against a condition."""
        parsed: dict[bytes, TagsOrNumber] = {}
        for field in self.schema.fields.values():
            value = values.get(field.identifier)
            if isinstance(field, TagField) and value is not None:
                parsed[field.alias] = split_tags(field, value)
            elif isinstance(field, NumericField) and value is not None:
                parsed[field.alias] = to_number(value)
        return parsed

    # Searching.

    def nearest(self, knn: Knn, where: Condition | None) -> list[Found]:
        """The k nearest documents, the nearest first; the older one first at equal distance."""
        vectors = self.vectors[knn.field.alias]
        rows = np.flatnonzero(self.mask(where) & vectors.present)
        if not len(rows):
            return []
        query: Vector = np.frombuffer(knn.vector, "<f4")
        if self.release.normalises_prefiltered_query or not self._prefilters(where, knn, len(rows)):
            query = vectors.prepare(query)
        distances = vectors.distances(rows, query)
        if knn.k < len(rows):
            near = distances <= np.partition(distances, knn.k - 1)[knn.k - 1]
            rows, distances = rows[near], distances[near]
        order = np.lexsort((vectors.order[rows], distances))[: knn.k]
        return [Found(self._keys[rows[x]], float(distances[x])) for x in order]

    def matching(self, where: Condition) -> list[Found]:
        """The documents that satisfy a condition, in no particular order."""
        return [Found(self._keys[row], 0.0) for row in np.flatnonzero(self.mask(where))]

    def _prefilters(self, where: Condition | None, knn: Knn, candidates: int) -> bool:
        if where is None:
            return False
        stored = int(self.vectors[knn.field.alias].present.sum())
        return knn.field.algorithm == "FLAT" or candidates <= PREFILTERED_SHARE * stored

    def mask(self, where: Condition | None) -> Mask:
        """For every row whether it holds a document that satisfies the condition."""
        if where is None:
            return self._alive
        if isinstance(where, TagIs):
            return self._mask_of_rows(self._rows_with(where))
        if isinstance(where, InRange):
            values = self.numbers[where.field.alias]
            above = values >= where.low if where.with_low else values > where.low
            return above & (values <= where.high if where.with_high else values < where.high)
        if isinstance(where, Both):
            return self.mask(where.left) & self.mask(where.right)
        if isinstance(where, Either):
            return self.mask(where.left) | self.mask(where.right)
        return self._alive & ~self.mask(where.inner)

    def _rows_with(self, where: TagIs) -> set[int]:
        rows_of = self.tags[where.field.alias]
        rows: set[int] = set()
        for tag in (fold(where.field, x) for x in where.tags):
            if tag.endswith(b"*"):
                rows.update(*(y for x, y in rows_of.items() if x.startswith(tag[:-1])))
            else:
                rows |= rows_of.get(tag, set())
        return rows

    def _mask_of_rows(self, rows: set[int]) -> Mask:
        mask = np.zeros(len(self._alive), np.bool_)
        mask[np.fromiter(rows, np.int64, len(rows))] = True
        return mask

    # Counting.

    def size_of(self, alias: bytes) -> int:
        """How many documents have this field indexed."""
        if alias in self.vectors:
            return int(self.vectors[alias].present.sum())
        if alias in self.numbers:
            return int((~np.isnan(self.numbers[alias])).sum())
        return len(self._tags_of.get(alias, ()))

    def count_documents(self) -> int:
        if self.release.info_counts_bare_documents:
            return len(self.rows)
        indexed = np.zeros(len(self._alive), np.bool_)
        for vectors in self.vectors.values():
            indexed |= vectors.present
        for numbers in self.numbers.values():
            indexed |= ~np.isnan(numbers)
        for tags_of in self._tags_of.values():
            indexed |= self._mask_of_rows(set(tags_of))
        return int(indexed.sum())

    def bytes_of(self, alias: bytes) -> int:
        """What the documents gave this field, in bytes."""
        if alias in self.vectors:
            return self.size_of(alias) * self.vectors[alias].field.size
        return sum(len(tag) for tags in self._tags_of.get(alias, {}).values() for tag in tags)


def _grown(array: NDArray, room: int, filler: float = 0) -> NDArray:  # type: ignore[type-arg]
    grown = np.full((room, *array.shape[1:]), filler, array.dtype)
    grown[: len(array)] = array
    return grown
