"""Which of LlamaIndex's answers are kept, what they cost, and how they are given back.

Rule of this file: an answer that was cut off, empty or a call for a tool is not one to give
to somebody else; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from valkey_semcache import Hit

_CUT_OFF = frozenset(("length", "max_tokens", "content_filter", "refusal", "safety", "recitation"))


def reason_not_to_store(response: ChatResponse | CompletionResponse) -> str | None:
    """Why a response is not kept, in a few words, or None if it is."""
    if isinstance(response, ChatResponse):
        if response.message.additional_kwargs.get("tool_calls") or any(
            getattr(block, "block_type", "") == "tool_call" for block in response.message.blocks
        ):
            return "tool calls"
        text = response.message.content
    else:
        text = response.text
    if not text:
        return "empty answer"
    reason = _finish_reason(response.raw) or _finish_reason(response.additional_kwargs)
    return f"finish_reason {reason}" if reason in _CUT_OFF else None


def usage_of(response: ChatResponse | CompletionResponse) -> dict[str, int]:
    """The tokens a response cost, as OpenAI's and Anthropic's raw responses count them."""
    usage = _part(response.raw, "usage") or response.additional_kwargs
    counts = {
        "input_tokens": _part(usage, "prompt_tokens") or _part(usage, "input_tokens"),
        "output_tokens": _part(usage, "completion_tokens") or _part(usage, "output_tokens"),
    }
    return {name: count for name, count in counts.items() if type(count) is int}


def marked(hit: Hit) -> Any:
    """A hit's response, which says in `additional_kwargs["semantic_cache"]` that it is one."""
    response = hit.answer
    response.additional_kwargs["semantic_cache"] = {
        "tier": hit.tier,
        "similarity": hit.similarity,
        "age": hit.age,
        "question": hit.question,
    }
    return response


def _finish_reason(raw: Any) -> str:
    choices = _part(raw, "choices")
    if isinstance(choices, list) and choices:
        raw = choices[0]
    return str(_part(raw, "finish_reason") or _part(raw, "stop_reason") or "").lower()


def _part(whole: Any, name: str) -> Any:
    """A part of a mapping or of an object."""
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)
