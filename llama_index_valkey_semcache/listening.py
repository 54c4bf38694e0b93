"""What the models said while a query engine made an answer: tokens, and whether one was cut off.

Rule of this file: a query engine's response hides both, LlamaIndex's own events tell. Nothing is
kept of an event but these, and models that send none are not heard.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
)

from llama_index_valkey_semcache.answers import told_to_end, usage_of
from valkey_semcache.blocks import Block
from valkey_semcache.rules.finish import cut_off


class Heard:
    """What was heard of the models while one answer was made.

    `usage` holds tokens by name, `cut` how an answer was cut off, or None.
    """

    def __init__(self) -> None:
        self.usage: Counter[str] = Counter()
        self.cut: str | None = None
        self._raw: list[Any] = []

    def listening(self) -> AbstractContextManager[None]:
        """Hear what is said within, in this thread or task and in those begun in it."""
        return _LISTENERS((*(_LISTENERS.value() or ()), self))

    def hear(self, response: Any) -> None:
        """Take down what a model's response says; a chat made of a completion counts once."""
        if response.raw is not None:
            if any(raw is response.raw for raw in self._raw):
                return
            self._raw.append(response.raw)
        self.cut = self.cut or cut_off(response.raw) or cut_off(response.additional_kwargs)
        if self.cut is None and told_to_end(response.raw) is False:
            self.cut = "the stream broke off"
        self.usage.update(usage_of(response))

    def hear_part(self, chunk: Any) -> None:
        """Take down how a stream was cut off: its last chunk may tell of tokens alone."""
        self.cut = self.cut or cut_off(chunk.raw)


class _Handler(BaseEventHandler):
    """Passes the ends of models' calls on to those who listen."""

    @classmethod
    def class_name(cls) -> str:
        return "SemanticCacheListening"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        listeners = _LISTENERS.value()
        if not listeners:
            return
        if isinstance(event, LLMChatInProgressEvent | LLMCompletionInProgressEvent):
            for listener in listeners:
                listener.hear_part(event.response)
        elif isinstance(event, LLMChatEndEvent | LLMCompletionEndEvent) and event.response:
            for listener in listeners:
                listener.hear(event.response)


# One engine may be a part of another: both hear.
_LISTENERS: Block[tuple[Heard, ...]] = Block()
_begun = Lock()


def begin() -> None:
    """Hear of models' calls from now on, in this process.

    Only the dispatcher that tells of their ends is joined, so that no event is built for it.
    """
    dispatcher = get_dispatcher("llama_index.core.llms.callbacks")
    with _begun:
        if not any(isinstance(handler, _Handler) for handler in dispatcher.event_handlers):
            dispatcher.add_event_handler(_Handler())
