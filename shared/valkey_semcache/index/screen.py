"""Which rows of a matrix may be near a vector, told by a few numbers of each.

Rule of this file: a row that is left out is never one that was asked for. By Cauchy and Schwarz,
the product of two vectors is at most that of their parts along some directions, plus the lengths
of what is left of them: `q·v <= q1·v1 + |q2||v2|`. The parts are an eighth of a vector.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from valkey_semcache.embedding import FLOAT32, Vector

Rows = npt.NDArray[np.float32]

WORTH = 1_000_000
"""Numbers in a matrix below which the whole product is as quick."""

SHARE = 8  # numbers of a vector to one along the directions
_SAMPLE = 1024  # rows that directions are found in
_ROUNDING = 1e-4  # float32, summed over some thousand numbers
_MOST = 8  # rows to one that may be left for the screen to pay
_PATIENCE = 4  # screens in a row that leave more before it is given up


class Screen:
    """The leading directions of some rows, and the parts of each row along them.

    Args:
        rows: All rows, unit vectors, of which directions are found in a sample.
    """

    def __init__(self, rows: Rows) -> None:
        self._directions = _leading(rows, rows.shape[1] // SHARE)
        self._parts = np.empty((0, self._directions.shape[1] + 1), FLOAT32)
        self._changed: set[int] = set()
        self._known = 0
        self._in_vain = 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._parts.nbytes + self._directions.nbytes

    @property
    def pays(self) -> bool:
        """Whether it has left few enough rows lately."""
        return self._in_vain < _PATIENCE

    def changed(self, row: int) -> None:
        """Another vector lies in this row now."""
        self._changed.add(row)

    def near(
        self, matrix: Rows, size: int, vector: Vector, least: float
    ) -> npt.NDArray[np.intp] | None:
        """The rows whose product with a vector can be `least` or more; None if it is too many.

        Args:
            matrix: The rows as they are now, and room for more.
            size: How many rows there are.
            vector: A unit vector.
            least: The product asked for.
        """
        self._follow(matrix, size)
        along = vector @ self._directions
        left = math.sqrt(max(0.0, float(vector @ vector) - float(along @ along)))
        bounds = self._parts[:size] @ np.append(along, FLOAT32.type(left))
        found = np.flatnonzero(bounds >= least - _ROUNDING)
        if len(found) * _MOST > size:
            self._in_vain += 1
            return None
        self._in_vain = 0
        return found

    def _follow(self, matrix: Rows, size: int) -> None:
        """Split the rows that are new or have changed."""
        if len(matrix) > len(self._parts):
            parts = np.empty((len(matrix), self._parts.shape[1]), FLOAT32)
            parts[: self._known] = self._parts[: self._known]
            self._parts = parts
        for start in range(self._known, size, _SAMPLE):
            end = min(start + _SAMPLE, size)
            self._parts[start:end] = self._split(matrix[start:end])
        changed = [row for row in self._changed if row < min(size, self._known)]
        if changed:
            self._parts[changed] = self._split(matrix[changed])
        self._known = size
        self._changed.clear()

    def _split(self, rows: Rows) -> Rows:
        """Each row's parts along the directions, and the length of what is left of it."""
        along = rows @ self._directions
        left = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", along, along)
        return np.column_stack((along, np.sqrt(np.maximum(left, 0.0))))


def bytes_per_row(dimension: int) -> int:
    """What a screen takes beside each row."""
    return (dimension // SHARE + 1) * FLOAT32.itemsize


def _leading(rows: Rows, count: int) -> Rows:
    """Orthonormal directions along which rows differ most, about, as columns.

    Of a random sample, by one round of subspace iteration (Halko, Martinsson and Tropp 2011,
    algorithm 4.4): any directions give a true bound, these a narrow one.
    """
    lot = np.random.default_rng(0)
    sample = rows[lot.integers(0, len(rows), min(_SAMPLE, len(rows)))]
    start = sample @ lot.standard_normal((rows.shape[1], count)).astype(FLOAT32)
    directions, _ = np.linalg.qr(sample.T @ np.linalg.qr(start)[0])
    return np.ascontiguousarray(directions, FLOAT32)
