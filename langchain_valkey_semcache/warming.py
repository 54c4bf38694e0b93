"""Filling LangChain's cache before it is asked.

Rule of this file: prompt and `llm_string` are made as LangChain makes them, so that the model's own
call finds what is stored here.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

from langchain_valkey_semcache.asked import Asked
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.methods.filling import Filled, Progress
from valkey_semcache.methods.rows import Row


class Warming(BaseCache, ABC):
    """Fills the cache."""

    core: SemanticCache
    _asked: Asked

    def warm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """Store answers that `llm.invoke` will find instead of making a call.

        Args:
            llm: The chat model that will be asked, with its parameters.
            rows: Questions with their answers: pairs, or mappings with `question`, `answer` and,
                if wanted, `namespace` and `system`.
            again: True stores also where an answer is stored for the same words already.
            progress: Called after each batch of 256, with its length.

        Returns:
            How many were stored, were there, and failed.

        Raises:
            ConfigurationError: `llm` is no chat model, or a row has no question or answer.
            ServerError: Valkey could not be reached or refused.
        """
        return self.core.fill(self._answered(llm, rows), again=again, progress=progress)

    async def awarm(
        self,
        llm: Any,
        rows: Iterable[Any],
        *,
        again: bool = False,
        progress: Progress | None = None,
    ) -> Filled:
        """The same as `warm`, without blocking the event loop."""
        return await self.core.afill(self._answered(llm, rows), again=again, progress=progress)

    def _answered(self, llm: Any, rows: Iterable[Any]) -> Iterator[tuple[Question, Any]]:
        from langchain_valkey_semcache.model import llm_string_of

        if not isinstance(llm, BaseChatModel):
            raise ConfigurationError(
                f"warm(llm=…) takes a LangChain chat model, not {type(llm).__name__}."
            )
        llm_string = llm_string_of(llm)
        for row in map(Row.of, rows):
            messages: list[BaseMessage] = [HumanMessage(row.question)]
            if row.system:
                messages.insert(0, SystemMessage(row.system))
            question = self._asked.read(dumps(messages), llm_string)
            if row.namespace is not None:
                question = replace(question, namespace=row.namespace)
            yield question, [ChatGeneration(message=AIMessage(row.answer))]
