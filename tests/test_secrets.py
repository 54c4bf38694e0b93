"""Secrets planted everywhere a user may put them, and looked for everywhere they must not be."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

import pytest
import valkey
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.standin import PlainValkey
from valkey_semcache import Question, SemanticCache, Telemetry
from valkey_semcache.diagnosis import diagnose

PASSWORD = "pass-hunter2-word"
KEYS = {
    "digest_key": "digest-key-0123456789",
    "signing_key": ["signing-key-0123456789", "older-signing-key-012345"],
    "encryption_key": "encryption-key-0123456789",
}
PROVIDER = "sk-provider-0123456789"
PLANTED = (PASSWORD, KEYS["digest_key"], *KEYS["signing_key"], KEYS["encryption_key"], PROVIDER)
ASKED = "how do i reset the password of my account"


class Provider(HashingEmbedder):
    """Puts its key into its errors, as providers do."""

    def __init__(self) -> None:
        super().__init__()
        self.api_key = PROVIDER

    def embed(self, texts: Any) -> Any:
        if any("fail" in text for text in texts):
            raise RuntimeError(f"Incorrect API key provided: {PROVIDER}")
        return super().embed(texts)

    async def aembed(self, texts: Any) -> Any:
        return self.embed(texts)


class Watch:
    """Spans with all the text that they may hold, metrics and events."""

    def __init__(self) -> None:
        self.spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.events: list[Any] = []
        traces = TracerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self.spans))
        meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(True, traces, meters)

    def shown(self) -> str:
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        metrics = self._reader.get_metrics_data()
        return "\n".join([*spans, metrics.to_json() if metrics else "", *map(repr, self.events)])


def shown(cache: SemanticCache) -> str:
    """Whatever of a cache an app may print."""
    parts = [repr(cache), str(cache), repr(cache.stats()), str(cache.stats())]
    parts += [cache.stats()._repr_html_(), repr(cache.with_namespace("t"))]
    return "\n".join(parts)


async def test_no_secret_is_shown_logged_raised_or_stored(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    watch = Watch()
    with PlainValkey(["--requirepass", PASSWORD]) as server:
        url = server.url.replace("valkey://", f"valkey://:{PASSWORD}@")
        identity = json.dumps({"kwargs": {"openai_api_key": {"lc": 1, "type": "secret"}}})
        heard = {"telemetry": watch.telemetry, "on_event": watch.events.append}
        async with SemanticCache(Provider(), url, timeout=5.0, **KEYS, **heard) as cache:
            question = Question(ASKED, identity=identity, namespace="acme")
            await way(cache.store, question, "an answer")
            for text in (ASKED, f"{ASKED} please", "fail", "another"):
                outcome = await way(cache.lookup, Question(text, identity, namespace="acme"))
                told += [repr(outcome), str(outcome), outcome._repr_html_()]
                told.append(str(await way(cache.explain, Question(text, identity))))
            told += [repr(await way(cache.indexes)), shown(cache)]
            told += [json.dumps(line) for line in cache.export_entries(vectors=True)]
        async with SemanticCache(Provider(), url, timeout=5.0, on_error="raise") as cache:
            with pytest.raises(Exception) as caught:
                await way(cache.lookup, "fail")
            # The cause is the provider's own error, and theirs to word; ours repeats none of it.
            told.append(str(caught.value))
        told.append(json.dumps(diagnose(url).as_dict()))
        with valkey.Valkey.from_url(url) as admin:
            told += [repr(admin.config_get("requirepass")).replace(PASSWORD, "")]
            for key in admin.scan_iter("*"):
                kind = admin.type(key)
                read = admin.hgetall if kind == b"hash" else lambda k: admin.zrange(k, 0, -1)
                told += [repr(key), repr(read(key))]
    # The server is gone now: what is said of that?
    async with SemanticCache(Provider(), url, on_error="raise", **KEYS, **heard) as cache:
        for call in (cache.lookup, cache.clear, cache.indexes):
            with pytest.raises(Exception) as caught:
                await way(call, *([ASKED] if call == cache.lookup else []))
            told.append("".join(traceback.format_exception(caught.value)))
        told.append(shown(cache))
    assert len(watch.spans.get_finished_spans()) > 5
    text = "\n".join([*told, watch.shown(), caplog.text])
    assert "ServerUnreachableError" in text
    assert "EmbeddingError" in text
    for secret in PLANTED:
        assert secret not in text, secret


@pytest.mark.parametrize("option", sorted(KEYS))
def test_a_refused_secret_is_not_repeated(option: str) -> None:
    with pytest.raises(ValueError) as caught:
        LangChainCache(HashingEmbedder(), "valkey://h", **{option: ["too-short"]})
    assert "too-short" not in str(caught.value)


async def test_without_encryption_questions_and_answers_are_readable_and_keys_are_not(
    plain: Served, way: Way
) -> None:
    """What is said of the default in the README."""
    async with SemanticCache(HashingEmbedder(), **plain.options) as cache:
        await way(cache.store, Question(ASKED, namespace="acme"), "an answer")
    (key,) = plain.entries()
    stored = plain.admin.hget(key, "p") or b""
    assert ASKED.encode() in stored
    assert b"an answer" in stored
    assert "acme" not in key
    async with SemanticCache(HashingEmbedder(), **plain.options, store_questions=False) as cache:
        await way(cache.store, Question(ASKED, namespace="acme"), "an answer")
    assert ASKED.encode() not in (plain.admin.hget(key, "p") or b"")
