"""Which of LlamaIndex's answers are kept, what they cost, and how they are given back.

Rule of this file: an answer that was cut off, empty or a call for a tool is not one to give
to somebody else; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from valkey_semcache import Hit
from valkey_semcache.finish import cut_off, part


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
    if reason := cut_off(response.raw) or cut_off(response.additional_kwargs):
        return reason
    if not text:
        return "empty answer"
    return None


def usage_of(response: ChatResponse | CompletionResponse) -> dict[str, int]:
    """The tokens a response cost, as OpenAI's and Anthropic's raw responses count them."""
    usage = part(response.raw, "usage") or response.additional_kwargs
    counts = {
        "input_tokens": part(usage, "prompt_tokens") or part(usage, "input_tokens"),
        "output_tokens": part(usage, "completion_tokens") or part(usage, "output_tokens"),
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
