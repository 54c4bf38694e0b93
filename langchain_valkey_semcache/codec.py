"""LangChain's generations as JSON, `lc-gen/1`.

Rule of this file: fields are named here, and only they are written and read. Whatever the
stored bytes say, nothing but `Generation`, `ChatGeneration` and `AIMessage` is ever built.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel

from langchain_valkey_semcache.portable import (
    portable_content,
    portable_kwargs,
    portable_metadata,
)
from valkey_semcache.errors import NotStorableError, UnreadableError
from valkey_semcache.stored.unvalidated import built

_KINDS = (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)
# Made once, and for UTF-8 without blanks around it: `json.loads` would look for other encodings,
# and `json.dumps` with arguments makes an encoder each time.
_raw_decode = json.JSONDecoder().raw_decode
_encoded = json.JSONEncoder(separators=(",", ":")).encode
_MESSAGE_FIELDS = (
    "content",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
    "additional_kwargs",
    "response_metadata",
    "name",
)


_FIELDS = frozenset(_MESSAGE_FIELDS)
_USAGE = {"input_tokens", "output_tokens", "total_tokens"}
_COUNTS = {int}
_PLAIN = {str, int, float, bool, type(None)}
_NOTHING: dict[str, Any] = {}
# What their makers give them, for those made without validation.
_MESSAGE = AIMessage(content="")
_GENERATION = ChatGeneration(message=_MESSAGE)


class GenerationCodec:
    """A list of `Generation` or `ChatGeneration` as JSON. Providers' ids are not kept."""

    name = "lc-gen/1"

    def encode(self, answer: Sequence[Generation]) -> bytes:
        """The generations as JSON.

        Raises:
            NotStorableError: One is of another class, or holds what JSON cannot.
        """
        try:
            written = [_written(generation) for generation in answer]
            _check(written)
            return _encoded(written).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise NotStorableError(f"it holds a value that JSON cannot: {error}") from error

    def decode(self, content: bytes) -> list[Generation]:
        """New generations.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """
        try:
            text = content.decode("utf-8", "surrogatepass")
            stored, end = _raw_decode(text)
            if not isinstance(stored, list) or not stored or end < len(text):
                raise ValueError("not a list of generations")
            return [_read(generation) for generation in stored]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnreadableError(
                f"The stored generations are damaged: {type(error).__name__}."
            ) from error

    def text(self, answer: Sequence[Generation]) -> str:
        """The first generation's text, for a judge to read."""
        return answer[0].text


def _written(generation: Generation) -> dict[str, Any]:
    if type(generation) not in _KINDS:
        raise NotStorableError(f"it is of type {type(generation).__name__}")
    info = generation.generation_info
    if not isinstance(generation, ChatGeneration):
        return {"text": generation.text, "info": info}
    message = generation.message
    if isinstance(message, AIMessageChunk):
        message = message_chunk_to_message(message)
    if type(message) is not AIMessage:
        raise NotStorableError(f"its message is of type {type(message).__name__}")
    if message.model_extra:
        raise NotStorableError("its message has fields of its own")
    parts = {name: getattr(message, name) for name in _MESSAGE_FIELDS}
    parts["content"] = portable_content(message.content)
    parts["response_metadata"] = portable_metadata(message.response_metadata)
    parts["additional_kwargs"] = {
        name: _dumped(value) if isinstance(value, BaseModel) else value
        for name, value in portable_kwargs(message.additional_kwargs).items()
    }
    kept = {k: v for k, v in parts.items() if k == "content" or v not in (None, [], {})}
    return {"message": kept, "info": None if info is None else portable_metadata(info)}


def _dumped(parsed: BaseModel) -> Any:
    """A structured answer as JSON, if its class would take it back as it was."""
    dump = parsed.model_dump(mode="json", by_alias=True)
    try:
        faithful = type(parsed).model_validate(dump) == parsed
    except ValueError:
        faithful = False
    if not faithful:
        raise NotStorableError(f"its {type(parsed).__name__} would not come back as it was")
    return dump


def _check(value: Any) -> None:
    """Check that JSON gives a value back as it is.

    Raises:
        NotStorableError: It holds another kind of value, or a key that is no string.
    """
    if type(value) in _PLAIN:
        return
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise NotStorableError(f"it holds a {type(name).__name__} as a key")
            _check(part)
    elif isinstance(value, list):
        for part in value:
            _check(part)
    elif not isinstance(value, str | int | float):
        raise NotStorableError(f"it holds a {type(value).__name__}, which JSON would change")


def _read(stored: dict[str, Any]) -> Generation:
    info = stored["info"]
    if not (info is None or isinstance(info, dict)):
        raise ValueError("generation_info is no dict")
    if "message" not in stored:
        if not isinstance(stored["text"], str):
            raise ValueError("text is no string")
        return Generation(text=stored["text"], generation_info=info)
    known = stored["message"]
    if not known.keys() <= _FIELDS:
        known = {name: value for name, value in known.items() if name in _FIELDS}
    if not _is_plain(known):
        return ChatGeneration(message=AIMessage(**known), generation_info=info)
    empty: dict[str, Any] = {"additional_kwargs": {}, "response_metadata": {}}
    empty |= {"tool_calls": [], "invalid_tool_calls": []}
    message = built(_MESSAGE, known, empty)
    values = {"text": message.text, "message": message, "generation_info": info}
    return built(_GENERATION, values)


def _is_plain(known: dict[str, Any]) -> bool:
    """Whether a message is text, and all beside it of the types that validation asks for."""
    usage, extra = known.get("usage_metadata"), known.get("additional_kwargs", _NOTHING)
    return (
        isinstance(known["content"], str)
        and isinstance(known.get("name", ""), str)
        and isinstance(known.get("response_metadata", _NOTHING), dict)
        and isinstance(extra, dict)
        and not ("tool_calls" in extra or "tool_calls" in known or "invalid_tool_calls" in known)
        and (usage is None or usage.keys() == _USAGE)
        and (usage is None or set(map(type, usage.values())) == _COUNTS)
    )
