"""What a cached query engine's responses depend on: corpus, engine, tenant and the query."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import Response
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index.engines import (
    ASKED,
    NODES,
    OTHER,
    REWORDED,
    RetrievingEmbedding,
    ask,
    engine,
    read,
    retrievals,
)
from tests.llama_index.models import CountingLLM, EchoLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError


def cached(inner: Any, cache: ValkeySemanticCache, **options: Any) -> Any:
    return SemanticCacheQueryEngine(inner, cache, **{"corpus_version": "v1"} | options)


# The corpus


async def test_a_new_version_never_answers_from_the_old(
    cache: ValkeySemanticCache, way: Way
) -> None:
    llm = EchoLLM()
    inner = engine(llm, RetrievingEmbedding())
    for calls, version in enumerate(["handbook 1", "handbook 2"], 1):
        for _ in range(2):
            await way(cached(inner, cache, corpus_version=version).query, ASKED)
        assert (llm.calls, retrievals(inner)) == (calls, calls)
    now = ["a"]
    asking = cached(inner, cache, corpus_version=lambda: now[0])
    for calls, now[0] in [(3, "a"), (4, "b"), (4, "a"), (4, "handbook 1")]:
        for _ in range(2):
            await way(asking.query, ASKED)
        assert (llm.calls, retrievals(inner)) == (calls, calls)


@pytest.mark.parametrize("volatile", [(), (r"\d{4}-\d\d",)], ids=["", "volatile"])
async def test_volatile_patterns_take_nothing_from_the_version(
    plain: Served, minilm: MiniLMEmbedding, way: Way, volatile: tuple[str, ...]
) -> None:
    llm = EchoLLM()
    async with ValkeySemanticCache(minilm, **plain.options, volatile=volatile) as cache:
        for version in ("docs 2024-05", "docs 2024-06"):
            await way(cached(engine(llm, minilm), cache, corpus_version=version).query, ASKED)
    assert llm.calls == 2


async def test_an_unknown_version_is_not_cached_and_counted(
    cache: ValkeySemanticCache, way: Way
) -> None:
    def down() -> str:
        raise ConnectionError("the catalogue is down")

    llm = EchoLLM()
    for version, errors in [(lambda: None, {}), (lambda: 7, {}), (down, {"ConnectionError": 2})]:
        asking = cached(engine(llm, RetrievingEmbedding()), cache, corpus_version=version)
        for _ in range(2):
            assert (await way(asking.query, ASKED)).response
        assert cache.stats().errors == errors
    assert llm.calls == 6
    assert cache.stats().misses == {"not_cacheable": 6}
    assert cache.stats().stored == 0


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_corpus_that_changes_while_it_is_asked_stores_nothing(
    cache: ValkeySemanticCache, way: Way, streaming: bool
) -> None:
    class Meanwhile(EchoLLM):
        def _answer(self, prompt: str) -> str:
            versions[:] = ["new"]
            return super()._answer(prompt)

    versions = ["old"]
    inner = engine(Meanwhile(), RetrievingEmbedding(), streaming=streaming)
    asking = cached(inner, cache, corpus_version=lambda: versions[0])
    await ask(way, asking, ASKED)
    assert cache.stats().not_stored == {"the corpus changed meanwhile": 1}
    await ask(way, asking, ASKED)
    assert cache.stats().stored == 1


# The engine


async def test_whatever_makes_answers_differ_is_part_of_the_scope(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    pirate = PromptTemplate("Like a pirate: {context_str} {query_str}")
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2024)])
    cutoff = [SimilarityPostprocessor(similarity_cutoff=0.2)]
    nodes = [TextNode(text=node.text, metadata={"year": 2024}) for node in NODES]
    llm = EchoLLM()
    engines = [
        engine(llm, minilm),
        engine(llm, minilm, top_k=1),
        engine(llm, minilm, nodes=nodes, filters=filters),
        engine(llm, minilm, node_postprocessors=cutoff),
        engine(llm, minilm, response_mode="tree_summarize"),
        engine(llm, minilm, text_qa_template=pirate),
        engine(EchoLLM(max_tokens=7), minilm),
        engine(CountingLLM(), minilm),
        engine(CountingLLM(temperature=0.7), minilm),
        engine(SemanticCacheLLM(CountingLLM(temperature=0.8), real), minilm),
        engine(SemanticCacheLLM(CountingLLM(temperature=0.9), real), minilm),
        engine(SemanticCacheLLM(CountingLLM(), real, model_id="mine"), minilm),
        engine(EchoLLM(), RetrievingEmbedding()),
    ]
    for number, inner in enumerate(engines):
        for question in (ASKED, ASKED, REWORDED):
            await way(cached(inner, real).query, question)
        assert retrievals(inner) == 1, number
        assert real.stats().lookups >= 3
    # settings changed later count as well
    inner = engines[0]
    inner.retriever.similarity_top_k = 3
    await way(cached(inner, real).query, ASKED)
    assert retrievals(inner) == 2


NAMING = """
from llama_index_valkey_semcache.engine_identity import EngineWalk
from tests.llama_index.engines import RetrievingEmbedding, engine
from tests.llama_index.models import CountingLLM
print(EngineWalk(engine(CountingLLM(), RetrievingEmbedding()), None).identity)
"""


def test_another_process_names_an_engine_alike_and_no_secret_is_in_it() -> None:
    from llama_index_valkey_semcache.engine_identity import EngineWalk

    here = EngineWalk(engine(CountingLLM(), RetrievingEmbedding()), None).identity
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NAMING],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "77", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == here
    assert "sk-planted" not in here
    assert " at 0x" not in here


class Strange(CustomQueryEngine):
    """An engine with a part that has no name."""

    part: Any = None

    def custom_query(self, query_str: str) -> Any:
        nodes = [NodeWithScore(node=TextNode(text="red"), score=1.0)]
        return Response(f"strange: {query_str}", nodes)


async def test_what_cannot_be_named_is_not_cached_but_with_an_engine_id(
    cache: ValkeySemanticCache, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    for part in (lambda: 1, object(), [object()], {1: 2}):
        inner = Strange(part=part)
        caplog.clear()
        asking = cached(inner, cache)
        for _ in range(2):
            assert (await way(asking.query, ASKED)).semantic_cache is None
        (record,) = caplog.records
        assert "Queries to Strange are not cached" in record.getMessage()
        assert "engine_id=" in record.getMessage()
    assert cache.stats().misses == {"not_cacheable": 8}
    for engine_id in ("strange/1", "strange/2"):
        asking = cached(Strange(part=object()), cache, engine_id=engine_id)
        seen = [(await way(asking.query, ASKED)).semantic_cache is not None for _ in range(2)]
        assert seen == [False, True]
    asking = cached(Strange(part={"k": [1, 2.5, None, "x"]}), cache)
    await way(asking.query, ASKED)
    assert (await way(asking.query, ASKED)).semantic_cache["tier"] == "exact"


async def test_an_engine_that_changes_itself_is_told_of_once(
    cache: ValkeySemanticCache, caplog: pytest.LogCaptureFixture
) -> None:
    class Restless(Strange):
        def custom_query(self, query_str: str) -> Any:
            self.part = (self.part or 0) + 1
            return super().custom_query(query_str)

    asking = cached(Restless(), cache)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asking.query(ASKED)
    (record,) = caplog.records
    assert "Restless changes its own settings when it is asked" in record.getMessage()


async def test_the_model_of_settings_counts_where_an_engine_holds_none(
    cache: ValkeySemanticCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_index.core import Settings

    asking = cached(Strange(), cache)
    for llm in (EchoLLM(), EchoLLM(max_tokens=5)):
        monkeypatch.setattr(Settings, "_llm", llm)
        assert asking.query(ASKED).semantic_cache is None
        assert asking.query(ASKED).semantic_cache is not None


async def test_an_engines_model_names_its_entries(plain: Served, minilm: MiniLMEmbedding) -> None:
    options = plain.options | {"models": ["count*"]}
    async with ValkeySemanticCache(minilm, **options) as cache:
        for engine_id in (None, "mine"):
            for llm in (CountingLLM(), EchoLLM()):
                cached(engine(llm, minilm), cache, engine_id=engine_id).query(ASKED)
        assert cache.stats().stored == 2


# Tenants and options


async def test_tenants_keep_apart(cache: ValkeySemanticCache, way: Way) -> None:
    llm = EchoLLM()
    asking = cached(engine(llm, RetrievingEmbedding()), cache)
    views = [
        asking,
        asking.with_namespace("acme"),
        cached(asking.inner, cache, namespace="globex"),
        cached(asking.inner, cache.with_namespace("initech")),
    ]
    for number, view in enumerate(views, 1):
        for _ in range(2):
            await way(view.query, ASKED)
        assert llm.calls == number
    await way(cached(asking.inner, cache, namespace="acme").query, ASKED)
    with cache.namespace("initech"):
        await way(asking.query, ASKED)
    assert llm.calls == len(views)


async def test_a_stream_is_stored_for_who_asked(cache: ValkeySemanticCache, way: Way) -> None:
    llm = EchoLLM()
    asking = cached(engine(llm, RetrievingEmbedding(), streaming=True), cache)
    with cache.namespace("acme"):
        response = await way(asking.query, ASKED)
    with cache.namespace("globex"):
        await read(response)
        await ask(way, asking, ASKED)
    assert llm.calls == 2
    with cache.namespace("acme"):
        await ask(way, asking, ASKED)
    assert llm.calls == 2


async def test_nobodys_queries_are_not_cached(plain: Served, minilm: MiniLMEmbedding) -> None:
    llm = EchoLLM()
    async with ValkeySemanticCache(minilm, **plain.options, namespace_from=lambda: None) as cache:
        asking = cached(engine(llm, minilm), cache)
        for _ in range(2):
            await asking.aquery(ASKED)
        assert llm.calls == 2
        assert cache.stats().misses == {"not_cacheable": 2}


async def test_threshold_ttl_and_should_store(
    either_index: Served, minilm: MiniLMEmbedding, way: Way
) -> None:
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(minilm, **options) as cache:
        llm = EchoLLM()
        strict = cached(engine(llm, minilm), cache, threshold=1.0, ttl=77)
        await way(strict.query, ASKED)
        await way(strict.query, REWORDED)
        assert llm.calls == 2
        lives = [either_index.admin.ttl(key) for key in either_index.entries()]
        assert len(lives) == 2
        assert all(60 < life <= 77 for life in lives)
        seen: list[Any] = []

        def never(response: Any) -> bool:
            seen.append(response)
            return "sunny" in str(response)

        for streaming in (False, True):
            picky = cached(
                engine(llm, minilm, streaming=streaming), cache, should_store=never, namespace="p"
            )
            await ask(way, picky, OTHER)
        assert [type(response) for response in seen] == [Response, Response]
        assert all(response.source_nodes and OTHER in response.response for response in seen)

        def broken(response: Any) -> bool:
            raise LookupError(response)

        await way(cached(engine(llm, minilm), cache, should_store=broken).query, OTHER)
        assert cache.stats().not_stored == {"should_store said no": 2, "should_store raised": 1}
        assert cache.stats().errors == {"LookupError": 1}


async def test_bypass_goes_around_the_cache(cache: ValkeySemanticCache, way: Way) -> None:
    llm = EchoLLM()
    asking = cached(engine(llm, RetrievingEmbedding()), cache)
    with asking.bypass():
        for view in (asking, asking.with_namespace("acme")):
            assert (await way(view.query, ASKED)).semantic_cache is None
    assert (llm.calls, cache.stats().lookups, cache.stats().stored) == (2, 0, 0)
    for _ in range(2):
        await way(asking.query, ASKED)
    assert llm.calls == 3


# The query itself


async def test_queries_that_bring_more_than_their_text(
    cache: ValkeySemanticCache, way: Way, tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"one picture")
    llm = EchoLLM()
    embedding = RetrievingEmbedding()
    asking = cached(engine(llm, embedding), cache)
    vector = embedding.get_text_embedding("red")
    variants: list[dict[str, Any]] = [
        {},
        {"custom_embedding_strs": ["a hypothetical answer"]},
        {"custom_embedding_strs": ["another one"]},
        {"embedding": vector},
        {"embedding": [-part for part in vector]},
        {"image_path": str(image)},
    ]
    for number, variant in enumerate(variants, 1):
        for _ in range(2):
            bundle = QueryBundle(ASKED, **variant)
            await way(asking.query, bundle)
            assert bundle == QueryBundle(ASKED, **variant), "the caller's query is left alone"
        assert llm.calls == number
        # not by meaning: a near wording asks anew, if there is more than text
        near = asking._front.asked(QueryBundle(REWORDED, **variant)).question.exact_only
        assert bool(near) is bool(variant)
    await way(asking.query, QueryBundle(ASKED, custom_embedding_strs=[ASKED]))
    assert llm.calls == len(variants)
    image.write_bytes(b"another picture")
    await way(asking.query, QueryBundle(ASKED, image_path=str(image)))
    assert llm.calls == len(variants) + 1
    image.unlink()

    class Own(QueryBundle):
        pass

    for unreadable in (QueryBundle(ASKED, image_path=str(image)), Own(ASKED)):
        before = cache.stats().misses.get("not_cacheable", 0)
        await way(asking.query, unreadable)
        assert cache.stats().misses["not_cacheable"] == before + 1


async def test_the_questions_vector_is_shared_only_when_told(plain: Served, way: Way) -> None:
    class Counting(MiniLMEmbedding):
        asked: list[str] = []  # noqa: RUF012 - a pydantic field

        def _get_query_embedding(self, query: str) -> list[float]:
            self.asked.append(query)
            return super()._get_query_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    embedding = Counting()
    async with ValkeySemanticCache(embedding, **plain.options, on_error="raise") as cache:
        llm = EchoLLM()
        inner = engine(llm, embedding)
        apart = await way(cached(inner, cache, namespace="apart").query, ASKED)
        assert embedding.asked == [ASKED], "the retriever embeds by its own method"
        assert inner.retriever.requests[-1].embedding is None
        together = await way(
            cached(inner, cache, namespace="together", shared_query_vector=True).query, ASKED
        )
        assert embedding.asked == [ASKED], "the cache's vector did"
        assert len(inner.retriever.requests[-1].embedding) == 384
        assert together.response == apart.response
        assert [s.score for s in together.source_nodes] == pytest.approx(
            [s.score for s in apart.source_nodes], abs=1e-5
        )
        # a query that is not compared by meaning was not embedded, so there is no vector
        long = ASKED + " please" * 200
        await way(cached(inner, cache, shared_query_vector=True).query, long)
        assert embedding.asked == [ASKED, long]


def test_a_vector_is_not_shared_among_two_models(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding
) -> None:
    other = engine(EchoLLM(), RetrievingEmbedding())
    with pytest.raises(ConfigurationError, match="the engine's retriever with RetrievingEmbedding"):
        cached(other, real, shared_query_vector=True)
    named = ValkeySemanticCache(
        HashingEmbedding(), "embedded://", embedding_id="RetrievingEmbedding/hashing"
    )
    assert isinstance(cached(other, named, shared_query_vector=True), BaseQueryEngine)
