"""Spans and metrics for OpenTelemetry, by its API alone: the app's SDK exports them.

Rule of this file: names and units, by OpenTelemetry's conventions. Metrics carry nothing that grows
with the number of questions, and no text of a question leaves unless `record_text=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from valkey_semcache.errors import ConfigurationError, MissingPackageError
from valkey_semcache.options import checked_flag
from valkey_semcache.prices import priced
from valkey_semcache.question import Question
from valkey_semcache.telemetry.events import ErrorEvent, Event, LookupEvent, StoreEvent
from valkey_semcache.telemetry.timing import Call

SCOPE = "valkey_semcache"
"""The instrumentation scope of all spans and metrics."""

# Seconds. From a local copy to a slow embedding model.
_BOUNDS = [
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
]
_TOKENS = {"input_tokens": "input", "output_tokens": "output"}


@dataclass(frozen=True, slots=True)
class Telemetry:
    """For `telemetry=`: where spans and metrics go.

    Args:
        record_text: Whether spans carry the question asked, the stored one that was nearest, and
            why that was refused. They may hold what users would not want in a trace.
        tracer_provider: OpenTelemetry's; None for the app's global one.
        meter_provider: Likewise.

    Raises:
        ConfigurationError: `record_text` is neither True nor False.
    """

    record_text: bool = False
    tracer_provider: Any = None
    meter_provider: Any = None

    def __post_init__(self) -> None:
        checked_flag(self.record_text, "Telemetry(record_text)")


def instruments_for(telemetry: object, breaker: Callable[[], str], cache: str) -> Any:
    """What `telemetry=` asks for: `Instruments`, or None for none.

    Args:
        telemetry: The option: True, False, None or a `Telemetry`.
        breaker: Gives the circuit breaker's state.
        cache: The cache's name.

    Raises:
        ConfigurationError: It is none of these.
        MissingPackageError: The package opentelemetry-api is not installed.
    """
    if telemetry is None or telemetry is False:
        return None
    if telemetry is True:
        telemetry = Telemetry()
    if not isinstance(telemetry, Telemetry):
        raise ConfigurationError(
            f"telemetry={telemetry!r} is not allowed: it takes True, False or a Telemetry(…)."
        )
    return Instruments(telemetry, breaker, cache)


class Instruments:
    """The tracer and the meters of one cache.

    Args:
        telemetry: Where they send.
        breaker: Gives the circuit breaker's state.
        cache: The cache's name.

    Raises:
        MissingPackageError: The package opentelemetry-api is not installed.
    """

    def __init__(self, telemetry: Telemetry, breaker: Callable[[], str], cache: str) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingPackageError(
                "telemetry= needs OpenTelemetry's API, which is not installed: "
                "pip install 'valkey-semcache[otel]'"
            ) from error
        self._text = telemetry.record_text
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=telemetry.tracer_provider)
        self._error = trace.Status(trace.StatusCode.ERROR)
        meter = metrics.get_meter(SCOPE, meter_provider=telemetry.meter_provider)

        def seconds(name: str, about: str) -> Any:
            return meter.create_histogram(
                name, "s", about, explicit_bucket_boundaries_advisory=_BOUNDS
            )

        def counter(name: str, unit: str, about: str) -> Any:
            return meter.create_counter(name, unit, about)

        self._lookups = seconds("semcache.lookup.duration", "Look-ups, by what they found")
        self._stores = seconds("semcache.store.duration", "Stores that were begun")
        self._embedding = seconds("semcache.embedding.duration", "Waiting for the embedding model")
        self._server = seconds("semcache.server.duration", "Waiting for Valkey")
        self._hits = counter("semcache.hits", "{hit}", "Answers from the cache, by tier")
        self._misses = counter("semcache.misses", "{miss}", "Look-ups that missed, by reason")
        self._kept = counter("semcache.stores", "{store}", "Answers stored, and not stored")
        self._errors = counter("semcache.errors", "{error}", "Errors, by kind")
        self._tokens = counter("semcache.saved.tokens", "{token}", "Tokens of answers served")
        self._money = counter("semcache.saved.cost", "{USD}", "What they would have cost, about")

        def opened(_: Any) -> Iterator[Any]:
            yield metrics.Observation(int(breaker() != "closed"), {"semcache.name": cache})

        meter.create_observable_gauge(
            "semcache.breaker.open", [opened], "{breaker}", "1 while Valkey is left alone, else 0"
        )

    # Spans

    @contextmanager
    def span(self, name: Literal["lookup", "store"], cache: str, call: Call) -> Iterator[None]:
        """A span around a call, under the caller's current one."""
        attributes: dict[str, Any] = {"semcache.name": cache}
        if call.model:
            attributes["gen_ai.request.model"] = call.model
        if call.batch > 1:
            attributes["semcache.batch.size"] = call.batch
        with self._tracer.start_as_current_span(
            f"semcache.{name}",
            attributes=attributes,
            record_exception=False,  # messages may quote
            set_status_on_exception=False,
        ) as call.span:
            try:
                yield
            except BaseException as error:
                self._failed(call.span, type(error).__name__)
                raise

    def describe_lookup(self, span: Any, event: LookupEvent, question: Question | str) -> None:
        """Write a look-up's outcome into its span."""
        if not span.is_recording():
            return
        self._timed(span, event)
        span.set_attribute("semcache.outcome", event.outcome)
        _set(span, "semcache.tier", event.tier)
        _set(span, "semcache.miss.reason", event.reason)
        _set(span, "semcache.similarity", event.similarity)
        _set(span, "gen_ai.request.model", event.model or None)
        if self._text:
            span.set_attribute("semcache.question", _words(question))
            _set(span, "semcache.stored_question", event.question)
            _set(span, "semcache.detail", event.detail or None)
        self._failed(span, event.error)

    def describe_store(self, span: Any, event: StoreEvent, question: Question | str) -> None:
        """Write a store's outcome into its span."""
        if not span.is_recording():
            return
        self._timed(span, event)
        span.set_attribute("semcache.outcome", "stored" if event.stored else "not_stored")
        _set(span, "semcache.store.reason", event.reason or None)
        if self._text:
            span.set_attribute("semcache.question", _words(question))
        self._failed(span, event.error)

    def describe_batch(self, span: Any, error: str | None, index: str | None, well: int) -> None:
        """Write a batch's outcome into its span: how many hit, or were stored."""
        _set(span, "semcache.index", index)
        span.set_attribute("semcache.batch.successes", well)
        self._failed(span, error)

    def _timed(self, span: Any, event: LookupEvent | StoreEvent) -> None:
        _set(span, "semcache.index", event.index)
        span.set_attribute("semcache.embedding.seconds", event.embedding_seconds)
        span.set_attribute("semcache.server.seconds", event.server_seconds)

    def _failed(self, span: Any, error: str | None) -> None:
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(self._error)

    # Metrics

    def count(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, LookupEvent):
            self._count_lookup(event)
        elif isinstance(event, StoreEvent):
            outcome = "stored" if event.stored else "not_stored"
            common = _common(event) | {"semcache.outcome": outcome}
            reason = {"semcache.store.reason": event.reason} if event.reason else {}
            self._kept.add(1, common | reason)
            if event.seconds is not None and event.batch == 1:
                self._stores.record(event.seconds, common)
                self._spent(event, "store")
        elif isinstance(event, ErrorEvent):
            told = {"semcache.name": event.cache, "error.type": event.kind}
            self._errors.add(1, told | {"semcache.operation": event.doing})

    def _count_lookup(self, event: LookupEvent) -> None:
        common = _common(event)
        if event.outcome == "hit":
            found: dict[str, Any] = {"semcache.tier": event.tier}
            self._hits.add(1, common | found)
            self._save(event, common)
        else:
            found = {"semcache.miss.reason": event.reason}
            self._misses.add(1, common | found)
        if event.seconds is not None and event.batch == 1:
            failed = {"error.type": event.error} if event.error else {}
            outcome = {"semcache.outcome": event.outcome}
            self._lookups.record(event.seconds, common | outcome | found | failed)
            self._spent(event, "lookup")

    def _save(self, event: LookupEvent, common: dict[str, Any]) -> None:
        for name, kind in _TOKENS.items():
            if event.usage.get(name):
                self._tokens.add(event.usage[name], common | {"gen_ai.token.type": kind})
        if event.usage:
            for usd in priced({event.model: event.usage}, {event.model: 1}).values():
                self._money.add(float(usd), common)

    def _spent(self, event: LookupEvent | StoreEvent, operation: str) -> None:
        told = {"semcache.name": event.cache, "semcache.operation": operation}
        if event.embedding_seconds:
            self._embedding.record(event.embedding_seconds, told)
        if event.server_seconds:
            self._server.record(event.server_seconds, told)


def _common(event: LookupEvent | StoreEvent) -> dict[str, Any]:
    told: dict[str, Any] = {"semcache.name": event.cache}
    if event.model:
        told["gen_ai.request.model"] = event.model
    if event.index:
        told["semcache.index"] = event.index
    return told


def _set(span: Any, name: str, value: Any) -> None:
    if value is not None:
        span.set_attribute(name, value)


def _words(question: Question | str) -> str:
    return question if isinstance(question, str) else question.text
