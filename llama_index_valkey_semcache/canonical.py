"""LlamaIndex's messages in one canonical spelling, as JSON can write it.

Rule of this file: two messages are spelled alike only if a model is sent the same. Binary parts
count by a digest of their bytes, tool calls by their place; what has no faithful spelling is an
error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from io import IOBase
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, TextBlock
from pydantic import BaseModel

from llama_index_valkey_semcache import tools
from llama_index_valkey_semcache.compat import TOOL_CALL

_BINARY = ("image", "audio", "video", "data")
# Made once: `json.dumps` makes one each time.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class UnreadablePromptError(ValueError):
    """A message holds what has no text form of its own, so two prompts might look alike."""


def spelled(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages as mappings with a role, blocks (a text is a string) and what else they carry."""
    ids: dict[str, int] = {}
    return [_message(message, ids) for message in messages]


def as_json(value: Any) -> str:
    """Canonical JSON of what `spelled` gives."""
    return _encoded(value)


def _message(message: ChatMessage, ids: dict[str, int]) -> dict[str, Any]:
    blocks = [_block(block, ids) for block in message.blocks]
    extra: dict[str, Any] = {}
    if message.additional_kwargs:
        extra = dict(message.additional_kwargs)
        if "tool_calls" in extra:
            calls = _calls(message)
            del extra["tool_calls"]
            if not any(isinstance(block, TOOL_CALL) for block in message.blocks):
                extra["tool_calls"] = [_call(call, ids) for call in calls]
        if isinstance(extra.get("tool_call_id"), str):
            extra["tool_call_id"] = _place(extra["tool_call_id"], ids)
        extra = _plain(extra)
    return {"role": str(message.role.value), "blocks": blocks, "extra": extra}


def _calls(message: ChatMessage) -> list[tools.ToolCall]:
    try:
        return tools.in_kwargs(message)
    except tools.UnknownToolCallError as error:
        raise UnreadablePromptError(str(error)) from error


def _call(call: tools.ToolCall, ids: dict[str, int]) -> list[Any]:
    return ["tool_call", _place(call.id, ids), call.name, _plain(call.arguments)]


def _place(id_: str, ids: dict[str, int]) -> int:
    """A tool call's id as its place: providers make up new ones each time."""
    return ids.setdefault(id_, len(ids))


def _block(block: Any, ids: dict[str, int]) -> Any:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, TOOL_CALL):
        return _call(tools.in_block(block), ids)
    if isinstance(block, BaseModel):
        return _fields(block, ids)
    raise UnreadablePromptError(f"a message holds a {type(block).__name__}")


def _fields(block: BaseModel, ids: dict[str, int]) -> list[Any]:
    """Any other block: its kind and its fields, with one digest for what it shows."""
    fields: dict[str, Any] = {}
    for name in type(block).model_fields:
        value = getattr(block, name)
        if isinstance(value, bytes | IOBase) and name in _BINARY:
            fields["bytes"] = _digest(_bytes(value))
        elif name == "path" and value is not None:
            if getattr(block, "url", None) is None and "bytes" not in fields:
                fields["bytes"] = _digest(_file(value))
        elif isinstance(value, list):
            fields[name] = [_nested(part, ids) for part in value]
        else:
            fields[name] = _nested(value, ids)
    return [type(block).__name__, {name: part for name, part in fields.items() if part is not None}]


def _nested(value: Any, ids: dict[str, int]) -> Any:
    return _block(value, ids) if hasattr(value, "block_type") else _plain(value)


def _bytes(value: bytes | IOBase) -> bytes:
    if isinstance(value, bytes):
        try:  # LlamaIndex keeps them in base64
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            return value
    if not value.seekable():
        raise UnreadablePromptError("a message holds a stream, which reading would use up")
    here = value.tell()
    try:
        value.seek(0)
        content = value.read()
    finally:
        value.seek(here)
    return content if isinstance(content, bytes) else str(content).encode()


def file_digest(path: str | Path) -> str:
    """A digest of a file's bytes.

    Raises:
        UnreadablePromptError: It cannot be read.
    """
    return _digest(_file(path))


def _file(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadablePromptError(
            f"a message refers to a file that cannot be read: {type(error).__name__}"
        ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if type(value).__module__.startswith("pydantic") and hasattr(value, "__str__"):
        return str(value)  # a URL
    raise UnreadablePromptError(f"a message carries a {type(value).__name__}")
