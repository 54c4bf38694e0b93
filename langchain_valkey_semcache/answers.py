"""Which of LangChain's answers are kept, what they cost, and how they are given back.

Rule of this file: an answer that was cut off, empty or a call for a tool is not one to give
to somebody else; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, Generation

from langchain_valkey_semcache.portable import provider_bound, renew_call_ids
from valkey_semcache import Hit
from valkey_semcache.rules.finish import cut_off

_COUNTED = ("input_tokens", "output_tokens", "total_tokens")
_USAGES = ("token_usage", "usage")  # providers' own counts, in response_metadata


def messages_of(generations: Sequence[Generation]) -> list[AIMessage]:
    """The messages of chat generations."""
    return [
        generation.message
        for generation in generations
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage)
    ]


def calls_tools(generations: Sequence[Generation]) -> bool:
    """Whether an answer is a call for a tool."""
    return any(m.tool_calls or m.invalid_tool_calls for m in messages_of(generations))


def reason_not_to_store(
    generations: Sequence[Generation], cache_tool_calls: bool = False
) -> str | None:
    """Why an answer is not kept, in a few words, or None if it is.

    Args:
        generations: The answer.
        cache_tool_calls: Whether one that calls tools may be.
    """
    if not generations:
        return "no answer"
    for generation in generations:
        if reason := cut_off(generation.generation_info):
            return reason
        if isinstance(generation, ChatGeneration):
            if isinstance(generation.message, AIMessage) and (
                reason := _reason_against(generation.message, cache_tool_calls)
            ):
                return reason
        elif not generation.text:
            return "empty answer"
    return None


def _reason_against(message: AIMessage, cache_tool_calls: bool) -> str | None:
    if reason := cut_off(message.response_metadata):
        return reason
    if _is_refusal(message):
        return "refusal"
    if provider_bound(message):
        return "items that the provider keeps"
    if message.tool_calls or message.invalid_tool_calls:
        return None if cache_tool_calls and message.tool_calls else "tool calls"
    return None if _shows_something(message) else "empty answer"


def _is_refusal(message: AIMessage) -> bool:
    if message.additional_kwargs.get("refusal"):
        return True
    return isinstance(message.content, list) and any(
        block.get("type") == "refusal" or "refusal" in (block.get("value") or ())
        for block in message.content
        if isinstance(block, dict)
    )


def _shows_something(message: AIMessage) -> bool:
    """Whether there is a text, or another block that is an answer, such as an image."""
    content = message.content
    if isinstance(content, str):
        return bool(content)  # `text` would make an object of it
    return bool(str(message.text)) or any(
        isinstance(block, dict) and block.get("type") in ("image", "image_url", "audio", "video")
        for block in content
    )


def usage_of(generations: Sequence[Generation]) -> dict[str, int]:
    """The tokens an answer cost: the chat message's own count, once for all generations."""
    for message in messages_of(generations):
        usage = dict(message.usage_metadata or {})
        tokens = {key: n for key in _COUNTED if isinstance(n := usage.get(key), int)}
        if tokens:
            return tokens
    return {}


def shaped(generations: Sequence[Generation], llm_string: str) -> Sequence[Generation] | None:
    """The answer in the shape that all who ask under this `llm_string` get; None if it has none.

    `output_version="v1"` makes content a list of LangChain's standard blocks. LangChain's newest
    event streams make it one whatever the model says, and would store that for all others.
    """
    messages = messages_of(generations)
    wants_v1 = '"output_version": "v1"' in llm_string or "('output_version', 'v1')" in llm_string
    are_v1 = [message.response_metadata.get("output_version") == "v1" for message in messages]
    if not wants_v1:
        return None if any(are_v1) else generations
    if all(are_v1):
        return generations
    return [
        ChatGeneration(message=_as_v1(g.message), generation_info=g.generation_info)
        if isinstance(g, ChatGeneration) and isinstance(g.message, AIMessage)
        else g
        for g in generations
    ]


def _as_v1(message: AIMessage) -> AIMessage:
    if message.response_metadata.get("output_version") == "v1":
        return message
    metadata = message.response_metadata | {"output_version": "v1"}
    blocks = message.content_blocks
    return message.model_copy(update={"content": blocks, "response_metadata": metadata})


def given_back(hit: Hit, *, keeps_usage: bool = False) -> list[Generation]:
    """A hit's generations, marked as such.

    A chat message says under `response_metadata["semantic_cache"]` where it came from, and its
    tool calls have ids of their own. A completion model's text has no place to say so.

    Args:
        hit: The hit.
        keeps_usage: Whether messages report the tokens of the first call as spent again. If
            not they report none; those of the first call stand beside the mark either way.
    """
    generations: list[Generation] = hit.answer
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            message = generation.message
            if isinstance(message, AIMessage):
                _mark(message, hit, keeps_usage)
                if message.tool_calls or message.invalid_tool_calls:
                    renew_call_ids(message)
    return generations


def _mark(message: AIMessage, hit: Hit, keeps_usage: bool) -> None:
    note = hit.note()
    metadata, usage = message.response_metadata, message.usage_metadata
    if usage is not None:
        note["usage"] = dict(usage)
    if not keeps_usage:
        if usage is not None:
            # Not by `message.usage_metadata =`, which takes pydantic ten times as long.
            vars(message)["usage_metadata"] = UsageMetadata(
                input_tokens=0, output_tokens=0, total_tokens=0
            )
        for name in _USAGES:
            if name in metadata:
                metadata[name] = _zeroed(metadata[name])
    metadata["semantic_cache"] = note


def _zeroed(counts: Any) -> Any:
    """The same with every number 0: what reads a provider's count finds one."""
    if isinstance(counts, dict):
        return {name: _zeroed(count) for name, count in counts.items()}
    return 0 if isinstance(counts, int | float) and not isinstance(counts, bool) else counts
