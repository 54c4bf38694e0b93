"""The hashing embedder as LangChain's kind of model."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from tests.embedders import hashed


class HashingEmbeddings(Embeddings):
    """The same as LangChain's kind of model."""

    model = "hashing"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [hashed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError("the cache embeds by the document method, on both sides")
