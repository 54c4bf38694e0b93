"""`SemanticCacheLLM`: any LlamaIndex LLM, with a cache in front.

Rule of this file: what is cached goes through the core, everything else is the inner model's.
It is a `FunctionCallingLLM`, or agents and structured prediction would not take it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

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
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection

from llama_index_valkey_semcache.answers import marked, reason_not_to_store, usage_of
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from llama_index_valkey_semcache.identity import model_identity
from llama_index_valkey_semcache.prompt import read_completion, read_messages
from valkey_semcache import Codec, ConfigurationError, Hit, Question, SemanticCache

_CHAT, _COMPLETION = ChatCodec(), CompletionCodec()


class SemanticCacheLLM(FunctionCallingLLM):
    """An LLM whose answers are looked up before the inner one is asked.

    `complete`, `chat` and their async twins are cached; streams and all else go to the inner
    model as they are.

    Args:
        llm: The model to ask on a miss.
        cache: A `llama_index_valkey_semcache.ValkeySemanticCache`.
        namespace: The tenant; None for the cache's own.
        model_id: Names the model with its parameters, in place of what is read off `llm`.
            Change it whenever they change.

    Raises:
        ConfigurationError: `llm` or `cache` is not one.
    """

    _llm: LLM = PrivateAttr()
    _cache: SemanticCache = PrivateAttr()
    _namespace: str | None = PrivateAttr()
    _model_id: str | None = PrivateAttr()

    def __init__(
        self,
        llm: LLM,
        cache: SemanticCache,
        *,
        namespace: str | None = None,
        model_id: str | None = None,
    ) -> None:
        if not isinstance(llm, LLM):
            raise ConfigurationError(f"llm= takes a LlamaIndex LLM, not {type(llm).__name__}.")
        if not isinstance(cache, SemanticCache):
            raise ConfigurationError(
                "cache= takes a llama_index_valkey_semcache.ValkeySemanticCache, not "
                f"{type(cache).__module__}.{type(cache).__name__}."
            )
        super().__init__(
            callback_manager=llm.callback_manager,
            system_prompt=llm.system_prompt,
            messages_to_prompt=llm.messages_to_prompt,
            completion_to_prompt=llm.completion_to_prompt,
            output_parser=llm.output_parser,
            pydantic_program_mode=llm.pydantic_program_mode,
            query_wrapper_prompt=llm.query_wrapper_prompt,
        )
        self._llm = llm
        self._cache = cache
        self._namespace = namespace
        self._model_id = model_id

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serializes it."""
        return "SemanticCacheLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """The inner model's."""
        return self._llm.metadata

    @property
    def cache(self) -> SemanticCache:
        """The cache in front."""
        return self._cache

    @property
    def inner(self) -> LLM:
        """The model behind."""
        return self._llm

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The inner model's `complete`, or a stored answer to the same question."""
        question = self._completion_question(prompt, formatted, kwargs)
        found: CompletionResponse | None = self._lookup(question, _COMPLETION)
        if found is not None:
            return found
        response = self._llm.complete(prompt, formatted=formatted, **kwargs)
        self._store(question, response, _COMPLETION)
        return response

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """The inner model's `acomplete`, or a stored answer to the same question."""
        question = self._completion_question(prompt, formatted, kwargs)
        found: CompletionResponse | None = await self._alookup(question, _COMPLETION)
        if found is not None:
            return found
        response = await self._llm.acomplete(prompt, formatted=formatted, **kwargs)
        await self._astore(question, response, _COMPLETION)
        return response

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The inner model's `chat`, or a stored answer to the same question."""
        question = self._chat_question(messages, kwargs)
        found: ChatResponse | None = self._lookup(question, _CHAT)
        if found is not None:
            return found
        response = self._llm.chat(messages, **kwargs)
        self._store(question, response, _CHAT)
        return response

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The inner model's `achat`, or a stored answer to the same question."""
        question = self._chat_question(messages, kwargs)
        found: ChatResponse | None = await self._alookup(question, _CHAT)
        if found is not None:
            return found
        response = await self._llm.achat(messages, **kwargs)
        await self._astore(question, response, _CHAT)
        return response

    # Not cached: the inner model's own

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """The inner model's; not cached."""
        return self._llm.stream_complete(prompt, formatted=formatted, **kwargs)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The inner model's; not cached."""
        return await self._llm.astream_complete(prompt, formatted=formatted, **kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The inner model's; not cached."""
        return self._llm.stream_chat(messages, **kwargs)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """The inner model's; not cached."""
        return await self._llm.astream_chat(messages, **kwargs)

    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._function_calling()._prepare_chat_with_tools(*args, **kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The inner model's reading of its own tool calls."""
        return self._function_calling().get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )

    def _function_calling(self) -> FunctionCallingLLM:
        if not isinstance(self._llm, FunctionCallingLLM):
            raise ConfigurationError(
                f"The inner {type(self._llm).__name__} cannot call tools. Wrap a model that can."
            )
        return self._llm

    # What is asked

    def _chat_question(
        self, messages: Sequence[ChatMessage], call: dict[str, Any]
    ) -> Question | None:
        return self._question(
            call, lambda identity, model: read_messages(messages, identity, model)
        )

    def _completion_question(
        self, prompt: str, formatted: bool, call: dict[str, Any]
    ) -> Question | None:
        return self._question(
            call, lambda identity, model: read_completion(prompt, formatted, identity, model)
        )

    def _question(
        self, call: dict[str, Any], read: Callable[[str, str], Question]
    ) -> Question | None:
        """The question, or None for a request that cannot be cached."""
        try:
            identity = model_identity(self._llm if self._model_id is None else self._model_id, call)
            question = read(identity, self._llm.metadata.model_name)
        except Exception as error:  # noqa: BLE001 - whatever they hold, the call goes on
            self._cache.missed(f"{type(error).__name__}: {error}")
            return None
        return replace(question, namespace=self._namespace)

    # Look-ups and stores, sync and async

    def _lookup(self, question: Question | None, codec: Codec) -> Any:
        if question is None:
            return None
        outcome = self._cache.lookup(question, codec=codec)
        return marked(outcome) if isinstance(outcome, Hit) else None

    async def _alookup(self, question: Question | None, codec: Codec) -> Any:
        if question is None:
            return None
        outcome = await self._cache.alookup(question, codec=codec)
        return marked(outcome) if isinstance(outcome, Hit) else None

    def _store(self, question: Question | None, response: Any, codec: Codec) -> None:
        if question is not None and self._worth_storing(response):
            self._cache.store(question, response, codec=codec, usage=usage_of(response))

    async def _astore(self, question: Question | None, response: Any, codec: Codec) -> None:
        if question is not None and self._worth_storing(response):
            await self._cache.astore(question, response, codec=codec, usage=usage_of(response))

    def _worth_storing(self, response: ChatResponse | CompletionResponse) -> bool:
        try:
            reason = reason_not_to_store(response)
        except Exception:  # noqa: BLE001 - the model has been paid; its answer is passed on
            reason = "unreadable answer"
        if reason is not None:
            self._cache.skip(reason)
        return reason is None
