"""A LlamaIndex cache that is filled before it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError
from valkey_semcache.methods.filling import Filled


async def test_after_warming_a_chat_makes_no_call(either_index: Served, way: Way) -> None:
    options: dict[str, Any] = either_index.options | {
        "on_error": "raise",
        "similarity_threshold": 0.7,
    }
    async with ValkeySemanticCache(HashingEmbedding(), **options) as cache:
        inner = CountingLLM()
        llm = SemanticCacheLLM(inner, cache)
        rows: list[Any] = [
            ("how do i reset my password", "press the button"),
            {"question": "who are you", "answer": "a pirate", "system": "be a pirate"},
        ]
        assert await way(cache.warm, llm, rows) == Filled(stored=2)
        assert await way(cache.warm, llm, rows) == Filled(there=2)
        asked = [ChatMessage(role="user", content="how do i reset my own password please")]
        chat = llm.chat if way.name == "sync" else llm.achat
        answer: Any = chat(asked) if way.name == "sync" else await chat(asked)  # type: ignore[misc]
        assert answer.message.content == "press the button"
        system = ChatMessage(role="system", content="be a pirate")
        asked = [system, ChatMessage(role="user", content="who are you")]
        answer = chat(asked) if way.name == "sync" else await chat(asked)  # type: ignore[misc]
        assert answer.message.content == "a pirate"
        assert inner.calls == 0


async def test_after_warming_a_completion_makes_no_call(either_index: Served, way: Way) -> None:
    options: dict[str, Any] = either_index.options | {"similarity_threshold": 0.7}
    async with ValkeySemanticCache(HashingEmbedding(), **options, on_error="raise") as cache:
        inner = CountingLLM()
        llm = SemanticCacheLLM(inner, cache)
        rows: list[Any] = [("how do i reset my password", "press the button")]
        assert await way(cache.warm, llm, rows, by="complete") == Filled(stored=1)
        assert await way(cache.warm, llm, rows, by="complete") == Filled(there=1)
        for asked in ("how do i reset my password", "how do i reset my own password please"):
            assert (await way(llm.complete, asked)).text == "press the button"
        stream = await way(llm.stream_complete, "how do i reset my password")
        chunks = [c async for c in stream] if way.name == "async" else list(stream)
        assert chunks[-1].text == "press the button"
        assert inner.calls == 0


async def test_what_cannot_be_warmed_is_refused(plain: Served, way: Way) -> None:
    async with ValkeySemanticCache(HashingEmbedding(), **plain.options) as cache:
        with pytest.raises(ConfigurationError, match="takes the SemanticCacheLLM"):
            await way(cache.warm, CountingLLM(), [("a", "x")])
        off = SemanticCacheLLM(CountingLLM(), cache, mode="off")
        with pytest.raises(ConfigurationError, match="does not cache"):
            await way(cache.warm, off, [("a", "x")])
        with pytest.raises(ConfigurationError, match="no answer"):
            await way(cache.warm, SemanticCacheLLM(CountingLLM(), cache), [{"question": "a"}])
        llm = SemanticCacheLLM(CountingLLM(), cache)
        row = {"question": "a", "answer": "x", "system": "y"}
        with pytest.raises(ConfigurationError, match="no place for one"):
            await way(cache.warm, llm, [row], by="complete")
        with pytest.raises(ConfigurationError, match="by='predict' is not allowed"):
            await way(cache.warm, llm, [("a", "x")], by="predict")
        assert plain.entries() == []
