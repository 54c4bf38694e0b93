"""Identical questions at the same time cost one call of the model, streamed or not."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from pydantic import BaseModel

from llama_index_valkey_semcache import (
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.llama_index.engines import RetrievingEmbedding, engine, retrievals
from tests.llama_index.models import HashingEmbedding
from tests.waiting import await_until, wait_until
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
ASKERS = 4


def template() -> PromptTemplate:
    """A new one each time: structured prediction leaves its parser in the template."""
    return PromptTemplate("Answer: {query_str}")


class Out(BaseModel):
    text: str


class Gated(CustomLLM):
    """Answers once its gate is open; a stream gives its first word before. `calls` counts."""

    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)
    _calls: list[str] = PrivateAttr(default_factory=list)
    _fails: int = PrivateAttr(default=0)

    @property
    def calls(self) -> int:
        return len(self._calls)

    def let_go(self) -> None:
        self._gate.set()

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="gated")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self._answer(prompt))

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        yield CompletionResponse(text='{"text":', delta='{"text":')
        text = self._answer(prompt)
        yield CompletionResponse(text=text, delta=text.removeprefix('{"text":'))

    def _answer(self, prompt: str) -> str:
        self._calls.append(prompt)
        if not self._gate.wait(30):
            raise TimeoutError
        if len(self._calls) <= self._fails:
            raise RuntimeError("the model failed")
        return '{"text": "an answer"}'


def of(llm: SemanticCacheLLM, kind: str) -> Any:
    """Asks in one of the ways, sync."""
    if kind == "chat":
        return llm.chat([ChatMessage(role="user", content=ASKED)]).message.content
    if kind == "complete":
        return llm.complete(ASKED).text
    if kind == "predict":
        return llm.predict(template(), query_str=ASKED)
    if kind == "structured":
        return llm.structured_predict(Out, template(), query_str=ASKED).text
    if kind == "stream":
        return "".join(llm.stream(template(), query_str=ASKED))
    messages = [ChatMessage(role="user", content=ASKED)]
    chunks = llm.stream_complete(ASKED) if kind == "stream_complete" else llm.stream_chat(messages)
    return "".join(chunk.delta or "" for chunk in chunks)


async def aof(llm: SemanticCacheLLM, kind: str) -> Any:
    """Asks in one of the ways, async."""
    if kind == "chat":
        return (await llm.achat([ChatMessage(role="user", content=ASKED)])).message.content
    if kind == "complete":
        return (await llm.acomplete(ASKED)).text
    if kind == "predict":
        return await llm.apredict(template(), query_str=ASKED)
    return (await llm.astructured_predict(Out, template(), query_str=ASKED)).text


WHOLE = ["chat", "complete", "predict", "structured"]
STREAMS = ["stream", "stream_complete", "stream_chat"]


def waiters(cache: ValkeySemanticCache) -> int:
    return sum(len(flight.wakers) for flight in cache.coalescer._flights.values())


def in_threads(pool: ThreadPoolExecutor, ask: Callable[[], Any], count: int) -> list[Future[Any]]:
    return [pool.submit(contextvars.Context().run, ask) for _ in range(count)]


@pytest.mark.parametrize("kind", WHOLE + STREAMS)
def test_threads_share_one_call(cache: ValkeySemanticCache, kind: str) -> None:
    inner = Gated()
    cache.coalescer.stall = 600  # or the waiters would leave, on a busy machine
    with ThreadPoolExecutor(ASKERS) as pool:
        # Each through a wrapper of its own, as a web app makes them for each request.
        asked = in_threads(pool, lambda: of(SemanticCacheLLM(inner, cache), kind), ASKERS)
        wait_until(lambda: waiters(cache) == ASKERS - 1)
        inner.let_go()
        answers = {future.result(60) for future in asked}
    assert len(answers) == 1
    assert inner.calls == 1
    assert cache.stats().hits == {"exact": ASKERS - 1}
    assert len(cache.coalescer) == 0


@pytest.mark.parametrize("kind", WHOLE)
async def test_tasks_share_one_call(cache: ValkeySemanticCache, kind: str) -> None:
    inner = Gated()
    llm = SemanticCacheLLM(inner, cache)
    tasks = [asyncio.create_task(aof(llm, kind)) for _ in range(ASKERS)]
    await await_until(lambda: waiters(cache) == ASKERS - 1)
    inner.let_go()
    async with asyncio.timeout(60):
        assert len(set(await asyncio.gather(*tasks))) == 1
    assert (inner.calls, cache.stats().hits) == (1, {"exact": ASKERS - 1})


@pytest.mark.parametrize("kind", ["chat", "stream_chat"])
def test_without_coalescing_each_calls(cache: ValkeySemanticCache, kind: str) -> None:
    inner = Gated()
    llm = SemanticCacheLLM(inner, cache, coalesce=False)
    with ThreadPoolExecutor(ASKERS) as pool:
        asked = in_threads(pool, lambda: of(llm, kind), ASKERS)
        wait_until(lambda: inner.calls == ASKERS)
        inner.let_go()
        assert len({future.result(60) for future in asked}) == 1


def test_a_word_for_coalesce_that_is_none_is_refused(cache: ValkeySemanticCache) -> None:
    with pytest.raises(ConfigurationError, match="coalesce='yes' is not allowed"):
        SemanticCacheLLM(Gated(), cache, coalesce="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["chat", "stream_chat", "predict"])
def test_waiters_of_a_call_that_failed_call_for_themselves(
    cache: ValkeySemanticCache, kind: str
) -> None:
    inner = Gated()
    inner._fails = 1
    cache.coalescer.stall = 600
    llm = SemanticCacheLLM(inner, cache)
    with ThreadPoolExecutor(ASKERS) as pool:
        asked = in_threads(pool, lambda: of(llm, kind), ASKERS)
        wait_until(lambda: waiters(cache) == ASKERS - 1)
        inner.let_go()
        failed = [future for future in asked if future.exception(60) is not None]
    assert len(failed) == 1
    assert 2 <= inner.calls <= ASKERS


@pytest.mark.parametrize("read", [0, 1], ids=["never begun", "begun"])
def test_waiters_of_an_abandoned_stream_call_for_themselves(
    cache: ValkeySemanticCache, read: int
) -> None:
    inner = Gated()
    cache.coalescer.stall = 600
    llm = SemanticCacheLLM(inner, cache)
    stream = llm.stream_complete(ASKED)
    for _ in range(read):
        next(stream)
    with ThreadPoolExecutor(1) as pool:
        (asked,) = in_threads(pool, lambda: of(llm, "complete"), 1)
        wait_until(lambda: waiters(cache) == 1)
        inner.let_go()
        del stream
        gc.collect()
        assert asked.result(60) == '{"text": "an answer"}'
    assert cache.stats().coalesced == 0


def test_who_reads_a_stream_slowly_holds_up_nobody(cache: ValkeySemanticCache) -> None:
    inner = Gated()
    inner.let_go()
    llm = SemanticCacheLLM(inner, cache)
    stream = llm.stream_complete(ASKED)
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        (asked,) = in_threads(pool, lambda: of(llm, "complete"), 1)
        assert asked.result(20) == '{"text": "an answer"}'
    stream.close()


async def test_in_an_outage_too_they_share_one_call() -> None:
    inner = Gated()
    url = "valkey://127.0.0.1:1"
    async with ValkeySemanticCache(HashingEmbedding(), url) as cache:
        llm = SemanticCacheLLM(inner, cache)
        tasks = [asyncio.create_task(aof(llm, "chat")) for _ in range(2)]
        with ThreadPoolExecutor(1) as pool:
            threads = in_threads(pool, lambda: of(llm, "chat"), 1)
            await await_until(lambda: waiters(cache) == 2)
            inner.let_go()
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*tasks, *map(asyncio.wrap_future, threads))
        assert answers == ['{"text": "an answer"}'] * 3
        assert (inner.calls, cache.stats().coalesced) == (1, 2)


async def test_tenants_do_not_wait_for_one_another(cache: ValkeySemanticCache) -> None:
    inner = Gated()
    views = [SemanticCacheLLM(inner, cache, namespace=name) for name in ("acme", "globex")]
    tasks = [asyncio.create_task(aof(view, "chat")) for view in views]
    await await_until(lambda: inner.calls == 2)
    inner.let_go()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)


async def test_a_call_inside_of_its_own_stream_runs_through(cache: ValkeySemanticCache) -> None:
    inner = Gated()
    inner.let_go()
    cache.coalescer.stall = 600
    llm = SemanticCacheLLM(inner, cache)
    async with asyncio.timeout(60):
        for _ in llm.stream_complete(ASKED):
            assert llm.complete(ASKED).text
            assert (await llm.acomplete(ASKED)).text


# Query engines


@pytest.mark.parametrize("streaming", [False, True])
def test_identical_queries_cost_one_of_the_engines(
    cache: ValkeySemanticCache, streaming: bool
) -> None:
    inner = Gated()
    cache.coalescer.stall = 600
    behind = engine(inner, RetrievingEmbedding(), streaming=streaming)

    def ask() -> str:
        response = SemanticCacheQueryEngine(behind, cache, corpus_version="v1").query(ASKED)
        return "".join(response.response_gen) if streaming else str(response)  # type: ignore[union-attr]

    with ThreadPoolExecutor(ASKERS) as pool:
        asked = in_threads(pool, ask, ASKERS)
        wait_until(lambda: waiters(cache) == ASKERS - 1)
        inner.let_go()
        answers = {future.result(60) for future in asked}
    assert len(answers) == 1
    assert (inner.calls, retrievals(behind)) == (1, 1)
    assert cache.stats().hits == {"exact": ASKERS - 1}
    assert len(cache.coalescer) == 0


async def test_identical_queries_of_tasks_cost_one_also_in_an_outage() -> None:
    inner = Gated()
    async with ValkeySemanticCache(HashingEmbedding(), "valkey://127.0.0.1:1") as cache:
        behind = engine(inner, RetrievingEmbedding())
        asking = SemanticCacheQueryEngine(behind, cache, corpus_version="v1")
        tasks = [asyncio.create_task(asking.aquery(ASKED)) for _ in range(ASKERS)]
        await await_until(lambda: waiters(cache) == ASKERS - 1)
        inner.let_go()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*tasks)
        assert len({str(answer) for answer in answers}) == 1
        assert all(answer.source_nodes for answer in answers)
        assert (inner.calls, cache.stats().coalesced) == (1, ASKERS - 1)


@pytest.mark.parametrize("how", ["failed", "closed"])
def test_waiters_of_a_query_that_gave_nothing_ask_for_themselves(
    cache: ValkeySemanticCache, how: str
) -> None:
    inner = Gated()
    inner._fails = 1 if how == "failed" else 0
    cache.coalescer.stall = 600
    behind = engine(inner, RetrievingEmbedding(), streaming=how == "closed")
    asking = SemanticCacheQueryEngine(behind, cache, corpus_version="v1")

    def ask() -> str:
        response: Any = asking.query(ASKED)
        return "".join(response.response_gen) if how == "closed" else str(response)

    with ThreadPoolExecutor(2) as pool:
        if how == "closed":
            abandoned: Any = asking.query(ASKED)
            next(abandoned.response_gen)
            (asked,) = in_threads(pool, ask, 1)
            wait_until(lambda: waiters(cache) == 1)
            abandoned.response_gen.close()
            inner.let_go()
            assert asked.result(60)
            return
        both = in_threads(pool, ask, 2)
        wait_until(lambda: waiters(cache) == 1)
        inner.let_go()
        assert [future.exception(60) is None for future in both].count(True) == 1
    assert inner.calls == 2


def test_queries_that_are_not_to_wait_do_not(cache: ValkeySemanticCache) -> None:
    inner = Gated()
    behind = engine(inner, RetrievingEmbedding())
    asking = SemanticCacheQueryEngine(behind, cache, corpus_version="v1", coalesce=False)
    with ThreadPoolExecutor(2) as pool:
        asked = in_threads(pool, lambda: str(asking.query(ASKED)), 2)
        wait_until(lambda: inner.calls == 2)
        inner.let_go()
        assert len({future.result(60) for future in asked}) == 1
