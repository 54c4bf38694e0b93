"""Two indexes of valkey-search over the same entries, so that no scope falls off a cliff.

Rule of this file: FLAT is exact and serves every scope that it answers quickly. HNSW comes once
a scope has outgrown FLAT, and serves such scopes only: for a middling scope it is up to a
hundred times slower. Which one answers sooner is the chooser's to learn, how HNSW comes and
is replaced is in generations.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import IndexLostError, SearchTimeoutError
from valkey_semcache.flow.operations import Argument, Flow, batched
from valkey_semcache.index.chooser import Chooser, Plan
from valkey_semcache.index.contract import Candidate, Fields, IndexKind
from valkey_semcache.index.generations import Generations
from valkey_semcache.index.reading import ReadingIndex
from valkey_semcache.index.search import Algorithm, SearchIndex

WORTH = 1_000_000
"""Numbers in a scope's vectors (entries times dimensions) below which FLAT is quick, so that slow
replies have another cause. 2,600 vectors of 384."""

_TRIES = 3  # of a look-up whose index is replaced while it asks
_IN_TIME = 0.85  # of a time limit: a later reply may be what was found when it ran out
_SHARE = 0.8  # of the client's time limit that the server may search for


class PairIndex:
    """A FLAT index, and an HNSW index once a scope needs it.

    Args:
        flat: The FLAT index; None where HNSW alone is wanted.
        generations: The HNSW index; None where FLAT alone is wanted.
        dimension: Of the vectors.
        seconds: How long the client waits for an answer.
        searched: Told of each search, by the algorithm that served it.
    """

    kind: IndexKind = "search"

    def __init__(
        self,
        flat: SearchIndex | None,
        generations: Generations | None,
        dimension: int,
        seconds: float,
        searched: Callable[[str], None],
    ) -> None:
        self.dimension = dimension
        self.chooser = Chooser(_SHARE * seconds)
        self._flat = flat
        self._graph = generations
        self._patience = _SHARE * seconds
        self._whole_ms = self._limit_ms(self._patience)
        self._searched = searched
        self._counts = True  # whether the release can count a scope's entries

    @property
    def generation(self) -> int:
        """The HNSW index's generation, 0 while there is none."""
        current = self._graph.current if self._graph else None
        return current.generation if current else 0

    @property
    def outgrown(self) -> int:
        """How many scopes the HNSW index serves to this process."""
        return self.chooser.served()

    def nearest(
        self, scope: str, vector: Vector, count: int, least: float = -1.0
    ) -> Flow[Sequence[Candidate]]:
        """One FT.SEARCH in the index that serves the scope, seldom a second in the other.

        Raises:
            IndexLostError: The index is no longer in the server.
            SearchTimeoutError: Neither index answered in time.
        """
        if self._graph is not None and self._graph.building:
            yield from self._graph.go_on()
        for _ in range(_TRIES):
            plan = self._plan(scope)
            try:
                return (yield from self._planned(plan, scope, vector, count))
            except IndexLostError:
                if plan.algorithm == "FLAT" and plan.otherwise is None:
                    raise
                yield from self._replace_lost()
        raise IndexLostError("The index is gone from the server, again and again.")

    def read(self, scope: str, candidate: Candidate) -> Flow[Fields | None]:
        """Its fields came with the search."""
        yield from ()
        return candidate.fields

    def added(self, scope: str, text_digest: str, vector: Vector, ttl_ms: int) -> Flow[None]:
        """A write is searchable when its reply returns; HNSW counts what it takes in."""
        if self._graph is None:
            return
        if self._graph.building:
            yield from self._graph.go_on()
        if self._graph.current is not None:
            yield from self._graph.wrote()

    def reading(self, scope: str) -> ReadingIndex:
        """Whichever index serves the scope, to be read without a trace."""
        graph = self._graph.current if self._graph else None
        by_graph = self._flat is None or (graph and self.chooser.serves(scope) == "HNSW")
        index = graph if by_graph else self._flat
        return ReadingIndex(index, self.dimension, self._whole_ms)

    def settling(self) -> list[tuple[Argument, ...]]:
        """For each index in use, the search after which what scripts wrote is in it."""
        graph = self._graph.current if self._graph else None
        return [index.settling() for index in (self._flat, graph) if index is not None]

    def forget(self) -> None:
        """Nothing of the entries is held here."""

    def _plan(self, scope: str) -> Plan:
        if self._flat is None:
            return Plan("HNSW")
        return self.chooser.plan(scope, bool(self.generation))

    def _planned(
        self, plan: Plan, scope: str, vector: Vector, count: int
    ) -> Flow[Sequence[Candidate]]:
        """Ask the index planned for, and the other one if it takes too long."""
        found: Sequence[Candidate] | None = None
        limit_ms = self._whole_ms if plan.seconds is None else self._limit_ms(plan.seconds)
        index, started = self._serving(plan.algorithm), time.perf_counter()
        try:
            found = yield from index.nearest(scope, vector, count, limit_ms)
            seconds = time.perf_counter() - started
            self._searched(plan.algorithm)
            if batched.get():
                return found  # it took as long as a whole batch: nothing to learn from
            in_time = seconds < (plan.seconds or self._patience)
        except SearchTimeoutError:
            in_time = False
            if plan.otherwise is None:
                self.chooser.ran_out(scope, plan.algorithm, self._patience)
                yield from self._grow(scope)
                raise
        if found is not None and (in_time or plan.otherwise is None):
            if self.chooser.saw(scope, plan.algorithm, seconds):
                yield from self._grow(scope)
            return found
        # Release 1.2 answers with what it has found by then, others with an error.
        self.chooser.ran_out(scope, plan.algorithm, plan.seconds or self._patience)
        other = plan.otherwise or plan.algorithm
        index, started = self._serving(other), time.perf_counter()
        found = yield from index.nearest(scope, vector, count, self._whole_ms)
        self._searched(other)
        self.chooser.saw(scope, other, time.perf_counter() - started)
        return found

    def _serving(self, algorithm: Algorithm) -> SearchIndex:
        """The index of a kind.

        Raises:
            IndexLostError: There is none any more.
        """
        current = self._graph.current if self._graph else None
        index = current if algorithm == "HNSW" else self._flat
        if index is None:
            raise IndexLostError("The index is gone from the server.")
        return index

    def _limit_ms(self, seconds: float) -> int:
        """How long the server may search, as FT.SEARCH takes it: 2 ms to a minute."""
        return min(60_000, max(2, math.ceil(1000 * min(seconds, self._patience))))

    def _grow(self, scope: str) -> Flow[None]:
        """Have HNSW built if the scope has outgrown FLAT and not merely a slow moment."""
        graph, flat = self._graph, self._flat
        if graph is None or flat is None:
            return
        if self.chooser.to_count(scope):
            entries = yield from self._entries(flat, scope)
            self.chooser.counted(scope, large=entries * self.dimension >= WORTH)
        if graph.current is None and not graph.building and self.chooser.is_large(scope):
            yield from graph.begin()

    def _entries(self, flat: SearchIndex, scope: str) -> Flow[int]:
        """How many entries a scope has; where the release cannot tell, those of all scopes."""
        if self._counts:
            entries = yield from flat.count(scope, self._whole_ms)
            if entries is not None:
                return entries
            self._counts = False
        info = yield from flat.info()
        return info.vectors if info else 0

    def _replace_lost(self) -> Flow[None]:
        graph = self._graph
        if graph is None or graph.current is None:
            return
        yield from graph.lost(graph.current)
        if graph.current is None and self._flat is None:
            yield from graph.begin(at_once=True)
