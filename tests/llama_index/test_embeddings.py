"""LlamaIndex's embedding models under the cache: any of them, by its text method, by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding

from llama_index_valkey_semcache import MiniLMEmbedding, SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.embeddings import embedding_model
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


class Asymmetric(HashingEmbedding):
    """Counts its calls; its query method, which raises, must not be used."""

    dimensions: int | None = None

    def _get_text_embedding(self, text: str) -> list[float]:
        CALLS.append(("sync", text))
        return super()._get_text_embedding(text)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        CALLS.append(("async", text))
        return await super()._aget_text_embedding(text)


CALLS: list[tuple[str, str]] = []


async def test_the_text_method_is_used_on_both_sides(plain: Served, way: Way) -> None:
    del CALLS[:]
    inner = CountingLLM()
    async with ValkeySemanticCache(Asymmetric(), **plain.options, on_error="raise") as cache:
        llm = SemanticCacheLLM(inner, cache)
        for asked in (ASKED, ASKED, REWORDED):
            await way(llm.complete, asked)
    assert inner.calls == 1
    assert [(way.name, ASKED), (way.name, REWORDED)] == CALLS


def test_a_model_is_named_by_class_name_and_dimension() -> None:
    def name(model: BaseEmbedding, embedding_id: str | None = None) -> str:
        return embedding_model(model, embedding_id).identity

    assert name(HashingEmbedding()) == "HashingEmbedding/hashing"
    assert name(Asymmetric(dimensions=8)) == "Asymmetric/hashing/dimensions=8"
    assert name(HashingEmbedding(), "mine") == "mine"
    assert name(MiniLMEmbedding()) == "MiniLMEmbedding/sentence-transformers/all-MiniLM-L6-v2"
    with pytest.raises(ConfigurationError, match="embedding_id="):
        name(MockEmbedding(embed_dim=8))  # which has no name


async def test_models_never_meet(plain: Served, way: Way) -> None:
    inner = CountingLLM()
    models: list[Any] = [HashingEmbedding(), Asymmetric(), Asymmetric(dimensions=64)]
    for number, model in enumerate(models, 1):
        async with ValkeySemanticCache(model, **plain.options) as cache:
            await way(SemanticCacheLLM(inner, cache).complete, ASKED)
        assert inner.calls == number


def test_minilm_is_one_of_llama_indexs_own(minilm: MiniLMEmbedding) -> None:
    one, other = minilm.get_text_embedding_batch(["What is Valkey?", "Why is the sky blue?"])
    for again in (
        minilm.get_query_embedding("What is Valkey?"),
        minilm.get_text_embedding("What is Valkey?"),
        asyncio.run(minilm.aget_query_embedding("What is Valkey?")),
        asyncio.run(minilm.aget_text_embedding("What is Valkey?")),
    ):
        assert np.allclose(again, one, atol=1e-6)
    assert len(one) == 384
    assert np.dot(one, other) < 0.5
    assert minilm.class_name() == "MiniLMEmbedding"
