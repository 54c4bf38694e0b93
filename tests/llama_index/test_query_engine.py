"""`SemanticCacheQueryEngine`: whole responses with their sources, of every kind.

The response is the uncached one; the model's calls and the retrievals are counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import BaseModel

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index.engines import (
    ASKED,
    OTHER,
    REWORDED,
    CountingRetriever,
    ask,
    engine,
    retrievals,
)
from tests.llama_index.models import EchoLLM
from tests.servers import Served
from valkey_semcache import ConfigurationError

MODES = {  # how often a model is asked for one response over two passages
    "refine": 2,
    "compact": 1,
    "simple_summarize": 1,
    "tree_summarize": 1,
    "generation": 1,
    "no_text": 0,
    "context_only": 0,
    "accumulate": 2,
    "compact_accumulate": 1,
}


class Said(BaseModel):
    """Something said."""

    text: str


@pytest.fixture
async def both(either_index: Served, minilm: MiniLMEmbedding) -> AsyncIterator[ValkeySemanticCache]:
    """A cache with real embeddings on each index; its errors are raised."""
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(minilm, **options) as cache:
        yield cache


def cached(inner: Any, cache: ValkeySemanticCache, **options: Any) -> Any:
    return SemanticCacheQueryEngine(inner, cache, **{"corpus_version": "v1"} | options)


async def test_a_hit_is_the_response_with_its_sources_and_saves_retrieval_and_model(
    served: Served, minilm: MiniLMEmbedding, way: Way
) -> None:
    bare, llm = EchoLLM(), EchoLLM()
    uncached = await way(engine(bare, minilm).query, ASKED)
    async with ValkeySemanticCache(minilm, **served.options, on_error="raise") as cache:
        asking = cached(engine(llm, minilm), cache)
        responses = [await way(asking.query, question) for question in (ASKED, ASKED, REWORDED)]
        for response in responses:
            assert type(response) is Response
            assert response.response == uncached.response
            assert response.metadata == uncached.metadata
            assert response.source_nodes == uncached.source_nodes
            assert [scored.score for scored in response.source_nodes] == [
                scored.score for scored in uncached.source_nodes
            ]
        assert (llm.calls, retrievals(asking)) == (1, 1)
        assert [about and about["tier"] for about in (r.semantic_cache for r in responses)] == [
            None,
            "exact",
            "semantic",
        ]
        assert responses[2].semantic_cache["question"] == ASKED
        assert 0.9 < responses[2].semantic_cache["similarity"] < 1
        # another question over the same corpus
        other = await way(asking.query, OTHER)
        assert other.response == (await way(engine(bare, minilm).query, OTHER)).response
        assert (llm.calls, retrievals(asking)) == (2, 2)
        assert cache.stats().saved_tokens == {"input_tokens": 8, "output_tokens": 4}


@pytest.mark.parametrize("mode", MODES)
async def test_each_response_mode(
    real: ValkeySemanticCache,
    minilm: MiniLMEmbedding,
    way: Way,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Settings, "_llm", EchoLLM())  # for modes that ask none
    bare, llm = EchoLLM(), EchoLLM()
    uncached = await ask(way, engine(bare, minilm, response_mode=mode), ASKED)
    asking = cached(engine(llm, minilm, response_mode=mode), real)
    for question in (ASKED, ASKED, REWORDED):
        response = await ask(way, asking, question)
        assert response == uncached
    assert (llm.calls, retrievals(asking)) == (MODES[mode], 1)
    assert llm.calls == bare.calls
    await ask(way, asking, OTHER)
    assert (llm.calls, retrievals(asking)) == (2 * MODES[mode], 2)


@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize", "generation"])
async def test_streams_are_replayed_as_streams(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way, mode: str
) -> None:
    options: dict[str, Any] = {"response_mode": mode, "streaming": True}
    bare, llm = EchoLLM(), EchoLLM()
    uncached = await ask(way, engine(bare, minilm, **options), ASKED)
    asking = cached(engine(llm, minilm, **options), both)
    kind = StreamingResponse if way.name == "sync" else AsyncStreamingResponse
    for question in (ASKED, ASKED, REWORDED):
        response = await way(asking.query, question)
        assert type(response) is kind
        assert await _read(response) == uncached
    assert (llm.calls, retrievals(asking)) == (MODES[mode], 1)


async def _read(response: Any) -> Response:
    """By the way that users take: async_response_gen, or str()."""
    if isinstance(response, AsyncStreamingResponse):
        return await response.get_response()
    return response.get_response()


async def test_a_replayed_stream_comes_in_words(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding
) -> None:
    asking = cached(engine(EchoLLM(), minilm, streaming=True), real)
    whole = str(asking.query(ASKED))
    tokens = list(asking.query(ASKED).response_gen)
    assert len(tokens) > 10
    assert "".join(tokens) == whole
    tokens = [token async for token in (await asking.aquery(ASKED)).async_response_gen()]
    assert "".join(tokens) == whole, "sync and async share entries"
    assert str(asking.query(ASKED)) == whole


async def test_what_was_streamed_and_what_was_not_keep_apart(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    llm = EchoLLM()
    streaming = cached(engine(llm, minilm, streaming=True), real)
    plain = cached(engine(llm, minilm), real)
    await ask(way, streaming, ASKED)
    assert type(await way(plain.query, ASKED)) is Response
    assert type(await way(streaming.query, ASKED)) is not Response


async def test_streams_that_do_not_end_well_store_nothing(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    llm = EchoLLM()
    asking = cached(engine(llm, minilm, streaming=True), both)
    response = await way(asking.query, ASKED)
    stream = response.response_gen
    if way.name == "sync":
        next(stream)
        stream.close()
    else:
        await anext(stream)
        await stream.aclose()
    llm._fail_at = 3
    with pytest.raises(RuntimeError, match="broke off"):
        await ask(way, asking, ASKED)
    stats = both.stats()
    assert (stats.stored, stats.not_stored) == (0, {"stream not read to its end": 2})
    llm._fail_at = None
    await ask(way, asking, ASKED)
    assert llm.calls == 3
    await ask(way, asking, ASKED)
    assert llm.calls == 3


@pytest.mark.parametrize("structured", [False, True], ids=["output_cls", "structured llm"])
async def test_structured_answers_come_back_as_their_class(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way, structured: bool
) -> None:
    def make(llm: EchoLLM) -> Any:
        if structured:
            return engine(llm.as_structured_llm(Said), minilm)
        return engine(llm, minilm, output_cls=Said)

    bare, llm = EchoLLM(), EchoLLM()
    uncached = await way(make(bare).query, ASKED)
    asking = cached(make(llm), both)
    for question in (ASKED, ASKED, REWORDED):
        response = await way(asking.query, question)
        assert type(response) is PydanticResponse
        assert type(response.response) is Said
        assert (response.response, response.source_nodes) == (
            uncached.response,
            uncached.source_nodes,
        )
    assert (llm.calls, retrievals(asking)) == (bare.calls, 1)

    # in a scope of its own: the same model asked for text, or for another class
    class Told(Said):
        more: str = ""

    assert type(await way(cached(engine(llm, minilm), both).query, ASKED)) is Response
    told = await way(cached(engine(llm, minilm, output_cls=Told), both).query, ASKED)
    assert type(told.response) is Told


async def test_structured_answers_of_an_unknown_class_are_not_stored(
    real: ValkeySemanticCache, way: Way
) -> None:
    class Custom(CustomQueryEngine):
        def custom_query(self, query_str: str) -> Any:
            nodes = [NodeWithScore(node=TextNode(text="red"), score=1.0)]
            return PydanticResponse(Said(text=query_str), nodes)

    asking = cached(Custom(), real, engine_id="custom")
    for _ in range(2):
        response = await way(asking.query, ASKED)
        assert response.response == Said(text=ASKED)
        assert response.semantic_cache is None
    assert real.stats().not_stored == {"not storable": 2}


async def test_empty_retrievals_are_not_stored(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    for number, streaming in enumerate([False, True], 1):
        far = [SimilarityPostprocessor(similarity_cutoff=0.99)]
        inner = engine(EchoLLM(), minilm, node_postprocessors=far, streaming=streaming)
        asking = cached(inner, both)
        for _ in range(2):
            assert (await ask(way, asking, ASKED)).response == "Empty Response"
        assert both.stats().not_stored == {"empty retrieval": 2 * number}
    assert both.stats().stored == 0


async def test_empty_and_cut_off_answers_are_not_stored(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    class Silent(EchoLLM):
        def _answer(self, prompt: str) -> str:
            return " "

    await ask(way, cached(engine(Silent(), minilm), real), ASKED)
    assert real.stats().not_stored == {"empty answer": 1}
    llm = EchoLLM()
    llm._finish = "length"
    for streaming in (False, True):
        asking = cached(engine(llm, minilm, streaming=streaming), real)
        await ask(way, asking, ASKED)
        await ask(way, asking, ASKED)
    assert llm.calls == 4
    assert real.stats().not_stored == {"empty answer": 1, "finish_reason length": 4}


async def test_hits_are_new_objects(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    asking = cached(engine(EchoLLM(), minilm), real)
    first = await way(asking.query, ASKED)
    kept = first.source_nodes[0].node.get_content()
    for _ in range(2):
        response = await way(asking.query, ASKED)
        assert response.source_nodes[0].node.get_content() == kept
        response.source_nodes[0].node.set_content("spoilt")
        response.source_nodes.clear()
        response.metadata.clear()


async def test_an_engine_that_fails_stores_nothing_and_its_error_is_seen(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    class Failing(CountingRetriever):
        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return self._retrieve(query_bundle)

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            raise LookupError("no index")

    inner = engine(EchoLLM(), minilm)
    inner._retriever = Failing(inner.retriever._index)  # type: ignore[attr-defined]
    asking = cached(inner, both)
    for _ in range(2):
        with pytest.raises(LookupError, match="no index"):
            await way(asking.query, ASKED)
    assert (both.stats().stored, both.stats().lookups) == (0, 2)


async def test_without_its_server_queries_are_answered_all_the_same(
    minilm: MiniLMEmbedding, way: Way
) -> None:
    llm = EchoLLM()
    async with ValkeySemanticCache(minilm, "valkey://127.0.0.1:1") as cache:
        for streaming in (False, True):
            asking = cached(engine(llm, minilm, streaming=streaming), cache)
            for _ in range(2):
                assert (await ask(way, asking, ASKED)).response
        assert llm.calls == 4
        assert cache.stats().errors


async def test_over_a_cached_llm_both_keep_their_entries(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    asking = cached(engine(llm, minilm), real)
    first = await way(asking.query, ASKED)
    assert (await way(asking.query, REWORDED)).response == first.response
    assert (inner.calls, retrievals(asking)) == (1, 1)
    newer = cached(engine(llm, minilm), real, corpus_version="v2")
    assert (await way(newer.query, ASKED)).response == first.response
    assert (inner.calls, retrievals(newer)) == (1, 1), "another version retrieves; the model's "
    # answer over the same passages is the same


async def test_all_else_is_the_inner_engines(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding
) -> None:
    inner = engine(EchoLLM(), minilm)
    asking = cached(inner, real)
    assert (asking.inner, asking.cache) == (inner, real)
    assert asking.retriever is inner.retriever
    nodes = asking.retrieve(QueryBundle(ASKED))
    assert nodes == inner.retrieve(QueryBundle(ASKED))
    assert await asking.aretrieve(QueryBundle(ASKED)) == nodes
    expected = inner.synthesize(QueryBundle(ASKED), nodes).response
    assert asking.synthesize(QueryBundle(ASKED), nodes).response == expected
    assert (await asking.asynthesize(QueryBundle(ASKED), nodes)).response == expected
    assert asking.callback_manager is inner.callback_manager
    asking.callback_manager = manager = CallbackManager([])
    assert inner.callback_manager is manager
    with pytest.raises(AttributeError):
        asking.nothing_of_this_name  # noqa: B018


async def test_prompt_updates_reach_the_inner_engine_and_change_the_scope(
    both: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    for engine_id in (None, "mine"):
        llm = EchoLLM()
        inner = engine(llm, minilm)
        asking = cached(inner, both, engine_id=engine_id)
        await way(asking.query, ASKED)
        name = "response_synthesizer:text_qa_template"
        assert asking.get_prompts().keys() == inner.get_prompts().keys() >= {name}
        pirate = PromptTemplate("Like a pirate: {context_str} {query_str}")
        asking.update_prompts({name: pirate})
        assert inner.get_prompts()[name] == pirate
        assert str((await way(asking.query, ASKED)).response).startswith("Echo: user: Like a pir")
        assert llm.calls == 2
        # and so does an update that goes around the cache
        inner.update_prompts({name: PromptTemplate("Be brief: {context_str} {query_str}")})
        assert "Be brief" in str(await way(asking.query, ASKED))
        assert llm.calls == 3
        asking.update_prompts({name: pirate})
        assert "Like a pirate" in str(await way(asking.query, ASKED))
        assert llm.calls == 3


def test_wrong_arguments_are_told(real: ValkeySemanticCache, minilm: MiniLMEmbedding) -> None:
    inner = engine(EchoLLM(), minilm)
    for arguments, words in [
        ((inner.retriever, real), "takes a LlamaIndex query engine, not CountingRetriever"),
        ((cached(inner, real), real), "is a SemanticCacheQueryEngine already"),
        ((inner, "redis://"), "takes a llama_index_valkey_semcache.ValkeySemanticCache"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            SemanticCacheQueryEngine(*arguments, corpus_version="v1")  # type: ignore[arg-type]

    async def version() -> str:
        return "v1"

    for option, value in [
        ("corpus_version", ""),
        ("corpus_version", None),
        ("corpus_version", version),
        ("engine_id", ""),
        ("namespace", 7),
        ("threshold", 2),
        ("ttl", -1),
        ("should_store", "no"),
        ("shared_query_vector", "yes"),
    ]:
        with pytest.raises(ConfigurationError, match=f"{option}="):
            cached(inner, real, **{option: value})
    with pytest.raises(TypeError, match="corpus_version"):
        SemanticCacheQueryEngine(inner, real)  # type: ignore[call-arg]
