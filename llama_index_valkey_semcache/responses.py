"""Which of a query engine's responses are kept, and how they are given back.

Rule of this file: a response without sources, without words or cut off is not one to give to
somebody else; whoever gets a hit can see that it is one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)

from llama_index_valkey_semcache.stream import aplayed
from valkey_semcache import Hit


def reason_not_to_store(response: Any, cut: str | None, wordless: bool) -> str | None:
    """Why a response is not kept, in a few words, or None if it is.

    Args:
        response: The engine's, of a stream the whole.
        cut: How one of the models' answers in it was cut off.
        wordless: Whether the engine gives sources without words.
    """
    if not isinstance(response, Response | PydanticResponse | StreamingResponse):
        return "unknown kind of response"
    if not response.source_nodes:
        return "empty retrieval"
    if cut is not None:
        return cut
    if isinstance(response, PydanticResponse):
        return "empty answer" if response.response is None else None
    if isinstance(response, StreamingResponse):
        text = response.response_txt
        if text is None:
            return "a stream of other things than text"
    else:
        text = response.response
    if not wordless and not (text or "").strip():
        return "empty answer"
    return None


def whole(response: Any) -> Any:
    """A response; a stream that was read to its end as one."""
    if not isinstance(response, StreamingResponse):
        return response
    return Response(response.response_txt, response.source_nodes, response.metadata)


def given(hit: Hit) -> RESPONSE_TYPE:
    """A hit's response for a sync caller."""
    response: RESPONSE_TYPE = hit.answer
    return mark(response, hit)


def agiven(hit: Hit) -> RESPONSE_TYPE:
    """A hit's response for an async caller, to whom streams are async ones."""
    response: RESPONSE_TYPE = hit.answer
    if isinstance(response, StreamingResponse):
        # Its text is played anew: the sync stream is not begun.
        text = "".join(response.response_gen)
        response = AsyncStreamingResponse(aplayed(text), response.source_nodes, response.metadata)
    return mark(response, hit)


def mark(response: RESPONSE_TYPE, hit: Hit | None) -> RESPONSE_TYPE:
    """The response, which says in its attribute `semantic_cache` whether it is a hit.

    Not in its metadata: other engines write that into prompts, and a hit would read otherwise.
    """
    about = None if hit is None else hit.note()
    with suppress(AttributeError, TypeError):  # an engine's own kind may take no attributes
        response.semantic_cache = about  # type: ignore[union-attr]
    return response
