"""From LlamaIndex's messages, prompt or template to what is asked.

Rule of this file: the last user message's text, or the template's question variable, is the
question; everything else is context in one canonical spelling. What cannot be read is never
guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts.base import BasePromptTemplate

from llama_index_valkey_semcache.canonical import as_json, spelled
from llama_index_valkey_semcache.tools import calls_tools
from valkey_semcache.text.split import Split, split_prompt

_OF_TOOLS = (MessageRole.TOOL, MessageRole.FUNCTION)

# Stands in a template for the question. A private character, which no text has.
_HOLE = "\ue5c7question\ue5c7"


class Reading(NamedTuple):
    """What a request asks.

    Args:
        text: The question.
        context: All else that is sent, as JSON.
        exact_reason: Why it must not be compared by meaning; empty if it may.
    """

    text: str
    context: str
    exact_reason: str = ""


def read_messages(messages: Sequence[ChatMessage]) -> Reading:
    """What a chat asks.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    context = spelled(messages)
    if any(message.role in _OF_TOOLS or calls_tools(message) for message in messages):
        split = Split("", exact_reason="the conversation holds calls for tools")
    elif messages and messages[-1].role == MessageRole.USER:
        split, context[-1]["blocks"] = _cut(context[-1]["blocks"])
    else:
        split = Split("", exact_reason="the last message is not the user's")
    return Reading(split.text, as_json(["chat", context]), split.exact_reason)


def read_completion(prompt: str, formatted: bool) -> Reading:
    """What a completion asks."""
    split = split_prompt(prompt)
    context = ["completion", split.before, split.after, formatted]
    return Reading(split.text, as_json(context), split.exact_reason)


def read_template(
    prompt: BasePromptTemplate,
    arguments: Mapping[str, Any],
    question_vars: Sequence[str],
    write: Callable[[Mapping[str, Any]], str | Sequence[ChatMessage]],
    purpose: Any = "template",
) -> Reading:
    """What a template asks, filled with its arguments.

    The template is written twice, with the question and with a hole in its place. What is sent
    must be the second with the hole filled, or the two cannot be told apart: then it is
    exact-only. So passages, instructions, functions in the template and the model's own
    formatting all count, whatever they do.

    Args:
        prompt: The template.
        arguments: Its variables.
        question_vars: Names of variables that hold a question; the first that is there counts.
        write: From arguments to the prompt or the messages that the model would be sent.
        purpose: What else tells this request from others over the same text.

    Raises:
        UnreadablePromptError: It cannot be told what is asked.
    """
    sent = _sent(write(arguments))
    given = {**prompt.kwargs, **arguments}
    name = next((name for name in question_vars if isinstance(given.get(name), str)), None)
    if name is None:
        return _as_it_is(sent, purpose, "the template has no question variable")
    question: str = given[name]
    hollow = _sent(write({**arguments, name: _HOLE}))
    if _inner(_HOLE) not in hollow or hollow.replace(_inner(_HOLE), _inner(question)) != sent:
        return _as_it_is(sent, purpose, f"the template does more with {name} than hold it")
    split = split_prompt(question)
    context = as_json([purpose, hollow, split.before, split.after])
    return Reading(split.text, context, split.exact_reason)


def _as_it_is(sent: str, purpose: Any, reason: str) -> Reading:
    return Reading("", as_json([purpose, sent]), reason)


def _sent(written: str | Sequence[ChatMessage]) -> str:
    return as_json(written if isinstance(written, str) else spelled(written))


def _inner(text: str) -> str:
    """A text as it stands inside of JSON's quotes."""
    return json.dumps(text)[1:-1]


def _cut(blocks: list[Any]) -> tuple[Split, Any]:
    """The question in a user message's blocks, and what is left of them."""
    asked = [block for block in blocks if isinstance(block, str)]
    if len(asked) > 1:
        reason = "the message holds several pieces of text, whose places count"
        return Split("", exact_reason=reason), blocks
    split = split_prompt("".join(asked))
    rest = [None if isinstance(block, str) else block for block in blocks]
    return split, [rest, split.before, split.after]
