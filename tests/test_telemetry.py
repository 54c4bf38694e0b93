"""OpenTelemetry: spans and metrics of look-ups and stores, by the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import EchoLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError, LocalTier, Question, SemanticCache, Telemetry

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
USAGE = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}


class Exported:
    """What an app's SDK would export."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.memory))
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("the app")

    def telemetry(self, **options: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self, name: str = "") -> list[Any]:
        return [s for s in self.memory.get_finished_spans() if s.name.startswith(name)]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def sums(self, name: str, *labels: str) -> dict[Any, float]:
        """A metric by the values of some attributes."""
        found: dict[Any, float] = {}
        for point in self.points(name):
            key = tuple(point.attributes.get(label) for label in labels)
            number = point.value if hasattr(point, "value") else point.count
            found[key] = found.get(key, 0) + number
        return found


@pytest.fixture
def exported() -> Iterator[Exported]:
    exported = Exported()
    yield exported
    exported.tracers.shutdown()
    exported.meters.shutdown()


def cache_on(served: Served, exported: Exported, **options: Any) -> SemanticCache:
    record = options.pop("record_text", False)
    telemetry = exported.telemetry(record_text=record)
    return SemanticCache(HashingEmbedder(), telemetry=telemetry, **(served.options | options))


def asked(text: str) -> Question:
    return Question(text, identity="gpt-4o", model="gpt-4o")


async def test_spans_say_what_was_found_and_where(
    either_index: Served, exported: Exported, way: Way
) -> None:
    async with cache_on(either_index, exported, local=LocalTier(), name=either_index.name) as cache:
        assert not await way(cache.lookup, asked(ASKED))
        await way(cache.store, asked(ASKED), "x", usage=USAGE)
        hits = [await way(cache.lookup, asked(text)) for text in (ASKED, REWORDED)]
        await way(cache.lookup, asked("which wine goes with fish"))
    miss, store, local, semantic, far = exported.spans("semcache.")
    assert (miss.name, store.name) == ("semcache.lookup", "semcache.store")
    assert miss.attributes["semcache.miss.reason"] == "no_neighbour"
    assert store.attributes["semcache.outcome"] == "stored"
    assert local.attributes["semcache.tier"] == "local"
    told = dict(semantic.attributes)
    assert told.pop("semcache.similarity") == hits[1].similarity > 0.9
    assert told.pop("semcache.server.seconds") > 0
    assert told.pop("semcache.embedding.seconds") > 0
    assert told == {
        "semcache.name": either_index.name,
        "semcache.outcome": "hit",
        "semcache.tier": "semantic",
        "semcache.index": either_index.index,
        "gen_ai.request.model": "gpt-4o",
    }
    assert far.attributes["semcache.miss.reason"] == "below_threshold"
    assert far.attributes["semcache.similarity"] < 0.9
    assert all(span.status.status_code is StatusCode.UNSET for span in exported.spans())


