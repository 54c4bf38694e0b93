"""`cached(model, cache)`: streams are answered from the cache, and stored when they ended well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, REWORDED, added_up, chat_model, streamed, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served


async def test_a_stream_is_answered_from_the_cache(
    openai: OpenAIServer, either_index: Served, way: Way
) -> None:
    async with ValkeySemanticCache(HashingEmbeddings(), **either_index.options) as cache:
        model = cached(chat_model(openai), cache)
        first = added_up(await streamed(way, model, ASKED))
        again = added_up(await streamed(way, model, ASKED))
        reworded = added_up(await streamed(way, model, REWORDED))
        assert first.content == again.content == reworded.content == ANSWER
        assert (tier(first), tier(again), tier(reworded)) == (None, "exact", "semantic")
        assert openai.calls == 1
        assert cache.stats().hits == {"exact": 1, "semantic": 1}
        assert cache.stats().saved_tokens["total_tokens"] == 32


@pytest.mark.parametrize("first", ["invoke", "stream"])
async def test_invoke_and_stream_share_entries(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, first: str
) -> None:
    model = cached(chat_model(openai), own)
    if first == "invoke":
        await way(model.invoke, ASKED)
        hit: Any = added_up(await streamed(way, model, REWORDED))
    else:
        await streamed(way, model, ASKED)
        hit = await way(model.invoke, REWORDED)
    assert (tier(hit), hit.content, openai.calls) == ("semantic", ANSWER, 1)


async def test_entries_are_shared_with_a_plain_model_and_the_global_cache(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    await way(chat_model(openai).invoke, ASKED)
    hit = added_up(await streamed(way, cached(chat_model(openai), cache), ASKED))
    assert (tier(hit), openai.calls) == ("exact", 1)
    await streamed(way, cached(chat_model(openai), cache), "which wine goes with fish")
    hit = await way(chat_model(openai).invoke, "which wine goes with fish")
    assert (tier(hit), openai.calls) == ("exact", 2)


async def test_a_hit_comes_word_by_word_and_all_else_in_the_last_chunk(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    stored = await way(model.invoke, ASKED)
    *words, last = await streamed(way, model, ASKED)
    assert [chunk.content for chunk in words] == [
        word if number == 0 else f" {word}" for number, word in enumerate(ANSWER.split())
    ]
    assert all(chunk.usage_metadata is None and not chunk.chunk_position for chunk in words)
    assert (last.content, last.chunk_position) == ("", "last")
    assert last.usage_metadata["total_tokens"] == 0
    note = last.response_metadata["semantic_cache"]
    assert note["usage"]["total_tokens"] == stored.usage_metadata["total_tokens"] == 16
    assert last.response_metadata["finish_reason"] == "stop"
    ids = {chunk.id for chunk in (*words, last)}
    assert len(ids) == 1
    assert ids != {stored.id}


async def test_tool_calls_come_whole_in_the_last_chunk(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    def search(query: str, limit: int) -> str:
        """Looks something up."""
        raise AssertionError

    options = plain.options | {"cache_tool_calls": True}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = cached(chat_model(openai), cache).bind_tools([search])
        first = added_up(await streamed(way, model, "use the tool"))
        (again,) = await streamed(way, model, "use the tool")
    assert openai.calls == 1
    (call,), (other,) = first.tool_calls, again.tool_calls
    assert call["args"] == other["args"] == {"query": "use the tool", "limit": 7}
    assert call["name"] == other["name"] == "search"
    assert call["id"] != other["id"]
    assert again.chunk_position == "last"


async def test_a_miss_is_passed_through_as_it_comes(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    plain, model = chat_model(openai), cached(chat_model(openai), own)
    wanted = [chunk.content for chunk in await streamed(way, plain, ASKED)]
    openai.reset()
    openai.middle.clear()  # the server sends the rest when the first words have arrived
    seen = []
    if way.name == "sync":
        for chunk in model.stream(ASKED):
            seen.append(chunk.content)
            openai.middle.set()
    else:
        async for chunk in model.astream(ASKED):
            seen.append(chunk.content)
            openai.middle.set()
    assert seen == wanted


# What did not end well is not stored


@pytest.mark.parametrize("failure", ["break", "error", "cut", "500"])
async def test_a_failed_stream_stores_nothing(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, failure: Any
) -> None:
    model = cached(chat_model(openai), own)
    openai.failures.append(failure)
    if failure == "cut":
        assert added_up(await streamed(way, model, ASKED)).content != ANSWER
        assert own.stats().not_stored == {"cut stream": 1}
    else:
        with pytest.raises(Exception, match=r"Connection error|planted failure|peer closed"):
            await streamed(way, model, ASKED)
        assert own.stats().not_stored == {"failed stream": 1}
    assert added_up(await streamed(way, model, ASKED)).content == ANSWER
    assert (openai.calls, own.stats().stored) == (2, 1)


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_an_abandoned_stream_stores_nothing(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, read: int
) -> None:
    model = cached(chat_model(openai), own)
    if way.name == "sync":
        stream = model.stream(ASKED)
        for _ in range(read):
            next(stream)
        stream.close()
    else:
        astream = model.astream(ASKED)
        for _ in range(read):
            await anext(astream)
        await astream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    await streamed(way, model, ASKED)
    assert own.stats().stored == 1
    assert own.stats().not_stored == ({"abandoned stream": 1} if read else {})


async def test_a_cancelled_stream_stores_nothing(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    model = cached(chat_model(openai), own)
    openai.middle.clear()
    begun = asyncio.Event()

    async def read() -> None:
        chunks = model.astream(ASKED)
        for _ in range(6):  # all that the server sends before it is let go on
            await anext(chunks)
        begun.set()
        await anext(chunks)

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    openai.middle.set()
    assert (await model.ainvoke(ASKED)).content == ANSWER
    assert own.stats().not_stored == {"abandoned stream": 1}
    assert openai.calls == 2


async def test_an_answer_that_is_cut_off_is_not_stored(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    for number in (1, 2):
        await streamed(way, model, "be cut off please")
        assert openai.calls == number
    assert own.stats().not_stored == {"finish_reason length": 2}


async def test_what_a_reader_does_to_its_chunks_is_not_stored(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    if way.name == "sync":
        for chunk in model.stream(ASKED):
            chunk.content = "spoilt"
            chunk.response_metadata.clear()
    else:
        async for chunk in model.astream(ASKED):
            chunk.content = "spoilt"
            chunk.response_metadata.clear()
    assert added_up(await streamed(way, model, ASKED)).content == ANSWER
    assert openai.calls == 1


# The call inside


@pytest.mark.parametrize("streaming", [True, None])
async def test_an_invoke_that_streams_inside_looks_up_once(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, streaming: bool | None
) -> None:
    options: dict[str, Any] = {} if streaming is None else {"streaming": streaming}
    model = cached(chat_model(openai, **options), own)
    for number in (1, 2):
        answer = await way(model.invoke, ASKED, stream=True)
        assert (answer.content, openai.calls) == (ANSWER, 1)
        assert own.stats().lookups == number
    assert openai.chats[0]["stream"] is True
    assert own.stats().stored == 1


async def test_a_stream_of_several_answers_goes_past_the_cache(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    for number in (1, 2):
        await streamed(way, model, ASKED, n=2)
        assert openai.calls == number
    assert own.stats().misses == {"not_cacheable": 2}
    assert own.stats().stored == 0


class Spending(BaseRateLimiter):
    """Counts what it is asked for, sync and async."""

    def __init__(self) -> None:
        self.spent: list[str] = []

    def acquire(self, *, blocking: bool = True) -> bool:
        self.spent.append("sync")
        return blocking

    async def aacquire(self, *, blocking: bool = True) -> bool:
        self.spent.append("async")
        return blocking


async def test_a_rate_limiter_is_spent_on_misses_only(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    limiter = Spending()
    model = cached(chat_model(openai, rate_limiter=limiter), own)
    for question in (ASKED, "which wine goes with fish"):
        for _ in range(3):
            await streamed(way, model, question)
            await way(model.invoke, question)
    assert limiter.spent == [way.name] * 2
    assert model.rate_limiter is limiter


async def test_look_ups_are_sync_in_streams_and_async_in_async_ones(
    own: ValkeySemanticCache, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a model that has no async stream of its own."""

    class SyncOnly(FakeListChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for chunk in super(FakeListChatModel, self)._astream(*args, **kwargs):
                yield chunk

    asked = []
    for name in ("lookup", "alookup"):
        method = getattr(own.core, name)
        monkeypatch.setattr(
            own.core, name, lambda *a, _m=method, _n=name, **k: asked.append(_n) or _m(*a, **k)
        )
    model = cached(SyncOnly(responses=["an answer"]), own)
    assert added_up(await streamed(way, model, ASKED)).content == "an answer"
    assert added_up(await streamed(way, model, ASKED)).content == "an answer"
    assert asked == [{"sync": "lookup", "async": "alookup"}[way.name]] * 2
    assert own.stats().hits == {"exact": 1}


async def test_a_model_that_cannot_stream_is_cached(own: ValkeySemanticCache, way: Way) -> None:
    class Whole(FakeListChatModel):
        disable_streaming: bool = True

    model = cached(Whole(responses=["first", "second"]), own)
    for _ in range(2):
        (chunk,) = await streamed(way, model, ASKED)
        assert chunk.content == "first"
    assert not isinstance(chunk, AIMessageChunk)
    assert own.stats().hits == {"exact": 1}
