"""The index of the module valkey-search, release 1.0 and later.

Rule of this file: only what every release has. Tags are hex, every query carries KNN, hits
are sorted here, and errors are told by the words that the releases share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import DimensionMismatchError, IndexLostError, ServerReplyError
from valkey_semcache.index.contract import (
    ENTRY_FIELDS,
    Candidate,
    Fields,
    IndexKind,
    similarity_of,
)
from valkey_semcache.operations import Command, Flow


def index_name(prefix: str) -> str:
    """Name of the FLAT index over the entries under `prefix` (`NAME:EMB:`)."""
    return f"{prefix}flat"


class SearchIndex:
    """A FLAT index in the server: exact among the vectors that match the scope's tag.

    Args:
        prefix: `NAME:EMB:`, before every entry's key.
        dimension: Of the vectors.
        timeout_ms: How long the server may search, in milliseconds.
        model: The embedding model's name, for messages.
    """

    kind: IndexKind = "search"

    def __init__(self, prefix: str, dimension: int, timeout_ms: int, model: str) -> None:
        self.dimension = dimension
        self._prefix = prefix
        self._name = index_name(prefix)
        self._timeout_ms = timeout_ms
        self._model = model

    def nearest(self, scope: str, vector: Vector, count: int) -> Flow[Sequence[Candidate]]:
        """One FT.SEARCH.

        Raises:
            IndexLostError: The index is no longer in the server.
        """
        try:
            reply = yield Command(
                "FT.SEARCH",
                self._name,
                f"(@s:{{{scope}}})=>[KNN {count} @v $q AS d]",
                *("PARAMS", 2, "q", vector.tobytes()),
                *("TIMEOUT", self._timeout_ms),
                *("RETURN", 1 + len(ENTRY_FIELDS), "d", *ENTRY_FIELDS),
                *("LIMIT", 0, count),
                *("DIALECT", 2),
            )
        except ServerReplyError as error:
            if is_lost(error):
                raise IndexLostError(f"The index {self._name} is gone from the server.") from error
            raise
        return _candidates(reply)

    def read(self, scope: str, candidate: Candidate) -> Flow[Fields | None]:
        """Its fields came with the search."""
        yield from ()
        return candidate.fields

    def added(self, scope: str, text_digest: str, vector: Vector, ttl_ms: int) -> Flow[None]:
        """Nothing to do: a write is searchable when its reply returns."""
        yield from ()

    def create(self) -> Flow[None]:
        """Create the index; one that exists already is as good."""
        vector = ("TYPE", "FLOAT32", "DIM", self.dimension, "DISTANCE_METRIC", "COSINE")
        try:
            yield Command(
                "FT.CREATE",
                self._name,
                *("ON", "HASH", "PREFIX", 1, self._prefix),
                *("SCHEMA", "s", "TAG", "b", "TAG"),
                *("v", "VECTOR", "FLAT", len(vector), *vector),
            )
        except ServerReplyError as error:
            if "already exists" not in str(error):
                raise

    def forget(self) -> None:
        """Nothing is held here."""

    def check(self, info: Any) -> None:
        """Compare an FT.INFO reply with what this index needs.

        Raises:
            DimensionMismatchError: The index in the server has another dimension.
        """
        stored = _find(info, b"dimensions")
        if stored is not None and int(stored) != self.dimension:
            raise dimension_mismatch(int(stored), self.dimension, self._model)


def dimension_mismatch(stored: int, given: int, model: str) -> DimensionMismatchError:
    """The error for vectors of another dimension than those already stored."""
    return DimensionMismatchError(
        f"The embedding model {model} gives vectors of {given} dimensions, but the entries stored "
        f"under its name have {stored}. Pass embedding_id= with a new name for the new vectors "
        "(the old entries stay), or clear() the cache to begin anew."
    )


def drop_index(name: str) -> Flow[None]:
    """Drop one index by name, if it is there."""
    try:
        yield Command("FT.DROPINDEX", name)
    except ServerReplyError as error:
        if not (is_lost(error) or is_unknown_command(error)):
            raise


def is_lost(error: ServerReplyError) -> bool:
    """Whether valkey-search says that there is no such index."""
    text = str(error)
    return text.startswith("Index with name") and "not found" in text


def is_unknown_command(error: ServerReplyError) -> bool:
    """Whether the server does not know the command: it has no search module."""
    return str(error).lower().startswith("unknown command")


def _candidates(reply: Any) -> list[Candidate]:
    """Read `[count, key, [name, value, …], key, …]`, which RESP3 gives alike.

    An entry that expired between the search and the reading of its fields has none of them;
    it is left out.
    """
    found = []
    for key, flat in zip(reply[1::2], reply[2::2], strict=True):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        distance = fields.pop(b"d", None)
        if distance is not None and b"p" in fields:
            found.append(Candidate(key.decode(), similarity_of(float(distance)), fields))
    found.sort(key=lambda candidate: -candidate.similarity)
    return found


def _find(info: Any, name: bytes) -> Any:
    """The value after `name`, at any depth of FT.INFO's nested lists."""
    if not isinstance(info, list):
        return None
    for here, value in enumerate(info):
        if value == name and here + 1 < len(info):
            return info[here + 1]
        if (deeper := _find(value, name)) is not None:
            return deeper
    return None
