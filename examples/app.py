"""An app whose cache is seen in Grafana: see compose.yaml beside this file.

Asks its questions again and again, in changing words, and sends spans and metrics to the collector.
"""

from __future__ import annotations

import argparse
import random
import time

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from valkey_semcache import Question, SemanticCache
from valkey_semcache.offline import MiniLM

TOPICS = ("reset my password", "change my address", "cancel my order", "get a refund")
WORDS = ("How do I {}?", "How can I {}?", "What must I do to {}?", "Please help me to {}.")
MODELS = ("gpt-4o", "gpt-4o-mini")


def sends_to(collector: str) -> None:
    """Set up OpenTelemetry as any app does; the cache uses what is global."""
    resource = Resource.create({"service.name": "semcache-example"})
    exporter = OTLPMetricExporter(f"{collector}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=5000)
    metrics.set_meter_provider(MeterProvider([reader], resource=resource))
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
    trace.set_tracer_provider(tracers)


def ask(cache: SemanticCache) -> None:
    """One question, answered by the cache, or by a model that is only played here."""
    model = random.choice(MODELS)
    text = random.choice(WORDS).format(random.choice(TOPICS))
    question = Question(text, identity=model, model=model)

    def call() -> str:
        time.sleep(0.8)
        return f"An answer of {model}."

    usage = {"input_tokens": 400, "output_tokens": 150}
    with trace.get_tracer("example").start_as_current_span("ask"):
        cache.get_or_call(question, call, usage_of=lambda answer: usage, ttl=60)


def main() -> None:
    """Ask until Ctrl-C, or so many times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="valkey://localhost:6379", help="of Valkey")
    parser.add_argument("--collector", default="http://localhost:4318", help="OTLP over HTTP")
    parser.add_argument("--times", type=int, default=0, help="questions; 0 for no end")
    given = parser.parse_args()
    sends_to(given.collector)
    asked = 0
    with SemanticCache(MiniLM(), given.url, similarity_threshold=0.8, telemetry=True) as cache:
        try:
            while not given.times or asked < given.times:
                ask(cache)
                asked += 1
                time.sleep(random.uniform(0, 0.3))
        except KeyboardInterrupt:
            pass
        print(cache.stats())
    for provider in (metrics.get_meter_provider(), trace.get_tracer_provider()):
        provider.shutdown()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
