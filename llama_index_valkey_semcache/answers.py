"""Which of LlamaIndex's answers are kept, what they cost, and how they are given back.

Rule of this file: an answer that was cut off or empty is not one to give to somebody else; a
call for a tool only if that was asked for; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llama_index_valkey_semcache.tools import calls_tools
from valkey_semcache import Hit
from valkey_semcache.rules.finish import cut_off, part

Response: TypeAlias = ChatResponse | CompletionResponse


def text_of(response: Response) -> str:
    """A response's text."""
    if isinstance(response, ChatResponse):
        return response.message.content or ""
    return response.text


def asks_for_tools(response: Any) -> bool:
    """Whether a response is a call for tools."""
    return isinstance(response, ChatResponse) and calls_tools(response.message)


def reason_not_to_store(response: Any, tool_calls_too: bool) -> str | None:
    """Why an answer is not kept, in a few words, or None if it is.

    Args:
        response: What the model gave: a response, its text, or an object of the caller's class.
        tool_calls_too: Whether calls for tools are kept.
    """
    if response == "":
        return "empty answer"
    if not isinstance(response, ChatResponse | CompletionResponse):
        return None
    called = asks_for_tools(response)
    if called and not tool_calls_too:
        return "tool calls"
    if reason := cut_off(response.raw) or cut_off(response.additional_kwargs):
        return reason
    if not called and not text_of(response):
        return "empty answer"
    return None


def told_to_end(raw: Any) -> bool | None:
    """Whether a provider's chunk says that it is the last, or None if it has no place for that.

    A stream of chunks that have the place, but none that fills it, has broken off: HTTP ends a
    response that was cut in the middle as it does any other.
    """
    for several in ("choices", "candidates"):
        first = part(raw, several)
        if isinstance(first, list) and first:
            return part(first[0], "finish_reason") is not None
    done = part(raw, "done")  # Ollama's
    return done if isinstance(done, bool) else None


def usage_of(response: Any) -> dict[str, int]:
    """The tokens a response cost, as OpenAI's and Anthropic's raw responses count them."""
    if not isinstance(response, ChatResponse | CompletionResponse):
        return {}
    usage = part(response.raw, "usage") or response.additional_kwargs
    counts = {
        "input_tokens": part(usage, "prompt_tokens") or part(usage, "input_tokens"),
        "output_tokens": part(usage, "completion_tokens") or part(usage, "output_tokens"),
    }
    return {name: count for name, count in counts.items() if type(count) is int}


def marked(hit: Hit) -> Any:
    """A hit's response, which says in `additional_kwargs["semantic_cache"]` that it is one."""
    response = hit.answer
    if isinstance(response, ChatResponse | CompletionResponse):
        response.additional_kwargs["semantic_cache"] = hit.note()
    return response
