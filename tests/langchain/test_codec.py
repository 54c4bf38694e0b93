"""How LangChain's answers are written down and read again, and which are not."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
)
from pydantic import BaseModel, Field

from langchain_valkey_semcache.answers import reason_not_to_store
from langchain_valkey_semcache.codec import GenerationCodec
from valkey_semcache import NotStorableError, UnreadableError

CODEC = GenerationCodec()

ROUND_TRIPS: list[list[Generation]] = [
    [Generation(text="a")],
    [Generation(text="", generation_info={"reason": "x", "n": None})],
    [ChatGeneration(message=AIMessage("a"))],
    [ChatGeneration(message=AIMessage("a", name="bob"), generation_info={"finish_reason": "stop"})],
    [ChatGeneration(message=AIMessage([{"type": "text", "text": "a"}, "b"]))],
    [
        ChatGeneration(
            message=AIMessage(
                "a",
                additional_kwargs={"refusal": None, "reasoning": {"x": [1, 2.5, "\ud800"]}},
                response_metadata={"model_name": "m", "logprobs": {"content": [{"t": -0.1}]}},
                usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            )
        )
    ],
    [
        ChatGeneration(
            message=AIMessage(
                "",
                tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}],
                invalid_tool_calls=[
                    {
                        "name": "g",
                        "args": "{",
                        "id": "d",
                        "error": "bad",
                        "type": "invalid_tool_call",
                    }
                ],
            )
        )
    ],
]


@pytest.mark.parametrize("generations", ROUND_TRIPS)
def test_generations_come_back_as_they_were(generations: list[Generation]) -> None:
    assert CODEC.decode(CODEC.encode(generations)) == generations


def test_ids_are_not_kept_and_chunks_are_folded() -> None:
    chunk = ChatGenerationChunk(message=AIMessageChunk("a", id="run-1"))
    (generation,) = CODEC.decode(CODEC.encode([chunk]))
    assert generation == ChatGeneration(message=AIMessage("a"))
    assert type(generation.message) is AIMessage  # type: ignore[attr-defined]
    assert generation.message.id is None  # type: ignore[attr-defined]


class Person(BaseModel):
    full_name: str = Field(alias="name")


class Lossy(BaseModel):
    secret: str = Field("x", exclude=True)


def test_a_structured_answer_is_stored_as_its_class_takes_it_back() -> None:
    message = AIMessage("{}", additional_kwargs={"parsed": Person(name="Ann")})
    (generation,) = CODEC.decode(CODEC.encode([ChatGeneration(message=message)]))
    parsed = generation.message.additional_kwargs["parsed"]  # type: ignore[attr-defined]
    assert Person(**parsed) == Person(name="Ann")


CUT_OFF: list[dict[str, Any]] = [
    {"finish_reason": "length"},
    {"finish_reason": "content_filter"},
    {"stop_reason": "max_tokens"},
    {"stopReason": "max_tokens"},
    {"finish_reason": "FinishReason.MAX_TOKENS"},
    {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"choices": [{"finish_reason": "length"}]},
]


@pytest.mark.parametrize("metadata", CUT_OFF)
def test_an_answer_that_was_cut_off_is_told(metadata: dict[str, Any]) -> None:
    generation = ChatGeneration(message=AIMessage("a", response_metadata=metadata))
    assert reason_not_to_store([generation])
    assert reason_not_to_store([Generation(text="a", generation_info=metadata)])
    for fine in ({}, {"finish_reason": "stop"}, {"stop_reason": "end_turn"}, {"status": "ok"}):
        assert not reason_not_to_store([Generation(text="a", generation_info=fine)])


@pytest.mark.parametrize(
    "content",
    ["", [], [{"type": "text", "text": ""}], [{"type": "refusal", "refusal": "No."}]],
)
def test_an_empty_answer_or_a_refusal_is_told(content: Any) -> None:
    assert reason_not_to_store([ChatGeneration(message=AIMessage(content))])


@pytest.mark.parametrize(
    "generation",
    [
        ChatGeneration(message=HumanMessage("a")),
        ChatGeneration(message=AIMessage("a", additional_kwargs={"parsed": Lossy(secret="y")})),
        Generation(text="a", generation_info={"x": {1: "number as a key"}}),
        ChatGeneration(message=AIMessage("a", additional_kwargs={"x": object()})),
        Generation(text="a", generation_info={"x": {1, 2}}),
        type("Mine", (Generation,), {})(text="a"),
    ],
    ids=["human", "lossy", "number key", "object", "set", "subclass"],
)
def test_what_would_not_come_back_is_not_stored(generation: Generation) -> None:
    with pytest.raises(NotStorableError):
        CODEC.encode([generation])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"text": 1, "info": null}]',
        b'[{"text": "a", "info": 5}]',
        b'[{"message": {"content": 5}, "info": null}]',
        b'[{"message": {"content": "a", "tool_calls": "x"}, "info": null}]',
        b'[{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}]',
        b"[" * 100_000,
    ],
)
def test_damaged_answers_are_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        CODEC.decode(content)


def test_stored_bytes_build_nothing_but_messages() -> None:
    hostile = (
        b'[{"message": {"content": "a", "id": "run-1", "type": "system", "lc": 1,'
        b' "additional_kwargs": {"lc": 1, "type": "constructor", "id": ["os", "system"]}},'
        b' "info": null, "type": "X"}]'
    )
    (generation,) = CODEC.decode(hostile)
    assert type(generation) is ChatGeneration
    assert type(generation.message) is AIMessage
    assert generation.message.id is None
    assert isinstance(generation.message.additional_kwargs, dict)
