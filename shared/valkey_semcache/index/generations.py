"""The HNSW index and its successors: how one is begun, filled, put to use, and replaced.

Rule of this file: the meta hash says which generation serves and which is being built; every
step is a single script on it or can be done twice, so any process can take up what another
has left half done. HNSW never forgets: deleted, overwritten and expired vectors stay in its
graph, until the next generation, read from the living, takes its place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from valkey_semcache.errors import ServerReplyError
from valkey_semcache.flow.operations import Flow, Script
from valkey_semcache.index.scripts import BUILD, LOST, SWITCH, WRITTEN
from valkey_semcache.index.search import SearchIndex, drop_index, graph_name
from valkey_semcache.locks import ForkLock

logger = logging.getLogger("valkey_semcache")

DEAD = 0.5
"""Of the living, so many dead make a generation worth replacing."""

_LEAST = 1000  # dead, below which it is not
_PAUSE = 1.0  # seconds between two looks at the one being built, in one process
_BATCH = 500  # stores of one process between two looks at the dead


class Generations:
    """The generations of one HNSW index, as this process knows them.

    Args:
        meta_key: `NAME:meta`.
        embedding: Digest of the embedding model's name.
        prefix: `NAME:EMB:`.
        current: The generation that the meta hash named; 0 for none.
        index: Makes the index of a generation.
    """

    def __init__(
        self,
        meta_key: str,
        embedding: str,
        prefix: str,
        current: int,
        index: Callable[[int], SearchIndex],
    ) -> None:
        self.current: SearchIndex | None = index(current) if current else None
        self._meta_key = meta_key
        self._embedding = embedding
        self._prefix = prefix
        self._index = index
        self._building = False
        self._looked = -_PAUSE
        self._written = 0
        self._lock = ForkLock()

    @property
    def building(self) -> bool:
        """Whether a generation is being built, as far as this process knows."""
        return self._building

    def begin(self, *, at_once: bool = False) -> Flow[None]:
        """See to it that there is an HNSW index, or will be: one step, at most once a second.

        Args:
            at_once: Put it to use before it is filled, where there is no other to ask.
        """
        if at_once or self._due():
            yield from self._advance(0, at_once=at_once)

    def go_on(self) -> Flow[None]:
        """Take the next step with a generation that is being built, at most once a second."""
        if self._building and self._due():
            current = self.current.generation if self.current else 0
            yield from self._advance(current - 1)

    def lost(self, index: SearchIndex) -> Flow[None]:
        """An index was not found: another one serves by now, or it is gone."""
        yield Script(LOST, self._meta_key, self._embedding, index.generation)
        if self.current is index:
            self.current = None
        yield from self._advance(-1)

    def wrote(self) -> Flow[None]:
        """An entry was stored. Now and then the dead are counted, and a successor begun."""
        current = self.current
        if current is None:
            return
        with self._lock:
            self._written += 1
            written = self._written
            if written < _BATCH:
                return
            self._written = 0
        total = yield Script(WRITTEN, self._meta_key, self._embedding, written)
        info = yield from current.info()
        if info is None or int(total) - info.vectors <= max(_LEAST, DEAD * info.vectors):
            return
        logger.info(
            "The HNSW index %s has taken in %d vectors of which %d live; the next generation "
            "is begun.",
            *(current.name, total, info.vectors),
        )
        yield from self._advance(current.generation)

    def _due(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._looked < _PAUSE:
                return False
            self._looked = now
            return True

    def _advance(self, replaces: int, *, at_once: bool = False) -> Flow[None]:
        """One step: learn what the meta hash says, build what is to be built, switch.

        Args:
            replaces: The generation to be replaced if it is the current one; 0 to have one at
                all, -1 only to learn and to finish what has been begun.
        """
        said = yield Script(BUILD, self._meta_key, self._embedding, replaces)
        current, building = int(said[0]), int(said[1])
        self._building = bool(building)
        if current != (self.current.generation if self.current else 0):
            self.current = self._index(current) if current else None
        if not building:
            return
        successor = self._index(building)
        info = yield from successor.info()
        if info is None:
            if building > 1:
                # What a process that stopped after the last switch left behind.
                yield from self._drop(building - 2)
            yield from successor.create()
            info = yield from successor.info()
        if not at_once and (info is None or info.filling):
            return
        taken_in = info.vectors if info else 0
        switched = yield Script(SWITCH, self._meta_key, self._embedding, building, taken_in)
        self.current, self._building = successor, False
        with self._lock:
            self._written = 0
        if switched and current:
            yield from self._drop(current)

    def _drop(self, generation: int) -> Flow[None]:
        if generation < 1:
            return
        try:
            yield from drop_index(graph_name(self._prefix, generation))
        except ServerReplyError as error:
            logger.warning("The HNSW index of generation %d stays: %s", generation, error)
