"""The indexes as one reads them who must leave no trace: nothing learned, begun or created.

Rule of this file: the same entries in the same order as a look-up is given, and no more; and
beside them what lies in other scopes, which no look-up ever sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import IndexLostError
from valkey_semcache.flow.operations import Flow
from valkey_semcache.index.contract import Candidate, Fields, IndexKind
from valkey_semcache.index.search import SearchIndex


class ReadingIndex:
    """The one of valkey-search's indexes that serves a scope.

    Args:
        index: That one; None if this process knows of none.
        dimension: Of its vectors.
        limit_ms: How long the server may search.
    """

    kind: IndexKind = "search"
    generation = 0
    outgrown = 0

    def __init__(self, index: SearchIndex | None, dimension: int, limit_ms: int) -> None:
        self.dimension = dimension
        self._index = index
        self._limit_ms = limit_ms

    def nearest(
        self, scope: str, vector: Vector, count: int, least: float = -1.0
    ) -> Flow[Sequence[Candidate]]:
        """One FT.SEARCH.

        Raises:
            IndexLostError: There is no index.
            SearchTimeoutError: The server gave up.
        """
        return (yield from self._there().nearest(scope, vector, count, self._limit_ms))

    def around(self, where: str, vector: Vector, count: int) -> Flow[Sequence[Candidate]]:
        """The nearest of other scopes too, without their fields.

        Args:
            where: The filter, `*` for none.
            vector: The question's.
            count: How many at most.

        Raises:
            IndexLostError: There is no index.
            SearchTimeoutError: The server gave up.
        """
        return (yield from self._there().around(where, vector, count, self._limit_ms))

    def read(self, scope: str, candidate: Candidate) -> Flow[Fields | None]:
        """Its fields came with the search."""
        yield from ()
        return candidate.fields

    def added(self, scope: str, text_digest: str, vector: Vector, ttl_ms: int) -> Flow[None]:
        """Nothing is added here."""
        yield from ()

    def reading(self, scope: str) -> ReadingIndex:
        """Itself."""
        return self

    def forget(self) -> None:
        """Nothing is held here."""

    def _there(self) -> SearchIndex:
        if self._index is None:
            raise IndexLostError("The index is not in the server.")
        return self._index
