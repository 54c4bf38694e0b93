"""Which of LangChain's answers are kept, what they cost, and how they are given back.

Rule of this file: an answer that was cut off, empty or a call for a tool is not one to give
to somebody else; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, Generation

from valkey_semcache import Hit
from valkey_semcache.finish import cut_off

_COUNTED = ("input_tokens", "output_tokens", "total_tokens")


def reason_not_to_store(generations: Sequence[Generation]) -> str | None:
    """Why an answer is not kept, in a few words, or None if it is."""
    if not generations:
        return "no answer"
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            message = generation.message
            if isinstance(message, AIMessage) and (
                message.tool_calls or message.invalid_tool_calls
            ):
                return "tool calls"
            if reason := cut_off(message.response_metadata):
                return reason
            if _holds_refusal(message.content):
                return "refusal"
            text = str(message.text)
        else:
            text = generation.text
        if reason := cut_off(generation.generation_info):
            return reason
        if not text:
            return "empty answer"
    return None


def _holds_refusal(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "refusal" for block in content
    )


def usage_of(generations: Sequence[Generation]) -> dict[str, int]:
    """The tokens an answer cost: the chat message's own count, once for all generations."""
    for generation in generations:
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            usage = dict(generation.message.usage_metadata or {})
            tokens = {key: n for key in _COUNTED if isinstance(n := usage.get(key), int)}
            if tokens:
                return tokens
    return {}


def given_back(hit: Hit) -> list[Generation]:
    """A hit's generations, marked as such.

    A chat message says under `response_metadata["semantic_cache"]` where it came from, reports
    no tokens as spent (those of the first call stand in the same place), and its tool calls
    have ids of their own.
    """
    generations: list[Generation] = hit.answer
    for generation in generations:
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            _mark(generation.message, hit)
    return generations


def _mark(message: AIMessage, hit: Hit) -> None:
    note: dict[str, Any] = {
        "tier": hit.tier,
        "similarity": hit.similarity,
        "age": hit.age,
        "question": hit.question,
    }
    if message.usage_metadata is not None:
        note["usage"] = dict(message.usage_metadata)
        message.usage_metadata = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    message.response_metadata["semantic_cache"] = note
    for call in message.tool_calls:
        call["id"] = f"call_{uuid.uuid4().hex[:24]}"
