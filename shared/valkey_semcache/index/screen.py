"""Which rows may be near a vector, told by a few numbers of each.

Rule of this file: a row that is left out is never one that was asked for. By Cauchy and Schwarz,
the product of two vectors is at most that of their parts along some directions, plus the lengths
of what is left of them: `q·v <= q1·v1 + |q2||v2|`. The parts are a fifth of a vector.
"""

from __future__ import annotations

import math

import numpy as np

from valkey_semcache.embedding import Vector
from valkey_semcache.index.blocks import Blocks, Matrix, Numbers
from valkey_semcache.vectors import FLOAT32

WORTH = 1_000_000
"""Numbers in a matrix below which the whole product is as quick."""

SHARE = 5
"""Numbers of a vector to one along the directions. Of random directions, for which a screen is
hardest, 0.8 is left on both sides: enough for the usual thresholds."""

_MANY = 128  # directions at most: to find more takes too long
_SAMPLE = 1024  # rows that directions are found in, and tried on
_ASKED = 64  # of these, how many are asked for to find out how many directions are enough
_PARTS = 8  # of all directions, how many numbers of them are tried
_WHOLE = 2  # times as long as from one end to the other, rows take here and there
_ROUNDING = 1e-4  # float32, summed over some thousand numbers
_LEFT = 1e-5  # the same, in the square of what is left
_MOST = 8  # rows to one that may be left for the screen to pay
_PATIENCE = 4  # screens in a row that leave more before it is given up


class Screen:
    """The leading directions of some rows, and the parts of each row along them.

    Args:
        blocks: All rows, unit vectors, of which directions are found in a sample.
        size: How many rows there are.
        least: The product that is asked for, more or less.
    """

    def __init__(self, blocks: Blocks, size: int, least: float) -> None:
        lot = np.random.default_rng(0)
        sample = blocks.taken(np.sort(lot.integers(0, size, min(_SAMPLE, size))))
        # Those that directions were found in, differ along them more than others do.
        directions = _leading(sample[1::2], _at_most(blocks.dimension), lot)
        enough = _enough(sample[::2] @ directions, blocks.dimension, least)
        self._directions = np.ascontiguousarray(directions[:, :enough])
        # Of each block, transposed: numpy multiplies by few long rows in half the time.
        self._parts: list[Matrix] = []
        self._changed: set[int] = set()
        self._known = 0
        self._in_vain = 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(parts.nbytes for parts in self._parts) + self._directions.nbytes

    @property
    def pays(self) -> bool:
        """Whether it has left few enough rows lately."""
        return self._in_vain < _PATIENCE

    def changed(self, row: int) -> None:
        """Another vector lies in this row now."""
        self._changed.add(row)

    def near(self, blocks: Blocks, size: int, vector: Vector, least: float) -> Numbers | None:
        """The rows whose product with a vector can be `least` or more; None if it is too many.

        Args:
            blocks: The rows as they are now.
            size: How many rows there are.
            vector: A unit vector.
            least: The product asked for.
        """
        self._follow(blocks, size)
        weights = np.empty(self._directions.shape[1] + 1, FLOAT32)
        along = np.dot(vector, self._directions, out=weights[:-1])
        weights[-1] = math.sqrt(max(0.0, float(vector @ vector) - float(along @ along)) + _LEFT)
        bounds = np.empty(size, FLOAT32)
        for start, parts in zip(range(0, size, blocks.each), self._parts, strict=True):
            held = bounds[start : start + blocks.each]
            np.dot(weights, parts[:, : len(held)], out=held)
        found = np.flatnonzero(bounds >= least - _ROUNDING)
        if len(found) * _MOST > size:
            self._in_vain += 1
            return None
        self._in_vain = 0
        return found

    def _follow(self, blocks: Blocks, size: int) -> None:
        """Split the rows that are new or have changed."""
        if size == self._known and not self._changed:
            return
        changed = [row for row in self._changed if row < min(size, self._known)]
        for row in changed:
            self._write(blocks, row, blocks[row][None])
        for first, rows in blocks.spans(size, self._known):
            for start in range(0, len(rows), _SAMPLE):
                self._write(blocks, first + start, rows[start : start + _SAMPLE])
        # Rows that are gone leave no parts behind.
        del self._parts[-(-size // blocks.each) :]
        self._known = size
        self._changed.clear()

    def _write(self, blocks: Blocks, start: int, rows: Matrix) -> None:
        """Note the parts of some rows, all of one block: along the directions, and the length of
        what is left."""
        number, place = divmod(start, blocks.each)
        parts = self._room(blocks, number)
        along = rows @ self._directions
        left = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", along, along)
        parts[:-1, place : place + len(rows)] = along.T
        parts[-1, place : place + len(rows)] = np.sqrt(np.maximum(left, 0.0) + FLOAT32.type(_LEFT))

    def _room(self, blocks: Blocks, number: int) -> Matrix:
        """The parts of a block, with room for as many as it has rows."""
        rows = blocks.rows(number)
        if number == len(self._parts):
            self._parts.append(np.empty((self._directions.shape[1] + 1, rows), FLOAT32))
        held = self._parts[number]
        if held.shape[1] < rows:
            self._parts[number] = np.empty((len(held), rows), FLOAT32)
            self._parts[number][:, : held.shape[1]] = held
        return self._parts[number]


def bytes_per_row(dimension: int) -> int:
    """What a screen takes beside each row, at most."""
    return (_at_most(dimension) + 1) * FLOAT32.itemsize


def _at_most(dimension: int) -> int:
    return min(dimension // SHARE, _MANY)


def _leading(sample: Matrix, count: int, lot: np.random.Generator) -> Matrix:
    """Orthonormal directions along which rows differ most, about, as columns, the first one most.

    By one round of subspace iteration (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1):
    any directions give a true bound, these a narrow one.
    """
    start = sample @ lot.standard_normal((sample.shape[1], count), FLOAT32.type)
    within, _ = np.linalg.qr(sample.T @ np.linalg.qr(start)[0])
    along = sample @ within
    _, turned = np.linalg.eigh(along.T @ along)
    directions: Matrix = within @ turned[:, ::-1]
    return directions


def _enough(along: Matrix, dimension: int, least: float) -> int:
    """How many of the directions make a look-up quickest, told by a sample asked for itself.

    Each is a number to read of every row, and each row that it does not leave out is one to read
    whole, from wherever it lies.
    """
    asked = along[:: max(1, len(along) // _ASKED)]
    costs: dict[int, float] = {}
    for count in sorted({along.shape[1] * part // _PARTS for part in range(1, _PARTS + 1)} - {0}):
        left, lost = (
            np.sqrt(np.maximum(1.0 - np.einsum("ij,ij->i", some, some), 0.0))
            for some in (along[:, :count], asked[:, :count])
        )
        bounds = along[:, :count] @ asked[:, :count].T + np.outer(left, lost)
        costs[count] = count + _WHOLE * dimension * float(np.mean(bounds >= least))
    return min(costs, key=lambda count: costs[count], default=0)
