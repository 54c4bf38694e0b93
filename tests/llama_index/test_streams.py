"""Streams of a cached LLM: kept when they ended well, played back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.mock import MockLLM, MockLLMWithNonyieldingChatStream
from llama_index.core.output_parsers import PydanticOutputParser
from pydantic import BaseModel

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.compat import THINKING, TOOL_CALL
from llama_index_valkey_semcache.stream import pieces_of
from tests.conftest import Way
from tests.llama_index.models import EchoLLM, ToolLLM

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ANSWER = f"Echo: {ASKED}"


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


async def chunks(way: Way, method: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """All that a stream gives."""
    stream = await way(method, *args, **kwargs)
    if way.name == "sync":
        return list(stream)
    return [chunk async for chunk in stream]


def text_of(chunk: Any) -> str:
    return str(chunk.message.content) if isinstance(chunk, ChatResponse) else str(chunk.text)


async def test_completions(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    first = await chunks(way, llm.stream_complete, ASKED)
    assert "semantic_cache" not in first[-1].additional_kwargs
    for asked, tier in ((ASKED, "exact"), (REWORDED, "semantic")):
        again = await chunks(way, llm.stream_complete, asked)
        assert len(again) > 5
        so_far = [again[: place + 1] for place in range(len(again))]
        assert [chunk.text for chunk in again] == ["".join(c.delta for c in cs) for cs in so_far]
        assert again[-1].text == ANSWER
        assert {c.additional_kwargs["semantic_cache"]["tier"] for c in again} == {tier}
    assert (await way(llm.complete, ASKED)).text == ANSWER, "whole answers are shared"
    assert inner.calls == 1
    assert cache.stats().saved_tokens == {"input_tokens": 12, "output_tokens": 6}


async def test_chats(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    whole = await way(llm.chat, user(ASKED))
    for asked in (ASKED, REWORDED):
        played = await chunks(way, llm.stream_chat, user(asked))
        assert len(played) > 5
        assert "".join(chunk.delta for chunk in played) == whole.message.content
        so_far = ""
        for chunk in played:
            so_far += chunk.delta
            assert chunk.message.content == so_far
            assert chunk.message.role == "assistant"
    assert inner.calls == 1


@pytest.mark.parametrize("chatting", [True, False], ids=["chat", "completion"])
async def test_templates(cache: ValkeySemanticCache, way: Way, chatting: bool) -> None:
    template = PromptTemplate("Be brief. Question: {query_str}")
    inner = EchoLLM(chatting)
    llm = SemanticCacheLLM(inner, cache)
    uncached = await chunks(way, inner.stream, template, query_str=ASKED)
    calls = inner.calls
    for asked in (ASKED, ASKED, REWORDED):
        tokens = await chunks(way, llm.stream, template, query_str=asked)
        assert "".join(tokens) == "".join(uncached)
    assert await way(llm.predict, template, query_str=ASKED) == "".join(uncached)
    assert inner.calls == calls + 1


class Said(BaseModel):
    text: str


async def test_a_stream_that_is_parsed_is_refused_as_before(
    cache: ValkeySemanticCache, way: Way
) -> None:
    parser = PydanticOutputParser(Said)
    template = PromptTemplate("Question: {query_str}", output_parser=parser)
    llm = SemanticCacheLLM(EchoLLM(), cache)
    with pytest.raises(NotImplementedError):
        await chunks(way, llm.stream, template, query_str=ASKED)
    assert cache.stats().lookups == 0


async def test_a_stream_that_is_closed_is_not_kept(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    for method, asked in ((llm.stream_chat, user(ASKED)), (llm.stream_complete, ASKED)):
        stream = await way(method, asked)
        if way.name == "sync":
            next(stream)
            stream.close()
        else:
            await anext(stream)
            await stream.aclose()
    assert cache.stats().stored == 0
    assert len(await chunks(way, llm.stream_chat, user(ASKED))) > 1
    assert inner.calls == 3
    assert cache.stats().stored == 1


async def test_closing_a_stream_closes_the_models(cache: ValkeySemanticCache, way: Way) -> None:
    closed = []
    made = []  # kept, so that it is not the garbage collector that closes them

    class Closing(EchoLLM):  # whose streams are not wrapped in others by a decorator
        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            def parts() -> Any:
                try:
                    yield from EchoLLM().stream_complete(prompt)
                finally:
                    closed.append(True)

            made.append(parts())
            return made[-1]

        async def astream_complete(
            self, prompt: str, formatted: bool = False, **kwargs: Any
        ) -> Any:
            async def parts() -> Any:
                try:
                    for part in EchoLLM().stream_complete(prompt):
                        yield part
                finally:
                    closed.append(True)

            made.append(parts())
            return made[-1]

    stream = await way(SemanticCacheLLM(Closing(), cache).stream_complete, ASKED)
    if way.name == "sync":
        next(stream)
        stream.close()
    else:
        await anext(stream)
        await stream.aclose()
    assert closed == [True]


async def test_a_stream_that_fails_is_not_kept(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    inner._fail_at = 3
    llm = SemanticCacheLLM(inner, cache)
    with pytest.raises(RuntimeError, match="the model broke off"):
        await chunks(way, llm.stream_chat, user(ASKED))
    assert cache.stats().stored == 0


async def test_a_stream_whose_task_is_cancelled_is_not_kept(cache: ValkeySemanticCache) -> None:
    begun = asyncio.Event()

    class Waiting(ToolLLM):
        @llm_chat_callback()
        async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            async def parts() -> Any:
                yield ChatResponse(message=ChatMessage(content="so far"), delta="so far")
                begun.set()
                await asyncio.Event().wait()

            return parts()

    async def read() -> None:
        async for _ in await llm.astream_chat(user(ASKED)):
            pass

    llm = SemanticCacheLLM(Waiting(lambda *_: ChatMessage()), cache)
    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cache.stats().stored == 0


async def test_a_stream_that_was_cut_off_is_not_kept(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    inner._finish = "length"
    await chunks(way, SemanticCacheLLM(inner, cache).stream_chat, user(ASKED))
    assert cache.stats().not_stored == {"finish_reason length": 1}


async def test_a_template_whose_stream_was_cut_off_is_not_kept(
    cache: ValkeySemanticCache, way: Way
) -> None:
    class Counted(EchoLLM):  # the last chunk tells of tokens alone
        def stream_complete(self, *args: Any, **kwargs: Any) -> Any:
            for chunk in super().stream_complete(*args, **kwargs):
                yield chunk
            yield chunk.model_copy(update={"delta": "", "raw": {"choices": [], "usage": {}}})

        @llm_chat_callback()
        def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            return super().stream_chat(messages, **kwargs)

    inner = Counted()
    inner._finish = "length"
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("Question: {query_str}")
    await chunks(way, llm.stream, template, query_str=ASKED)
    inner._finish = "stop"
    await way(llm.predict, template, query_str=ASKED)
    inner._finish = "length"
    await way(llm.predict, template, query_str="which wine goes with fish")
    assert cache.stats().stored == 1
    assert cache.stats().not_stored == {"finish_reason length": 2}


async def test_a_stream_of_nothing_is_not_kept(cache: ValkeySemanticCache, way: Way) -> None:
    llm = SemanticCacheLLM(MockLLMWithNonyieldingChatStream(), cache)
    assert await chunks(way, llm.stream_chat, user(ASKED)) == []
    assert cache.stats().not_stored == {"empty answer": 1}


async def test_a_text_that_lags_behind_its_deltas_is_completed(
    cache: ValkeySemanticCache, way: Way
) -> None:
    llm = SemanticCacheLLM(MockLLM(max_tokens=4), cache)  # whose text is a word short
    first = "".join(c.delta for c in await chunks(way, llm.stream_complete, ASKED))
    again = await chunks(way, llm.stream_complete, ASKED)
    assert "".join(c.delta for c in again) == again[-1].text == first
    assert first.split() == ["text"] * 4


async def test_a_text_that_is_not_its_deltas_is_not_kept(
    cache: ValkeySemanticCache, way: Way
) -> None:
    class Odd(ToolLLM):
        def _chunks(self, message: ChatMessage) -> Any:
            yield ChatResponse(message=ChatMessage(content="one"), delta="one")
            yield ChatResponse(message=ChatMessage(content="two"), delta="two")

    await chunks(way, SemanticCacheLLM(Odd(lambda *_: ChatMessage()), cache).stream_chat, user("a"))
    assert cache.stats().not_stored == {"the stream's text and its deltas differ": 1}


@pytest.mark.skipif(not THINKING, reason="this release has no blocks for it")
async def test_thoughts_and_calls_come_in_the_last_chunk(
    cache: ValkeySemanticCache, way: Way
) -> None:
    def script(messages: Any, tools: Any) -> ChatMessage:
        blocks = [
            THINKING[0](content="Hm.", num_tokens=2, additional_information={"signature": "x"}),
            ChatMessage(content="I ask the tool.").blocks[0],
            TOOL_CALL[0](tool_call_id="a", tool_name="add", tool_kwargs={"a": 1}),
        ]
        return ChatMessage(role="assistant", blocks=blocks)

    llm = SemanticCacheLLM(ToolLLM(script), cache, cache_tool_calls=True)
    *_, first = await chunks(way, llm.stream_chat, user(ASKED))
    *before, last = await chunks(way, llm.stream_chat, user(ASKED))
    assert all(len(chunk.message.blocks) == 1 for chunk in before)
    assert last.message.blocks[:2] == first.message.blocks[:2]
    call = last.message.blocks[2]
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 1})
    assert call.tool_call_id not in (None, "a")
    assert "".join(c.delta for c in [*before, last]) == last.message.content == "I ask the tool."
    assert last.additional_kwargs["thinking_delta"] == "Hm."


@pytest.mark.parametrize(
    "text", ["", " ", "one", " one  two\n\nthree ", "a\u2003b\x1fc", "word " * 5000]
)
def test_pieces_add_up_and_are_few(text: str) -> None:
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert 1 <= len(pieces) <= 100
