"""Explaining a look-up in LangChain's terms.

Rule of this file: prompt and `llm_string` are made as LangChain makes them for a call, so that what
is explained is what the call would meet. Nothing is counted, and no model is asked.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.language_models.llms import get_prompts
from langchain_core.messages import convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableBinding

from langchain_valkey_semcache.asked import Asked
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.at_first_use import at_first_use

if TYPE_CHECKING:
    from valkey_semcache import explanation
else:
    explanation = at_first_use("valkey_semcache.explanation")


class Explaining(BaseCache, ABC):
    """The answer to "why did this hit?" and "why did this miss?"."""

    core: SemanticCache
    _asked: Asked

    def explain(
        self, prompt: Any, llm: Any, *, neighbours: int = 5, other_tenants: bool = False
    ) -> explanation.Explanation:
        """What a call of the model would find here and now, and why; nothing is changed by it.

        Args:
            prompt: What the model would be given: a string, messages, or a prompt's value. With
                an `llm_string`, what LangChain hands to a cache.
            llm: The model, also a bound one, or its `llm_string`.
            neighbours: How many stored questions to show of the question's own scope, and of
                others, 0 to 50.
            other_tenants: True shows those of other tenants as well. **Danger**: for operators
                only.

        Returns:
            The explanation: `print` it, or leave it to Jupyter.

        Raises:
            ConfigurationError: `llm` is neither model nor string, or the model does not take the
                prompt.
        """
        question = self._explained(prompt, llm)
        if isinstance(question, explanation.Explanation):
            return question
        return self.core.explain(question, neighbours=neighbours, other_tenants=other_tenants)

    async def aexplain(
        self, prompt: Any, llm: Any, *, neighbours: int = 5, other_tenants: bool = False
    ) -> explanation.Explanation:
        """The same as `explain`, without blocking the event loop."""
        question = self._explained(prompt, llm)
        if isinstance(question, explanation.Explanation):
            return question
        how: dict[str, Any] = {"neighbours": neighbours, "other_tenants": other_tenants}
        return await self.core.aexplain(question, **how)

    def _explained(self, prompt: Any, llm: Any) -> Question | explanation.Explanation:
        """The question, or what there is to say of a prompt that cannot be read."""
        handed, llm_string = as_handed(prompt, llm)
        try:
            return self._asked.read(handed, llm_string)
        except Exception as error:  # noqa: BLE001 - as a look-up, which misses
            return self.core.unexplained(str(error))


def as_handed(prompt: Any, llm: Any, **bound: Any) -> tuple[str, str]:
    """The two strings that LangChain hands to a cache.

    Args:
        prompt: What a model would be given.
        llm: The model, or its `llm_string`.
        bound: Arguments that are bound to the model.

    Raises:
        ConfigurationError: That is no model, or it does not take the prompt.
    """
    if isinstance(llm, RunnableBinding):
        return as_handed(prompt, llm.bound, **{**llm.kwargs, **bound})
    if isinstance(llm, str):
        if isinstance(prompt, PromptValue):
            prompt = prompt.to_messages()
        return (prompt if isinstance(prompt, str) else _dumped(prompt)), llm
    if not isinstance(llm, BaseChatModel | BaseLLM):
        raise ConfigurationError(
            f"explain(llm=…) takes a LangChain model or its llm_string, not {type(llm).__name__}."
        )
    try:
        given = llm._convert_input(prompt)
    except ValueError as error:
        raise ConfigurationError(f"explain(prompt=…): {error}") from error
    if isinstance(llm, BaseChatModel):
        from langchain_valkey_semcache.model import llm_string_of

        return _dumped(_normalized(given.to_messages())), llm_string_of(llm, **bound)
    # What is bound to a completion model, LangChain leaves out of its string, all but `stop`.
    parameters = getattr(llm, "_dict_for_compat", llm.dict)()
    parameters["stop"] = bound.get("stop")
    text = given.to_string()
    return text, get_prompts(parameters, [text], cache=False)[1]


def _normalized(messages: list[Any]) -> list[Any]:
    """Content blocks as LangChain rewrites them before a call."""
    try:
        from langchain_core.language_models._utils import _normalize_messages
    except ImportError:
        return messages
    return _normalize_messages(messages)


def _dumped(messages: Any) -> str:
    from langchain_valkey_semcache.model import dumped

    return dumped(convert_to_messages(messages))
