"""From LangChain's two strings, `prompt` and `llm_string`, to a `Question`.

Rule of this file: JSON is read, nothing is built from it. The last human message's text is the
question, everything else is context in one canonical spelling; what changes from call to call
without changing the answer is left out. What cannot be read is never guessed at.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from valkey_semcache import Question
from valkey_semcache.split import Split, split_prompt

# Parts of a message that say how it came about, not what it says.
_VOLATILE = frozenset(("id", "response_metadata", "usage_metadata", "artifact", "example"))
_TOOL_CALLS = ("tool_calls", "invalid_tool_calls")
_MODEL_IN_PAIRS = re.compile(r"\('(?:model_name|model|model_id|deployment_name)', '([^']*)'\)")
_MODEL_KEYS = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")


class UnreadablePromptError(ValueError):
    """The prompt holds what LangChain could not serialize, so two prompts might look alike."""


def read_prompt(prompt: str, llm_string: str) -> Question:
    """What a LangChain model is asked.

    Args:
        prompt: `dumps(messages)` of a chat model, or the plain text of a completion model.
        llm_string: Which model, with which parameters.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    messages = _messages(prompt)
    if messages is None:
        split = split_prompt(prompt)
        return _question(split, ["text", split.before, split.after], llm_string)
    if not messages:
        return _question(Split("", exact_reason="there is no message"), [], llm_string)
    context = [_canonical(message) for message in _without_tool_ids(messages)]
    last = context[-1]
    split = Split("", exact_reason="the last message is not the user's")
    if last["type"] == "human":
        split, last["content"] = _cut(last["content"])
    return _question(split, context, llm_string)


def model_name(llm_string: str) -> str:
    """The model's name in either form of `llm_string`, or "" where it names none."""
    return _model_name(llm_string)


@lru_cache(maxsize=256)
def _model_name(llm_string: str) -> str:
    serialized, _, _ = llm_string.partition("---")
    if serialized.startswith("{"):
        try:
            arguments = json.loads(serialized).get("kwargs") or {}
        except (ValueError, AttributeError):
            return ""
        names = (arguments.get(key) for key in _MODEL_KEYS)
        return next((name for name in names if isinstance(name, str) and name), "")
    found = _MODEL_IN_PAIRS.search(llm_string)
    return found[1] if found else ""


def _question(split: Split, context: list[Any], llm_string: str) -> Question:
    return Question(
        text=split.text,
        context=json.dumps(context, sort_keys=True, separators=(",", ":")),
        identity=llm_string,
        model=model_name(llm_string),
        exact_only=split.exact_reason or False,
    )


def _messages(prompt: str) -> list[dict[str, Any]] | None:
    """The serialized messages, or None for plain text.

    Raises:
        UnreadablePromptError: A message, or something in one, was not serializable.
    """
    if not prompt.startswith("["):
        return None
    try:
        messages = json.loads(prompt)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(message, dict) and "lc" in message for message in messages):
        return None
    if "not_implemented" in prompt and _holds_unserializable(messages):
        raise UnreadablePromptError("a part of the prompt has no serialized form")
    return [message for message in messages if _is_message(message)]


def _is_message(message: dict[str, Any]) -> bool:
    parts = message.get("kwargs")
    content = parts.get("content") if isinstance(parts, dict) else None
    if message.get("type") != "constructor" or not isinstance(content, str | list):
        raise UnreadablePromptError("a message of the prompt has no content to be read")
    return True


def _holds_unserializable(value: Any) -> bool:
    if isinstance(value, dict):
        if value.get("lc") == 1 and value.get("type") == "not_implemented":
            return True
        return any(_holds_unserializable(part) for part in value.values())
    return isinstance(value, list) and any(_holds_unserializable(part) for part in value)


def _canonical(message: dict[str, Any]) -> dict[str, Any]:
    """A message's kind and parts, without the volatile ones and the empty ones."""
    parts = {
        name: value
        for name, value in message["kwargs"].items()
        if name not in _VOLATILE and (name == "content" or value not in ([], {}))
    }
    parts.setdefault("type", "?")
    # ChatMessage and its like carry a role of their own; the class tells them apart.
    path = message.get("id")
    name = path[-1] if isinstance(path, list) and path else "?"
    parts["class"] = str(name).removesuffix("Chunk")
    if isinstance(parts["content"], list):
        parts["content"] = [_canonical_block(block) for block in parts["content"]]
    return parts


def _canonical_block(block: Any) -> Any:
    """A content block without its id where that was drawn at random. Elsewhere, as for a file or
    an image made earlier, the id is the content."""
    if isinstance(block, dict):
        id_ = block.get("id")
        if block.get("type") == "text" or (isinstance(id_, str) and id_.startswith("lc_")):
            return {name: value for name, value in block.items() if name != "id"}
    return block


def _without_tool_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with tool-call ids numbered by position: providers draw them at random."""
    numbers: dict[str, str] = {}

    def number(id_: Any) -> Any:
        return numbers.setdefault(id_, f"#{len(numbers)}") if isinstance(id_, str) else id_

    def numbered(calls: Any) -> Any:
        if not isinstance(calls, list):
            return calls
        return [c | {"id": number(c.get("id"))} if isinstance(c, dict) else c for c in calls]

    out = []
    for message in messages:
        parts = dict(message["kwargs"])
        for name in _TOOL_CALLS:
            if name in parts:
                parts[name] = numbered(parts[name])
        extra = parts.get("additional_kwargs")
        if isinstance(extra, dict) and "tool_calls" in extra:
            parts["additional_kwargs"] = extra | {"tool_calls": numbered(extra["tool_calls"])}
        if "tool_call_id" in parts:
            parts["tool_call_id"] = number(parts["tool_call_id"])
        if isinstance(parts["content"], list):
            parts["content"] = [
                block | {"id": number(block["id"])}
                if isinstance(block, dict)
                and isinstance(block.get("id"), str)
                and block["id"] in numbers
                else block
                for block in parts["content"]
            ]
        out.append(message | {"kwargs": parts})
    return out


def _cut(content: Any) -> tuple[Split, Any]:
    """The question in a human message's content, and what is left of the content."""
    if isinstance(content, str):
        split = split_prompt(content)
        return split, [split.before, split.after]
    texts = [_text(block) for block in content]
    asked = [text for text in texts if text is not None]
    if len(asked) > 1:
        reason = "the message holds several pieces of text, whose places count"
        return Split("", exact_reason=reason), content
    split = split_prompt("".join(asked))
    rest = ["text" if text is not None else b for b, text in zip(content, texts, strict=True)]
    return split, [rest, split.before, split.after]


def _text(block: Any) -> str | None:
    """The text of a content block that is nothing but text."""
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and block.get("type") == "text" and set(block) <= {"type", "text"}:
        text = block.get("text")
        return text if isinstance(text, str) else None
    return None
