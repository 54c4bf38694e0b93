"""Agents and workflows over a cached LLM: each step of an agent is a request of its own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import LLM
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.compat import TOOL_CALL
from tests.conftest import Way
from tests.llama_index.models import EchoLLM, ToolLLM

ASKED = "How much is 2 plus 3?"
REWORDED = "What is 2 plus 3?"
OTHER = "How much is 2 plus 4?"

used: list[tuple[int, int]] = []


def add(a: int, b: int) -> int:
    """Add two numbers."""
    used.append((a, b))
    return a + b


TOOL = FunctionTool.from_defaults(add)


def numbers(text: str) -> dict[str, int]:
    a, b = (int(word) for word in text.strip("?").split() if word.isdigit())
    return {"a": a, "b": b}


def in_kwargs(messages: Sequence[ChatMessage], tools: Sequence[dict[str, Any]]) -> ChatMessage:
    """Calls the tool, as integrations without blocks write it; then says what it gave."""
    if messages[-1].role == "tool":
        return ChatMessage(role="assistant", content=f"It is {messages[-1].content}.")
    call = {
        "id": f"call_{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": "add", "arguments": json.dumps(numbers(str(messages[-1].content)))},
    }
    return ChatMessage(role="assistant", additional_kwargs={"tool_calls": [call]})


def in_blocks(messages: Sequence[ChatMessage], tools: Sequence[dict[str, Any]]) -> ChatMessage:
    """The same in the blocks of newer releases, beside the other way."""
    message = in_kwargs(messages, tools)
    for call in message.additional_kwargs.get("tool_calls", []):
        message.blocks.append(
            TOOL_CALL[0](
                tool_call_id=call["id"],
                tool_name=call["function"]["name"],
                tool_kwargs=call["function"]["arguments"],
            )
        )
    return message


SCRIPTS = [in_kwargs, in_blocks] if TOOL_CALL else [in_kwargs]


def function_agent(llm: LLM, streaming: bool) -> Any:
    return FunctionAgent(tools=[TOOL], llm=llm, system_prompt="Calculate.", streaming=streaming)


def workflow(llm: LLM, streaming: bool) -> Any:
    agent = FunctionAgent(name="one", description="adds", tools=[TOOL], llm=llm)
    if "streaming" in FunctionAgent.model_fields:  # before, agents always stream
        agent.streaming = streaming
    return AgentWorkflow(agents=[agent])


async def answer(agent: Any, question: str) -> str:
    return str(await agent.run(user_msg=question))


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", [function_agent, workflow])
async def test_agents_that_call_functions(
    real: ValkeySemanticCache, kind: Any, script: Any, streaming: bool
) -> None:
    bare, inner = ToolLLM(script), ToolLLM(script)
    uncached = await answer(kind(bare, streaming), ASKED)
    agent = kind(SemanticCacheLLM(inner, real), streaming)
    assert await answer(agent, ASKED) == uncached == "It is 5."
    assert inner.calls == bare.calls == 2
    # The call for a tool is asked for again; the answer to its result is found, although the
    # call has another id.
    assert await answer(agent, ASKED) == uncached
    assert inner.calls == 3
    assert await answer(agent, OTHER) == "It is 6."
    assert inner.calls == 5


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", [function_agent, workflow])
async def test_calls_for_tools_are_cached_if_asked_for(
    real: ValkeySemanticCache, kind: Any, script: Any, streaming: bool
) -> None:
    inner = ToolLLM(script)
    agent = kind(SemanticCacheLLM(inner, real, cache_tool_calls=True, threshold=0.5), streaming)
    del used[:]
    for _ in range(2):
        assert await answer(agent, ASKED) == "It is 5."
        assert inner.calls == 2
    assert used == [(2, 3)] * 2, "the tool is called each time"
    assert await answer(agent, REWORDED) == "It is 5."
    assert inner.calls == 4, "a call for a tool is found by the very words only"


async def test_whole_and_streamed_steps_share_answers(real: ValkeySemanticCache) -> None:
    inner = ToolLLM(in_kwargs)
    llm = SemanticCacheLLM(inner, real, cache_tool_calls=True)
    for streaming in (True, False, True):
        assert await answer(function_agent(llm, streaming), ASKED) == "It is 5."
    assert inner.calls == 2


async def test_ids_of_calls_are_new_and_fit_together(real: ValkeySemanticCache, way: Way) -> None:
    llm = SemanticCacheLLM(ToolLLM(SCRIPTS[-1]), real, cache_tool_calls=True)
    ids = set()
    for _ in range(3):
        response = await way(llm.chat_with_tools, [TOOL], user_msg=ASKED)
        (call,) = llm.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 2, "b": 3})
        assert response.message.additional_kwargs["tool_calls"][0]["id"] == call.tool_id
        ids.add(call.tool_id)
    assert len(ids) == 3


class Reasoning(EchoLLM):
    """Thinks aloud, as ReAct asks for."""

    def _answer(self, prompt: str) -> str:
        last = prompt.rpartition("\nuser: ")[2]
        if last.startswith("Observation: "):
            result = last.removeprefix("Observation: ").split()[0]
            return f"Thought: I can answer.\nAnswer: It is {result}."
        arguments = json.dumps(numbers(last.partition("\n")[0]))
        return f"Thought: I need a tool.\nAction: add\nAction Input: {arguments}"


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
async def test_react_agents(real: ValkeySemanticCache, streaming: bool) -> None:
    def agent(llm: LLM) -> Any:
        return ReActAgent(tools=[TOOL], llm=llm, streaming=streaming)

    bare, inner = Reasoning(), Reasoning()
    uncached = await answer(agent(bare), ASKED)
    cached = agent(SemanticCacheLLM(inner, real))
    del used[:]
    for _ in range(2):
        assert await answer(cached, ASKED) == uncached == "It is 5."
        assert inner.calls == bare.calls == 2
    assert used == [(2, 3)] * 2
    assert await answer(cached, OTHER) == "It is 6."
    assert inner.calls == 4


async def test_observations_are_found_by_their_very_words_only(
    real: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    for observed in ("How do I reset my password?", "What do I do to reset my password?"):
        await way(llm.chat, [ChatMessage(role="user", content=f"Observation: {observed}")])
    assert inner.calls == 2
    await way(llm.chat, [ChatMessage(role="user", content=f"Observation: {observed}")])
    assert inner.calls == 2


@pytest.mark.parametrize(
    "earlier",
    [
        ChatMessage(role="tool", content="5", additional_kwargs={"tool_call_id": "a"}),
        ChatMessage(role="function", content="5"),
        in_kwargs([ChatMessage(role="user", content=ASKED)], []),
        SCRIPTS[-1]([ChatMessage(role="user", content=ASKED)], []),
    ],
    ids=["tool", "function", "call", "block"],
)
async def test_conversations_with_tools_are_exact_only(
    real: ValkeySemanticCache, way: Way, earlier: ChatMessage
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    for number, text in enumerate(("Thanks! Who are you?", "Thank you! Who are you?"), 1):
        for _ in range(2):
            await way(llm.chat, [earlier, ChatMessage(role="user", content=text)])
        assert inner.calls == number
    assert real.stats().embeddings == 0


async def test_predict_and_call(real: ValkeySemanticCache, way: Way) -> None:
    inner = ToolLLM(in_kwargs)
    llm = SemanticCacheLLM(inner, real, cache_tool_calls=True)
    for _ in range(2):
        response = await way(llm.predict_and_call, [TOOL], user_msg=ASKED)
        assert response.response == "5"
    assert inner.calls == 1


async def test_the_inner_class_is_asked_whether_it_can_require_tools(
    real: ValkeySemanticCache, way: Way
) -> None:
    seen = []

    class Requiring(ToolLLM):
        def _message(self, messages: Any, call: dict[str, Any]) -> ChatMessage:
            seen.append(call.get("tool_required"))
            return super()._message(messages, call)

    llm = SemanticCacheLLM(Requiring(in_kwargs), real)
    await way(llm.chat_with_tools, [TOOL], user_msg=ASKED, tool_required=True)
    assert seen == [True]


async def test_a_workflow_of_ones_own(real: ValkeySemanticCache) -> None:
    class Steps(Workflow):
        def __init__(self, llm: LLM) -> None:
            super().__init__()
            self.llm = llm

        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            template = PromptTemplate("In one word. Question: {query_str}")
            predicted = await self.llm.apredict(template, query_str=event.question)
            streamed = [chunk.delta async for chunk in await self.llm.astream_complete(predicted)]
            return StopEvent(result="".join(map(str, streamed)))

    bare, inner = EchoLLM(), EchoLLM()
    uncached = await Steps(bare).run(question="How do I reset my password?")
    steps = Steps(SemanticCacheLLM(inner, real))
    for question in ("How do I reset my password?", "What do I do to reset my password?"):
        assert await steps.run(question=question) == uncached
    assert inner.calls == bare.calls == 2


async def test_an_llm_that_cannot_call_tools_reasons(real: ValkeySemanticCache) -> None:
    inner = Reasoning()
    llm = SemanticCacheLLM(inner, real)
    parts = {
        "react_chat_formatter": ReActChatFormatter.from_defaults(),
        "output_parser": ReActOutputParser(),
    }
    for _ in range(2):
        response = await llm.apredict_and_call([TOOL], user_msg=ASKED, **parts)
        assert response.response == "5"
    assert inner.calls == 1
