"""LangChain's serialized messages in one canonical form.

Rule of this file: what changes from call to call without changing the answer is left out, and
what refers to another part of the conversation is named by its place. All else stays.
"""

from __future__ import annotations

from typing import Any

from langchain_valkey_semcache.media import canonical_media, digested

# Parts of a message that say how it came about, not what it says; of a chunk, those that its
# tool calls are made of.
_VOLATILE = frozenset(
    (
        *("id", "response_metadata", "usage_metadata", "artifact", "example"),
        *("tool_call_chunks", "chunk_position"),
    )
)
_CHUNKS = {
    f"{kind}MessageChunk": name
    for kind, name in (("AI", "ai"), ("Human", "human"), ("System", "system"), ("Tool", "tool"))
}
_PLAIN = {"content", "type"}  # all that a message of text alone has
_TOOL_CALLS = ("tool_calls", "invalid_tool_calls")
# Blocks whose id was drawn at random when they came about. Elsewhere, as for a file or an image
# made earlier, the id is the content.
_NUMBERED = frozenset(
    (
        *("text", "output_text", "refusal", "reasoning", "thinking"),
        *("function_call", "custom_tool_call"),
    )
)
_CALL_IDS = ("id", "call_id", "tool_use_id", "tool_call_id")
# Where langchain-openai keeps the ids that OpenAI gave to tool calls.
_PROVIDER_IDS = "__openai_function_call_ids__"

Message = dict[str, Any]


def canonical_messages(messages: list[Message]) -> list[Message]:
    """The messages' kinds and parts, without the volatile ones and the empty ones.

    Args:
        messages: As `json.loads` gives them, each with a dict `kwargs` that has a `content`.
    """
    numbers: dict[str, str] = {}
    return [_canonical(message, numbers) for message in messages]


def _canonical(message: Message, numbers: dict[str, str]) -> Message:
    kwargs = message["kwargs"]
    if kwargs.keys() == _PLAIN and isinstance(kwargs["content"], str):
        return _named(message, dict(kwargs))
    for name in _TOOL_CALLS:
        if kwargs.get(name):
            _number(kwargs[name], numbers)
    extra = kwargs.get("additional_kwargs")
    if isinstance(extra, dict) and extra.get("tool_calls"):
        _number(extra["tool_calls"], numbers)
    parts: Message = {}
    for name, value in kwargs.items():
        if name == "content":
            parts[name] = value if isinstance(value, str) else _blocks(value, numbers)
        elif name in _VOLATILE or value == [] or value == {}:
            continue
        elif name in _TOOL_CALLS:
            parts[name] = _numbered(value, numbers)
        elif name == "additional_kwargs":
            if extra := _extra(value, numbers):
                parts[name] = extra
        elif name == "tool_call_id":
            parts[name] = numbers.setdefault(value, f"#{len(numbers)}")
        else:
            parts[name] = value
    return _named(message, parts)


def _named(message: Message, parts: Message) -> Message:
    """A message's parts with its kind."""
    kind = message["kwargs"].get("type", "?")
    parts["type"] = _CHUNKS.get(kind, kind)
    # ChatMessage and its like carry a role of their own; the class tells them apart.
    path = message.get("id")
    class_name = path[-1] if isinstance(path, list) and path else "?"
    parts["class"] = str(class_name).removesuffix("Chunk")
    return parts


def _number(calls: Any, numbers: dict[str, str]) -> None:
    """Give each tool call's id a number, by position."""
    for call in calls if isinstance(calls, list) else ():
        id_ = call.get("id") if isinstance(call, dict) else None
        if isinstance(id_, str):
            numbers.setdefault(id_, f"#{len(numbers)}")


def _numbered(calls: Any, numbers: dict[str, str]) -> Any:
    if not isinstance(calls, list):
        return calls
    return [
        call | {"id": numbers.get(call["id"], call["id"])}
        if isinstance(call, dict) and isinstance(call.get("id"), str)
        else call
        for call in calls
    ]


def _extra(extra: Any, numbers: dict[str, str]) -> Any:
    if not isinstance(extra, dict):
        return extra
    # OpenAI's answers say `refusal: None` when whole, and nothing of it when streamed.
    out = {n: value for n, value in extra.items() if n != _PROVIDER_IDS and value is not None}
    if "tool_calls" in out:
        out["tool_calls"] = _numbered(out["tool_calls"], numbers)
    if isinstance(out.get("reasoning"), dict):
        out["reasoning"] = {n: v for n, v in out["reasoning"].items() if n != "id"}
    return out


def _blocks(content: Any, numbers: dict[str, str]) -> Any:
    return [canonical_block(block, numbers) for block in content]


def canonical_block(block: Any, numbers: dict[str, str] | None = None) -> Any:
    """A content block: media by digest, tool-call ids by number, its own random id left out."""
    if not isinstance(block, dict):
        return block
    media = canonical_media(block)
    if media is not None:
        return media
    block = digested(block)
    drops = ["index"] if isinstance(block.get("index"), int | str) else []
    if block.get("annotations") == []:
        drops.append("annotations")
    id_ = block.get("id")
    if isinstance(id_, str) and (block.get("type") in _NUMBERED or id_.startswith("lc_")):
        drops.append("id")
    out = {name: value for name, value in block.items() if name not in drops}
    for name in _CALL_IDS:
        value = out.get(name)
        if isinstance(value, str) and numbers and value in numbers:
            out[name] = numbers[value]
    return out


def text_of(block: Any) -> str | None:
    """The text of a content block that shows text."""
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and block.get("type") in ("text", "input_text"):
        text = block.get("text")
        return text if isinstance(text, str) else None
    return None


def without_text(block: Any) -> Any:
    """A block of text without the text: what it says beside it, such as `cache_control`."""
    if isinstance(block, str):
        return "text"
    rest = {name: value for name, value in canonical_block(block).items() if name != "text"}
    return "text" if rest == {"type": "text"} else rest
