"""A flow carried out aside: it reads what it would read, and changes nothing.

Rule of this file: reads go on to the drive. What would write is answered here, as if it had been
done; so a flow comes to the same end as without, and nobody can tell that it has run.
"""

from __future__ import annotations

from typing import Any, TypeVar

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import SemcacheError
from valkey_semcache.flow.notes import Notes
from valkey_semcache.flow.operations import Command, Flow, Operation, Pipeline, Script, Settle
from valkey_semcache.index.scripts import BUILD, LOCK
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters

T = TypeVar("T")

_READS = frozenset(("EXISTS", "FT.INFO", "FT.SEARCH", "HMGET", "SCAN", "XRANGE", "ZRANGE"))


def aside(flow: Flow[T]) -> Flow[T]:
    """The flow's value, with all that it would write left undone."""
    outcome: Any = None
    error: SemcacheError | None = None
    while True:
        try:
            operation = flow.send(outcome) if error is None else flow.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        outcome, error = None, None
        try:
            outcome = yield from _answered(operation)
        except SemcacheError as raised:
            error = raised


def _answered(operation: Operation) -> Flow[Any]:
    if isinstance(operation, Command | Script):
        return (yield from _one(operation))
    if isinstance(operation, Pipeline):
        reads = {n: c for n, c in enumerate(operation.commands) if _reads(c)}
        replies = (yield Pipeline(list(reads.values()))) if reads else []
        read = dict(zip(reads, replies, strict=True))
        return [read.get(number, 0) for number in range(len(operation.commands))]
    if isinstance(operation, Settle):
        return None
    return (yield operation)


def _one(operation: Command | Script) -> Flow[Any]:
    if isinstance(operation, Command):
        return (yield operation) if _reads(operation) else 0
    if operation.source is LOCK:
        # Would it be free? Who takes it, need not be asked.
        taken = (yield Command("HMGET", operation.key, "o"))[0]
        return 0 if taken else 1
    return [0, 0] if operation.source is BUILD else 1


def _reads(command: Command | Script) -> bool:
    return isinstance(command, Command) and command.arguments[0] in _READS


class NotesAside(Notes):
    """What a process remembers, to be read; what is written is forgotten with this object.

    Args:
        notes: The cache's own.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._real = notes

    def vector(self, address: Address) -> Vector | None:
        """As the cache's own notes have it."""
        return self._real.vector(address)

    def elsewhere(self, address: Address) -> bool:
        """As the cache's own notes have it."""
        return self._real.elsewhere(address)


class Remarks(Counters):
    """In place of a cache's counters: what would be counted as an error, or logged, is kept here
    as sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def warn(
        self, kind: str, message: str, *arguments: object, cause: BaseException | None = None
    ) -> None:
        """Keep a sentence instead of logging it."""
        sentence = message % arguments if arguments else message
        if sentence not in self.told:
            self.told.append(sentence)
