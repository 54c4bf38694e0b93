"""LlamaIndex's answers as bytes: what comes back, what is refused, and no more than that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ImageBlock,
    LogProb,
    TextBlock,
)
from llama_index.core.llms.llm import ToolSelection

from llama_index_valkey_semcache import codec as codecs
from llama_index_valkey_semcache import compat, tools
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from valkey_semcache import NotStorableError, UnreadableError


class Odd:
    """What JSON cannot."""


LOGPROBS = [[LogProb(token="a", logprob=-0.5, bytes=[97])], []]


def again(answer: Any) -> Any:
    codec: Any = ChatCodec() if isinstance(answer, ChatResponse) else CompletionCodec()
    return codec.decode(codec.encode(answer))


def test_a_chat_comes_back() -> None:
    blocks: list[Any] = [TextBlock(text="one"), TextBlock(text="two 😀 \ud800")]
    message = ChatMessage(role="assistant", blocks=blocks, additional_kwargs={"a": [1, None]})
    answer = ChatResponse(message=message, logprobs=LOGPROBS, additional_kwargs={"b": {"c": 1}})
    assert again(answer) == answer
    for absent in (
        ChatResponse(message=message, raw={"id": 1}, delta="x", logprobs=LOGPROBS),
        ChatResponse(message=message, additional_kwargs={"total_tokens": 5}, logprobs=LOGPROBS),
    ):
        assert again(absent) == ChatResponse(message=message, logprobs=LOGPROBS)


def test_a_completion_comes_back() -> None:
    answer = CompletionResponse(text="one", additional_kwargs={"a": 1}, logprobs=LOGPROBS)
    assert again(answer) == answer
    counted = CompletionResponse(text="one", raw=Odd(), additional_kwargs={"prompt_tokens": 5})
    assert again(counted) == CompletionResponse(text="one")


@pytest.mark.skipif(not compat.THINKING, reason="this release has no blocks for it")
def test_thoughts_come_back() -> None:
    thought = compat.THINKING[0](content="Hm.", num_tokens=3, additional_information={"s": "x"})
    message = ChatMessage(role="assistant", blocks=[thought, TextBlock(text="a")])
    assert again(ChatResponse(message=message)) == ChatResponse(message=message)


class OpenAICall:
    """A call as the provider's own object has it."""

    id = "a"
    type = "function"

    class function:  # noqa: N801 - the provider's own name
        name = "add"
        arguments = '{"a": 1}'


@pytest.mark.parametrize(
    "call",
    [
        OpenAICall(),
        {"id": "a", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "a", "name": "add", "input": {"a": 1}, "type": "tool_use"},
        ToolSelection(tool_id="a", tool_name="add", tool_kwargs={"a": 1}),
    ],
    ids=["object", "openai", "anthropic", "selection"],
)
def test_calls_come_back_under_new_ids(call: Any) -> None:
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [call], "x": 1})
    found = [again(ChatResponse(message=message)).message for _ in range(2)]
    for message in found:
        assert message.blocks == []
        assert message.additional_kwargs["x"] == 1
        (selection,) = tools.selections(message)
        assert (selection.tool_name, selection.tool_kwargs) == ("add", {"a": 1})
    ids = {tools.selections(message)[0].tool_id for message in found}
    assert len(ids) == 2
    assert "a" not in ids


def test_entries_are_shared_with_releases_that_have_fewer_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = [["thinking", "Hm.", None, {}], ["text", "a"], ["tool_call", "add", {"a": 1}]]
    stored = {"role": "assistant", "blocks": blocks, "calls": [], "extra": {}, "response": {}}
    content = json.dumps(stored).encode()
    for module in (codecs, tools):
        monkeypatch.setattr(module, "TOOL_CALL", ())
    monkeypatch.setattr(codecs, "THINKING", ())
    message = ChatCodec().decode(content).message
    assert message.content == "a"
    assert len(message.blocks) == 1
    (call,) = tools.selections(message)
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 1})


@pytest.mark.parametrize("codec", [ChatCodec(), CompletionCodec()])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"text": 5, "response": {}}',
        b'{"text": "a", "response": {}, "logprobs": [[5]]}',
        b"[" * 100_000,
    ],
)
def test_damaged_answers_are_unreadable(codec: Any, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        codec.decode(content)


@pytest.mark.parametrize(
    "damage",
    [
        {"role": "nobody"},
        {"blocks": [5]},
        {"blocks": [["text", 5]]},
        {"blocks": [["text"]]},
        {"blocks": [["image", "x"]]},
        {"blocks": [["thinking", 5, 5, 5]]},
        {"blocks": [["tool_call", 5, {}]]},
        {"calls": [["add", 5]]},
        {"calls": [5]},
        {"extra": []},
        {"logprobs": 5},
    ],
    ids=str,
)
def test_a_damaged_chat_is_unreadable(damage: dict[str, Any]) -> None:
    stored = {"role": "user", "blocks": [], "calls": [], "extra": {}, "response": {}}
    assert ChatCodec().decode(json.dumps(stored).encode())
    if damage == {"blocks": [["thinking", 5, 5, 5]]} and not compat.THINKING:
        pytest.skip("this release has no such block")
    with pytest.raises(UnreadableError):
        ChatCodec().decode(json.dumps(stored | damage).encode())


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(blocks=[ImageBlock(image=b"x", image_mimetype="a/b")]),
        ChatMessage(content="a", additional_kwargs={"x": Odd()}),
        ChatMessage(content="a", additional_kwargs={"tool_calls": [Odd()]}),
    ],
    ids=["image", "object", "call"],
)
def test_what_would_not_come_back_is_not_stored(message: ChatMessage) -> None:
    with pytest.raises(NotStorableError):
        ChatCodec().encode(ChatResponse(message=message))
    with pytest.raises(NotStorableError):
        CompletionCodec().encode(CompletionResponse(text="a", additional_kwargs={"x": Odd()}))
