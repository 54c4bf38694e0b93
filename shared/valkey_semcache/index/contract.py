"""What every index offers.

Rule of this file: the contract and the values that pass over it; no index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from valkey_semcache.embedding import Vector
from valkey_semcache.flow.operations import Flow

IndexKind = Literal["search", "flat"]
"""`search`: valkey-search in the server. `flat`: exact search in the client, any Valkey."""

Fields = Mapping[bytes, bytes]
"""Fields of an entry by name; one that the entry lacks is left out."""

ENTRY_FIELDS = ("p", "x")
"""What a look-up reads of an entry: the envelope, and the questions rejected for it."""

SIGNED_FIELDS = (*ENTRY_FIELDS, "v")
"""What it reads where signatures are checked: the vector too."""


class Candidate(NamedTuple):
    """An entry near the question.

    Args:
        key: Its key in Valkey.
        similarity: Cosine similarity, -1 to 1.
        fields: Its `ENTRY_FIELDS` or `SIGNED_FIELDS`, or None when they have yet to be read.
    """

    key: str
    similarity: float
    fields: Fields | None


class VectorIndex(Protocol):
    """The contract. `scope` is a digest; vectors are unit vectors of the index's dimension."""

    @property
    def kind(self) -> IndexKind:
        """Which of the two it is."""

    @property
    def dimension(self) -> int:
        """Of its vectors."""

    @property
    def generation(self) -> int:
        """Of the HNSW index beside the exact one; 0 for none."""

    @property
    def outgrown(self) -> int:
        """Scopes that the HNSW index serves."""

    def nearest(
        self, scope: str, vector: Vector, count: int, least: float = -1.0
    ) -> Flow[Sequence[Candidate]]:
        """At most `count` entries of the scope, nearest first; all that was stored is seen.

        Where one has a similarity of `least`, those that have less may be missing.
        """

    def read(self, scope: str, candidate: Candidate) -> Flow[Fields | None]:
        """The fields of a candidate that came without; None if it is no longer in the scope."""

    def added(self, scope: str, text_digest: str, vector: Vector, ttl_ms: int) -> Flow[None]:
        """An entry with this vector was written; `ttl_ms` is 0 for none."""

    def reading(self, scope: str) -> VectorIndex:
        """An index over the same entries of a scope for one who must leave no trace."""

    def forget(self) -> None:
        """Let go of what this process holds; entries were removed."""


def similarity_of(distance: float) -> float:
    """Cosine similarity by cosine distance: `1 - distance`, within [-1, 1].

    The server prints distances from about -4e-7 to 2 (float32 arithmetic).
    """
    similarity = 1.0 - distance
    if similarity >= 1.0:
        return 1.0
    return similarity if similarity > -1.0 else -1.0
