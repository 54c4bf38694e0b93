"""Chat engines over a cached LLM: the answers and the memory are those of the bare model."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import LLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import EchoLLM

ASKED = "How do I reset my password?"
REWORDED = "What do I do to reset my password?"
OTHER = "How do I change my e-mail address?"

NODES = [TextNode(id_="1", text="To reset the password, press the red button.")]


def simple(llm: LLM, memory: Any) -> Any:
    return SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")


def context(llm: LLM, memory: Any) -> Any:
    retriever = SummaryIndex(NODES).as_retriever()
    return ContextChatEngine.from_defaults(retriever, llm=llm, memory=memory)


def condense_plus_context(llm: LLM, memory: Any) -> Any:
    retriever = SummaryIndex(NODES).as_retriever()
    return CondensePlusContextChatEngine.from_defaults(retriever, llm=llm, memory=memory)


def condense_question(llm: LLM, memory: Any) -> Any:
    query_engine = SummaryIndex(NODES).as_query_engine(llm=llm)
    return CondenseQuestionChatEngine.from_defaults(query_engine, llm=llm, memory=memory)


KINDS = [simple, context, condense_plus_context, condense_question]


async def said(way: Way, engine: Any, message: str, streaming: bool) -> str:
    if not streaming:
        return str((await way(engine.chat, message)).response)
    response = await way(engine.stream_chat, message)
    if way.name == "sync":
        return "".join(response.response_gen)
    return "".join([token async for token in response.async_response_gen()])


async def conversation(
    way: Way, kind: Any, llm: LLM, messages: list[str], streaming: bool = False
) -> tuple[list[str], list[tuple[str, str | None, dict[str, Any]]]]:
    """The answers to messages in turn, and what is in the memory afterwards."""
    memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
    engine = kind(llm, memory)
    answers = [await said(way, engine, message, streaming) for message in messages]
    return answers, [(m.role.value, m.content, m.additional_kwargs) for m in memory.get_all()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_a_conversation(
    real: ValkeySemanticCache, way: Way, kind: Any, streaming: bool
) -> None:
    messages = [ASKED, OTHER, ASKED]
    bare, inner = EchoLLM(), EchoLLM()
    uncached = await conversation(way, kind, bare, messages, streaming)
    llm = SemanticCacheLLM(inner, real)
    for _ in range(2):
        assert await conversation(way, kind, llm, messages, streaming) == uncached
        assert inner.calls == bare.calls
        assert inner.asked == bare.asked
    _, memory = uncached
    assert [role for role, _, _ in memory] == ["user", "assistant"] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_whole_and_streamed_conversations_share_answers(
    real: ValkeySemanticCache, way: Way, kind: Any
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    whole = await conversation(way, kind, llm, [ASKED, OTHER])
    calls = inner.calls
    assert await conversation(way, kind, llm, [ASKED, OTHER], streaming=True) == whole
    assert inner.calls == calls


@pytest.mark.parametrize("kind", KINDS)
async def test_a_first_question_in_other_words(
    real: ValkeySemanticCache, way: Way, kind: Any
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    (first,), _ = await conversation(way, kind, llm, [ASKED])
    calls = inner.calls
    (again,), memory = await conversation(way, kind, llm, [REWORDED])
    assert again == first
    assert inner.calls == calls
    assert memory[0][1] == REWORDED, "the memory holds what was asked, not what is stored"


async def test_a_follow_up_is_answered_from_its_own_conversation(
    real: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    await conversation(way, simple, llm, ["Tell me about Rome.", "How many people live there?"])
    calls = inner.calls
    await conversation(way, simple, llm, ["Tell me about Oslo.", "How many people live there?"])
    assert inner.calls == calls + 2
