"""A LlamaIndex model as judge of what LlamaIndex's models and engines are answered with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_completion_callback

from llama_index_valkey_semcache import (
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.conftest import Way
from tests.llama_index.engines import RetrievingEmbedding, ask, engine
from tests.llama_index.models import CountingLLM, EchoLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import LLMJudge

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


class Saying(CountingLLM):
    """A model that says one thing, whatever it is asked."""

    says: str = "yes"
    _asked: list[str] = PrivateAttr(default_factory=list)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._asked.append(prompt)
        return CompletionResponse(text=self.says)


Make = Callable[..., ValkeySemanticCache]


@pytest.fixture
async def make(either_index: Served) -> AsyncIterator[Make]:
    made: list[ValkeySemanticCache] = []

    def new(judge: Any, **options: Any) -> ValkeySemanticCache:
        options = {"similarity_threshold": 0.7, "on_error": "raise"} | options
        options = either_index.options | options
        made.append(ValkeySemanticCache(HashingEmbedding(), judge=judge, **options))
        return made[-1]

    yield new
    for cache in made:
        await cache.aclose()


@pytest.mark.parametrize(
    ("says", "tier", "misses"),
    [("Yes", "semantic", {}), ("no.", None, {"judged": 1}), ("Perhaps", None, {"unjudged": 1})],
)
async def test_completions_are_judged(
    make: Make, way: Way, says: str, tier: str | None, misses: dict[str, int]
) -> None:
    judge = Saying(says=says)
    cache = make(LLMJudge(judge))
    llm = SemanticCacheLLM(CountingLLM(), cache)
    await way(llm.complete, ASKED)
    answer = await way(llm.complete, REWORDED)
    assert answer.additional_kwargs.get("semantic_cache", {}).get("tier") == tier
    assert cache.stats().misses == {"no_neighbour": 1} | misses
    (prompt,) = judge._asked
    assert f'"counting on: {ASKED}"' in prompt


async def test_chats_are_judged_by_their_text(make: Make, way: Way) -> None:
    judge = Saying(says="yes")
    llm = SemanticCacheLLM(CountingLLM(), make(LLMJudge(judge)))
    await way(llm.chat, [ChatMessage(role="user", content=ASKED)])
    answer = await way(llm.chat, [ChatMessage(role="user", content=REWORDED)])
    assert answer.additional_kwargs["semantic_cache"]["tier"] == "semantic"
    assert f'"counting on: {ASKED}"' in judge._asked[0]


async def test_a_cached_model_as_judge_is_not_answered_by_its_cache(make: Make, way: Way) -> None:
    inner = Saying(says="yes")
    asks = make(None)
    judge = LLMJudge(SemanticCacheLLM(inner, asks), "is {asked} the same as {stored}")
    cache = make(judge)
    llm = SemanticCacheLLM(CountingLLM(), cache)
    await way(llm.complete, ASKED)
    for _ in range(3):
        assert (await way(llm.complete, REWORDED)).additional_kwargs["semantic_cache"]
    assert len(inner._asked) == 3
    assert (asks.stats().stored, cache.stats().stored) == (0, 1)


class Reads:
    """A judge that says yes, and keeps the answers it was shown."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    def judge(self, asked: str, stored: str, answer: str) -> bool:
        self.answers.append(answer)
        return True


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_judge_reads_a_query_engines_answer(
    make: Make, way: Way, streaming: bool
) -> None:
    judge = Reads()
    cache = make(judge)
    inner = engine(EchoLLM(), RetrievingEmbedding(), streaming=streaming)
    cached = SemanticCacheQueryEngine(inner, cache, corpus_version="1")
    first = await ask(way, cached, ASKED)
    again = await way(cached.query, REWORDED)
    assert again.semantic_cache["tier"] == "semantic"
    assert judge.answers == [first.response]
    assert "Echo:" in judge.answers[0]
