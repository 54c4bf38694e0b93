"""LlamaIndex's answers as JSON: `li-chat/1`, `li-completion/1` and `li-structured/1`.

Rule of this file: fields are named here, and only they are written and read. `raw`, the
provider's own object, is not kept, nor are counts of tokens: a hit costs none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
)
from pydantic import BaseModel

from llama_index_valkey_semcache import tools
from llama_index_valkey_semcache.compat import THINKING, TOOL_CALL
from valkey_semcache.errors import NotStorableError, UnreadableError
from valkey_semcache.stored.unvalidated import built

# Made once: `json.loads` would look for other encodings than UTF-8, and `json.dumps` with arguments
# makes an encoder each time.
_decoded = json.JSONDecoder().decode
_encoded = json.JSONEncoder(separators=(",", ":")).encode

# What a response says beside its answer that belongs to the one call that gave it.
_OF_THE_CALL = frozenset(
    (
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"),
        *("thinking_delta", "semantic_cache"),
    )
)


class ChatCodec:
    """A `ChatResponse` whose message is text, reasoning and tool calls."""

    name = "li-chat/1"

    def encode(self, answer: ChatResponse) -> bytes:
        """The response as JSON.

        Raises:
            NotStorableError: The message holds other blocks, or what JSON cannot.
        """
        message = answer.message
        extra = dict(message.additional_kwargs)
        try:
            calls = [[call.name, call.arguments] for call in tools.in_kwargs(message)]
        except tools.UnknownToolCallError as error:
            raise NotStorableError(str(error)) from error
        extra.pop("tool_calls", None)
        return _json(
            {
                "role": message.role.value,
                "blocks": [_written(block) for block in message.blocks],
                "calls": calls,
                "extra": extra,
                "response": _of_the_answer(answer.additional_kwargs),
                "logprobs": _logprobs(answer.logprobs),
            }
        )

    def decode(self, content: bytes) -> ChatResponse:
        """A new response, its tool calls under new ids.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """
        kinds = {"role": str, "blocks": list, "calls": list, "extra": dict, "response": dict}
        stored = _object(content, kinds)
        try:
            role = MessageRole(stored["role"])
            if _is_plain(stored):
                return _plain(role, stored)
            given = [_read(part) for part in stored["blocks"]]
            in_blocks = [call for call in given if isinstance(call, tools.ToolCall)]
            in_kwargs = [tools.checked(name, arguments) for name, arguments in stored["calls"]]
            if in_blocks and in_kwargs:  # one call, written in both places
                in_kwargs = in_blocks
            elif not TOOL_CALL:
                in_kwargs = in_kwargs or in_blocks
            if in_kwargs:
                stored["extra"]["tool_calls"] = [tools.openai_form(call) for call in in_kwargs]
            blocks = [block for part in given if (block := _block(part)) is not None]
            return ChatResponse(
                message=ChatMessage(role=role, blocks=blocks, additional_kwargs=stored["extra"]),
                additional_kwargs=stored["response"],
                logprobs=_read_logprobs(stored),
            )
        except (ValueError, TypeError, LookupError) as error:
            raise UnreadableError("The stored chat response is damaged.") from error

    def text(self, answer: ChatResponse) -> str:
        """The message's text, for a judge to read."""
        return answer.message.content or ""


class CompletionCodec:
    """A `CompletionResponse`."""

    name = "li-completion/1"

    def encode(self, answer: CompletionResponse) -> bytes:
        """The response as JSON.

        Raises:
            NotStorableError: It holds what JSON cannot.
        """
        return _json(
            {
                "text": answer.text,
                "response": _of_the_answer(answer.additional_kwargs),
                "logprobs": _logprobs(answer.logprobs),
            }
        )

    def decode(self, content: bytes) -> CompletionResponse:
        """A new response.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """
        stored = _object(content, {"text": str, "response": dict})
        return CompletionResponse(
            text=stored["text"],
            additional_kwargs=stored["response"],
            logprobs=_read_logprobs(stored),
        )

    def text(self, answer: CompletionResponse) -> str:
        """The completion, for a judge to read."""
        return answer.text


