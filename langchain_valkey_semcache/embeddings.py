"""LangChain's embedding models as the core takes them, and the offline one as LangChain's.

Rule of this file: always the document method, on both sides of a comparison: in asymmetric
models a query's vector lies elsewhere than the same text's as a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.embedding import EmbeddingModel, embedding_identity
from valkey_semcache.errors import ConfigurationError

if TYPE_CHECKING:
    from valkey_semcache import offline
else:
    offline = at_first_use("valkey_semcache.offline")


def embedding_model(embeddings: Any, embedding_id: str | None) -> EmbeddingModel:
    """`embeddings` for the core.

    Args:
        embeddings: A LangChain `Embeddings`, or an object with `embed(texts)`.
        embedding_id: Its name where it has none to be found.

    Raises:
        ConfigurationError: It is neither, or has no name.
    """
    if isinstance(embeddings, Embeddings):
        return EmbeddingModel(
            embeddings.embed_documents,
            embeddings.aembed_documents,
            embedding_id or embedding_identity(embeddings),
        )
    if callable(getattr(embeddings, "embed", None)):
        return EmbeddingModel.of(embeddings, embedding_id)
    raise ConfigurationError(
        f"embeddings= takes a LangChain Embeddings, not {type(embeddings).__name__}. For one that "
        "needs no key and no network: langchain_valkey_semcache.MiniLMEmbeddings()."
    )


class MiniLMEmbeddings(Embeddings):
    """all-MiniLM-L6-v2, run offline on numpy: 384 dimensions, no key, no network, no torch.

    See `valkey_semcache.offline.MiniLM` for what it needs installed.
    """

    def __init__(self) -> None:
        self._model = offline.MiniLM()
        self.model = self._model.model_name

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of 384 floats for each text."""
        vectors: list[list[float]] = self._model.embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text; this model has one method for both."""
        return self.embed_documents([text])[0]
