"""An answer in chunks, and chunks as an answer."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation

from langchain_valkey_semcache.replay import Recording, replayed

CALL = {
    "name": "search",
    "args": {"query": "wine", "limit": 3},
    "id": "call_1",
    "type": "tool_call",
}
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
MESSAGES = [
    AIMessage("One word after the other."),
    AIMessage("  Blanks \n\n and lines\t stay.  "),
    AIMessage(""),
    AIMessage("Named, and with all else.", name="agent", usage_metadata=USAGE),
    AIMessage("", tool_calls=[CALL, CALL | {"id": "call_2", "args": {}}]),
    AIMessage(
        "",
        invalid_tool_calls=[
            {
                "name": "search",
                "args": "no JSON",
                "id": "x",
                "error": None,
                "type": "invalid_tool_call",
            }
        ],
    ),
    AIMessage([{"type": "text", "text": "In a block."}, {"type": "text", "text": "And another."}]),
    AIMessage(["Plain strings.", {"type": "text", "text": ""}]),
    AIMessage(
        [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "text", "text": "Read it here.", "annotations": [{"url": "https://x"}]},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
    ),
    AIMessage(
        [{"type": "text", "text": "Standard blocks."}],
        response_metadata={
            "output_version": "v1",
            "model_provider": "openai",
            "status": "completed",
        },
    ),
    AIMessage("Parsed.", additional_kwargs={"parsed": {"a": [1, {"b": None}]}, "refusal": None}),
]


def total(chunks: list[ChatGenerationChunk]) -> ChatGenerationChunk:
    return functools.reduce(operator.add, chunks)


def bare(content: Any) -> Any:
    """Content without the places that blocks have in a stream."""
    if isinstance(content, str):
        return content
    return [
        {k: v for k, v in block.items() if k != "index"} if isinstance(block, dict) else block
        for block in content
    ]


@pytest.mark.parametrize("message", MESSAGES, ids=[str(n) for n in range(len(MESSAGES))])
def test_chunks_add_up_to_the_answer(message: AIMessage) -> None:
    info = {"finish_reason": "stop"}
    chunks = list(replayed(ChatGeneration(message=message, generation_info=info), "run-1"))
    assert {chunk.message.id for chunk in chunks} == {"run-1"}
    assert [getattr(chunk.message, "chunk_position", None) for chunk in chunks] == [
        *[None] * (len(chunks) - 1),
        "last",
    ]
    whole = total(chunks)
    assert whole.generation_info == info
    found = message_chunk_to_message(whole.message)
    assert isinstance(found, AIMessage)
    assert bare(found.content) == message.content
    # Added up, chunks have no name any more, whoever made them.
    assert {chunk.message.name for chunk in chunks} == {message.name}
    for name in ("usage_metadata", "additional_kwargs", "response_metadata"):
        assert getattr(found, name) == getattr(message, name), name
    assert found.tool_calls == message.tool_calls
    assert [call["args"] for call in found.invalid_tool_calls] == [
        call["args"] for call in message.invalid_tool_calls
    ]


@settings(max_examples=50)
@given(st.text())
def test_no_character_of_a_text_is_lost(text: str) -> None:
    for content in (text, [{"type": "text", "text": text}]):
        message = AIMessage(content)  # type: ignore[arg-type]
        whole = total(list(replayed(ChatGeneration(message=message))))
        assert bare(whole.message.content) == content


def test_a_plain_generation_is_its_text() -> None:
    assert [chunk.text for chunk in replayed(Generation(text="two words"))] == ["two", " words", ""]


def test_chunks_are_recorded_as_they_were() -> None:
    recording = Recording(None)
    chunk = ChatGenerationChunk(message=AIMessageChunk("a", response_metadata={"x": "1"}))
    recording.keep(chunk)
    chunk.message.content = "spoilt"
    chunk.message.response_metadata["x"] = "spoilt"
    answer, _ = recording.answer()
    assert answer is not None
    assert answer.message.content == "a"
    assert answer.message.response_metadata == {"x": "1"}
    assert type(answer.message) is AIMessage


def test_a_stream_without_chunks_is_no_answer() -> None:
    assert Recording(None).answer() == (None, "no answer")
