"""From LangChain's two strings, `prompt` and `llm_string`, to a `Question`.

Rule of this file: JSON is read, nothing is built from it. The last human message's text is the
question, everything else is context in one canonical spelling. What cannot be read is never
guessed at.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from langchain_core.load import dumps
from langchain_core.messages import HumanMessage

from langchain_valkey_semcache.messages import (
    Message,
    canonical_block,
    canonical_messages,
    text_of,
    without_text,
)
from valkey_semcache import Question
from valkey_semcache.recent import Recent
from valkey_semcache.text.naming import Naming
from valkey_semcache.text.split import Split, split_prompt

Context: TypeAlias = Literal["conversation", "system"]
"""What must be the same beside the question: all else, or of earlier messages the system's."""

_MODEL_IN_PAIRS = re.compile(r"\('(?:model_name|model|model_id|deployment_name)', '([^']*)'\)")
_MODEL_KEYS = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_REMEMBERED = 8192  # characters of a prompt at most that is not read anew each time
_OVERHEAD = 1000  # bytes that a remembered prompt takes beside its characters, about
_SYSTEM = frozenset(("system", "developer"))

# `json.dumps` with arguments makes an encoder each time.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_raw_decode = json.JSONDecoder().raw_decode
_BY_LABEL = Naming(None, lambda doing, error: None)

# What stands around the text of a last message that holds nothing else.
_OPENING, _, _CLOSING = dumps([HumanMessage("?")])[1:].partition('"?"')

# The same prompts come again and again, or the cache would have nothing to do; and new questions
# under the same system prompt, which is the same context then.
_known: Recent[tuple[str, str, Context, str | None], Question] = Recent(4 * 2**20)
_contexts: Recent[tuple[str, Context], str] = Recent(2**20)


class UnreadablePromptError(ValueError):
    """The prompt holds what LangChain could not serialize, so two prompts might look alike."""


def read_prompt(
    prompt: str,
    llm_string: str,
    naming: Naming = _BY_LABEL,
    context: Context = "conversation",
    namespace: str | None = None,
) -> Question:
    """What a LangChain model is asked.

    Args:
        prompt: `dumps(messages)` of a chat model, or the plain text of a completion model.
        llm_string: Which model, with which parameters.
        naming: How the question in the last message is told.
        context: What must be the same beside it.
        namespace: The tenant who asks, as in the `Question`.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    llm_string = _one_of(llm_string)
    if len(prompt) > _REMEMBERED or not naming.is_silent:
        split, beside = _read(prompt, naming, context)
        return _question(split, beside, llm_string, namespace)
    asked = prompt, llm_string, context, namespace
    question = _known.get(asked)
    if question is None:
        split, beside = _read_by_label(prompt, context)
        question = _question(split, beside, llm_string, namespace)
        _known.put(asked, question, len(prompt) + _OVERHEAD)
    return question


def forget() -> None:
    """Forget what was read before, as a new process has (for measuring)."""
    _known.clear()
    _contexts.clear()


@lru_cache(maxsize=256)
def _one_of(llm_string: str) -> str:
    """The same string for all that are equal: LangChain writes a new one for each call, with the
    schemas of all tools in it, and each prompt is remembered with its own."""
    return llm_string


def _read_by_label(prompt: str, context: Context) -> tuple[Split, str]:
    """Question and context of a prompt, of which the app says nothing.

    JSON is read from left to right: where only the last message's text differs, all that stands
    before it says the same, and need not be read again.
    """
    last = _last_text(prompt)
    if last is None:
        return _read(prompt, _BY_LABEL, context)
    earlier, split = last
    beside = _contexts.get((earlier, context))
    if beside is not None:
        return split, beside
    messages = _messages(prompt)
    if messages is None:
        return _read_text(prompt, _BY_LABEL)
    split, beside = _read_messages(messages, _BY_LABEL, context)
    _contexts.put((earlier, context), beside, len(earlier) + len(beside) + _OVERHEAD)
    return split, beside


def _last_text(prompt: str) -> tuple[str, Split] | None:
    """What stands before the last message, and its question; None if it holds more than that."""
    start = prompt.rfind(_OPENING)
    if start < 0 or not prompt.endswith(_CLOSING):
        return None
    try:
        text, end = _raw_decode(prompt, start + len(_OPENING))
    except (ValueError, RecursionError):
        return None
    if not isinstance(text, str) or end + len(_CLOSING) != len(prompt):
        return None
    split = split_prompt(text)
    return None if split.before or split.after else (prompt[:start], split)


def _read(prompt: str, naming: Naming, context: Context) -> tuple[Split, str]:
    messages = _messages(prompt)
    if messages is None:
        return _read_text(prompt, naming)
    return _read_messages(messages, naming, context)


def _read_text(prompt: str, naming: Naming) -> tuple[Split, str]:
    split, place = naming.find((prompt,))
    beside = ["text", prompt] if place is None else ["text", split.before, split.after]
    return split, _encoded(beside)


def _read_messages(messages: list[Message], naming: Naming, context: Context) -> tuple[Split, str]:
    if not messages:
        return Split("", exact_reason="there is no message"), _encoded([])
    parts: list[Any] = canonical_messages(messages)
    last = parts[-1]
    if last["type"] != "human":
        return Split("", exact_reason="the last message is not the user's"), _encoded(parts)
    split, last["content"] = _cut(messages[-1]["kwargs"]["content"], naming)
    if context == "system":
        # The mark keeps these apart from conversations that hold as little.
        parts = ["system", *(part for part in parts[:-1] if _is_system(part)), last]
    return split, _encoded(parts)


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


def _question(split: Split, context: str, llm_string: str, namespace: str | None) -> Question:
    parts = split.text, context, llm_string, _model_name(llm_string), namespace
    return Question(*parts, split.exact_reason or False)


def _messages(prompt: str) -> list[Message] | None:
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
    for message in messages:
        _check(message)
    return list(messages)


def _check(message: Message) -> None:
    parts = message.get("kwargs")
    content = parts.get("content") if isinstance(parts, dict) else None
    if message.get("type") != "constructor" or not isinstance(content, str | list):
        raise UnreadablePromptError("a message of the prompt has no content to be read")


def _holds_unserializable(value: Any) -> bool:
    if isinstance(value, dict):
        if value.get("lc") == 1 and value.get("type") == "not_implemented":
            return True
        return any(_holds_unserializable(part) for part in value.values())
    return isinstance(value, list) and any(_holds_unserializable(part) for part in value)


def _is_system(part: Message) -> bool:
    return part["type"] in _SYSTEM or part.get("role") in _SYSTEM


def _cut(content: Any, naming: Naming) -> tuple[Split, Any]:
    """The question in a human message's content, and what is left of the content."""
    if isinstance(content, str):
        found = naming.find((content,))
        if found.place is None:
            return found.split, content
        return found.split, {"before": found.split.before, "after": found.split.after}
    texts = [(place, text) for place, block in enumerate(content) if (text := text_of(block))]
    found = naming.find([text for _, text in texts])
    rest = [canonical_block(block) for block in content]
    if found.place is None:
        return found.split, rest
    place, _ = texts[found.place]
    rest[place] = without_text(content[place])
    return found.split, {
        "before": found.split.before,
        "after": found.split.after,
        "blocks": rest,
    }
