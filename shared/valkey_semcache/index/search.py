"""One index of the module valkey-search, release 1.0 and later, as the server knows it.

Rule of this file: only what every release has. Tags are hex, every query carries KNN, hits
are sorted here, and errors are told by the words that the releases share. Which index serves
which scope is pair.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import (
    DimensionMismatchError,
    IndexLostError,
    SearchTimeoutError,
    ServerReplyError,
)
from valkey_semcache.flow.operations import Argument, Command, Flow, Nodes
from valkey_semcache.index.contract import ENTRY_FIELDS, Candidate, similarity_of
from valkey_semcache.index.settings import Parameters

Algorithm = Literal["FLAT", "HNSW"]
"""FLAT compares with each vector of the scope; HNSW walks a graph and may miss some."""


EF_RUNTIME = 256
"""Vectors that a search of an HNSW graph looks at. The server's own default of 10 found 42% of the
nearest among 100,000 random vectors."""


_NOBODY = "nobody"  # no hex digest
_similarity = attrgetter("similarity")


def index_name(prefix: str) -> str:
    """Name of the FLAT index over the entries under `prefix` (`NAME:EMB:`)."""
    return f"{prefix}flat"


def graph_name(prefix: str, generation: int) -> str:
    """Name of a generation of the HNSW index over the same entries."""
    return f"{prefix}hnsw:{generation}"


@dataclass(frozen=True, slots=True)
class Info:
    """What FT.INFO tells of an index, summed over a cluster's nodes.

    Args:
        algorithm: `FLAT` or `HNSW`.
        dimension: Of its vectors.
        vectors: Entries in it, the dead not counted.
        capacity: Slots set aside; in HNSW those of the dead are among them.
        filling: Whether entries that were there before it are still being read.
        settings: `m`, `ef_construction` and `ef_runtime` of an HNSW index.
        old: Whether the release is older than 1.2, by its counting in text.
    """

    algorithm: str
    dimension: int | None
    vectors: int
    capacity: int
    filling: bool
    settings: Mapping[str, int]
    old: bool = False


class SearchIndex:
    """One FT index over a prefix: its creation, its facts, and the search in it.

    Args:
        prefix: `NAME:EMB:`, before every entry's key.
        generation: Of an HNSW index, from 1; 0 for the FLAT one.
        dimension: Of the vectors.
        parameters: How it is built and searched.
        model: The embedding model's name, for messages.
        fields: What a search brings of each entry.
    """

    def __init__(
        self,
        prefix: str,
        generation: int,
        dimension: int,
        parameters: Parameters,
        model: str,
        fields: tuple[str, ...] = ENTRY_FIELDS,
    ) -> None:
        self.algorithm: Algorithm = "HNSW" if generation else "FLAT"
        self.generation = generation
        self.name = graph_name(prefix, generation) if generation else index_name(prefix)
        self._prefix = prefix
        self._dimension = dimension
        self._parameters = parameters
        self._model = model
        self._return: tuple[str | int, ...] = ("RETURN", 1 + len(fields), "d", *fields)
        ef = parameters.ef_runtime or EF_RUNTIME
        self._knn = f"@v $q EF_RUNTIME {ef} AS d]" if generation else "@v $q AS d]"

    def nearest(
        self, scope: str, vector: Vector, count: int, timeout_ms: int
    ) -> Flow[Sequence[Candidate]]:
        """One FT.SEARCH.

        Raises:
            IndexLostError: The index is no longer in the server.
            SearchTimeoutError: The server gave up after `timeout_ms`.
        """
        where = f"(@s:{{{scope}}})"
        try:
            reply = yield self._search(where, vector, count, timeout_ms, self._return)
        except ServerReplyError as error:
            self._raise_known(error, timeout_ms)
            raise
        return _candidates(reply)

    def around(
        self, where: str, vector: Vector, count: int, timeout_ms: int
    ) -> Flow[Sequence[Candidate]]:
        """The same under another filter, and without fields. `*` filters nothing."""
        try:
            reply = yield self._search(where, vector, count, timeout_ms, ("RETURN", 1, "d"))
        except ServerReplyError as error:
            self._raise_known(error, timeout_ms)
            raise
        return _candidates(reply, with_fields=False)

    def _search(
        self,
        where: str,
        vector: Vector,
        count: int,
        timeout_ms: int,
        returned: tuple[str | int, ...],
    ) -> Command:
        return Command(
            "FT.SEARCH",
            self.name,
            f"{where}=>[KNN {count} {self._knn}",
            *("PARAMS", 2, "q", vector.tobytes()),
            *("TIMEOUT", timeout_ms),
            *returned,
            *("LIMIT", 0, count),
            *("DIALECT", 2),
        )

    def _raise_known(self, error: ServerReplyError, timeout_ms: int) -> None:
        """Raise what an error reply to a search means, where that is known."""
        if is_lost(error):
            raise IndexLostError(f"The index {self.name} is gone from the server.") from error
        if "timeout" in str(error):
            raise SearchTimeoutError(
                f"The server searched the {self.algorithm} index for {timeout_ms} ms without "
                "coming to an end: the scope holds very many entries, or the server is busy."
            ) from error

    def count(self, scope: str, timeout_ms: int) -> Flow[int | None]:
        """How many entries a scope has; None where the release cannot tell (1.0)."""
        query = ("FT.SEARCH", self.name, f"@s:{{{scope}}}", "LIMIT", 0, 0)
        try:
            reply = yield Command(*query, "TIMEOUT", timeout_ms, "DIALECT", 2)
        except ServerReplyError:
            return None
        return int(reply[0])

    def create(self) -> Flow[None]:
        """Create the index; one that exists already is as good."""
        chosen = self._parameters
        vector: list[str | int] = [
            "TYPE",
            "FLOAT32",
            "DIM",
            self._dimension,
            "DISTANCE_METRIC",
            "COSINE",
        ]
        if chosen.initial_cap is not None:
            vector += ["INITIAL_CAP", chosen.initial_cap]
        if self.generation and chosen.m is not None:
            vector += ["M", chosen.m]
        if self.generation and chosen.ef_construction is not None:
            vector += ["EF_CONSTRUCTION", chosen.ef_construction]
        try:
            yield Command(
                "FT.CREATE",
                self.name,
                *("ON", "HASH", "PREFIX", 1, self._prefix),
                *("SCHEMA", "s", "TAG", "b", "TAG"),
                *("v", "VECTOR", self.algorithm, len(vector), *vector),
            )
        except ServerReplyError as error:
            if "already exists" not in str(error):
                raise

    def settling(self) -> tuple[Argument, ...]:
        """A search that finds nothing: what the module has put off until one comes is done.

        To the node that is asked alone, and in a scope that no digest gives.
        """
        nowhere = bytes(4 * self._dimension)
        return (
            *("FT.SEARCH", self.name, f"(@s:{{{_NOBODY}}})=>[KNN 1 @v $q AS d]"),
            *("PARAMS", 2, "q", nowhere, "LOCALONLY", "NOCONTENT", "DIALECT", 2),
        )

    def info(self) -> Flow[Info | None]:
        """What FT.INFO tells of it; None if it is not there."""
        return (yield from index_info(self.name))

    def check(self, info: Info) -> list[str]:
        """Compare what is in the server with what this index needs.

        Returns:
            What differs from the parameters that were asked for, in words.

        Raises:
            DimensionMismatchError: The index in the server has another dimension.
        """
        if info.dimension is not None and info.dimension != self._dimension:
            raise dimension_mismatch(info.dimension, self._dimension, self._model)
        differs = []
        if info.algorithm != self.algorithm:
            differs.append(f"it is of the kind {info.algorithm}, not {self.algorithm}")
        for option in ("m", "ef_construction"):
            wanted, found = getattr(self._parameters, option), info.settings.get(option)
            if self.generation and wanted is not None and found not in (None, wanted):
                differs.append(f"it has {option}={found}, not {wanted}")
        if self._parameters.initial_cap is not None:
            wanted = self._parameters.initial_cap
            if info.capacity < wanted:
                differs.append(f"it was made for {info.capacity} entries, not {wanted}")
        return differs


def dimension_mismatch(stored: int | None, given: int, model: str) -> DimensionMismatchError:
    """The error for vectors of another dimension than those already stored."""
    return DimensionMismatchError(
        f"The embedding model {model} gives vectors of {given} dimensions, but the entries stored "
        f"under its name have {stored}. Pass embedding_id= with a new name for the new vectors "
        "(the old entries stay), or clear() the cache to begin anew."
    )


def index_info(name: str) -> Flow[Info | None]:
    """What FT.INFO tells of an index, over all nodes of a cluster; None if one has it not.

    Raises:
        ServerReplyError: Another error than that it is not there.
    """
    told: list[Info] = []
    for node in (yield Nodes()):
        try:
            told.append(read_info((yield Command("FT.INFO", name, node=node))))
        except ServerReplyError as error:
            if not is_lost(error):
                raise
            return None
    return Info(
        algorithm=told[0].algorithm,
        dimension=told[0].dimension,
        vectors=sum(info.vectors for info in told),
        capacity=sum(info.capacity for info in told),
        filling=any(info.filling for info in told),
        settings=told[0].settings,
        old=any(info.old for info in told),
    )


def drop_index(name: str) -> Flow[bool]:
    """Drop one index by name; whether it was there."""
    try:
        yield Command("FT.DROPINDEX", name)
    except ServerReplyError as error:
        if not (is_lost(error) or is_unknown_command(error)):
            raise
        return False
    return True


def is_lost(error: ServerReplyError) -> bool:
    """Whether valkey-search says that there is no such index."""
    text = str(error)
    return text.startswith("Index with name") and "not found" in text


def is_unknown_command(error: ServerReplyError) -> bool:
    """Whether the server does not know the command: it has no search module."""
    return str(error).lower().startswith("unknown command")


def read_info(reply: Any) -> Info:
    """Read FT.INFO's nested lists, in which the releases differ, by their names."""

    vector = _find(reply, b"index")
    algorithm = _find(vector, b"algorithm")
    settings = {
        name: int(value)
        for name in ("m", "ef_construction", "ef_runtime")
        if (value := _find(algorithm, name.encode())) is not None
    }
    dimension = _find(vector, b"dimensions")
    return Info(
        algorithm=(_find(algorithm, b"name") or b"?").decode(),
        dimension=None if dimension is None else int(dimension),
        vectors=int(_find(vector, b"size") or 0),
        capacity=int(_find(vector, b"capacity") or 0),
        filling=int(_find(reply, b"backfill_in_progress") or 0) != 0,
        settings=settings,
        old=isinstance(_find(reply, b"num_docs"), bytes),
    )


def _candidates(reply: Any, *, with_fields: bool = True) -> list[Candidate]:
    """Read `[count, key, [name, value, …], key, …]`, which RESP3 gives alike.

    An entry that expired between the search and the reading of its fields has none of them;
    it is left out.
    """
    found = []
    for key, flat in zip(reply[1::2], reply[2::2], strict=True):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        distance = fields.pop(b"d", None)
        if distance is not None and (b"p" in fields or not with_fields):
            own = fields if with_fields else None
            found.append(Candidate(_named(key), similarity_of(float(distance)), own))
    found.sort(key=_similarity, reverse=True)
    return found


def _named(key: bytes) -> str:
    """A key of other bytes than UTF-8 is none of ours, and goes as what cannot be read does."""
    try:  # an error handler's name would cost more than the decoding
        return key.decode()
    except UnicodeDecodeError:
        return key.decode("utf-8", "surrogateescape")


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
