"""`SemanticCacheLLM`: any LlamaIndex LLM, with a cache in front.

Rule of this file: what is cached goes through the front, everything else is the inner model's.
It is a `FunctionCallingLLM`, or agents and structured prediction would not take it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM

from llama_index_valkey_semcache.calls import Calls
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from llama_index_valkey_semcache.explaining import ExplainingLLM
from llama_index_valkey_semcache.prompt import read_completion, read_messages
from llama_index_valkey_semcache.settings import Mode, Settings
from llama_index_valkey_semcache.structured import StructuredPredictingLLM
from llama_index_valkey_semcache.turns import Asked
from llama_index_valkey_semcache.wrapped import WrappedLLM
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.options import TTL

_CHAT, _COMPLETION = ChatCodec(), CompletionCodec()


class SemanticCacheLLM(StructuredPredictingLLM, ExplainingLLM):
    """An LLM whose answers are looked up before the inner one is asked.

    Everything that asks a model is cached: completions and chats, streamed or not, with tools,
    from templates (`predict`, as query engines do) and structured; each sync and async. All
    else is the inner model's, whose attributes it has.

    Args:
        llm: The model to ask on a miss.
        cache: A `llama_index_valkey_semcache.ValkeySemanticCache`.
        namespace: The tenant; None for the cache's own.
        model_id: Names the model with its parameters, in place of what is read off `llm`.
            Change it whenever they change.
        mode: `"auto"` serves other wordings of a question, `"exact"` the very words only,
            `"off"` nothing: all goes to the model, and nothing is stored.
        question_vars: Names of template variables that hold a question. The first that a
            template has is compared by meaning; templates without are exact-only.
        threshold: Cosine similarity from which another wording is served, 0 to 1; None for
            the cache's own.
        ttl: Seconds an entry lives, or a `timedelta`; None for the cache's own.
        cache_tool_calls: Whether calls for tools are stored too, for the very words.
        should_store: A function from a model's answer to whether it is stored: a `ChatResponse`
            or a `CompletionResponse`; for a template its text, or an object of the class asked
            for.
        coalesce: Whether calls that ask the same at the same time, in one process, wait for the
            first of them. If it fails, or its stream is abandoned, each calls for itself.

    Raises:
        ConfigurationError: `llm` or `cache` is not one, `llm` is one that must be wrapped in
            another order, or an option is not allowed. It is a `ValueError`.
    """

    def __init__(
        self,
        llm: LLM,
        cache: SemanticCache,
        *,
        namespace: str | None = None,
        model_id: str | None = None,
        mode: Mode = "auto",
        question_vars: Sequence[str] = ("query_str", "question"),
        threshold: float | None = None,
        ttl: TTL = None,
        cache_tool_calls: bool = False,
        should_store: Callable[[Any], bool] | None = None,
        coalesce: bool = True,
    ) -> None:
        settings = Settings.checked(
            namespace=namespace,
            model_id=model_id,
            mode=mode,
            question_vars=question_vars,
            threshold=threshold,
            ttl=ttl,
            cache_tool_calls=cache_tool_calls,
            should_store=should_store,
            coalesce=coalesce,
        )
        WrappedLLM.__init__(self, Calls(_checked_llm(llm), _checked_cache(cache), settings))

    @property
    def cache(self) -> SemanticCache | None:
        """The cache in front; None after unpickling, until it is set."""
        return self._front.cache

    @cache.setter
    def cache(self, cache: SemanticCache) -> None:
        self._front.cache = _checked_cache(cache)

    def bypass(self) -> AbstractContextManager[None]:
        """Go around the cache: `with llm.bypass():`.

        Within, calls of this thread or task go to the model; nothing is looked up or stored.
        """
        return self._front.bypassed()

    # One answer

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The inner model's `complete`, or a stored answer to the same question."""
        asked, complete = self._completion(prompt, formatted, kwargs), self._front.llm.complete
        response: CompletionResponse = self._front.answer(
            asked, lambda: complete(prompt, formatted=formatted, **kwargs)
        )
        return response

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """The inner model's `acomplete`, or a stored answer to the same question."""
        asked, complete = self._completion(prompt, formatted, kwargs), self._front.llm.acomplete
        response: CompletionResponse = await self._front.aanswer(
            asked, lambda: complete(prompt, formatted=formatted, **kwargs)
        )
        return response

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The inner model's `chat`, or a stored answer to the same question."""
        front = self._front
        asked = front.asked(lambda: read_messages(messages), kwargs, _CHAT)
        response: ChatResponse = front.answer(asked, lambda: front.llm.chat(messages, **kwargs))
        return response

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The inner model's `achat`, or a stored answer to the same question."""
        front = self._front
        asked = front.asked(lambda: read_messages(messages), kwargs, _CHAT)
        response: ChatResponse = await front.aanswer(
            asked, lambda: front.llm.achat(messages, **kwargs)
        )
        return response

    # Streams

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """The inner model's `stream_complete`, or a stored answer, word by word."""
        asked, stream = self._completion(prompt, formatted, kwargs), self._front.llm.stream_complete
        chunks: CompletionResponseGen = self._front.stream(
            asked, lambda: stream(prompt, formatted=formatted, **kwargs)
        )
        return chunks

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The inner model's `astream_complete`, or a stored answer, word by word."""
        front, asked = self._front, self._completion(prompt, formatted, kwargs)
        chunks: CompletionResponseAsyncGen = await front.astream(
            asked, lambda: front.llm.astream_complete(prompt, formatted=formatted, **kwargs)
        )
        return chunks

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The inner model's `stream_chat`, or a stored answer, word by word."""
        asked, stream = self._chat(messages, kwargs), self._front.llm.stream_chat
        chunks: ChatResponseGen = self._front.stream(asked, lambda: stream(messages, **kwargs))
        return chunks

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """The inner model's `astream_chat`, or a stored answer, word by word."""
        front, asked = self._front, self._chat(messages, kwargs)
        chunks: ChatResponseAsyncGen = await front.astream(
            asked, lambda: front.llm.astream_chat(messages, **kwargs)
        )
        return chunks

    # What is asked

    def _chat(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> Asked | None:
        return self._front.asked(lambda: read_messages(messages), call, _CHAT)

    def _completion(self, prompt: str, formatted: bool, call: dict[str, Any]) -> Asked | None:
        return self._front.asked(lambda: read_completion(prompt, formatted), call, _COMPLETION)


def _checked_llm(llm: object) -> LLM:
    if not isinstance(llm, LLM):
        raise ConfigurationError(f"llm= takes a LlamaIndex LLM, not {type(llm).__name__}.")
    if isinstance(llm, StructuredLLM):
        raise ConfigurationError(
            "llm= is a StructuredLLM, whose answers are made by the model inside of it. Wrap "
            "that one, and structure the whole: "
            f"SemanticCacheLLM(llm, cache).as_structured_llm({llm.output_cls.__name__})."
        )
    if isinstance(llm, SemanticCacheLLM):
        raise ConfigurationError(
            "llm= is a SemanticCacheLLM already. Use it as it is, or wrap the model that is its "
            "attribute inner."
        )
    return llm


def _checked_cache(cache: object) -> SemanticCache:
    if not isinstance(cache, SemanticCache):
        raise ConfigurationError(
            "cache= takes a llama_index_valkey_semcache.ValkeySemanticCache, not "
            f"{type(cache).__module__}.{type(cache).__name__}."
        )
    return cache
