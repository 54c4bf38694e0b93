"""LlamaIndex models for tests: they answer from what they are asked, and count their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM

from tests.embedders import hashed


class CountingLLM(CustomLLM):
    """A chat model that says back what it was asked. `calls` counts."""

    name: str = "counting"
    temperature: float = 0.0
    api_key: str = "sk-planted-secret"
    timeout: float = 60.0
    base_url: str = "http://private.example"
    extra: Any = None
    _calls: list[str] = PrivateAttr(default_factory=list)
    _finish: str = PrivateAttr(default="stop")

    @property
    def calls(self) -> int:
        return len(self._calls)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.name, is_chat_model=True)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._calls.append(prompt)
        return CompletionResponse(text=f"{self.name} on: {prompt}", raw=self._raw())

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        self._calls.append(prompt)
        yield CompletionResponse(text=f"{self.name} on: {prompt}", delta="")

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        asked = str(messages[-1].content)
        self._calls.append(asked)
        content = "" if "say nothing" in asked else f"{self.name} on: {asked}"
        message = ChatMessage(role="assistant", content=content)
        if "use the tool" in asked:
            message.additional_kwargs["tool_calls"] = [{"id": "call_1"}]
        return ChatResponse(message=message, raw=self._raw())

    def _raw(self) -> dict[str, Any]:
        usage = {"prompt_tokens": 4, "completion_tokens": 2}
        return {"choices": [{"finish_reason": self._finish}], "usage": usage}


class HashingEmbedding(BaseEmbedding):
    """A bag of words, as LlamaIndex's kind of model."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(model_name="hashing", **kwargs)

    def _get_text_embedding(self, text: str) -> Embedding:
        return hashed(text)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return hashed(text)

    def _get_query_embedding(self, query: str) -> Embedding:
        raise AssertionError("the cache embeds by the text method, on both sides")

    async def _aget_query_embedding(self, query: str) -> Embedding:
        raise AssertionError("the cache embeds by the text method, on both sides")
