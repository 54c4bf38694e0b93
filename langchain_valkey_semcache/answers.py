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

_CUT_OFF = frozenset(("length", "max_tokens", "content_filter", "refusal", "safety", "recitation"))
_COUNTED = ("input_tokens", "output_tokens", "total_tokens")


def reason_not_to_store(generations: Sequence[Generation]) -> str | None:
    """Why an answer is not kept, in a few words, or None if it is."""
    if not generations:
        return "no answer"
    for generation in generations:
        metadata = dict(generation.generation_info or {})
        if isinstance(generation, ChatGeneration):
            message = generation.message
            metadata.update(message.response_metadata)
            if isinstance(message, AIMessage) and (
                message.tool_calls or message.invalid_tool_calls
            ):
                return "tool calls"
            if not message.content:
                return "empty answer"
        elif not generation.text:
            return "empty answer"
        for key in ("finish_reason", "stop_reason", "done_reason"):
            reason = str(metadata.get(key) or "").lower()
            if reason in _CUT_OFF:
                return f"{key} {reason}"
    return None


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
