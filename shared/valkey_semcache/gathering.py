"""Texts of many tasks in one embedding batch.

Rule of this file: nobody waits longer than the window before the model is asked, and a task that
is cancelled takes nobody along. A model that fails fails for all who waited for that batch.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias
from weakref import WeakKeyDictionary

from valkey_semcache.embedding import EmbeddingModel, Vector
from valkey_semcache.errors import EmbeddingError

_Waiting: TypeAlias = dict[str, list["asyncio.Future[Vector]"]]

MOST = 256
"""Texts in one batch; when there are so many, nobody waits for more."""


class Gathering:
    """Gathers what the tasks of one event loop want embedded within a moment.

    Args:
        embedding: The model.
        seconds: How long the first of a batch waits for others.
    """

    def __init__(self, embedding: EmbeddingModel, seconds: float) -> None:
        self._embedding = embedding
        self._seconds = seconds
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def vector(self, text: str) -> Vector:
        """The unit vector of `text`, embedded with those that others want meanwhile.

        Raises:
            EmbeddingError: The model raised or took too long, or its vector cannot be compared.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Vector] = loop.create_future()
        waiting = self._waiting.get(loop)
        if waiting is None:
            waiting = self._waiting[loop] = {}
            loop.call_later(self._seconds, self._embed, loop, waiting)
        waiting.setdefault(text, []).append(future)
        if len(waiting) >= MOST:
            self._embed(loop, waiting)
        return await future

    def _embed(self, loop: asyncio.AbstractEventLoop, waiting: _Waiting) -> None:
        """Close the batch and have it embedded; nothing if it was closed before."""
        if self._waiting.get(loop) is waiting:
            del self._waiting[loop]
            task = loop.create_task(self._embedded(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _embedded(self, waiting: _Waiting) -> None:
        wanted = {t: futures for t, f in waiting.items() if (futures := _awaited(f))}
        try:
            vectors = await self._embedding.avectors(list(wanted)) if wanted else []
            for futures, vector in zip(wanted.values(), vectors, strict=True):
                _settle(futures, vector)
        except EmbeddingError as error:
            for futures in wanted.values():
                _settle(futures, error)
        finally:
            for futures in wanted.values():
                for future in _awaited(futures):
                    future.cancel()


def _awaited(futures: list[asyncio.Future[Vector]]) -> list[asyncio.Future[Vector]]:
    return [future for future in futures if not future.done()]


def _settle(futures: list[asyncio.Future[Vector]], outcome: Vector | EmbeddingError) -> None:
    for future in _awaited(futures):
        if isinstance(outcome, EmbeddingError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
