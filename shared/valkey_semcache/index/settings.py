"""What a cache's index is made with.

Rule of this file: values that the constructor knows; no index, so that a cache is made without one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from valkey_semcache.index.contract import ENTRY_FIELDS


@dataclass(frozen=True, slots=True)
class Parameters:
    """How indexes are built and searched; None for the server's own default.

    Args:
        m: Edges of a vector in the HNSW graph, 2 to 512.
        ef_construction: Vectors looked at when one is added to the graph, 1 to 4096.
        ef_runtime: Vectors looked at by a search of the graph, 1 to 4096.
        initial_cap: Slots set aside when an index is created.
    """

    m: int | None = None
    ef_construction: int | None = None
    ef_runtime: int | None = None
    initial_cap: int | None = None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index is made with.

    Args:
        wanted: `"search"`, `"flat"`, or `"auto"` for what the server can do.
        name: The cache's name.
        embedding: Digest of the embedding model's name.
        model: That name, for messages.
        timeout: Seconds that the client waits for an answer.
        flat_max_bytes: Memory for the flat index in this process.
        algorithm: Of valkey-search: `"flat"`, `"hnsw"`, or `"auto"` for both, each where it
            is the quicker one.
        parameters: How valkey-search builds and searches its indexes.
        fields: What a look-up reads of each entry.
    """

    wanted: Literal["auto", "search", "flat"]
    name: str
    embedding: str
    model: str
    timeout: float
    flat_max_bytes: int
    algorithm: Literal["auto", "flat", "hnsw"] = "auto"
    parameters: Parameters = field(default_factory=Parameters)
    fields: tuple[str, ...] = ENTRY_FIELDS

    @property
    def prefix(self) -> str:
        """`NAME:EMB:`, before every entry's key."""
        return f"{self.name}:{self.embedding}:"

    @property
    def log_prefix(self) -> str:
        """`NAME:log:EMB:`, before every log's key."""
        return f"{self.name}:log:{self.embedding}:"

    @property
    def meta_key(self) -> str:
        """`NAME:meta`."""
        return f"{self.name}:meta"
