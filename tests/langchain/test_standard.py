"""The suites of `langchain-tests`, on every server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from langchain_core.caches import BaseCache
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from langchain_valkey_semcache import ValkeySemanticCache
from tests.langchain.embeddings import HashingEmbeddings
from tests.servers import Served


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, served: Served) -> Iterator[BaseCache]:  # type: ignore[override]
        with ValkeySemanticCache(HashingEmbeddings(), **served.options, on_error="raise") as cache:
            yield cache


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, served: Served) -> AsyncIterator[BaseCache]:  # type: ignore[override]
        options = served.options | {"on_error": "raise"}
        async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
            yield cache
