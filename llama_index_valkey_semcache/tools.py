"""A message's tool calls, in whichever of the ways that integrations write them.

Rule of this file: a way that is not known is an error, never a guess. Ids name no more than
places in a conversation, and are given anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import ToolSelection

from llama_index_valkey_semcache.compat import TOOL_CALL
from valkey_semcache.errors import UnreadableError
from valkey_semcache.rules.finish import part


class UnknownToolCallError(ValueError):
    """A tool call is written in a way that is not known here."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's call for a tool: its id there, the tool's name, and its arguments.

    The arguments are an object, or the text that the model wrote.
    """

    id: str
    name: str
    arguments: dict[str, Any] | str


def in_block(block: Any) -> ToolCall:
    """The call that a `ToolCallBlock` holds."""
    return ToolCall(block.tool_call_id or "", block.tool_name, block.tool_kwargs)


def in_kwargs(message: ChatMessage) -> list[ToolCall]:
    """The calls in a message's `additional_kwargs["tool_calls"]`.

    Raises:
        UnknownToolCallError: One is written as none that is known.
    """
    return [_read(call) for call in message.additional_kwargs.get("tool_calls") or ()]


def calls_tools(message: ChatMessage) -> bool:
    """Whether a message asks for tools."""
    extra = message.additional_kwargs
    if extra and (extra.get("tool_calls") or extra.get("function_call")):
        return True
    return any(isinstance(block, TOOL_CALL) for block in message.blocks)


def new_id() -> str:
    """An id for a call that is given back again."""
    return f"call_{uuid.uuid4().hex[:24]}"


def openai_form(call: ToolCall) -> dict[str, Any]:
    """A call as OpenAI's API writes it, which integrations without blocks send back."""
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def selections(message: ChatMessage) -> list[ToolSelection]:
    """The calls of a message that the cache has given back, as LlamaIndex's agents take them."""
    calls: Sequence[ToolCall]
    calls = [in_block(block) for block in message.blocks if isinstance(block, TOOL_CALL)]
    return [
        ToolSelection(tool_id=call.id, tool_name=call.name, tool_kwargs=_object(call.arguments))
        for call in calls or in_kwargs(message)
    ]


def checked(name: object, arguments: object) -> ToolCall:
    """A stored call, under a new id.

    Raises:
        UnreadableError: It is none.
    """
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        raise UnreadableError("A stored tool call is damaged.")
    return ToolCall(new_id(), name, arguments)


def _read(call: Any) -> ToolCall:
    function = part(call, "function")
    if function is not None:  # OpenAI's, as an object or a mapping
        found = part(call, "id"), part(function, "name"), part(function, "arguments")
    elif isinstance(call, ToolSelection):
        found = call.tool_id, call.tool_name, call.tool_kwargs
    else:  # Anthropic's
        found = part(call, "id"), part(call, "name"), part(call, "input")
    id_, name, arguments = found
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        raise UnknownToolCallError(f"a tool call is written as a {type(call).__name__}")
    return ToolCall(id_ if isinstance(id_, str) else "", name, arguments)


def _object(arguments: dict[str, Any] | str) -> dict[str, Any]:
    """Arguments as an object. Text that is none stands for none, as integrations have it."""
    if isinstance(arguments, dict):
        return arguments
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
