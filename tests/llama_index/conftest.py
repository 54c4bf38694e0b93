"""Fixtures for the tests of LlamaIndex: caches on either index, by words or by real meaning."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llama_index_valkey_semcache import MiniLMEmbedding, ValkeySemanticCache
from tests.llama_index.models import HashingEmbedding
from tests.servers import Served


@pytest.fixture
async def cache(plain: Served) -> AsyncIterator[ValkeySemanticCache]:
    """A cache whose embeddings are bags of words; its errors are raised."""
    async with ValkeySemanticCache(HashingEmbedding(), **plain.options, on_error="raise") as cache:
        yield cache


@pytest.fixture
async def either_cache(either_index: Served) -> AsyncIterator[ValkeySemanticCache]:
    """The same, on each index in turn."""
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbedding(), **options) as cache:
        yield cache


@pytest.fixture(scope="session")
def minilm() -> MiniLMEmbedding:
    """The real embedding model."""
    return MiniLMEmbedding()


@pytest.fixture
async def real(plain: Served, minilm: MiniLMEmbedding) -> AsyncIterator[ValkeySemanticCache]:
    """A cache with real embeddings; its errors are raised."""
    async with ValkeySemanticCache(minilm, **plain.options, on_error="raise") as cache:
        yield cache
