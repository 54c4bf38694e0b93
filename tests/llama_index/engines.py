"""Query engines for tests: a small corpus in a real vector index, retrievals counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.llms import LLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode

from tests.conftest import Way
from tests.llama_index.models import HashingEmbedding

ASKED = "How do I reset my password?"
REWORDED = "What do I do to reset my password?"
OTHER = "How many days of holiday do I get?"

NODES = [  # with ids, so that two indexes give equal nodes
    TextNode(id_="password", text="To reset the password, press the red button."),
    TextNode(id_="holiday", text="Everybody gets thirty days of holiday a year."),
    TextNode(id_="mail", text="The e-mail address is changed by post, with a stamp."),
]


class RetrievingEmbedding(HashingEmbedding):
    """Bags of words also for queries, for a retriever where meaning does not matter."""

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)


class CountingRetriever(VectorIndexRetriever):
    """A vector index's retriever. `calls` counts, `bundles` holds what it was asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: list[QueryBundle] = []

    @property
    def calls(self) -> int:
        return len(self.requests)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.requests.append(QueryBundle(**vars(query_bundle)))
        return super()._retrieve(query_bundle)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.requests.append(QueryBundle(**vars(query_bundle)))
        return await super()._aretrieve(query_bundle)


def engine(
    llm: LLM,
    embedding: BaseEmbedding,
    *,
    nodes: Sequence[BaseNode] = NODES,
    top_k: int = 2,
    filters: Any = None,
    **options: Any,
) -> RetrieverQueryEngine:
    """A query engine over a vector index of some nodes."""
    index = VectorStoreIndex(nodes=[*nodes], embed_model=embedding)
    retriever = CountingRetriever(index, similarity_top_k=top_k, filters=filters)
    return RetrieverQueryEngine.from_args(retriever, llm=llm, **options)


def retrievals(engine: Any) -> int:
    """How often an engine has retrieved."""
    retriever = engine.retriever
    assert isinstance(retriever, CountingRetriever)
    return retriever.calls


async def read(response: Any) -> Response:
    """A response; a stream as what it adds up to."""
    if isinstance(response, AsyncStreamingResponse):
        text = "".join([token async for token in response.async_response_gen()])
        return Response(text, response.source_nodes, response.metadata)
    if isinstance(response, StreamingResponse):
        return Response("".join(response.response_gen), response.source_nodes, response.metadata)
    whole: Response = response
    return whole


async def ask(way: Way, engine: Any, question: Any) -> Response:
    """Ask and read to the end."""
    return await read(await way(engine.query, question))
