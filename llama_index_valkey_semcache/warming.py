"""Filling LlamaIndex's cache before it is asked.

Rule of this file: what is asked is read as `SemanticCacheLLM` reads it, so that it finds what is
stored here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)

from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.methods.filling import Filled, Progress
from valkey_semcache.methods.rows import Row
from valkey_semcache.options import checked_choice

if TYPE_CHECKING:
    from llama_index_valkey_semcache.llm import SemanticCacheLLM
    from llama_index_valkey_semcache.turns import Asked

By: TypeAlias = Literal["chat", "complete"]
"""The method that will ask."""

_CODECS: dict[By, ChatCodec | CompletionCodec] = {
    "chat": ChatCodec(),
    "complete": CompletionCodec(),
}


class Warming(SemanticCache):
    """Fills the cache."""

    def warm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        by: By = "chat",
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """Store answers that `llm.chat`, or `llm.complete`, will find instead of making a call.

        Args:
            llm: The `SemanticCacheLLM` that will be asked.
            rows: Questions with their answers: pairs, or mappings with `question`, `answer` and,
                if wanted, `namespace` and `system`.
            by: How it will be asked: `"chat"` by one message of the user's, after the system
                prompt if the row has one; `"complete"` by a prompt. Each finds its own.
            again: True stores also where an answer is stored for the same words already.
            progress: Called after each batch of 256, with its length.

        Returns:
            How many were stored, were there, and failed.

        Raises:
            ConfigurationError: `llm` is none, a row has no question or answer, or one for
                `"complete"` has a system prompt.
            ServerError: Valkey could not be reached or refused.
        """
        codec = _CODECS[checked_choice(by, "by", ("chat", "complete"))]
        answered = self._answered(llm, rows, by)
        return self.fill(answered, codec=codec, again=again, progress=progress)

    async def awarm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        by: By = "chat",
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """The same as `warm`, without blocking the event loop."""
        codec = _CODECS[checked_choice(by, "by", ("chat", "complete"))]
        answered = self._answered(llm, rows, by)
        return await self.afill(answered, codec=codec, again=again, progress=progress)

    def _answered(self, llm: Any, rows: Iterable[Any], by: By) -> Iterator[tuple[Question, Any]]:
        from llama_index_valkey_semcache.llm import SemanticCacheLLM

        if not isinstance(llm, SemanticCacheLLM):
            raise ConfigurationError(
                f"warm(llm=…) takes the SemanticCacheLLM that will be asked, not "
                f"{type(llm).__name__}."
            )
        for row in map(Row.of, rows):
            asked, answer = _chat(llm, row) if by == "chat" else _completion(llm, row)
            if asked is None:
                raise ConfigurationError("This SemanticCacheLLM does not cache what it is asked.")
            question = asked.question
            if row.namespace is not None:
                question = replace(question, namespace=row.namespace)
            yield question, answer


def _chat(llm: SemanticCacheLLM, row: Row) -> tuple[Asked | None, ChatResponse]:
    messages = [ChatMessage(role=MessageRole.USER, content=row.question)]
    if row.system:
        messages.insert(0, ChatMessage(role=MessageRole.SYSTEM, content=row.system))
    answer = ChatMessage(role=MessageRole.ASSISTANT, content=row.answer)
    return llm._chat(messages, {}), ChatResponse(message=answer)


def _completion(llm: SemanticCacheLLM, row: Row) -> tuple[Asked | None, CompletionResponse]:
    if row.system:
        raise ConfigurationError(
            "warm(by='complete') takes rows without a system prompt: a completion has no place "
            "for one. Use by='chat', or put it into the question as the app does."
        )
    return llm._completion(row.question, False, {}), CompletionResponse(text=row.answer)