async def test_metrics_count_tiers_reasons_tokens_and_money(
    plain: Served, exported: Exported, way: Way
) -> None:
    async with cache_on(plain, exported) as cache:
        await way(cache.lookup, asked(ASKED))
        await way(cache.store, asked(ASKED), "x", usage=USAGE)
        for text in (ASKED, ASKED, REWORDED):
            await way(cache.lookup, asked(text))
        cache.skip("too dull")
        cache.missed("no prompt")
        await way(cache.lookup_many, [asked(ASKED), asked("which wine goes with fish")])
        await way(cache.store_many, [(asked("which wine goes with fish"), "x")])
    tiers = exported.sums("semcache.hits", "semcache.tier", "gen_ai.request.model")
    assert tiers == {("exact", "gpt-4o"): 3, ("semantic", "gpt-4o"): 1}
    reasons = exported.sums("semcache.misses", "semcache.miss.reason")
    assert reasons == {("no_neighbour",): 1, ("not_cacheable",): 1, ("below_threshold",): 1}
    stores = exported.sums("semcache.stores", "semcache.outcome", "semcache.store.reason")
    assert stores == {("stored", None): 2, ("not_stored", "too dull"): 1}
    tokens = exported.sums("semcache.saved.tokens", "gen_ai.token.type")
    assert tokens == {("input",): 4000, ("output",): 800}
    (money,) = exported.sums("semcache.saved.cost").values()
    assert money == pytest.approx(4 * 0.0045), "the list price, as in stats().saved_usd"
    durations = exported.sums("semcache.lookup.duration", "semcache.outcome", "semcache.tier")
    assert durations == {("miss", None): 1, ("hit", "exact"): 2, ("hit", "semantic"): 1}
    spent = exported.sums("semcache.embedding.duration", "semcache.operation")
    assert spent == {("lookup",): 2}, "a store after its miss does not embed"
    assert exported.sums("semcache.server.duration", "semcache.operation") == {
        ("lookup",): 4,
        ("store",): 2,
    }
    (lookups,) = [p for p in exported.points("semcache.server.duration") if p.count == 4]
    assert 0 < lookups.sum < 60
    batches = [s for s in exported.spans() if "semcache.batch.size" in s.attributes]
    assert [(s.name, s.attributes["semcache.batch.successes"]) for s in batches] == [
        ("semcache.lookup", 1)
    ], "a batch of one is told as one"


async def test_errors_are_recorded_by_kind(plain: Served, exported: Exported, way: Way) -> None:
    def fails(text: str) -> Any:
        raise ConnectionError(f"quoting {text}")

    options: dict[str, Any] = plain.options | {"telemetry": exported.telemetry()}
    async with SemanticCache(HashingEmbedder(fails), **options) as cache:
        assert (await way(cache.lookup, ASKED)).reason == "error"
        assert not await way(cache.store, ASKED, "x")
    lookup, store = exported.spans()
    for span in (lookup, store):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "EmbeddingError"
        assert not span.events, "no exception with its message"
    told = exported.sums("semcache.errors", "error.type", "semcache.operation")
    assert told == {("EmbeddingError", "a look-up"): 1, ("EmbeddingError", "a store"): 1}
    (failed,) = exported.points("semcache.lookup.duration")
    assert failed.attributes["error.type"] == "EmbeddingError"
    async with SemanticCache(HashingEmbedder(fails), **options, on_error="raise") as strict:
        with pytest.raises(Exception, match="ConnectionError"):
            await way(strict.lookup, ASKED)
    assert exported.spans()[-1].status.status_code is StatusCode.ERROR


async def test_the_breaker_is_a_gauge(exported: Exported, way: Way) -> None:
    options: dict[str, Any] = {"fleet_stats": False, "telemetry": exported.telemetry()}
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1", **options)
    assert exported.sums("semcache.breaker.open", "semcache.name") == {("semcache",): 0}
    for _ in range(6):
        await way(cache.lookup, ASKED)
    assert exported.sums("semcache.breaker.open", "semcache.name") == {("semcache",): 1}
    assert exported.sums("semcache.errors", "error.type") == {("ServerUnreachableError",): 6}


@pytest.mark.parametrize("record", [False, True])
async def test_texts_are_recorded_only_if_asked_for(
    plain: Served, exported: Exported, way: Way, record: bool
) -> None:
    async with cache_on(plain, exported, record_text=record) as cache:
        await way(cache.store, ASKED, "the answer's own words")
        await way(cache.lookup, REWORDED)
        await way(cache.lookup, "which wine goes with fish")
    data = exported.reader.get_metrics_data()
    everything = " ".join(span.to_json() for span in exported.spans())
    assert "the answer" not in everything
    assert "password" not in data.to_json()
    assert ("password" in everything) == ("wine" in everything) == record
    if record:
        hit = exported.spans("semcache.lookup")[0].attributes
        assert (hit["semcache.question"], hit["semcache.stored_question"]) == (REWORDED, ASKED)


