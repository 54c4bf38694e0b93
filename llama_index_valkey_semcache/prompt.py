"""From LlamaIndex's messages or prompt to a `Question`.

Rule of this file: the last user message's text is the question, everything else is context in
one canonical spelling. What cannot be read is never guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from valkey_semcache import Question
from valkey_semcache.split import Split, split_prompt


class UnreadablePromptError(ValueError):
    """A message holds what has no text form of its own, so two prompts might look alike."""


def read_messages(messages: Sequence[ChatMessage], identity: str, model: str) -> Question:
    """What a chat asks.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    context = [_canonical(message) for message in messages]
    split = Split("", exact_reason="the last message is not the user's")
    if messages and messages[-1].role == MessageRole.USER:
        split, context[-1]["blocks"] = _cut(context[-1]["blocks"])
    return _question("chat", split, context, identity, model)


def read_completion(prompt: str, formatted: bool, identity: str, model: str) -> Question:
    """What a completion asks."""
    split = split_prompt(prompt)
    context = [split.before, split.after, formatted]
    return _question("completion", split, context, identity, model)


def _question(kind: str, split: Split, context: Any, identity: str, model: str) -> Question:
    return Question(
        text=split.text,
        context=json.dumps([kind, context], sort_keys=True, separators=(",", ":")),
        identity=identity,
        model=model,
        exact_only=split.exact_reason or False,
    )


def _canonical(message: ChatMessage) -> dict[str, Any]:
    try:
        extra = json.loads(json.dumps(message.additional_kwargs, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise UnreadablePromptError("a message's additional_kwargs are not JSON") from error
    blocks = [_block(block) for block in message.blocks]
    return {"role": str(message.role.value), "blocks": blocks, "extra": extra}


def _block(block: Any) -> Any:
    if isinstance(block, TextBlock):
        return block.text
    if getattr(block, "path", None) is not None:
        raise UnreadablePromptError("a message refers to a file, whose content may change")
    if any(hasattr(getattr(block, name), "read") for name in type(block).model_fields):
        raise UnreadablePromptError("a message holds an open file, which reading would use up")
    try:
        return json.loads(block.model_dump_json())
    except ValueError as error:
        raise UnreadablePromptError(
            f"a block of a message, {type(block).__name__}, is not JSON"
        ) from error


def _cut(blocks: list[Any]) -> tuple[Split, Any]:
    """The question in a user message's blocks, and what is left of them."""
    asked = [block for block in blocks if isinstance(block, str)]
    if len(asked) > 1:
        reason = "the message holds several pieces of text, whose places count"
        return Split("", exact_reason=reason), blocks
    split = split_prompt("".join(asked))
    rest = [None if isinstance(block, str) else block for block in blocks]
    return split, [rest, split.before, split.after]
