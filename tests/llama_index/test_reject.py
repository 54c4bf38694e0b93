"""A wrong answer rejected by its response: never again for this question, still for its own."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import MockLLM
from pydantic import BaseModel

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index import engines
from tests.llama_index.engines import engine, read, retrievals
from tests.llama_index.models import CountingLLM, EchoLLM
from tests.servers import Served
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ALSO = "how do i reset the password of my old account"


def tier(response: Any) -> str | None:
    return response.additional_kwargs.get("semantic_cache", {}).get("tier")


async def ask(way: Way, llm: SemanticCacheLLM, kind: str, text: str) -> Any:
    if kind == "chat":
        return await way(llm.chat, [ChatMessage(role="user", content=text)])
    if kind == "complete":
        return await way(llm.complete, text)
    stream = await way(llm.stream_complete, text)
    chunks = [chunk async for chunk in stream] if way.name == "async" else list(stream)
    return chunks[-1]


@pytest.mark.parametrize("kind", ["chat", "complete", "stream"])
async def test_a_rejected_response_is_not_served_for_its_question_again(
    either_cache: ValkeySemanticCache, way: Way, kind: str
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, either_cache)
    await ask(way, llm, kind, ASKED)
    hit = await ask(way, llm, kind, REWORDED)
    assert tier(hit) == "semantic"
    assert await way(either_cache.reject, hit) is True
    assert tier(await ask(way, llm, kind, REWORDED)) is None
    assert inner.calls == 2, "the model was asked"
    assert tier(await ask(way, llm, kind, ASKED)) == "exact"
    assert tier(await ask(way, llm, kind, ALSO)) == "semantic"
    again = await ask(way, llm, kind, REWORDED)
    assert (tier(again), inner.calls) == ("exact", 2)
    assert await way(either_cache.reject, again) is True
    assert tier(await ask(way, llm, kind, REWORDED)) is None, "that of the very words is deleted"


class Said(BaseModel):
    """Something said."""

    text: str


@pytest.mark.parametrize("kind", ["text", "stream", "structured"])
async def test_a_query_engines_response_is_rejected_as_well(
    either_index: Served, minilm: MiniLMEmbedding, way: Way, kind: str
) -> None:
    options: dict[str, Any] = {"streaming": True} if kind == "stream" else {}
    if kind == "structured":
        options = {"output_cls": Said}
    async with ValkeySemanticCache(minilm, **either_index.options, on_error="raise") as cache:
        inner = engine(EchoLLM(), minilm, **options)
        asking = SemanticCacheQueryEngine(inner, cache, corpus_version="v1")

        async def asked(question: str) -> Any:
            response = await way(asking.query, question)
            await read(response)
            return response

        first = await asked(engines.ASKED)
        assert first.semantic_cache is None
        with pytest.raises(ConfigurationError, match=r"reject\(\) takes"):
            await way(cache.reject, first)
        hit = await asked(engines.REWORDED)
        assert hit.semantic_cache["tier"] == "semantic"
        assert await way(cache.reject, hit) is True
        assert (await asked(engines.REWORDED)).semantic_cache is None
        assert retrievals(asking) == 2, "the engine was asked"
        assert (await asked(engines.ASKED)).semantic_cache["tier"] == "exact"


async def test_a_hit_of_the_core_is_rejected_as_well(
    either_cache: ValkeySemanticCache, way: Way
) -> None:
    await way(either_cache.store, ASKED, "x")
    assert await way(either_cache.reject, await way(either_cache.lookup, ALSO)) is True
    assert (await way(either_cache.lookup, ALSO)).reason == "rejected"
    assert (await way(either_cache.lookup, ASKED)).tier == "exact"


async def test_what_is_no_hit_is_refused(either_cache: ValkeySemanticCache, way: Way) -> None:
    llm = SemanticCacheLLM(MockLLM(), either_cache)
    first = await way(llm.complete, ASKED)
    hit = await way(llm.complete, ASKED)
    hit.additional_kwargs["semantic_cache"]["asked"] = "other:" + "0" * 98
    for wrong in (first, ChatResponse(message=ChatMessage(content="x")), "x", None, hit):
        with pytest.raises(ConfigurationError, match=r"reject\(\) takes"):
            await way(either_cache.reject, wrong)
    assert tier(await way(llm.complete, ASKED)) == "exact"
