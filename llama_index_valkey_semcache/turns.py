"""A request that the cache takes part in, and its turn among those who ask the same.

Rule of this file: however a request ends (answered, failed, a stream that nobody reads on), those
who wait for it are freed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from valkey_semcache import Codec, Hit, Question, SemanticCache
from valkey_semcache.coalesce import Lead, Wait


@dataclass(slots=True)
class Asked:
    """A request that the cache takes part in: the question, and what reads its answer.

    In a `with`, those who wait for it are freed at the end.
    """

    question: Question
    codec: Codec
    _lead: Lead | None = field(default=None, init=False, repr=False, compare=False)

    def turn(self, cache: SemanticCache, *, blocking: bool) -> Wait | None:
        """Begin the call for all who ask the same; or the one under way, to be waited for."""
        turn = cache.turn(self.question, self.codec, blocking=blocking)
        if isinstance(turn, Wait):
            return turn
        self._lead = turn
        return None

    def found(self) -> None:
        """The answer was in the cache, where those who wait find it as well."""
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.finish()

    def kept(self, cache: SemanticCache, answer: Any) -> None:
        """The answer is one to give to others, who may not find it in the cache."""
        lead, self._lead = self._lead, None
        if lead is not None:
            shares = cache.to_share(self.question, answer, self.codec) if lead.awaited else None
            lead.finish(shares)

    def shared(self, cache: SemanticCache, wait: Wait | None) -> Hit | None:
        """What the call that was waited for gave, for who did not find it in the cache."""
        if wait is None or wait.result is None:
            return None
        return cache.shared(self.question, wait.result, self.codec)

    def paused(self, yes: bool) -> None:
        """Whether the call stands still in the hands of a stream's reader."""
        if self._lead is not None:
            self._lead.paused(yes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.give_up()

    def __del__(self) -> None:
        # Of a stream that was never begun there is no other end.
        if self._lead is not None:
            with suppress(Exception):
                self.__exit__()


def ending(asked: Asked | None) -> AbstractContextManager[Any]:
    """A block in which a request is answered, and at whose end it has ended."""
    return nullcontext() if asked is None else asked


@contextmanager
def beginning(asked: Asked) -> Iterator[None]:
    """A block in which a request's stream is begun: it has ended if that fails."""
    try:
        yield
    except BaseException:
        asked.__exit__()
        raise
    asked.paused(True)  # until somebody reads it
