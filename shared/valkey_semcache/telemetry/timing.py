"""What a look-up or a store spends its time on: the embedding model, and Valkey.

Rule of this file: measuring. A call is known by its context, so threads and tasks do not meet, and
what nobody measures is run as ever.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import Any

from valkey_semcache.drive import Drive, T
from valkey_semcache.flow.operations import Embed, EmbedMany, Flow, Operation, Settle, Sleep


class Call:
    """A look-up, a store or a batch of either that is under way.

    Args:
        model: The model's name.
        batch: How many there are.
    """

    __slots__ = (
        *("batch", "begun", "embedding_seconds", "error", "model", "reason", "server_seconds"),
        "span",
    )

    def __init__(self, model: str, batch: int = 1) -> None:
        self.model = model
        self.batch = batch
        self.embedding_seconds = 0.0
        self.server_seconds = 0.0
        self.error: str | None = None
        self.reason = ""
        self.span: Any = None
        self.begun = perf_counter()

    def times(self) -> tuple[float, float, float, int]:
        """Seconds since it began, and of them for the embedding and for the server; the batch."""
        seconds = perf_counter() - self.begun
        return seconds, self.embedding_seconds, self.server_seconds, self.batch


current: ContextVar[Call | None] = ContextVar("valkey_semcache_call", default=None)
"""The call that is under way in this context."""


class TimedDrive(Drive):
    """Takes the time of each operation for the call under way."""

    def run(self, flow: Flow[T]) -> T:
        """As `Drive.run`."""
        call = current.get()
        return super().run(flow) if call is None else self._run(flow, partial(self._timed, call))

    async def arun(self, flow: Flow[T]) -> T:
        """As `Drive.arun`."""
        call = current.get()
        if call is None:
            return await super().arun(flow)
        return await self._arun(flow, partial(self._atimed, call))

    def _timed(self, call: Call, operation: Operation) -> Any:
        begun = perf_counter()
        try:
            return self._do(operation)
        finally:
            _spent(call, operation, perf_counter() - begun)

    async def _atimed(self, call: Call, operation: Operation) -> Any:
        begun = perf_counter()
        try:
            return await self._ado(operation)
        finally:
            _spent(call, operation, perf_counter() - begun)


def _spent(call: Call, operation: Operation, seconds: float) -> None:
    if isinstance(operation, Embed | EmbedMany):
        call.embedding_seconds += seconds
    elif not isinstance(operation, Settle | Sleep):
        call.server_seconds += seconds
