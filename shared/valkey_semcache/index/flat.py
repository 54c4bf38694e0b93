"""Exact search in the client, over any Valkey: no module needed.

Rule of this file: what Valkey's log of a scope says is true, what this process holds is a
copy. Each look-up first reads what the log has gained. A copy that cannot be continued (the
log is gone, or was begun anew) is thrown away and read again.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from valkey_semcache.embedding import FLOAT32, Vector
from valkey_semcache.errors import ServerReplyError
from valkey_semcache.flow.operations import (
    Command,
    Flow,
    Script,
    replies_to,
    unless_wrong_type,
)
from valkey_semcache.index.contract import Candidate, Fields, IndexKind
from valkey_semcache.index.scripts import LOG, TIDY
from valkey_semcache.index.view import View, Views

_BATCH = 500  # commands in one pipeline
_REMIND_SECONDS = 60.0  # after which the first store of a scope writes the meta hash again
_TIDY_AT = 64  # dead entries that make it worth cleaning a log


class FlatIndex:
    """Vectors of the scopes in use, held in this process and kept current.

    Args:
        prefix: `NAME:EMB:`, before every entry's key.
        log_prefix: `NAME:log:EMB:`, before every log's key.
        dimension: Of the vectors.
        max_bytes: Memory for vectors in this process, over all scopes; those not asked for
            longest go first, and of a scope that alone is larger, the oldest entries.
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
        self._fields = fields
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
        names = (*self._fields, "s")
        values = yield from unless_wrong_type(Command("HMGET", candidate.key, *names))
        values = values or [None] * len(names)
        fields = {name.encode(): v for name, v in zip(names, values, strict=True) if v is not None}
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
        log = f"{self._log_prefix}{scope}"
        token, version = view.state()
        if token is not None:
            entries = yield from _read_log(log, str(version))
            if not entries or entries[-1][0] != token:
                view.reset()
                token, version = None, 0
                yield self._begun
        if token is None:
            entries = yield from _read_log(log, "-inf")
            if not entries:
                self._views.settle(scope)
                return
            token = entries[-1][0]
        newest = entries[-1][1]
        # The entry at `version` itself comes again, to show that the log goes on from there.
        entries = entries[-1 - self._views.max_rows : -1]
        fresh = [(member.decode(), v) for member, v in entries if v > version]
        dead: list[tuple[str, int]] = []
        # Piece by piece, so that no vector is long in memory twice.
        for start in range(0, len(fresh), _BATCH) or (0,):
            piece, rest = fresh[start : start + _BATCH], fresh[start + _BATCH :]
            vectors = yield from self._vectors(scope, [digest for digest, _ in piece])
            upto = piece[-1][1] if rest else newest
            if not view.apply(token, version, upto, vectors, expecting=len(rest)):
                yield from self._sync(scope, view)
                return
            version = upto
            dead += [(digest, v) for digest, v in piece if digest not in vectors]
        if len(dead) >= max(_TIDY_AT, view.size // 4):
            yield from self._tidy(log, dead)
        if view.due():
            yield from self._check(scope, view)
        self._views.settle(scope)

    def _vectors(self, scope: str, digests: list[str]) -> Flow[dict[str, Vector]]:
        """The vectors of those entries that are still there and in the scope."""
        found: dict[str, Vector] = {}
        expected = scope.encode()
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            replies = yield from replies_to(
                [Command("HMGET", f"{self._prefix}{scope}:{digest}", "s", "v") for digest in batch]
            )
            for digest, reply in zip(batch, replies, strict=True):
                tag, data = (None, None) if isinstance(reply, ServerReplyError) else reply
                if tag == expected and (vector := self._vector(data)) is not None:
                    found[digest] = vector
        return found

    def _vector(self, data: bytes | None) -> Vector | None:
        """A stored vector, unless it is of another dimension or not of length 1."""
        if data is None or len(data) != self.dimension * FLOAT32.itemsize:
            return None
        vector = np.frombuffer(data, dtype=FLOAT32)
        length = float(np.linalg.norm(vector))
        return vector if abs(length - 1.0) < 1e-3 else None

    def _check(self, scope: str, view: View) -> Flow[None]:
        """Look which entries have expired or were deleted, now and then, and let them go."""
        log = f"{self._log_prefix}{scope}"
        entries = yield from _read_log(log, "-inf")
        noted = [(member.decode(), version) for member, version in entries[:-1]]
        dead: list[tuple[str, int]] = []
        for start in range(0, len(noted), _BATCH):
            batch = noted[start : start + _BATCH]
            replies = yield from replies_to(
                [Command("EXISTS", f"{self._prefix}{scope}:{digest}") for digest, _ in batch]
            )
            dead += [entry for entry, there in zip(batch, replies, strict=True) if there == 0]
        for digest, _ in dead:
            view.discard(digest)
        view.checked()
        yield from self._tidy(log, dead)

    def _tidy(self, log: str, dead: list[tuple[str, int]]) -> Flow[None]:
        for start in range(0, len(dead), _BATCH):
            pairs = [part for pair in dead[start : start + _BATCH] for part in pair]
            yield Script(TIDY, log, *pairs)


def _uncounted(served_by: str) -> None:
    """A search that is nobody's."""


def _read_log(log: str, start: str) -> Flow[list[tuple[bytes, int]]]:
    """Members and versions from `start` on, in order; the token is the last, if there is a log.

    RESP2 gives a flat list and scores as text, RESP3 pairs and floats. What no cache writes (other
    bytes than ASCII, scores without end) is passed over.
    """
    command = Command("ZRANGE", log, start, "+inf", "BYSCORE", "WITHSCORES")
    reply: list[Any] = (yield from unless_wrong_type(command)) or []
    nested = bool(reply) and isinstance(reply[0], list | tuple)
    scored = reply if nested else zip(reply[::2], reply[1::2], strict=True)
    try:
        pairs = [(member, int(float(score))) for member, score in scored if member.isascii()]
    except OverflowError:
        return []
    # A log without its token is none of ours to continue.
    return pairs if pairs and pairs[-1][0].startswith(b"~") else []
