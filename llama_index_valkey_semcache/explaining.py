"""Explaining a look-up in LlamaIndex's terms.

Rule of this file: what is asked is read as the call itself reads it. Nothing is counted, no event
is sent, and no model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.prompts.base import BasePromptTemplate

from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from llama_index_valkey_semcache.predict import PredictingLLM
from llama_index_valkey_semcache.prompt import read_completion, read_messages
from llama_index_valkey_semcache.turns import Asked
from valkey_semcache import Codec, ConfigurationError, SemanticCache, TextCodec
from valkey_semcache.explanation import Explanation

_CHAT, _COMPLETION, _TEXT = ChatCodec(), CompletionCodec(), TextCodec()


class ExplainingLLM(PredictingLLM):
    """The answer to "why did this hit?" and "why did this miss?"."""

    def explain(
        self,
        prompt: Any,
        /,
        *,
        neighbours: int = 5,
        other_tenants: bool = False,
        **arguments: Any,
    ) -> Explanation:
        """What a call would find here and now, and why; nothing is changed by it.

        Args:
            prompt: What the call is given: messages as `chat` takes them, a string as `complete`
                does, or a template as `predict` does.
            neighbours: How many stored questions to show of the question's own scope, and of
                others, 0 to 50.
            other_tenants: True shows those of other tenants as well. **Danger**: for operators
                only.
            arguments: The call's own: a template's variables, or what `chat` and `complete` take
                beside the prompt.

        Returns:
            The explanation: `print` it, or leave it to Jupyter.

        Raises:
            ConfigurationError: There is no cache, or an argument is out of range.
        """
        cache, asked = self._explained(prompt, arguments)
        if isinstance(asked, Explanation):
            return asked
        how = self._how(asked, neighbours, other_tenants)
        return cache.explain(asked.question, **how)

    async def aexplain(
        self,
        prompt: Any,
        /,
        *,
        neighbours: int = 5,
        other_tenants: bool = False,
        **arguments: Any,
    ) -> Explanation:
        """The same as `explain`, without blocking the event loop."""
        cache, asked = self._explained(prompt, arguments)
        if isinstance(asked, Explanation):
            return asked
        how = self._how(asked, neighbours, other_tenants)
        return await cache.aexplain(asked.question, **how)

    def _how(self, asked: Asked, neighbours: int, other_tenants: bool) -> dict[str, Any]:
        return {
            "codec": asked.codec,
            "similarity_threshold": self._front.settings.threshold,
            "neighbours": neighbours,
            "other_tenants": other_tenants,
        }

    def _explained(
        self, prompt: Any, arguments: dict[str, Any]
    ) -> tuple[SemanticCache, Asked | Explanation]:
        cache = self._front.cache
        if cache is None:
            raise ConfigurationError(
                "There is no cache to explain: after unpickling, set the attribute cache."
            )
        call: Mapping[str, Any] = arguments
        codec: Codec
        if isinstance(prompt, BasePromptTemplate):
            read, call, codec = self._template_reader(prompt, arguments), {}, _TEXT
        elif isinstance(prompt, str):
            formatted = bool(arguments.pop("formatted", False))
            read, codec = (lambda: read_completion(prompt, formatted)), _COMPLETION
        else:
            read, codec = (lambda: read_messages(prompt)), _CHAT
        return cache, self._front.explained(cache, read, call, codec)
