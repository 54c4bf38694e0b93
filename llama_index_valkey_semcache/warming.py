"""Filling LlamaIndex's cache before it is asked.

Rule of this file: what is asked is read as `SemanticCacheLLM.chat` reads it, so that it finds what
is stored here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole

from llama_index_valkey_semcache.codec import ChatCodec
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.methods.filling import Filled, Progress
from valkey_semcache.methods.rows import Row

if TYPE_CHECKING:
    from llama_index_valkey_semcache.turns import Asked


class Warming(SemanticCache):
    """Fills the cache."""

    def warm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """Store answers that `llm.chat` will find instead of making a call.

        Args:
            llm: The `SemanticCacheLLM` that will be asked.
            rows: Questions with their answers: pairs, or mappings with `question`, `answer` and,
                if wanted, `namespace` and `system`.
            again: True stores also where an answer is stored for the same words already.
            progress: Called after each batch of 256, with its length.

        Returns:
            How many were stored, were there, and failed.

        Raises:
            ConfigurationError: `llm` is none, or a row has no question or answer.
            ServerError: Valkey could not be reached or refused.
        """
        answered = self._answered(llm, rows)
        return self.fill(answered, codec=ChatCodec(), again=again, progress=progress)

    async def awarm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """The same as `warm`, without blocking the event loop."""
        answered = self._answered(llm, rows)
        return await self.afill(answered, codec=ChatCodec(), again=again, progress=progress)

    def _answered(self, llm: Any, rows: Iterable[Any]) -> Iterator[tuple[Question, Any]]:
        from llama_index_valkey_semcache.llm import SemanticCacheLLM

        if not isinstance(llm, SemanticCacheLLM):
            raise ConfigurationError(
                f"warm(llm=…) takes the SemanticCacheLLM that will be asked, not "
                f"{type(llm).__name__}."
            )
        for row in map(Row.of, rows):
            messages = [ChatMessage(role=MessageRole.USER, content=row.question)]
            if row.system:
                messages.insert(0, ChatMessage(role=MessageRole.SYSTEM, content=row.system))
            asked: Asked | None = llm._chat(messages, {})
            if asked is None:
                raise ConfigurationError("This SemanticCacheLLM does not cache what it is asked.")
            question = asked.question
            if row.namespace is not None:
                question = replace(question, namespace=row.namespace)
            answer = ChatMessage(role=MessageRole.ASSISTANT, content=row.answer)
            yield question, ChatResponse(message=answer)
