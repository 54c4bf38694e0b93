"""Exact search in the client, over any Valkey: no module needed.

Rule of this file: what Valkey's log of a scope says is true, what this process holds is a
copy. Each look-up first reads what the log has gained. A copy that cannot be continued (the
log is gone, or was begun anew) is thrown away and read again. Whatever is read, of the log or of
vectors, is read in pieces: a reading takes no more memory than what is kept of it.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import ServerReplyError
from valkey_semcache.flow.operations import (
    Command,
    Flow,
    Script,
    replies_to,
    unless_wrong_type,
)
from valkey_semcache.index.contract import Candidate, Fields, IndexKind
from valkey_semcache.index.log import Piece, has_token, read_ends, read_piece
from valkey_semcache.index.scripts import LOG, TIDY
from valkey_semcache.index.view import View, Views
from valkey_semcache.vectors import FLOAT32

Noted = list[tuple[str, int]]  # entries of a log: text digest and version

_BATCH = 500  # commands in one pipeline
_BYTES = 2**18  # of vectors in the replies to one
_REMIND_SECONDS = 60.0  # after which the first store of a scope writes the meta hash again
_TRIES = 3  # at a copy that others begin anew
_TIDY_AT = 64  # dead entries that make it worth cleaning a log


class FlatIndex:
    """Vectors of the scopes in use, held in this process and kept current.

    Args:
        prefix: `NAME:EMB:`, before every entry's key.
        log_prefix: `NAME:log:EMB:`, before every log's key.
        dimension: Of the vectors.
        max_bytes: Memory for vectors in this process, over all scopes, and for reading them;
            those not asked for longest go first, and of a scope that alone is larger, the oldest
            entries.
        begun: Writes the cache's meta hash; sent again now and then when a log is begun or
            was lost, since what took the logs may have taken that too.
        searched: Told of each search, by what served it.
        fields: What is read of each entry.
    """

    kind: IndexKind = "flat"
    generation = 0
    outgrown = 0

    def __init__(
        self,
        prefix: str,
        log_prefix: str,
        dimension: int,
        max_bytes: int,
        begun: Script,
        searched: Callable[[str], None],
        fields: tuple[str, ...],
    ) -> None:
        self.dimension = dimension
        self._names = (*fields, "s")
        self._keys = [name.encode() for name in self._names]
        self._searched = searched
        self._begun = begun
        self._begun_at = time.monotonic()
        self._prefix = prefix
        self._log_prefix = log_prefix
        self._views = Views(dimension, max_bytes)

    def nearest(
        self, scope: str, vector: Vector, count: int, least: float = -1.0
    ) -> Flow[Sequence[Candidate]]:
        """The best of the scope, exactly, after reading the end of its log."""
        view = self._views.get(scope)
        yield from self._sync(scope, view)
        self._searched("client")
        return [
            Candidate(f"{self._prefix}{scope}:{digest}", similarity, None)
            for digest, similarity in view.best(vector, count, least)
        ]

    def read(self, scope: str, candidate: Candidate) -> Flow[Fields | None]:
        """One HMGET; an entry that is gone, or lost its scope, leaves the copy."""
        values = yield from unless_wrong_type(Command("HMGET", candidate.key, *self._names))
        found = zip(self._keys, values or (), strict=values is not None)
        fields = {name: value for name, value in found if value is not None}
        if fields.pop(b"s", b"") != scope.encode() or b"p" not in fields:
            self._views.get(scope).discard(candidate.key.rpartition(":")[2])
            return None
        return fields

    def added(self, scope: str, text_digest: str, vector: Vector, ttl_ms: int) -> Flow[None]:
        """Note the entry in the log; the copy here takes it at once if it misses nothing else."""
        token = secrets.token_hex(8)
        log = f"{self._log_prefix}{scope}"
        before, version = yield Script(LOG, log, token, ttl_ms, text_digest)
        begun = f"~{token}".encode() if before == 0 else None
        self._views.get(scope).extend(before, version, begun, text_digest, vector)
        self._views.settle(scope)
        if begun and time.monotonic() - self._begun_at > _REMIND_SECONDS:
            self._begun_at = time.monotonic()
            yield self._begun

    def reading(self, scope: str) -> FlatIndex:
        """The same index, which counts no searches."""
        same = copy.copy(self)
        same._searched = _uncounted
        return same

    def forget(self) -> None:
        """Drop every copy."""
        self._views.clear()

    def _sync(self, scope: str, view: View) -> Flow[None]:
        """Read on until the copy is what the log says; it may be begun anew meanwhile."""
        log = f"{self._log_prefix}{scope}"
        whole = False
        for _ in range(_TRIES):
            whole = view.state()[0] is None
            if (yield from self._read_on(scope, view, log)):
                break
        if whole:
            view.checked()  # all were just looked at
        elif view.due():
            yield from self._check(scope, view, log)
        self._views.settle(scope)

    def _read_on(self, scope: str, view: View, log: str) -> Flow[bool]:
        """One ZRANGE, and what it has brought; False if all is to be read once more."""
        token, version = view.state()
        piece = yield from read_piece(log, version)
        if piece and not has_token(piece):
            return (yield from self._read_far(scope, view, log))
        if token is not None and (not piece or piece[-1][0] != token):
            yield from self._begin_anew(view)
            return False
        if not piece or piece[-1] == (token, version):
            return True
        return (yield from self._take(scope, view, log, piece[-1][0], version, piece))

    def _read_far(self, scope: str, view: View, log: str) -> Flow[bool]:
        """Read a log that has gained more than a piece, as far back as there is room for."""
        now, first = yield from read_ends(log, self._views.max_rows)
        token, version = view.state()
        if now is None or token not in (None, now):
            yield from self._begin_anew(view)
            return False
        if first:
            view.expect(self._views.max_rows)
        while True:
            piece = yield from read_piece(log, max(first, version))
            ends = not piece or has_token(piece)
            if ends and (not piece or piece[-1][0] != now):
                view.reset()
                return False
            if not (yield from self._take(scope, view, log, now, version, piece)):
                return False
            if ends:
                return True
            version = piece[-1][1]

    def _begin_anew(self, view: View) -> Flow[None]:
        view.reset()
        yield self._begun

    def _take(
        self, scope: str, view: View, log: str, token: bytes, version: int, piece: Piece
    ) -> Flow[bool]:
        """Take over what a piece of the log names after `version`; False if another has begun the
        copy anew meanwhile."""
        upto = piece[-1][1]
        fresh = [(m.decode(), v) for m, v in piece if v > version and m != token]
        dead: Noted = []
        alive = 0
        for batch in self._batches(fresh[-self._views.max_rows :]):
            vectors = yield from self._vectors(scope, [digest for digest, _ in batch])
            if not view.apply(token, version, batch[-1][1], vectors):
                return False
            version = batch[-1][1]
            alive += len(vectors)
            dead += [(digest, v) for digest, v in batch if digest not in vectors]
        if len(dead) >= max(_TIDY_AT, alive // 4):
            yield from self._tidy(log, dead)
        return view.apply(token, version, upto, {})

    def _batches(self, noted: Noted) -> Iterator[Noted]:
        """As many at once as a pipeline may ask for the vectors of."""
        size = max(1, min(_BATCH, _BYTES // (self.dimension * FLOAT32.itemsize)))
        return (noted[start : start + size] for start in range(0, len(noted), size))

    def _vectors(self, scope: str, digests: list[str]) -> Flow[dict[str, Vector]]:
        """The vectors of those entries that are still there and in the scope. One of another
        dimension, or not of length 1, is none."""
        replies = yield from replies_to(
            [Command("HMGET", f"{self._prefix}{scope}:{digest}", "s", "v") for digest in digests]
        )
        expected, length = scope.encode(), self.dimension * FLOAT32.itemsize
        found: list[str] = []
        stored: list[bytes] = []
        for digest, reply in zip(digests, replies, strict=True):
            tag, data = (None, None) if isinstance(reply, ServerReplyError) else reply
            if tag == expected and data is not None and len(data) == length:
                found.append(digest)
                stored.append(data)
        rows = np.frombuffer(b"".join(stored), dtype=FLOAT32).reshape(-1, self.dimension)
        far = np.abs(np.sqrt(np.einsum("ij,ij->i", rows, rows)) - 1.0)
        return {
            digest: row for digest, row, off in zip(found, rows, far, strict=True) if off < 1e-3
        }

    def _check(self, scope: str, view: View, log: str) -> Flow[None]:
        """Look which entries have expired or were deleted, now and then, and let them go."""
        version = 0
        while piece := (yield from read_piece(log, version)):
            noted = [(m.decode(), v) for m, v in piece if v > version and not m.startswith(b"~")]
            dead: Noted = []
            for start in range(0, len(noted), _BATCH):
                batch = noted[start : start + _BATCH]
                replies = yield from replies_to(
                    [Command("EXISTS", f"{self._prefix}{scope}:{digest}") for digest, _ in batch]
                )
                dead += [entry for entry, there in zip(batch, replies, strict=True) if there == 0]
            for digest, _ in dead:
                view.discard(digest)
            yield from self._tidy(log, dead)
            if has_token(piece):
                break
            version = piece[-1][1]
        view.checked()

    def _tidy(self, log: str, dead: Noted) -> Flow[None]:
        for start in range(0, len(dead), _BATCH):
            pairs = [part for pair in dead[start : start + _BATCH] for part in pair]
            yield Script(TIDY, log, *pairs)


def _uncounted(served_by: str) -> None:
    """A search that is nobody's."""
