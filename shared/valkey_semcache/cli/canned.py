"""The models of the demo: ChatOpenAI where there is a key, else one that takes a second.

Rule of this file: models only. What they answer is of no matter to the cache.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms.custom import CustomLLM

SECONDS = 1.0
"""How long the canned model takes for an answer."""

_ANSWERS = {
    "valkey": "Valkey is an open-source, in-memory key-value database, a successor of Redis.",
    "sky": "Air scatters short wavelengths most, so the sky's light is mostly blue.",
    "password": "Open Settings, choose Security, and click Reset password.",
    "nobel": "It was shared by three physicists; see nobelprize.org for that year.",
    "people": "About two million in the city itself, several times that around it.",
    "capital": "Paris.",
}


class CannedChatModel(BaseChatModel):
    """A chat model that takes a second and knows a few answers. Tokens: one a word."""

    model_name: str

    @property
    def _llm_type(self) -> str:
        return "canned"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(SECONDS)
        asked = str(messages[-1].content)
        answer = next(
            (text for word, text in _ANSWERS.items() if word in asked.lower()),
            f"{self.model_name} is a canned model and has no answer to this.",
        )
        given, taken = len(asked.split()), len(answer.split())
        usage: Any = {
            "input_tokens": given,
            "output_tokens": taken,
            "total_tokens": given + taken,
        }
        message = AIMessage(answer, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


class ThroughChatModel(CustomLLM):
    """A LlamaIndex LLM that asks a LangChain chat model, so that the demo needs one model."""

    name: str
    chat_model: Any

    @property
    def metadata(self) -> LLMMetadata:
        """The model's name."""
        return LLMMetadata(model_name=self.name)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """One answer."""
        return CompletionResponse(text=str(self.chat_model.invoke(prompt).content))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """One answer, in one piece."""
        yield self.complete(prompt, formatted, **kwargs)


def chat_models(*, cached: bool) -> Sequence[BaseChatModel]:
    """Two models; `cached` False keeps LangChain's cache away from them."""
    cache = None if cached else False
    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI

        return [ChatOpenAI(model=name, cache=cache) for name in ("gpt-4o-mini", "gpt-4.1-nano")]
    return [CannedChatModel(model_name=name, cache=cache) for name in ("canned-a", "canned-b")]


def model_name(model: BaseChatModel) -> str:
    """A model's name."""
    return str(getattr(model, "model_name", ""))
