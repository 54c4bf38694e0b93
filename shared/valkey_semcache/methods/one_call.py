"""One call of the model for all who ask the same at the same time.

Rule of this file: whoever waits gets the answer that the first one got, as an object of its own,
or calls for itself: when the first one failed, took too long, or got what is not to be kept.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

from valkey_semcache.coalesce import Wait
from valkey_semcache.errors import SemcacheError
from valkey_semcache.flow.entries import milliseconds
from valkey_semcache.flow.operations import Flow, Script, Sleep
from valkey_semcache.flow.renewing import lock_of
from valkey_semcache.index.scripts import LOCK, UNLOCK
from valkey_semcache.methods.sharing import Sharing
from valkey_semcache.options import TTL, UNSET, Unset, checked_choice, checked_seconds
from valkey_semcache.outcome import Hit
from valkey_semcache.question import Address, Question
from valkey_semcache.stored.codec import Codec

Coalesce: TypeAlias = bool | Literal["fleet"]
"""False, True for this process, `"fleet"` for all processes."""

UsageOf: TypeAlias = Callable[[Any], Mapping[str, int] | None]
"""The tokens that an answer cost, by name."""

_LOOK_AGAIN = 0.05  # seconds between two looks for another process's answer


class OneCall(Sharing):
    """Look-up, call and store in one."""

    def get_or_call(
        self,
        question: Question | str,
        call: Callable[[], Any],
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
        ttl: TTL | Unset = UNSET,
        usage_of: UsageOf | None = None,
        coalesce: Coalesce = True,
        coalesce_timeout: float = 30.0,
    ) -> Any:
        """The stored answer, or that of `call()`, which is stored.

        Those who ask the same at the same time, in any thread or task of this process, wait for
        the first one's call; with `coalesce="fleet"` those in other processes too.

        Args:
            question: What is asked; a string is a question without context.
            call: Asks the model.
            codec: Reads and writes the answer, instead of the cache's own.
            similarity_threshold: Instead of the cache's own, 0 to 1.
            ttl: Instead of the cache's own, in any of its forms; None for ever.
            usage_of: Function of the answer that gives the tokens it cost, by name.
            coalesce: False, True, or `"fleet"` for a lock in Valkey.
            coalesce_timeout: Seconds that anyone waits, and that a lock holds, at most.

        Returns:
            The answer. Where a renewal was due and `call` raised, the old one.

        Raises:
            Exception: Whatever `call` raises.
        """
        fleet = _checked(coalesce, coalesce_timeout) == "fleet"
        outcome = self.lookup(question, codec=codec, similarity_threshold=similarity_threshold)
        if isinstance(outcome, Hit):
            return outcome.answer
        if outcome.reason == "not_cacheable":
            return call()
        question = self.settled(question)

        def made() -> Any:
            try:
                answer = call()
            except Exception as error:
                if outcome.stale is None:
                    raise
                return self._old(outcome.stale, error)
            usage = self._usage(usage_of, answer)
            self.store(question, answer, codec=codec, ttl=ttl, usage=usage)
            return answer

        if not coalesce or outcome.stale is not None:
            return made()
        address = self._address(question)
        turn = self.turn(question, codec, blocking=True, timeout=coalesce_timeout)
        if isinstance(turn, Wait):
            shares = _shares(turn.wait(), turn)
            return self.shared(question, turn.result, codec).answer if shares else made()
        token = secrets.token_hex(8)
        with turn:
            first: Hit | bool = False
            if fleet:
                bar = self._bar(question, similarity_threshold)
                flow = self._first(address, codec, bar, token, coalesce_timeout)
                first = self._drive.run(flow)
            try:
                answer = self._seen(first).answer if isinstance(first, Hit) else made()
            finally:
                if first is True:
                    self._drive.run(self._unlocked(address, token))
            turn.finish(self.to_share(question, answer, codec))
            return answer

    async def aget_or_call(
        self,
        question: Question | str,
        call: Callable[[], Awaitable[Any]],
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
        ttl: TTL | Unset = UNSET,
        usage_of: UsageOf | None = None,
        coalesce: Coalesce = True,
        coalesce_timeout: float = 30.0,
    ) -> Any:
        """The same as `get_or_call`, without blocking the event loop; `call()` is awaited."""
        fleet = _checked(coalesce, coalesce_timeout) == "fleet"
        outcome = await self.alookup(
            question, codec=codec, similarity_threshold=similarity_threshold
        )
        if isinstance(outcome, Hit):
            return outcome.answer
        if outcome.reason == "not_cacheable":
            return await call()
        question = self.settled(question)

        async def made() -> Any:
            try:
                answer = await call()
            except Exception as error:
                if outcome.stale is None:
                    raise
                return self._old(outcome.stale, error)
            usage = self._usage(usage_of, answer)
            await self.astore(question, answer, codec=codec, ttl=ttl, usage=usage)
            return answer

        if not coalesce or outcome.stale is not None:
            return await made()
        address = self._address(question)
        turn = self.turn(question, codec, blocking=False, timeout=coalesce_timeout)
        if isinstance(turn, Wait):
            shares = _shares(await turn.awaited(), turn)
            return self.shared(question, turn.result, codec).answer if shares else await made()
        token = secrets.token_hex(8)
        with turn:
            first: Hit | bool = False
            if fleet:
                bar = self._bar(question, similarity_threshold)
                flow = self._first(address, codec, bar, token, coalesce_timeout)
                first = await self._drive.arun(flow)
            try:
                answer = self._seen(first).answer if isinstance(first, Hit) else await made()
            finally:
                if first is True:
                    await self._drive.arun(self._unlocked(address, token))
            turn.finish(self.to_share(question, answer, codec))
            return answer

    # Steps shared by both

    def _old(self, hit: Hit, error: Exception) -> Any:
        """The answer that a call was to renew, and failed."""
        self._counters.failed("renewing an answer", error)
        return hit.answer

    def _usage(self, usage_of: UsageOf | None, answer: Any) -> Mapping[str, int] | None:
        if usage_of is None:
            return None
        try:
            return usage_of(answer)
        except Exception as error:  # noqa: BLE001 - the answer is worth more than its cost
            self._counters.failed("usage_of", error)
            return None

    def _seen(self, hit: Hit) -> Hit:
        self._counters.count("coalesced")
        return hit

    def _first(
        self,
        address: Address,
        codec: Codec | None,
        threshold: float,
        token: str,
        seconds: float,
    ) -> Flow[Hit | bool]:
        """Whether this process is to make the call, or the hit that another one's call gave.

        False: call without a lock, since waiting took too long or the lock cannot be had.
        """
        lock, until = lock_of(address.key), time.monotonic() + seconds
        codec = codec or self._codec
        waited = False
        try:
            while True:
                won = bool((yield Script(LOCK, lock, token, milliseconds(seconds))))
                # Whoever had the lock before may have stored the answer since.
                found = None
                if waited or not won:
                    found = yield from self._flows.exact(address, codec, threshold)
                if isinstance(found, Hit):
                    if won:
                        yield from self._unlocked(address, token)
                    return found
                if won:
                    return True
                if time.monotonic() > until:
                    return False
                waited = True
                yield Sleep(_LOOK_AGAIN)
        except SemcacheError as error:
            self._counters.failed("waiting for another process's call", error)
            return False

    def _bar(self, question: Question, threshold: float | None) -> float:
        """The threshold for another process's answer; where a rule fails, only the very words."""
        if threshold is not None:
            return threshold
        try:
            return self._thresholds.of(question)
        except Exception:  # noqa: BLE001 - the look-up has counted it
            return 1.0

    def _unlocked(self, address: Address, token: str) -> Flow[None]:
        try:
            yield Script(UNLOCK, lock_of(address.key), token)
        except SemcacheError as error:
            self._counters.failed("freeing the lock of a call", error)


def _shares(well: bool, turn: Wait) -> bool:
    """Whether the call that was waited for gave something to share."""
    return well and turn.result is not None


def _checked(coalesce: Coalesce, seconds: float) -> Coalesce:
    checked_seconds(seconds, "coalesce_timeout")
    checked: Coalesce = checked_choice(coalesce, "coalesce", (True, False, "fleet"))
    return checked
