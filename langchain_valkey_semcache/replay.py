"""A stored answer as a stream, and a stream as an answer to store.

Rule of this file: chunks that are added up give the answer they were made from, and an answer made
from chunks has the shape that the same model's `invoke` gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation

_WORD = re.compile(r"\s*\S+|\s+")
# Said on every chunk, since LangChain reads each chunk's content by them; they add up to one.
_ON_EVERY_CHUNK = ("model_provider", "output_version")


def replayed(
    generation: Generation, message_id: str | None = None
) -> Iterator[ChatGenerationChunk]:
    """An answer in chunks: text word by word, other blocks whole, all else in the last.

    Args:
        generation: The answer, as a look-up gives it.
        message_id: What the chunks' messages are to have for an id, if any.
    """
    message = _message(generation)
    metadata = dict(message.response_metadata)
    common = {name: metadata[name] for name in _ON_EVERY_CHUNK if name in metadata}
    for content in _pieces(message.content):
        part = AIMessageChunk(
            content=content, response_metadata=dict(common), name=message.name, id=message_id
        )
        yield _chunk(part)
    last = AIMessageChunk(
        content="" if isinstance(message.content, str) else [],
        additional_kwargs=message.additional_kwargs,
        response_metadata=metadata,
        usage_metadata=message.usage_metadata,
        name=message.name,
        tool_call_chunks=[
            tool_call_chunk(name=call["name"], args=arguments, id=call["id"], index=index)
            for index, (call, arguments) in enumerate(_calls(message))
        ],
        chunk_position="last",
        id=message_id,
    )
    yield _chunk(last, generation.generation_info)


def _message(generation: Generation) -> AIMessage:
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        return generation.message
    return AIMessage(content=generation.text)


def _chunk(message: AIMessageChunk, info: dict[str, Any] | None = None) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message, generation_info=info)


def _pieces(content: str | Sequence[str | dict[str, Any]]) -> Iterator[Any]:
    """The content of one chunk after the other. Blocks of one index are added up again."""
    if isinstance(content, str):
        yield from _WORD.findall(content)
        return
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            yield [block]
            continue
        first = {"index": index} | block
        if block.get("type") == "text" and isinstance(text := block.get("text"), str):
            *words, rest = _WORD.findall(text) or [""]
            place = {"type": "text", "index": first["index"]}
            for word in words:
                yield [place | {"text": word}]
            first["text"] = rest
        yield [first]


def _calls(message: AIMessage) -> Iterator[tuple[Any, str | None]]:
    """Tool calls with their arguments as text; of invalid ones that is all there is."""
    for call in message.tool_calls:
        yield call, json.dumps(call["args"])
    for invalid in message.invalid_tool_calls:
        yield invalid, invalid["args"]


class Recording:
    """The chunks of a stream as they pass by.

    Args:
        output_version: The model's; `"v1"` has its answers in LangChain's standard blocks.
    """

    def __init__(self, output_version: str | None) -> None:
        self._output_version = output_version
        self._chunks: list[ChatGenerationChunk] = []

    def keep(self, chunk: ChatGenerationChunk) -> None:
        """Note a chunk as it is now: LangChain and the stream's reader change it afterwards."""
        message = chunk.message.model_copy()
        message.response_metadata = dict(message.response_metadata)
        self._chunks.append(
            ChatGenerationChunk.model_construct(
                text=chunk.text, message=message, generation_info=chunk.generation_info
            )
        )

    def answer(self) -> tuple[ChatGeneration | None, Literal["", "cut stream", "no answer"]]:
        """The chunks as one answer, or why there is none."""
        if not self._chunks:
            return None, "no answer"
        total = self._chunks[0] + self._chunks[1:]
        info = total.generation_info
        message = message_chunk_to_message(total.message)
        message.response_metadata = {**(info or {}), **message.response_metadata}
        if _cut(message.response_metadata):
            return None, "cut stream"
        if isinstance(message, AIMessage) and self._output_version == "v1":
            message = message.model_copy(update={"content": message.content_blocks})
            message.response_metadata["output_version"] = "v1"
        return ChatGeneration(message=message, generation_info=info), ""


def _cut(metadata: dict[str, Any]) -> bool:
    """Whether the stream ended without saying so, which OpenAI's two APIs always do."""
    return metadata.get("model_provider") == "openai" and not (
        metadata.get("finish_reason") or metadata.get("status")
    )
