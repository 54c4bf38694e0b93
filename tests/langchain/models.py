"""Chat models for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

from tests.openai_server import OpenAIServer


def chat_model(openai: OpenAIServer, **options: Any) -> ChatOpenAI:
    """The real client of the server in this process."""
    options = {"model": "gpt-4o-mini", "max_retries": 0} | options
    return ChatOpenAI(base_url=openai.url, api_key="sk-planted-secret", **options)


class Says(BaseChatModel):
    """Answers with a given message, for what the server in this process never says.

    `calls` counts; `meanwhile` runs while the model is at work.
    """

    message: AIMessage
    output_version: str | None = None
    _calls: int = PrivateAttr(0)
    _meanwhile: Callable[[], None] | None = PrivateAttr(None)

    @property
    def calls(self) -> int:
        return self._calls

    def while_at_work(self, meanwhile: Callable[[], None] | None) -> None:
        self._meanwhile = meanwhile

    @property
    def _llm_type(self) -> str:
        return "says"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self._calls += 1
        if self._meanwhile is not None:
            self._meanwhile()
        message = self.message.model_copy(deep=True)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages)
