"""Looking up and storing many questions at once.

Rule of this file: the same as one by one, in fewer steps: for a batch one call of the embedding
model and one pipeline for each step that a single one would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from valkey_semcache.flow.operations import Flow
from valkey_semcache.flow.together import together
from valkey_semcache.methods.asking import Asking
from valkey_semcache.options import TTL, UNSET, Unset
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.question import Question
from valkey_semcache.stored.codec import Codec

T = TypeVar("T")

BATCH = 256
"""Questions in one batch: more would have the server answer later than a client waits."""

Answered: TypeAlias = tuple[Question | str, Any] | tuple[Question | str, Any, Mapping[str, int]]
"""A question and its answer, perhaps with the tokens that it cost, by name."""


class ManyAtOnce(Asking):
    """Look-ups and stores of many."""

    def lookup_many(
        self,
        questions: Iterable[Question | str],
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
    ) -> list[Hit | Miss]:
        """Look for many answers at once, as `lookup` does for one.

        Args:
            questions: What is asked; of any length, taken 256 at a time.
            codec: Reads the answers, instead of the cache's own.
            similarity_threshold: Instead of the cache's own, 0 to 1.

        Returns:
            A `Hit` or a `Miss` for each, in order.
        """
        outcomes: list[Hit | Miss] = []
        how = (codec, similarity_threshold)
        for batch in batches(questions):
            if self._watch is not None:
                outcomes += self._watch.lookups(self._look_at, batch, *how)
            else:
                outcomes += self._look_at(batch, *how)
        return outcomes

    def _look_at(
        self, batch: Sequence[Question | str], codec: Codec | None, threshold: float | None
    ) -> list[Hit | Miss]:
        flows = [self._lookup(asked, codec, threshold) for asked in batch]
        try:
            found = self._drive.run(together(flows))
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            found = [error] * len(batch)
        return [self._outcome(o, q, codec) for o, q in zip(found, batch, strict=True)]

    async def alookup_many(
        self,
        questions: Iterable[Question | str],
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
    ) -> list[Hit | Miss]:
        """The same as `lookup_many`, without blocking the event loop."""
        outcomes: list[Hit | Miss] = []
        how = (codec, similarity_threshold)
        for batch in batches(questions):
            if self._watch is not None:
                outcomes += await self._watch.alookups(self._alook_at, batch, *how)
            else:
                outcomes += await self._alook_at(batch, *how)
        return outcomes

    async def _alook_at(
        self, batch: Sequence[Question | str], codec: Codec | None, threshold: float | None
    ) -> list[Hit | Miss]:
        flows = [self._lookup(asked, codec, threshold) for asked in batch]
        try:
            found = await self._drive.arun(together(flows))
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            found = [error] * len(batch)
        return [self._outcome(o, q, codec, in_loop=True) for o, q in zip(found, batch, strict=True)]

    def store_many(
        self,
        answered: Iterable[Answered],
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
    ) -> list[bool]:
        """Keep many answers at once, as `store` does one.

        Args:
            answered: Questions with their answers, and perhaps the tokens that each cost; of any
                length, taken 256 at a time.
            codec: Writes the answers, instead of the cache's own.
            ttl: Instead of the cache's own, in any of its forms; None for ever.

        Returns:
            Whether each was stored, in order.
        """
        stored: list[bool] = []
        for batch in batches(answered):
            if self._watch is not None:
                stored += self._watch.stores(self._keep_all, batch, codec, ttl)
            else:
                stored += self._keep_all(batch, codec, ttl)
        return stored

    def _keep_all(
        self, batch: Sequence[Answered], codec: Codec | None, ttl: TTL | Unset
    ) -> list[bool]:
        flows = self._stores(batch, codec, ttl)
        wanted = [flow for flow in flows if flow is not None]
        try:
            done = self._drive.run(together(wanted))
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            done = [error] * len(wanted)
        return self._stored(flows, done)

    async def astore_many(
        self,
        answered: Iterable[Answered],
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
    ) -> list[bool]:
        """The same as `store_many`, without blocking the event loop."""
        stored: list[bool] = []
        for batch in batches(answered):
            if self._watch is not None:
                stored += await self._watch.astores(self._akeep_all, batch, codec, ttl)
            else:
                stored += await self._akeep_all(batch, codec, ttl)
        return stored

    async def _akeep_all(
        self, batch: Sequence[Answered], codec: Codec | None, ttl: TTL | Unset
    ) -> list[bool]:
        flows = self._stores(batch, codec, ttl)
        wanted = [flow for flow in flows if flow is not None]
        try:
            done = await self._drive.arun(together(wanted))
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            done = [error] * len(wanted)
        return self._stored(flows, done)

    def _outcome(
        self,
        found: Hit | Miss | Exception,
        question: Question | str,
        codec: Codec | None,
        *,
        in_loop: bool = False,
    ) -> Hit | Miss:
        outcome = self._missed(found) if isinstance(found, Exception) else found
        if self._background is not None and isinstance(outcome, Miss):
            outcome = self._renewed(self._background, outcome, question, codec, in_loop=in_loop)
        self._counters.seen(outcome)
        return outcome

    def _stores(
        self, batch: Sequence[Answered], codec: Codec | None, ttl: TTL | Unset
    ) -> list[Flow[None] | None]:
        return [
            self._store(question, answer, codec, ttl, usage[0] if usage else None)
            for question, answer, *usage in batch
        ]

    def _stored(
        self, flows: Sequence[Flow[None] | None], done: Sequence[Exception | None]
    ) -> list[bool]:
        results = iter(done)
        stored = []
        for flow in flows:
            result = next(results) if flow is not None else None
            if isinstance(result, Exception):
                self._not_stored(result)
            elif flow is not None:
                self._counters.count("stored")
            stored.append(flow is not None and result is None)
        return stored


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """`values`, 256 at a time."""
    batch: list[T] = []
    for value in values:
        batch.append(value)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
