"""Vectors in rows, in blocks of some megabytes: more of them need no copy of those that are there.

Rule of this file: memory and products, no I/O and no locks. All but the last block are full, and
one that is full never moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from valkey_semcache.embedding import Vector
from valkey_semcache.vectors import FLOAT32

Matrix = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]

_BYTES = 2**23  # of a block
_FIRST = 8  # rows of the first block, at first


class Blocks:
    """Rows of one dimension, numbered from 0.

    Args:
        dimension: Numbers in a row.
        max_rows: For how many there may ever be room.
    """

    def __init__(self, dimension: int, max_rows: int) -> None:
        self.each = max(_FIRST, _BYTES // (dimension * FLOAT32.itemsize))
        self._dimension = dimension
        self._max_rows = max_rows
        self._blocks: list[Matrix] = []
        self._room = 0

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        return self._dimension

    @property
    def nbytes(self) -> int:
        """Memory that there is room in, in bytes."""
        return self._room * self._dimension * FLOAT32.itemsize

    def clear(self) -> None:
        """Let all rows go."""
        self._blocks.clear()
        self._room = 0

    def rows(self, number: int) -> int:
        """For how many rows there is room in a block."""
        return len(self._blocks[number])

    def reserve(self, rows: int) -> None:
        """Make room for so many in all. The first block grows by half, the others come whole."""
        while self._room < min(rows, self._max_rows):
            first = not self._blocks or len(self._blocks[0]) < self.each
            wanted = max(min(rows, self.each), self._room * 3 // 2, _FIRST) if first else self.each
            left = self._max_rows - (0 if first else self._room)
            block = np.empty((min(wanted, self.each, left), self._dimension), FLOAT32)
            if first and self._blocks:
                block[: self._room] = self._blocks.pop()
            self._blocks.append(block)
            self._room = (len(self._blocks) - 1) * self.each + len(block)

    def __getitem__(self, row: int) -> Vector:
        """One row, as it lies there."""
        vector: Vector = self._blocks[row // self.each][row % self.each]
        return vector

    def __setitem__(self, row: int, vector: Vector) -> None:
        """Write one row, for which there is room."""
        self._blocks[row // self.each][row % self.each] = vector

    def spans(self, size: int, start: int = 0) -> Iterator[tuple[int, Matrix]]:
        """The rows from `start` to `size`, block by block, each with its first row's number."""
        for number in range(start // self.each, -(-size // self.each)):
            first = number * self.each
            begin = max(start, first)
            yield begin, self._blocks[number][begin - first : size - first]

    def taken(self, rows: Numbers) -> Matrix:
        """A copy of some rows, whose numbers ascend."""
        taken = np.empty((len(rows), self._dimension), FLOAT32)
        begin = 0
        for number, block in enumerate(self._blocks):
            end = int(rows.searchsorted((number + 1) * self.each))
            if end > begin:
                block.take(rows[begin:end] - number * self.each, 0, taken[begin:end], "clip")
            begin = end
        return taken

    def products(self, size: int, vector: Vector) -> Matrix:
        """The product of each of the first `size` rows with a vector."""
        products = np.empty(size, FLOAT32)
        for start, rows in self.spans(size):
            np.dot(rows, vector, out=products[start : start + len(rows)])
        return products