class OutputCodec:
    """A structured answer: an instance of one pydantic class, which the scope names.

    Args:
        output_cls: The class to build. It comes from the call, never from the stored bytes.
    """

    name = "li-structured/1"

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self._output_cls = output_cls

    def encode(self, answer: BaseModel) -> bytes:
        """The object as JSON.

        Raises:
            NotStorableError: It is of another class, or does not come back as it was.
        """
        if type(answer) is not self._output_cls:
            raise NotStorableError(f"it is no complete {self._output_cls.__name__}")
        try:
            content = answer.model_dump_json(by_alias=True, round_trip=True).encode()
            same = self._output_cls.model_validate_json(content) == answer
        except ValueError as error:
            raise NotStorableError(f"it cannot be written as JSON: {error}") from error
        if not same:
            raise NotStorableError("it does not come back from JSON as it was")
        return content

    def decode(self, content: bytes) -> BaseModel:
        """A new object.

        Raises:
            UnreadableError: The bytes do not fit the class.
        """
        try:
            return self._output_cls.model_validate_json(content)
        except ValueError as error:
            raise UnreadableError("The stored object does not fit its class.") from error

    def text(self, answer: BaseModel) -> str:
        """The object as JSON, for a judge to read."""
        return answer.model_dump_json(by_alias=True)


_MADE_INTO_BLOCKS = "images"  # in `additional_kwargs`, by LlamaIndex
# What their makers give them, for those made without validation.
_TEXT = TextBlock(text="")
_MESSAGE = ChatMessage(role=MessageRole.ASSISTANT, blocks=[_TEXT])
_RESPONSE = ChatResponse(message=_MESSAGE)


def _is_plain(stored: dict[str, Any]) -> bool:
    """Whether a stored response is text alone, and all beside it is what validation leaves."""
    return (
        not (stored["calls"] or stored.get("logprobs") or _MADE_INTO_BLOCKS in stored["extra"])
        and bool(stored["blocks"])
        and all(
            len(part) == 2 and part[0] == "text" and isinstance(part[1], str)
            for part in stored["blocks"]
        )
    )


def _plain(role: MessageRole, stored: dict[str, Any]) -> ChatResponse:
    blocks = [built(_TEXT, {"text": text}) for _, text in stored["blocks"]]
    parts = {"role": role, "blocks": blocks, "additional_kwargs": stored["extra"]}
    message = built(_MESSAGE, parts)
    known = {"message": message, "additional_kwargs": stored["response"], "logprobs": None}
    return built(_RESPONSE, known)


def _written(block: Any) -> list[Any]:
    """A block as its kind and its fields."""
    if isinstance(block, TextBlock):
        return ["text", block.text]
    if isinstance(block, THINKING):
        return ["thinking", block.content, block.num_tokens, block.additional_information]
    if isinstance(block, TOOL_CALL):
        call = tools.in_block(block)
        return ["tool_call", call.name, call.arguments]
    raise NotStorableError(f"its message holds a {type(block).__name__}")


def _read(written: Any) -> Any:
    """A text, a call under a new id, or reasoning as its fields."""
    kind, *fields = written
    if kind == "text":
        (text,) = fields
        return TextBlock(text=text)
    if kind == "thinking":
        content, tokens, information = fields
        return {"content": content, "num_tokens": tokens, "additional_information": information}
    if kind == "tool_call":
        return tools.checked(*fields)
    raise UnreadableError("A stored block is of an unknown kind.")


def _block(part: Any) -> Any:
    """What `_read` gave as a block; None where this release of LlamaIndex has none for it."""
    if isinstance(part, tools.ToolCall):
        fields = {"tool_name": part.name, "tool_kwargs": part.arguments, "tool_call_id": part.id}
        return TOOL_CALL[0](**fields) if TOOL_CALL else None
    if isinstance(part, dict):
        return THINKING[0](**part) if THINKING else None
    return part


def _of_the_answer(additional: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in additional.items() if name not in _OF_THE_CALL}


def _logprobs(logprobs: Any) -> Any:
    if logprobs is None:
        return None
    return [[[one.token, one.logprob, one.bytes] for one in place] for place in logprobs]


def _read_logprobs(stored: dict[str, Any]) -> list[list[LogProb]] | None:
    logprobs = stored.get("logprobs")
    if logprobs is None:
        return None
    try:
        return [
            [LogProb(token=token, logprob=logprob, bytes=data) for token, logprob, data in place]
            for place in logprobs
        ]
    except (ValueError, TypeError) as error:
        raise UnreadableError("The stored log probabilities are damaged.") from error


def _json(parts: dict[str, Any]) -> bytes:
    try:
        return _encoded(parts).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStorableError(f"it holds a value that JSON cannot: {error}") from error


def _object(content: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    try:
        stored = _decoded(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError("The stored response is no JSON.") from error
    if isinstance(stored, dict):
        for name, kind in kinds.items():
            if not isinstance(stored.get(name), kind):
                break
        else:
            return stored
    raise UnreadableError("The stored response lacks a field, or has one of another kind.")
