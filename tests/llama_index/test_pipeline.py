"""A cached LLM and a cached query engine as components of a `QueryPipeline`.

LlamaIndex has pipelines until 0.12; see the make target test-llama-index-0.12.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("llama_index.core.query_pipeline", reason="removed in llama-index-core 0.13")

from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_pipeline import (  # type: ignore[import-not-found, unused-ignore]
    FnComponent,
    InputComponent,
    QueryPipeline,
)
from llama_index.core.response_synthesizers import get_response_synthesizer

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index.engines import ASKED, OTHER, REWORDED, engine, retrievals
from tests.llama_index.models import EchoLLM

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def stripped(text: str) -> str:
    return text.strip()


def cached(inner: Any, cache: ValkeySemanticCache) -> Any:
    return SemanticCacheQueryEngine(inner, cache, corpus_version="v1")


@pytest.mark.parametrize("chatting", [True, False], ids=["chat", "completion"])
async def test_a_chain_of_template_and_cached_llm(
    real: ValkeySemanticCache, way: Way, chatting: bool
) -> None:
    def chain(llm: Any) -> Any:
        template = PromptTemplate("Answer in one sentence.\nQuestion: {question}\nAnswer:")
        return QueryPipeline(chain=[template, llm])

    bare, inner = EchoLLM(chatting), EchoLLM(chatting)
    uncached = await way(chain(bare).run, question=ASKED)
    pipeline = chain(SemanticCacheLLM(inner, real))
    for question in (ASKED, ASKED, REWORDED):
        assert str(await way(pipeline.run, question=question)) == str(uncached)
    assert inner.calls == bare.calls == 1
    assert str(await way(pipeline.run, question=OTHER)) != str(uncached)
    assert inner.calls == 2


async def test_a_chain_that_ends_in_a_cached_engine(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    def chain(asked: Any) -> Any:
        return QueryPipeline(chain=[FnComponent(fn=stripped), asked])

    bare, llm = EchoLLM(), EchoLLM()
    uncached = await way(chain(engine(bare, minilm)).run, input=f" {ASKED}")
    asking = cached(engine(llm, minilm), real)
    pipeline = chain(asking)
    for question in (ASKED, ASKED, REWORDED):
        assert await way(pipeline.run, input=f" {question} ") == uncached
    assert (llm.calls, retrievals(asking)) == (1, 1)
    await way(pipeline.run, input=OTHER)
    assert (llm.calls, retrievals(asking)) == (2, 2)


async def test_a_graph_of_retriever_and_synthesizer_over_a_cached_llm(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    def graph(llm: Any) -> Any:
        modules = {
            "input": InputComponent(),
            "retriever": engine(EchoLLM(), minilm).retriever,
            "synthesizer": get_response_synthesizer(llm),
        }
        pipeline = QueryPipeline(modules=modules)
        pipeline.add_link("input", "retriever")
        pipeline.add_link("input", "synthesizer", dest_key="query_str")
        pipeline.add_link("retriever", "synthesizer", dest_key="nodes")
        return pipeline

    bare, inner = EchoLLM(), EchoLLM()
    uncached = await way(graph(bare).run, input=ASKED)
    pipeline = graph(SemanticCacheLLM(inner, real))
    for question in (ASKED, ASKED, REWORDED):
        assert (await way(pipeline.run, input=question)).response == uncached.response
    assert inner.calls == bare.calls == 1
    await way(pipeline.run, input=OTHER)
    assert inner.calls == 2
