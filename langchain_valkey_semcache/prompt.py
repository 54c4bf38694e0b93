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

from langchain_valkey_semcache.messages import (
    Message,
    canonical_block,
    canonical_messages,
    text_of,
    without_text,
)
from valkey_semcache import Question
from valkey_semcache.text.naming import Naming
from valkey_semcache.text.split import Split

Context: TypeAlias = Literal["conversation", "system"]
"""What must be the same beside the question: all else, or of earlier messages the system's."""

_MODEL_IN_PAIRS = re.compile(r"\('(?:model_name|model|model_id|deployment_name)', '([^']*)'\)")
_MODEL_KEYS = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_REMEMBERED = 8192  # characters of a prompt at most that is not read anew each time
_SYSTEM = frozenset(("system", "developer"))

# `json.dumps` with arguments makes an encoder each time.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_BY_LABEL = Naming(None, lambda doing, error: None)


class UnreadablePromptError(ValueError):
    """The prompt holds what LangChain could not serialize, so two prompts might look alike."""


def read_prompt(
    prompt: str,
    llm_string: str,
    naming: Naming = _BY_LABEL,
    context: Context = "conversation",
) -> Question:
    """What a LangChain model is asked.

    Args:
        prompt: `dumps(messages)` of a chat model, or the plain text of a completion model.
        llm_string: Which model, with which parameters.
        naming: How the question in the last message is told.
        context: What must be the same beside it.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    if len(prompt) <= _REMEMBERED and naming.is_silent:
        return _read_again(prompt, llm_string, context)
    return _read(prompt, llm_string, naming, context)


@lru_cache(maxsize=256)
def _read_again(prompt: str, llm_string: str, context: Context) -> Question:
    """The same prompts come again and again, or the cache would have nothing to do."""
    return _read(prompt, llm_string, _BY_LABEL, context)


def _read(prompt: str, llm_string: str, naming: Naming, context: Context) -> Question:
    messages = _messages(prompt)
    if messages is None:
        found = naming.find((prompt,))
        if found.place is None:
            return _question(found.split, ["text", prompt], llm_string)
        return _question(found.split, ["text", found.split.before, found.split.after], llm_string)
    if not messages:
        return _question(Split("", exact_reason="there is no message"), [], llm_string)
    parts: list[Any] = canonical_messages(messages)
    last = parts[-1]
    if last["type"] != "human":
        reason = "the last message is not the user's"
        return _question(Split("", exact_reason=reason), parts, llm_string)
    split, last["content"] = _cut(messages[-1]["kwargs"]["content"], naming)
    if context == "system":
        # The mark keeps these apart from conversations that hold as little.
        parts = ["system", *(part for part in parts[:-1] if _is_system(part)), last]
    return _question(split, parts, llm_string)


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
        context=_encoded(context),
        identity=llm_string,
        model=_model_name(llm_string),
        exact_only=split.exact_reason or False,
    )


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