async def test_spans_are_children_of_the_callers_and_parents_of_what_they_call(
    plain: Served, exported: Exported
) -> None:
    def embed(text: str) -> Any:
        with exported.tracer.start_as_current_span("embedding"):
            return [1.0, float(len(text))]

    options: dict[str, Any] = plain.options | {"telemetry": exported.telemetry()}

    class Embedder(HashingEmbedder):
        aembed = None  # type: ignore[assignment]

    async with SemanticCache(Embedder(embed), **options) as cache:

        def work(number: int) -> None:
            with exported.tracer.start_as_current_span(f"thread {number}"):
                cache.lookup(f"a question of number {number}")

        async def task(number: int) -> None:
            with exported.tracer.start_as_current_span(f"task {number}"):
                await cache.alookup(f"another question of number {number}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(task(n) for n in range(4)))
        for thread in threads:
            await asyncio.to_thread(thread.join)
    spans = {span.context.span_id: span for span in exported.spans()}
    lookups = exported.spans("semcache.lookup")
    parents = {spans[span.parent.span_id].name for span in lookups}
    assert parents == {f"{kind} {n}" for kind in ("thread", "task") for n in range(4)}
    embeddings = exported.spans("embedding")
    assert len(embeddings) == 8
    for embedding in embeddings:
        above = spans[embedding.parent.span_id]
        assert above.name == "semcache.lookup"
        assert above.context.trace_id == embedding.context.trace_id


async def test_a_cancelled_look_up_ends_its_span(plain: Served, exported: Exported) -> None:
    begun = asyncio.Event()

    class Hanging(HashingEmbedder):
        async def aembed(self, texts: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

    options: dict[str, Any] = plain.options | {"telemetry": exported.telemetry()}
    async with SemanticCache(Hanging(), **options) as cache:
        task = asyncio.create_task(cache.alookup(ASKED))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (span,) = exported.spans()
    assert span.attributes["error.type"] == "CancelledError"


async def test_both_frameworks(plain: Served, exported: Exported, way: Way) -> None:
    options: dict[str, Any] = plain.options | {"telemetry": exported.telemetry()}
    from langchain_core.outputs import Generation

    async with LangChainCache(HashingEmbeddings(), **options) as cache:
        for _ in range(2):
            if not await way(cache.lookup, ASKED, "an llm_string"):
                await way(cache.update, ASKED, "an llm_string", [Generation(text="x")])
    async with LlamaIndexCache(HashingEmbedding(), **options) as theirs:
        llm = SemanticCacheLLM(EchoLLM(), theirs)
        for _ in range(2):
            await way(llm.complete, ASKED)
    names = [span.name.removeprefix("semcache.") for span in exported.spans()]
    assert names == ["lookup", "store", "lookup"] * 2
    assert exported.sums("semcache.hits", "semcache.tier") == {("exact",): 2}


def test_the_option_takes_what_it_says() -> None:
    for bad in ("yes", 1, {"record_text": True}):
        with pytest.raises(ConfigurationError, match="telemetry="):
            SemanticCache(HashingEmbedder(), "valkey://h", telemetry=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="record_text"):
        Telemetry(record_text="yes")  # type: ignore[arg-type]
    SemanticCache(HashingEmbedder(), "valkey://h", telemetry=True)  # the app's global providers


def test_without_the_package_it_costs_nothing_and_says_what_to_install() -> None:
    program = """
import sys
import valkey_semcache
cache = valkey_semcache.SemanticCache(type("E", (), {"model": "m", "embed": len})(), "valkey://h")
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
try:
    valkey_semcache.SemanticCache(
        type("E", (), {"model": "m", "embed": len})(), "valkey://h", telemetry=True)
except valkey_semcache.MissingPackageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install 'valkey-semcache[otel]'" in done.stdout
