"""What LangChain's and LlamaIndex's ways to ask send to the server, and what they have embedded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from llama_index.core.llms import ChatMessage

import langchain_valkey_semcache as langchain
import llama_index_valkey_semcache as llama_index
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.langchain.models import chat_model
from tests.llama_index.models import CountingLLM
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import LocalTier, SemanticCache

FIRST = "which wine goes with fish"
EXPECTED = {
    "search": {
        "miss and store": ("HMGET FT.SEARCH EVALSHA", 1),
        "exact": ("HMGET", 0),
        "semantic": ("HMGET FT.SEARCH", 1),
    },
    "flat": {
        # A miss reads its nearest neighbour, to name it; a store's second script is the log's.
        "miss and store": ("HMGET ZRANGE HMGET EVALSHA EVALSHA", 1),
        "exact": ("HMGET", 0),
        "semantic": ("HMGET ZRANGE HMGET", 1),
    },
}

Ask = Callable[[str], Awaitable[Any]]


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(params=EXPECTED)
def index(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(searching: Served, index: str) -> dict[str, Any]:
    return searching.options | {"index": index, "on_error": "raise"}


async def sent_by(
    served: Served, core: SemanticCache, ask: Ask, of: str
) -> dict[str, tuple[str, int]]:
    """The commands and the number of embeddings of each path, in an index that is open."""
    assert served.standin is not None
    asked, reworded = (f"how do i reset the password of my {own}{of}" for own in ("", "own "))
    await ask(FIRST)
    told = {}
    for path, text in ("miss and store", asked), ("exact", asked), ("semantic", reworded):
        embedded = core.stats().embeddings
        with served.standin.counting() as seen:
            await ask(text)
        names = " ".join(command.name for command in seen)
        told[path] = names, core.stats().embeddings - embedded
    return told


async def test_a_langchain_model_and_its_stream(
    searching: Served, options: dict[str, Any], index: str, way: Way, openai: OpenAIServer
) -> None:
    model = chat_model(openai)
    async with langchain.ValkeySemanticCache(HashingEmbedder(), **options) as cache:
        set_llm_cache(cache)
        try:
            sent = await sent_by(searching, cache.core, lambda t: way(model.invoke, t), "account")
        finally:
            set_llm_cache(None)
        assert sent == EXPECTED[index]
        streaming = langchain.cached(model, cache)

        async def streamed(text: str) -> list[Any]:
            if way.name == "sync":
                return list(streaming.stream(text))
            return [chunk async for chunk in streaming.astream(text)]

        assert await sent_by(searching, cache.core, streamed, "profile") == EXPECTED[index]


async def test_a_llama_index_model_and_its_stream(
    searching: Served, options: dict[str, Any], index: str, way: Way
) -> None:
    async with llama_index.ValkeySemanticCache(HashingEmbedder(), **options) as cache:
        llm = llama_index.SemanticCacheLLM(CountingLLM(), cache)

        async def chat(text: str) -> None:
            await way(llm.chat, [ChatMessage(role="user", content=text)])

        assert await sent_by(searching, cache, chat, "account") == EXPECTED[index]

        async def streamed(text: str) -> None:
            chunks = await way(llm.stream_chat, [ChatMessage(role="user", content=text)])
            if way.name == "sync":
                list(chunks)
            else:
                _ = [chunk async for chunk in chunks]

        assert await sent_by(searching, cache, streamed, "profile") == EXPECTED[index]


async def test_a_local_hit_sends_nothing_and_embeds_nothing(
    searching: Served, options: dict[str, Any], index: str, way: Way
) -> None:
    question, reworded = "how do i reset my password", "how do i reset my own password"
    async with llama_index.ValkeySemanticCache(
        HashingEmbedder(), **options, local=LocalTier()
    ) as cache:
        llm = llama_index.SemanticCacheLLM(CountingLLM(), cache, threshold=0.8)
        for text in question, reworded:
            await way(llm.chat, [ChatMessage(role="user", content=text)])
        assert searching.standin is not None
        embedded = cache.stats().embeddings
        with searching.standin.counting() as seen:
            for text in question, reworded:
                await way(llm.chat, [ChatMessage(role="user", content=text)])
        assert seen == []
        assert cache.stats().embeddings == embedded
        assert cache.stats().hits == {"local": 2, "semantic": 1}
