"""The tenant of a request is the one who asked it, whenever and wherever its answer is stored."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import MockLLM

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.embedders import HashingEmbedder
from tests.servers import Served

ASKED = [ChatMessage(role="user", content="how do i reset the password of my account")]


class Counting(MockLLM):
    """Counts the times it is asked, in what is not taken for one of its parameters."""

    _calls: list[object] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> int:
        return len(self._calls)

    def stream_chat(self, *arguments: Any, **options: Any) -> Any:
        self._calls.append(arguments)
        return super().stream_chat(*arguments, **options)


async def begun(llm: SemanticCacheLLM, way: str) -> Any:
    return llm.stream_chat(ASKED) if way == "sync" else await llm.astream_chat(ASKED)


async def read(stream: Any, way: str) -> int:
    return len(list(stream)) if way == "sync" else len([chunk async for chunk in stream])


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_stream_read_outside_of_its_block_is_its_tenant_s(
    either_index: Served, way: str
) -> None:
    async with ValkeySemanticCache(HashingEmbedder(), **either_index.options) as cache:
        inner = Counting(max_tokens=5)
        llm = SemanticCacheLLM(inner, cache)
        with cache.namespace("acme"):
            stream = await begun(llm, way)
        with cache.namespace("other"):
            assert await read(stream, way)
        assert cache.stats().stored == 1
        for tenant, asked in (("acme", 1), ("other", 2), (None, 3)):
            if tenant is None:
                await read(await begun(llm, way), way)
            else:
                with cache.namespace(tenant):
                    await read(await begun(llm, way), way)
            assert inner.asked == asked, tenant


async def test_a_stream_read_in_a_bare_thread_is_its_tenant_s(either_index: Served) -> None:
    async with ValkeySemanticCache(HashingEmbedder(), **either_index.options) as cache:
        inner = Counting(max_tokens=5)
        llm = SemanticCacheLLM(inner, cache)
        with cache.namespace("acme"):
            stream = llm.stream_chat(ASKED)
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        await asyncio.to_thread(reader.join, 20)
        assert len(list(llm.stream_chat(ASKED))) > 0
        assert inner.asked == 2, "who names no tenant has not got acme's answer"
        with cache.namespace("acme"):
            assert len(list(llm.stream_chat(ASKED))) > 0
        assert inner.asked == 2


async def test_who_cannot_be_told_is_not_cached(either_index: Served) -> None:
    def nobody() -> None:
        return None

    options = either_index.options | {"namespace_from": nobody}
    async with ValkeySemanticCache(HashingEmbedder(), **options) as cache:
        inner = Counting(max_tokens=5)
        llm = SemanticCacheLLM(inner, cache)
        for _ in range(2):
            assert list(llm.stream_chat(ASKED))
        assert inner.asked == 2
        stats = cache.stats()
        assert stats.stored == 0
        assert stats.misses == {"not_cacheable": 2}
