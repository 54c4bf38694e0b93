"""Filling a cache before it is asked.

Rule of this file: what is there already stays, so that an interrupted filling is gone on with by
beginning it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from valkey_semcache.flow.operations import Command, Flow, replies_to
from valkey_semcache.methods.many import Answered, ManyAtOnce, batches
from valkey_semcache.options import TTL, UNSET, Unset
from valkey_semcache.stored.codec import Codec

Progress = Callable[[int], None]
"""Called with the number of answers that were dealt with since the last call."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a filling did.

    Args:
        stored: Answers stored.
        there: Answers that were there already, and were left.
        failed: Answers not stored; `stats()` has the reasons.
    """

    stored: int = 0
    there: int = 0
    failed: int = 0


class Filling(ManyAtOnce):
    """Stores of what others have answered before."""

    def fill(
        self,
        answered: Iterable[Answered],
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """Store answers, except where one is stored for the same words already.

        Args:
            answered: Questions with their answers, as for `store_many`; of any length.
            codec: Writes the answers, instead of the cache's own.
            ttl: Instead of the cache's own, in any of its forms; None for ever.
            again: True stores also where one is there.
            progress: Called after each batch, with its length.

        Returns:
            How many were stored, were there, and failed.

        Raises:
            ServerError: Valkey could not be reached or refused.
        """
        filled = Filled()
        for batch in batches(answered):
            missing = batch if again else self._drive.run(self._missing(batch))
            stored = self.store_many(missing, codec=codec, ttl=ttl)
            filled = _added(filled, len(batch), stored)
            if progress is not None:
                progress(len(batch))
        return filled

    async def afill(
        self,
        answered: Iterable[Answered],
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """The same as `fill`, without blocking the event loop."""
        filled = Filled()
        for batch in batches(answered):
            missing = batch if again else await self._drive.arun(self._missing(batch))
            stored = await self.astore_many(missing, codec=codec, ttl=ttl)
            filled = _added(filled, len(batch), stored)
            if progress is not None:
                progress(len(batch))
        return filled

    def _missing(self, batch: Sequence[Answered]) -> Flow[list[Answered]]:
        keys = [self._address(answered[0]).key for answered in batch]
        there = yield from replies_to([Command("EXISTS", key) for key in keys])
        return [answered for answered, found in zip(batch, there, strict=True) if not found]


def _added(filled: Filled, batch: int, stored: Sequence[bool]) -> Filled:
    return Filled(
        filled.stored + sum(stored),
        filled.there + batch - len(stored),
        filled.failed + len(stored) - sum(stored),
    )
