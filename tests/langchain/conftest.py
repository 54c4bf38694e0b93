"""Fixtures of this folder: an OpenAI-compatible server, and a cache that LangChain uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from langchain_core.globals import set_llm_cache

from langchain_valkey_semcache import ValkeySemanticCache
from tests.langchain.embeddings import HashingEmbeddings
from tests.openai_server import OpenAIServer
from tests.servers import Served


@pytest.fixture(scope="session")
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def openai(openai_server: OpenAIServer) -> OpenAIServer:
    """The server, with nothing counted yet."""
    openai_server.reset()
    return openai_server


@pytest.fixture
async def cache(either_index: Served) -> AsyncIterator[ValkeySemanticCache]:
    """LangChain's global cache, on each index in turn."""
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        set_llm_cache(cache)
        yield cache
        set_llm_cache(None)


@pytest.fixture
async def own(plain: Served) -> AsyncIterator[ValkeySemanticCache]:
    """A cache that LangChain itself knows nothing of."""
    options = plain.options | {"on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        yield cache
