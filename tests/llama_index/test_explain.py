"""`explain` in LlamaIndex's terms: what the very call would find."""

from __future__ import annotations

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage

from llama_index_valkey_semcache import (
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index.engines import RetrievingEmbedding, ask
from tests.llama_index.engines import engine as make_engine
from tests.llama_index.models import CountingLLM
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def chat(text: str, system: str = "") -> list[ChatMessage]:
    messages = [ChatMessage(role="system", content=system)] if system else []
    return [*messages, ChatMessage(role="user", content=text)]


async def test_chats_completions_and_templates(either_cache: ValkeySemanticCache, way: Way) -> None:
    cache, inner = either_cache, CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("Answer briefly.\nQuestion: {query_str}\n")
    await way(llm.chat, chat(ASKED))
    await way(llm.complete, ASKED)
    await way(llm.predict, template, query_str=ASKED)
    before = cache.stats()
    for told in (
        await way(llm.explain, chat(ASKED)),
        await way(llm.explain, ASKED),
        await way(llm.explain, template, query_str=ASKED),
    ):
        assert told.verdict == "exact hit"
    for told in (
        await way(llm.explain, chat(REWORDED)),
        await way(llm.explain, REWORDED),
        await way(llm.explain, template, query_str=REWORDED),
    ):
        assert told.verdict == "semantic hit"
    assert cache.stats() == before
    assert inner.calls == 3


async def test_what_keeps_apart_is_told(either_cache: ValkeySemanticCache, way: Way) -> None:
    llm = SemanticCacheLLM(CountingLLM(), either_cache)
    await way(llm.chat, chat(ASKED, "be brief"))
    told = await way(llm.explain, chat(ASKED, "be long"))
    assert [near.apart for near in told.neighbours] == [("context",)]
    told = await way(llm.explain, chat(ASKED, "be brief"), temperature=0.1)
    assert [near.apart for near in told.neighbours] == [("model",)]
    told = await way(llm.explain, PromptTemplate("{text}"), text=ASKED)
    assert told.exact_reason == "the template has no question variable"


async def test_the_wrappers_own_options_hold(cache: ValkeySemanticCache, way: Way) -> None:
    await way(SemanticCacheLLM(CountingLLM(), cache).chat, chat(ASKED))
    strict = SemanticCacheLLM(CountingLLM(), cache, threshold=1.0)
    assert (await way(strict.explain, chat(REWORDED))).verdict == "miss: below_threshold"
    exact = SemanticCacheLLM(CountingLLM(), cache, mode="exact")
    assert (await way(exact.explain, chat(REWORDED))).exact_reason == "mode='exact'"
    off = SemanticCacheLLM(CountingLLM(), cache, mode="off")
    assert (await way(off.explain, chat(ASKED))).verdict == "miss: not_cacheable"
    with strict.bypass():
        assert (await way(strict.explain, chat(ASKED))).verdict == "miss: not_cacheable"
    strict._front.cache = None
    with pytest.raises(ConfigurationError, match="no cache"):
        await way(strict.explain, chat(ASKED))


async def test_query_engines(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    made = make_engine(inner, RetrievingEmbedding())
    engine = SemanticCacheQueryEngine(made, cache, corpus_version="handbook 1")
    await ask(way, engine, ASKED)
    before = cache.stats(), inner.calls
    assert (await way(engine.explain, ASKED)).verdict == "exact hit"
    assert (await way(engine.explain, REWORDED)).verdict == "semantic hit"
    later = SemanticCacheQueryEngine(engine.inner, cache, corpus_version="handbook 2")
    told = await way(later.explain, ASKED)
    assert [near.apart for near in told.neighbours] == [("model",)]
    unknown = SemanticCacheQueryEngine(engine.inner, cache, corpus_version=lambda: None)
    assert (await way(unknown.explain, ASKED)).verdict == "miss: not_cacheable"
    with engine.bypass():
        assert not (await way(engine.explain, ASKED)).hit
    assert (cache.stats(), inner.calls) == before
