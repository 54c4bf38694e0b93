"""What is seen from outside: events, callbacks, counted tokens, and the way around the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import PromptTemplate, SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.callbacks.token_counting import TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import llm as llm_events
from llama_index.core.schema import TextNode

from llama_index_valkey_semcache import (
    SemanticCacheBreakerEvent,
    SemanticCacheErrorEvent,
    SemanticCacheHitEvent,
    SemanticCacheLLM,
    SemanticCacheMissEvent,
    SemanticCacheStoreEvent,
    ValkeySemanticCache,
)
from llama_index_valkey_semcache import events as ours
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.llama_index.models import STREAMS_OBJECTS, EchoLLM, HashingEmbedding
from tests.llama_index.test_structured import Said
from tests.servers import Served
from valkey_semcache import SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def template() -> PromptTemplate:
    """A new one each time: programs of models without tools leave their parser in it."""
    return PromptTemplate("Be brief. Question: {query_str}")


class Listening(BaseEventHandler):
    """Keeps every event."""

    heard: list[Any] = []  # noqa: RUF012 - a pydantic field, copied for each

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.heard.append(event)

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kinds)]

    def llm(self) -> list[str]:
        """Names of the events that LlamaIndex itself has for LLMs."""
        return [
            type(event).__name__
            for event in self.heard
            if type(event).__module__ == llm_events.__name__
        ]


@pytest.fixture
def listening() -> Iterator[Listening]:
    root = get_dispatcher()
    handler = Listening()
    before = list(root.event_handlers)
    root.add_event_handler(handler)
    yield handler
    root.event_handlers[:] = before


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


async def stream(way: Way, method: Any, *args: Any, **kwargs: Any) -> None:
    chunks = await way(method, *args, **kwargs)
    if way.name == "sync":
        list(chunks)
    else:
        [chunk async for chunk in chunks]


WAYS = 8 if STREAMS_OBJECTS else 7


async def each_way_of_asking(llm: Any, way: Way, asked: str) -> None:
    await way(llm.chat, user(asked))
    await way(llm.complete, asked)
    await way(llm.predict, template(), query_str=asked)
    await way(llm.structured_predict, Said, template(), query_str=asked)
    await stream(way, llm.stream_chat, user(asked))
    await stream(way, llm.stream_complete, asked)
    await stream(way, llm.stream, template(), query_str=asked)
    if STREAMS_OBJECTS:
        await stream(way, llm.stream_structured_predict, Said, template(), query_str=asked)


async def test_events_tell_of_hits_misses_and_stores(
    cache: ValkeySemanticCache, way: Way, listening: Listening
) -> None:
    llm = SemanticCacheLLM(EchoLLM(), cache)
    await way(llm.chat, user("which wine goes with fish"))
    await way(llm.chat, user(ASKED))
    await way(llm.chat, user(REWORDED))
    *_, miss = listening.of(SemanticCacheMissEvent)
    assert (miss.reason, miss.class_name()) == ("below_threshold", "SemanticCacheMissEvent")
    assert miss.similarity < 0.9
    *_, store = listening.of(SemanticCacheStoreEvent)
    assert (store.stored, store.reason) == (True, "")
    (hit,) = listening.of(SemanticCacheHitEvent)
    assert (hit.tier, hit.question) == ("semantic", ASKED)
    assert hit.similarity > 0.9
    assert hit.usage == {"input_tokens": 4, "output_tokens": 2}
    assert hit.span_id.startswith("SemanticCacheLLM.")
    assert hit.model_dump()["class_name"] == "SemanticCacheHitEvent"
    for event in (miss, store, hit):
        assert event.index == "flat"
        assert event.model == EchoLLM().metadata.model_name
        assert event.seconds > 0


async def test_events_tell_of_errors(plain: Served, way: Way, listening: Listening) -> None:
    cache = ValkeySemanticCache(HashingEmbedding(), "valkey://127.0.0.1:1", fleet_stats=False)
    llm = SemanticCacheLLM(EchoLLM(), cache)
    for _ in range(5):
        await way(llm.complete, ASKED)
    errors = listening.of(SemanticCacheErrorEvent)
    assert {(e.doing, e.kind) for e in errors} == {
        ("a look-up", "ServerUnreachableError"),
        ("a store", "ServerUnreachableError"),
    }
    (opened,) = listening.of(SemanticCacheBreakerEvent)
    assert opened.state == "open"
    stores = listening.of(SemanticCacheStoreEvent)
    assert {(s.stored, s.reason) for s in stores} == {(False, "the cache failed")}


async def test_events_tell_why_nothing_was_stored(
    cache: ValkeySemanticCache, way: Way, listening: Listening
) -> None:
    inner = EchoLLM()
    inner._finish = "length"
    await way(SemanticCacheLLM(inner, cache).chat, user(ASKED))
    (store,) = listening.of(SemanticCacheStoreEvent)
    assert (store.stored, store.reason) == (False, "finish_reason length")


def test_no_event_is_built_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "collecting", None)  # would raise
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1")
    with ours.passed_on(cache):
        cache.skip("no reason")


async def test_hits_emit_no_event_of_an_llm_and_misses_those_of_the_model(
    plain: Served, way: Way, listening: Listening
) -> None:
    from tests.llama_index.models import HashingEmbedding

    bare = EchoLLM()
    await each_way_of_asking(bare, way, ASKED)
    uncached = listening.llm()
    listening.heard.clear()
    async with ValkeySemanticCache(HashingEmbedding(), **plain.options) as cache:
        llm = SemanticCacheLLM(EchoLLM(), cache, mode="off")
        await each_way_of_asking(llm, way, ASKED)
        assert listening.llm() == uncached
        listening.heard.clear()
        llm = SemanticCacheLLM(EchoLLM(), cache)
        for method, arguments in (
            (llm.chat, {"messages": user(ASKED)}),
            (llm.complete, {"prompt": ASKED}),
            (llm.predict, {"prompt": template(), "query_str": ASKED}),
            (
                llm.structured_predict,
                {"output_cls": Said, "prompt": template(), "query_str": ASKED},
            ),
        ):
            listening.heard.clear()
            await way(getattr(bare, method.__name__), **arguments)
            uncached = listening.llm()
            listening.heard.clear()
            await way(method, **arguments)
            assert listening.llm() == uncached, "a miss emits what the model does, once"
        listening.heard.clear()
        await each_way_of_asking(llm, way, ASKED)
        await each_way_of_asking(llm, way, REWORDED)
    assert listening.llm() == []
    assert len(listening.of(SemanticCacheHitEvent)) == 2 * WAYS


async def test_hits_count_no_token_and_call_nobody_back(
    cache: ValkeySemanticCache, way: Way
) -> None:
    tokens = TokenCountingHandler(tokenizer=str.split)
    calls = LlamaDebugHandler(print_trace_on_end=False)
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    llm.callback_manager = CallbackManager([tokens, calls])
    assert inner.callback_manager is llm.callback_manager
    await way(llm.chat, user(ASKED))
    counted = tokens.total_llm_token_count
    events = len(calls.get_event_pairs(CBEventType.LLM))
    bare_tokens = TokenCountingHandler(tokenizer=str.split)
    bare = EchoLLM(callback_manager=CallbackManager([bare_tokens]))
    await way(bare.chat, user(ASKED))
    assert counted == bare_tokens.total_llm_token_count > 0
    assert events > 0
    for asked in (ASKED, REWORDED):
        await way(llm.chat, user(asked))
        await stream(way, llm.stream_chat, user(asked))
    assert tokens.total_llm_token_count == counted
    assert len(calls.get_event_pairs(CBEventType.LLM)) == events


async def test_a_callback_manager_is_the_inner_models(cache: ValkeySemanticCache) -> None:
    first, second = CallbackManager(), CallbackManager()
    inner = EchoLLM(callback_manager=first)
    llm = SemanticCacheLLM(inner, cache)
    assert llm.callback_manager is first
    inner.callback_manager = second
    assert llm.callback_manager is second
    nodes = [TextNode(text="x")]
    engine = SummaryIndex(nodes).as_query_engine(llm=llm)
    engine.callback_manager = first
    engine._response_synthesizer.callback_manager = first
    assert inner.callback_manager is first


async def test_bypass_goes_around_the_cache(cache: ValkeySemanticCache, way: Way) -> None:
    bare, inner = EchoLLM(), EchoLLM()
    await each_way_of_asking(bare, way, ASKED)
    llm = SemanticCacheLLM(inner, cache)
    with llm.bypass():
        await each_way_of_asking(llm, way, ASKED)
        with llm.bypass():
            pass
        await way(llm.chat, user(ASKED))
    assert inner.calls == 1 + WAYS
    assert (cache.stats().lookups, cache.stats().stored) == (0, 0)
    await way(llm.chat, user(ASKED))
    with llm.bypass():
        await way(llm.chat, user(ASKED))
    assert inner.calls == bare.calls + 3
    with pytest.raises(ZeroDivisionError), llm.bypass():
        raise ZeroDivisionError
    await way(llm.chat, user(ASKED))
    assert inner.calls == bare.calls + 3


async def test_bypass_is_for_its_own_task_and_its_own_llm(cache: ValkeySemanticCache) -> None:
    inner = EchoLLM()
    llm, other = SemanticCacheLLM(inner, cache), SemanticCacheLLM(inner, cache)
    await llm.achat(user(ASKED))
    inside, outside = asyncio.Event(), asyncio.Event()

    async def around() -> None:
        with llm.bypass():
            inside.set()
            await outside.wait()
            await llm.achat(user(ASKED))
            await other.achat(user(ASKED))

    task = asyncio.create_task(around())
    await inside.wait()
    await llm.achat(user(ASKED))
    assert inner.calls == 1
    outside.set()
    await task
    assert inner.calls == 2


async def test_modes(cache: ValkeySemanticCache, way: Way) -> None:
    for mode, calls in (("auto", 1), ("exact", 2), ("off", 4)):
        inner = EchoLLM()
        view: Any = {"mode": mode, "namespace": mode}
        llm = SemanticCacheLLM(inner, cache, **view)
        for asked in (ASKED, REWORDED, ASKED, REWORDED):
            await way(llm.chat, user(asked))
        assert inner.calls == calls
    assert cache.stats().lookups == 8
    assert cache.stats().embeddings == 2, "exact-only requests are not embedded"
