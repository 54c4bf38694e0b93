"""Who watches a cache: everything that is told of its look-ups and stores is told here.

Rule of this file: a call is passed through as it is, its outcome untouched. What a listener raises
is counted and goes no further.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.precision.judging import at_work
from valkey_semcache.question import Question
from valkey_semcache.server.breaker import Breaker
from valkey_semcache.stats import Counters
from valkey_semcache.telemetry.events import (
    BreakerEvent,
    ErrorEvent,
    Event,
    LookupEvent,
    OnEvent,
    StoreEvent,
    collected,
)
from valkey_semcache.telemetry.timing import Call, current

if TYPE_CHECKING:
    from valkey_semcache.telemetry.otel import Instruments
    from valkey_semcache.telemetry.reporter import Reporter

Asked = Question | str
Outcome = Hit | Miss


class Watch:
    """Watches one cache.

    Args:
        cache: Its name.
        counters: Its counters, which tell of errors.
        breaker: Its circuit breaker.
        index: Gives the kind of its index.
        on_event: The app's function, if there is one.
        instruments: OpenTelemetry's, if they are on.
        reporter: Tells the fleet's counters, if they are kept.
    """

    def __init__(
        self,
        cache: str,
        counters: Counters,
        breaker: Breaker,
        index: Callable[[], str | None],
        on_event: OnEvent | None,
        instruments: Instruments | None,
        reporter: Reporter | None,
    ) -> None:
        self._cache = cache
        self._counters = counters
        self._index = index
        self._on_event = on_event
        self._instruments = instruments
        self._reporter = reporter
        self._quiet = on_event is None and instruments is None
        self._timed = counters.timed
        counters.on_failure = self.failed
        breaker.on_change = self.breaker

    # Calls that pass through

    def lookup(
        self, look: Callable[..., Outcome], question: Asked, codec: Any, threshold: float | None
    ) -> Outcome:
        """A look-up by `look(question, codec, threshold)`."""
        if self._quiet and collected.get() is None:
            begun = perf_counter()
            outcome = look(question, codec, threshold)
            self._took(_model(question), outcome, perf_counter() - begun)
            return outcome
        with self._call("lookup", _model(question)) as call:
            outcome = look(question, codec, threshold)
            self._looked_up(call, question, outcome)
        return outcome

    async def alookup(
        self,
        look: Callable[..., Awaitable[Outcome]],
        question: Asked,
        codec: Any,
        threshold: float | None,
    ) -> Outcome:
        """The same, to be awaited."""
        if self._quiet and collected.get() is None:
            begun = perf_counter()
            outcome = await look(question, codec, threshold)
            self._took(_model(question), outcome, perf_counter() - begun)
            return outcome
        with self._call("lookup", _model(question)) as call:
            outcome = await look(question, codec, threshold)
            self._looked_up(call, question, outcome)
        return outcome

    def store(self, store: Callable[..., bool], question: Asked, *what: Any) -> bool:
        """A store by `store(question, *what)`."""
        if self._quiet and collected.get() is None:
            stored = store(question, *what)
        else:
            with self._call("store", _model(question)) as call:
                stored = store(question, *what)
                self._stored(call, question, stored)
        self._mark()
        return stored

    async def astore(
        self, store: Callable[..., Awaitable[bool]], question: Asked, *what: Any
    ) -> bool:
        """The same, to be awaited."""
        if self._quiet and collected.get() is None:
            stored = await store(question, *what)
        else:
            with self._call("store", _model(question)) as call:
                stored = await store(question, *what)
                self._stored(call, question, stored)
        self._mark()
        return stored

    def lookups(
        self, look: Callable[..., list[Outcome]], questions: Sequence[Asked], *how: Any
    ) -> list[Outcome]:
        """A batch of look-ups by `look(questions, *how)`."""
        with self._call("lookup", _same_model(questions), len(questions)) as call:
            outcomes = look(questions, *how)
            self._all_looked_up(call, questions, outcomes)
        return outcomes

    async def alookups(
        self, look: Callable[..., Awaitable[list[Outcome]]], questions: Sequence[Asked], *how: Any
    ) -> list[Outcome]:
        """The same, to be awaited."""
        with self._call("lookup", _same_model(questions), len(questions)) as call:
            outcomes = await look(questions, *how)
            self._all_looked_up(call, questions, outcomes)
        return outcomes

    def stores(
        self, store: Callable[..., list[bool]], answered: Sequence[Any], *how: Any
    ) -> list[bool]:
        """A batch of stores by `store(answered, *how)`."""
        with self._call("store", _same_model([a[0] for a in answered]), len(answered)) as call:
            stored = store(answered, *how)
            self._all_stored(call, answered, stored)
        return stored

    async def astores(
        self, store: Callable[..., Awaitable[list[bool]]], answered: Sequence[Any], *how: Any
    ) -> list[bool]:
        """The same, to be awaited."""
        with self._call("store", _same_model([a[0] for a in answered]), len(answered)) as call:
            stored = await store(answered, *how)
            self._all_stored(call, answered, stored)
        return stored

    # What happens beside them

    def missed(self, miss: Miss) -> None:
        """A request that was not looked up at all."""
        if at_work.get():
            return
        self._mark()
        if self._heard():
            self._tell(LookupEvent.of(miss, "", None, self._cache, self._index()))

    def skipped(self, reason: str) -> None:
        """An answer that is not to be stored: of the store under way, or of none."""
        self._mark()
        call = current.get()
        if call is not None:
            # In a batch it is not known whose it is.
            known = not call.reason or reason in call.reason
            call.reason = call.reason or reason if known else f"{call.reason}; or {reason}"
        elif self._heard():
            self._tell(StoreEvent(False, reason, cache=self._cache, index=self._index()))

    def failed(self, doing: str, error: BaseException) -> None:
        """An error that was counted."""
        self._mark()
        call, kind = current.get(), type(error).__name__
        if call is not None:
            call.error = kind
        if self._heard():
            self._tell(ErrorEvent(doing, kind, str(error), self._cache))

    def breaker(self, state: Literal["open", "closed"]) -> None:
        """The breaker has changed."""
        if state == "open":
            self._counters.count("opened")
        self._mark()
        if self._heard():
            self._tell(BreakerEvent(state, self._cache))

    # Steps of the above

    @contextmanager
    def _call(self, name: Literal["lookup", "store"], model: str, batch: int = 1) -> Iterator[Call]:
        call = Call(model, batch)
        token = current.set(call)
        try:
            if self._instruments is None:
                yield call
            else:
                with self._instruments.span(name, self._cache, call):
                    yield call
        finally:
            current.reset(token)

    def _looked_up(self, call: Call, question: Asked, outcome: Outcome) -> None:
        if not outcome and at_work.get():
            return
        times = call.times()
        self._took(call.model, outcome, times[0])
        index = self._index()
        event = LookupEvent.of(outcome, call.model, call.error, self._cache, index, *times)
        if self._instruments is not None and call.span is not None:
            self._safely(self._instruments.describe_lookup, call.span, event, question)
        self._tell(event)

    def _all_looked_up(
        self, call: Call, questions: Sequence[Asked], outcomes: Sequence[Outcome]
    ) -> None:
        times, index = call.times(), self._index()
        hits = 0
        for question, outcome in zip(questions, outcomes, strict=True):
            model = _model(question)
            hits += bool(outcome)
            self._took(model, outcome, None)
            if self._heard():
                event = LookupEvent.of(outcome, model, call.error, self._cache, index, *times)
                self._tell(event)
        if self._instruments is not None and call.span is not None:
            self._safely(self._instruments.describe_batch, call.span, call.error, index, hits)

    def _stored(self, call: Call, question: Asked, stored: bool) -> None:
        event = self._store_event(call, call.model, stored, self._index(), call.times())
        if self._instruments is not None and call.span is not None:
            self._safely(self._instruments.describe_store, call.span, event, question)
        self._tell(event)

    def _all_stored(self, call: Call, answered: Sequence[Any], stored: Sequence[bool]) -> None:
        times, index = call.times(), self._index()
        self._mark()
        if self._heard():
            for (question, *_), each in zip(answered, stored, strict=True):
                self._tell(self._store_event(call, _model(question), each, index, times))
        if self._instruments is not None and call.span is not None:
            self._safely(
                self._instruments.describe_batch, call.span, call.error, index, sum(stored)
            )

    def _store_event(
        self,
        call: Call,
        model: str,
        stored: bool,
        index: str | None,
        times: tuple[float, float, float, int],
    ) -> StoreEvent:
        error = None if stored else call.error
        reason = "" if stored else call.reason or "the cache failed"
        return StoreEvent(stored, reason, model, error, self._cache, index, *times)

    def _took(self, model: str, outcome: Outcome, seconds: float | None) -> None:
        if isinstance(outcome, Hit):
            self._timed(model, outcome.tier, seconds)
        elif at_work.get():
            return  # what a judge asks is no look-up of the app's
        else:
            self._timed(model, "miss", seconds)
        reporter = self._reporter
        if reporter is not None and not reporter.marked:
            reporter.mark()

    def _mark(self) -> None:
        if self._reporter is not None and not self._reporter.marked:
            self._reporter.mark()

    def _heard(self) -> bool:
        return not self._quiet or collected.get() is not None

    def _tell(self, event: Event) -> None:
        if (events := collected.get()) is not None:
            events.append(event)
        if self._on_event is not None:
            self._safely(self._on_event, event)
        if self._instruments is not None:
            self._safely(self._instruments.count, event)

    def _safely(self, listener: Callable[..., object], *told: object) -> None:
        try:
            listener(*told)
        except Exception as error:  # noqa: BLE001 - who listens never breaks the call
            kind = type(error).__name__
            self._counters.count("errors", kind)
            self._counters.warn(
                *(f"listener {kind}", "A listener of the semantic cache raised %s: %s"),
                *(kind, error),
                cause=error,
            )


def _model(question: Asked) -> str:
    return question.model if isinstance(question, Question) else ""


def _same_model(questions: Sequence[Asked]) -> str:
    """The model of all of a batch; "" where there are several."""
    models = {_model(question) for question in questions}
    return models.pop() if len(models) == 1 else ""
