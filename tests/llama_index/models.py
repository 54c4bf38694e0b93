"""LlamaIndex models for tests: they answer from what they are asked, and count their calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.mock import MockLLM
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.types import BasePydanticProgram

from tests.embedders import hashed

STREAMS_OBJECTS = LLMTextCompletionProgram.stream_call is not BasePydanticProgram.stream_call
"""Whether this release streams objects also from models that call no functions."""


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


class EchoLLM(MockLLM):
    """LlamaIndex's own mock, which says back its prompt, as a stream word by word.

    Where a JSON schema is asked for it answers with an object of one text. `asked` holds the
    prompts; `chatting` makes it a chat model.
    """

    _asked: list[str] = PrivateAttr(default_factory=list)
    _chatting: bool = PrivateAttr(default=True)
    _fail_at: int | None = PrivateAttr(default=None)
    _finish: str = PrivateAttr(default="stop")

    def __init__(self, chatting: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._chatting = chatting  # as MockLLM's is_chat_model of later releases

    @property
    def metadata(self) -> LLMMetadata:
        return super().metadata.model_copy(update={"is_chat_model": self._chatting})

    @property
    def asked(self) -> list[str]:
        return self._asked

    @property
    def calls(self) -> int:
        return len(self._asked)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._asked.append(prompt)
        return CompletionResponse(text=self._answer(prompt), raw=self._raw())

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        self._asked.append(prompt)

        def words() -> CompletionResponseGen:
            text = ""
            for place, word in enumerate(re.findall(r"\S+\s*|\s+", self._answer(prompt))):
                if place == self._fail_at:
                    raise RuntimeError("the model broke off")
                text += word
                yield CompletionResponse(text=text, delta=word, raw={})
            yield CompletionResponse(text=text, delta="", raw=self._raw())

        return words()

    def _answer(self, prompt: str) -> str:
        if "JSON schema" in prompt:
            asked = re.findall(r"(?:Query|Question|Tell me): (.*)", prompt)
            return json.dumps({"text": f"about {asked[-1] if asked else 'nothing'}"})
        return f"Echo: {prompt}".strip()  # as the memory of streams has it

    def _raw(self) -> dict[str, Any]:
        usage = {"prompt_tokens": 4, "completion_tokens": 2}
        return {"choices": [{"finish_reason": self._finish}], "usage": usage}


Script = Callable[[Sequence[ChatMessage], Sequence[dict[str, Any]]], ChatMessage]


class ToolLLM(FunctionCallingLLM):
    """A chat model that calls tools, as its `script` has it from messages and tools.

    Streams come in two chunks, the first with half of the text.
    """

    name: str = "with tools"
    _script: Script = PrivateAttr()
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    def __init__(self, script: Script, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._script = script

    @property
    def calls(self) -> int:
        return len(self._asked)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        return self._asked

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.name, is_chat_model=True, is_function_calling_model=True)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=self._message(messages, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=self._message(messages, kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        yield from self._chunks(self._message(messages, kwargs))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        async def chunks() -> ChatResponseAsyncGen:
            for chunk in self._chunks(self._message(messages, kwargs)):
                yield chunk

        return chunks()

    def _message(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> ChatMessage:
        self._asked.append(list(messages))
        return self._script(messages, call.get("tools") or [])

    def _chunks(self, message: ChatMessage) -> ChatResponseGen:
        text = message.content or ""
        half = len(text) // 2
        if half:
            first = ChatMessage(role="assistant", content=text[:half])
            yield ChatResponse(message=first, delta=text[:half])
        yield ChatResponse(message=message, delta=text[half:])

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise AssertionError("a chat model is chatted with")

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        raise AssertionError("a chat model is chatted with")

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        raise AssertionError("a chat model is chatted with")

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        raise AssertionError("a chat model is chatted with")

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: Any = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg:
            text = isinstance(user_msg, str)
            messages.append(ChatMessage(role="user", content=user_msg) if text else user_msg)
        specs = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        return {"messages": messages, "tools": specs, "tool_required": tool_required}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        return [
            ToolSelection(
                tool_id=call["id"],
                tool_name=call["function"]["name"],
                tool_kwargs=json.loads(call["function"]["arguments"]),
            )
            for call in response.message.additional_kwargs.get("tool_calls", [])
        ]


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
