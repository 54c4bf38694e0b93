"""What of an answer means the same to somebody else, later: provider's ids do not.

Rule of this file: nothing that only the provider can resolve is stored. What an answer can do
without is left out; an answer that cannot do without it is not stored at all.
"""

from __future__ import annotations

import secrets
from typing import Any

from langchain_core.messages import AIMessage

# Metadata that names one request (or, in headers, its account) and no other.
_OF_ONE_REQUEST = frozenset(("id", "request_id", "headers", "ResponseMetadata"))
# Where langchain-openai keeps the ids that OpenAI gave to tool calls.
_PROVIDER_IDS = "__openai_function_call_ids__"
_OF_ONE_BLOCK = frozenset(("id", "index"))

_REASONING = "reasoning"
_TEXTS = frozenset(("text", "output_text", "refusal", "thinking", "redacted_thinking", _REASONING))
_CALLS = frozenset(
    ("tool_call", "tool_use", "function_call", "custom_tool_call", "invalid_tool_call")
)
# Keys by which a block of another kind refers to something that the provider keeps.
_REFERENCES = frozenset(
    ("id", "file_id", "container_id", "item_id", "tool_use_id", "encrypted_content")
)
# Parts of `additional_kwargs` that are items of the provider's.
_ITEMS = frozenset(("tool_outputs", "audio"))

_LEAST_RANDOM = 9  # characters; Mistral's tool-call ids have just as many
_RANDOM = 24


def provider_bound(message: AIMessage) -> bool:
    """Whether an answer holds an item that means nothing without the provider's own copy.

    Such are calls of the provider's own tools with their results, files that it keeps, and
    compacted or encrypted conversations.
    """
    if not _ITEMS.isdisjoint(message.additional_kwargs):
        return True
    content = message.content
    return isinstance(content, list) and any(_is_bound(block) for block in content)


def _is_bound(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    kind = block.get("type")
    if kind == "non_standard":
        return _is_bound(block.get("value"))
    if kind in _TEXTS or kind in _CALLS:
        return False
    if kind in ("image", "audio", "video", "file") and ("base64" in block or "url" in block):
        return "file_id" in block
    return not _REFERENCES.isdisjoint(block) or str(kind).startswith("server_tool")


def portable_content(content: Any) -> Any:
    """A message's content without the provider's ids.

    Items of reasoning that the provider keeps, or has encrypted, are left out: sent back under
    no id, or under one of another conversation, they are an error.
    """
    if not isinstance(content, list):
        return content
    return [_portable(block) for block in content if not _is_kept_reasoning(block)]


def _is_kept_reasoning(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") != _REASONING:
        return False
    extras = block.get("extras")
    inside = (block, extras) if isinstance(extras, dict) else (block,)
    return str(block.get("id", "")).startswith("rs_") or any(
        "encrypted_content" in part for part in inside
    )


def _portable(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    # The id of a tool call is how its result refers to it; it is drawn anew for each hit.
    keeps_id = block.get("type") in _CALLS and not str(block.get("id", "")).startswith("fc_")
    drops = {"index"} if keeps_id else _OF_ONE_BLOCK
    out = {name: value for name, value in block.items() if name not in drops}
    extras = out.get("extras")
    if isinstance(extras, dict) and "item_id" in extras:
        out["extras"] = {n: v for n, v in extras.items() if n != "item_id"}
    return out


def portable_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    """`additional_kwargs` without the provider's ids and the reasoning that it keeps."""
    return {
        name: value
        for name, value in kwargs.items()
        if name != _PROVIDER_IDS
        and not (name == _REASONING and _is_kept_reasoning({"type": _REASONING, **_dict(value)}))
    }


def portable_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """`response_metadata` without what names the one request."""
    return {name: value for name, value in metadata.items() if name not in _OF_ONE_REQUEST}


def renew_call_ids(message: AIMessage) -> None:
    """Draw the ids of a message's tool calls anew, alike wherever they stand."""
    # additional_kwargs["tool_calls"] and such blocks only repeat these two.
    named: list[Any] = [*message.tool_calls, *message.invalid_tool_calls]
    if not named:
        return
    fresh = {call["id"]: _fresh(call["id"]) for call in named if isinstance(call.get("id"), str)}
    places: list[Any] = named
    if isinstance(repeated := message.additional_kwargs.get("tool_calls"), list):
        places = places + repeated
    if isinstance(message.content, list):
        places = places + message.content
    for place in places:
        for name in ("id", "call_id") if isinstance(place, dict) else ():
            if isinstance(old := place.get(name), str) and old in fresh:
                place[name] = fresh[old]


def _fresh(id_: str) -> str:
    """An id of the same form: providers check the length and the characters of theirs."""
    prefix, _, rest = id_.rpartition("_")
    length = len(rest) if len(rest) >= _LEAST_RANDOM else _RANDOM
    return f"{prefix}_"[: len(prefix) + 1 if prefix else 0] + secrets.token_hex(length)[:length]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
