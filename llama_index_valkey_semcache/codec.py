"""LlamaIndex's responses as JSON: `li-chat/1` and `li-completion/1`.

Rule of this file: fields are named here, and only they are written and read. `raw`, the
provider's own object, is not kept.
"""

from __future__ import annotations

import json
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
)

from valkey_semcache.errors import NotStorableError, UnreadableError


class ChatCodec:
    """A `ChatResponse` whose message is text."""

    name = "li-chat/1"

    def encode(self, answer: ChatResponse) -> bytes:
        """The response as JSON.

        Raises:
            NotStorableError: The message holds other blocks than text, or what JSON cannot.
        """
        message = answer.message
        if not all(isinstance(block, TextBlock) for block in message.blocks):
            raise NotStorableError("its message holds other blocks than text")
        return _json(
            {
                "role": message.role.value,
                "texts": [block.text for block in message.blocks if isinstance(block, TextBlock)],
                "message": message.additional_kwargs,
                "response": answer.additional_kwargs,
            }
        )

    def decode(self, content: bytes) -> ChatResponse:
        """A new response.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """
        stored = _object(content, {"role": str, "texts": list, "message": dict, "response": dict})
        try:
            message = ChatMessage(
                role=MessageRole(stored["role"]),
                blocks=[TextBlock(text=text) for text in stored["texts"]],
                additional_kwargs=stored["message"],
            )
            return ChatResponse(message=message, additional_kwargs=stored["response"])
        except ValueError as error:
            raise UnreadableError("The stored chat response is damaged.") from error


class CompletionCodec:
    """A `CompletionResponse`."""

    name = "li-completion/1"

    def encode(self, answer: CompletionResponse) -> bytes:
        """The response as JSON.

        Raises:
            NotStorableError: It holds what JSON cannot.
        """
        return _json({"text": answer.text, "response": answer.additional_kwargs})

    def decode(self, content: bytes) -> CompletionResponse:
        """A new response.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """
        stored = _object(content, {"text": str, "response": dict})
        return CompletionResponse(text=stored["text"], additional_kwargs=stored["response"])


def _json(parts: dict[str, Any]) -> bytes:
    try:
        return json.dumps(parts, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStorableError(f"it holds a value that JSON cannot: {error}") from error


def _object(content: bytes, kinds: dict[str, type]) -> dict[str, Any]:
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("The stored response is no JSON.") from error
    if not isinstance(stored, dict) or not all(
        isinstance(stored.get(name), kind) for name, kind in kinds.items()
    ):
        raise UnreadableError("The stored response lacks a field, or has one of another kind.")
    return stored
