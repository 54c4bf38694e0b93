"""Copies of scopes' vectors in this process, for the flat index.

Rule of this file: memory and arithmetic, under locks, no I/O. Applying the same entries twice
changes nothing, so that threads may read the same piece of a log at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from valkey_semcache.embedding import Vector
from valkey_semcache.index.blocks import Blocks, Matrix, Numbers
from valkey_semcache.index.screen import WORTH, Screen, bytes_per_row
from valkey_semcache.locks import ForkLock
from valkey_semcache.vectors import FLOAT32

_CHECK_AT = 1024  # entries gained before the next look at which have died
_OVERHEAD = 1024  # bytes counted for a copy besides its vectors
_FEW = 16  # highest values that are better looked for one by one
_PER_ROW = 250  # bytes counted for a row besides its vector

_READING = 6 * 2**20  # bytes that a piece of a log takes while it is read, its vectors, and BLAS


class View:
    """One scope's vectors, in rows, and how far its log has been read."""

    def __init__(self, dimension: int, max_rows: int) -> None:
        self.counted = 0  # bytes that `Views` has on its account for this one
        self._max_rows = max_rows
        self._rows = Blocks(dimension, max_rows)
        self._row_of: dict[str, int] = {}
        self._digests: list[str] = []
        self._token: bytes | None = None
        self._version = 0
        self._gained = 0
        self._alive_at_check = 0
        self._screen: Screen | None = None
        self._screen_from = 0  # rows from which one is made
        self._lock = ForkLock(after_fork=self._reset)

    @property
    def size(self) -> int:
        """Rows held."""
        return len(self._digests)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, about."""
        screen = 0 if self._screen is None else self._screen.nbytes
        return self._rows.nbytes + self.size * _PER_ROW + _OVERHEAD + screen

    def state(self) -> tuple[bytes | None, int]:
        """The log's token and the version read last; None and 0 before the first reading."""
        with self._lock:
            return self._token, self._version

    def digests(self) -> list[str]:
        """Text digests of the rows."""
        with self._lock:
            return list(self._digests)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._reset()

    def expect(self, rows: int) -> None:
        """Make room for so many in all, which follow."""
        with self._lock:
            self._rows.reserve(rows)

    def apply(self, token: bytes, since: int, version: int, vectors: Mapping[str, Vector]) -> bool:
        """Take over what was read of the log after `since` (0 for all of it) up to `version`.

        False, and nothing is taken, if the copy does not reach up to `since` any more: another
        thread has begun it anew meanwhile.
        """
        with self._lock:
            if since and (self._token != token or self._version < since):
                return False
            if self._token != token:
                self._reset()
                self._token = token
            self._version = max(self._version, version)
            self._rows.reserve(len(self._digests) + len(vectors))
            for digest, vector in vectors.items():
                self._put(digest, vector)
            return True

    def extend(
        self, before: int, version: int, begun: bytes | None, digest: str, vector: Vector
    ) -> None:
        """Take over an entry just written, if nothing lies between it and what is known.

        Args:
            before: The log's version before the entry.
            version: The entry's.
            begun: The log's token if the entry began it, else None.
            digest: Of the entry's text.
            vector: The entry's.
        """
        with self._lock:
            if begun is not None and self._token != begun:
                self._reset()
                self._token = begun
            if self._token is not None and before == self._version:
                self._version = version
                self._rows.reserve(len(self._digests) + 1)
                self._put(digest, vector)

    def best(self, vector: Vector, count: int, least: float = -1.0) -> list[tuple[str, float]]:
        """At most `count` text digests with their similarities, -1 to 1, nearest first.

        Where one reaches `least`, those that do not may be missing.
        """
        with self._lock:
            size = len(self._digests)
            if not size:
                return []
            near = self._screened(size, vector, least)
            if near is not None:
                found = self._highest(self._rows.taken(near) @ vector, count, near)
                found = [one for one in found if one[1] >= least]
                if found:
                    return found
            return self._highest(self._rows.products(size, vector), count)

    def _highest(
        self, similarities: Matrix, count: int, rows: Numbers | None = None
    ) -> list[tuple[str, float]]:
        """The rows with the highest similarities; these are of all rows, or of some."""
        return [
            (
                self._digests[place if rows is None else rows[place]],
                min(1.0, max(-1.0, similarity)),
            )
            for place, similarity in _highest(similarities, min(count, len(similarities)))
        ]

    def _screened(self, size: int, vector: Vector, least: float) -> Numbers | None:
        """The rows that may reach `least`; None where a screen does not pay."""
        if least <= 0.0 or size * len(vector) < WORTH or size < self._screen_from:
            return None
        if self._screen is None:
            self._screen = Screen(self._rows, size, least)
        near = self._screen.near(self._rows, size, vector, least)
        if not self._screen.pays:
            self._screen, self._screen_from = None, 2 * size
        return near

    def discard(self, digest: str) -> None:
        """Let one entry go."""
        with self._lock:
            if digest in self._row_of:
                self._remove(digest)

    def due(self) -> bool:
        """Whether so much was gained that some of the older entries will have died."""
        return self._gained >= max(_CHECK_AT, self._alive_at_check)

    def checked(self) -> None:
        """The rows were just compared with what is in Valkey."""
        with self._lock:
            self._gained = 0
            self._alive_at_check = len(self._digests)

    def _reset(self) -> None:
        self._rows.clear()
        self._screen, self._screen_from = None, 0
        self._row_of.clear()
        self._digests.clear()
        self._token = None
        self._version = 0
        self._gained = 0
        self._alive_at_check = 0

    def _put(self, digest: str, vector: Vector) -> None:
        row = self._row_of.get(digest)
        if row is None:
            if len(self._digests) >= self._max_rows:
                self._remove(next(iter(self._row_of)))
            row = len(self._digests)
            self._digests.append(digest)
            self._row_of[digest] = row
            self._gained += 1
        self._write(row, vector)

    def _remove(self, digest: str) -> None:
        """The last row takes the place of the removed one."""
        row = self._row_of.pop(digest)
        last = self._digests.pop()
        if last != digest:
            self._write(row, self._rows[len(self._digests)])
            self._digests[row] = last
            self._row_of[last] = row

    def _write(self, row: int, vector: Vector) -> None:
        self._rows[row] = vector
        if self._screen is not None:
            self._screen.changed(row)


