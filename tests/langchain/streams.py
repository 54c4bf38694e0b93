"""Reading streams in tests, sync or async."""

from __future__ import annotations

import functools
import operator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI

from tests.conftest import Way
from tests.langchain import models
from tests.openai_server import OpenAIServer

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ANSWER = f"gpt-4o-mini at None on: {ASKED}"


def chat_model(openai: OpenAIServer, **options: Any) -> ChatOpenAI:
    """The real client, which asks for token counts in streams too."""
    return models.chat_model(openai, **{"stream_usage": True} | options)


async def streamed(way: Way, model: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """All chunks of `model.stream(…)`, or of `model.astream(…)`."""
    if way.name == "sync":
        return list(model.stream(*args, **kwargs))
    return [chunk async for chunk in model.astream(*args, **kwargs)]


def added_up(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    """The chunks as one message."""
    return functools.reduce(operator.add, chunks)


def tier(message: Any) -> str | None:
    """How a message was answered: the tier of the hit, or None if by the model."""
    note: dict[str, Any] = message.response_metadata.get("semantic_cache", {})
    return note.get("tier")


async def ask(way: Way, agent: Any, text: str, **options: Any) -> Any:
    """The agent's state after a question."""
    return await way(agent.invoke, {"messages": [("user", text)]}, **options)
