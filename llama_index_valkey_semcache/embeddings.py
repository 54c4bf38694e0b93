"""LlamaIndex's embedding models as the core takes them, and the offline one as LlamaIndex's.

Rule of this file: always the text method, on both sides of a comparison: in asymmetric models
a query's vector lies elsewhere than the same text's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import PrivateAttr

from valkey_semcache.embedding import EmbeddingModel, embedding_identity
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.offline import MiniLM


def embedding_model(embed_model: Any, embedding_id: str | None) -> EmbeddingModel:
    """`embed_model` for the core.

    Args:
        embed_model: A LlamaIndex `BaseEmbedding`, or an object with `embed(texts)`.
        embedding_id: Its name where it has none to be found.

    Raises:
        ConfigurationError: It is neither, or has no name.
    """
    if isinstance(embed_model, BaseEmbedding):
        return EmbeddingModel(
            embed_model.get_text_embedding_batch,
            embed_model.aget_text_embedding_batch,
            embedding_id or embedding_identity(embed_model),
        )
    if callable(getattr(embed_model, "embed", None)):
        return EmbeddingModel.of(embed_model, embedding_id)
    raise ConfigurationError(
        f"embed_model= takes a LlamaIndex BaseEmbedding, not {type(embed_model).__name__}. For one "
        "that needs no key and no network: llama_index_valkey_semcache.MiniLMEmbedding()."
    )


class MiniLMEmbedding(BaseEmbedding):
    """all-MiniLM-L6-v2, run offline on numpy: 384 dimensions, no key, no network, no torch.

    See `valkey_semcache.offline.MiniLM` for what it needs installed.
    """

    _model: MiniLM = PrivateAttr()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(model_name=MiniLM.model_name, **kwargs)
        self._model = MiniLM()

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serializes it."""
        return "MiniLMEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        vectors: list[Embedding] = self._model.embed(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await self._aget_text_embedding(query)