def _highest(values: Matrix, count: int) -> list[tuple[int, float]]:
    """The `count` highest values with their places, highest first. May change `values`.

    A few are found one by one: of 10,000 values three in an eighth of argpartition's time.
    """
    if count > _FEW:
        places = np.argpartition(values, -count)[-count:]
        return [(int(place), float(values[place])) for place in places[np.argsort(-values[places])]]
    found = []
    for _ in range(count):
        place = int(values.argmax())
        found.append((place, float(values[place])))
        values[place] = -np.inf
    return found


class Views:
    """The copies of all scopes in use, within a bound of memory."""

    def __init__(self, dimension: int, max_bytes: int) -> None:
        self._dimension = dimension
        self._max_bytes = max_bytes
        per_row = dimension * FLOAT32.itemsize + bytes_per_row(dimension) + _PER_ROW
        self.max_rows = max(1, (max_bytes - min(max_bytes // 3, _READING)) // per_row)
        self._held = 0
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = ForkLock()

    def get(self, scope: str) -> View:
        """The scope's copy, empty if there was none."""
        with self._lock:
            view = self._views.get(scope)
            if view is None:
                view = self._views[scope] = View(self._dimension, self.max_rows)
            self._views.move_to_end(scope)
            return view

    def settle(self, scope: str) -> None:
        """Count the scope's copy; let go of those not asked for longest until all fit."""
        with self._lock:
            view = self._views.get(scope)
            if view is not None:
                self._held += view.nbytes - view.counted
                view.counted = view.nbytes
            while self._held > self._max_bytes and len(self._views) > 1:
                self._held -= self._views.popitem(last=False)[1].counted

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._views.clear()
            self._held = 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, about."""
        return self._held
