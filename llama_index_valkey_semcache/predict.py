"""`predict`, `stream` and their async twins: what query engines ask, template by template.

Rule of this file: the question is read off the template; on a miss the model's own method is
used, whatever it sends, parses and tells of. What is kept is the text that it gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen

from llama_index_valkey_semcache.front import Asked
from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.prompt import Reading, read_template
from llama_index_valkey_semcache.stream import aoverheard, aplayed, overheard, played
from llama_index_valkey_semcache.wrapped import WrappedLLM
from valkey_semcache import TextCodec

_TEXT = TextCodec()


class PredictingLLM(WrappedLLM):
    """Templates, looked up before they are sent."""

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The inner model's `predict`, or a stored answer to the same question.

        Args:
            prompt: The template. The variable that holds the question is compared by meaning;
                the template and all other variables must be the same.
            prompt_args: Its variables.
        """
        front = self._front
        asked = self._asked_by_template(prompt, prompt_args)
        found: str | None = front.find(asked)
        if found is not None:
            return found
        heard = Heard()
        with heard.listening():
            output = front.llm.predict(prompt, **prompt_args)
        front.keep(asked, output, heard)
        return output

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The inner model's `apredict`, or a stored answer to the same question."""
        front = self._front
        asked = self._asked_by_template(prompt, prompt_args)
        found: str | None = await front.afind(asked)
        if found is not None:
            return found
        heard = Heard()
        with heard.listening():
            output = await front.llm.apredict(prompt, **prompt_args)
        await front.akeep(asked, output, heard)
        return output

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """The inner model's `stream`, or a stored answer to the same question, word by word."""
        front = self._front
        asked = self._asked_for_stream(prompt, prompt_args)
        found = front.find(asked)
        if found is not None:
            return played(found)
        if asked is None:
            return front.llm.stream(prompt, **prompt_args)
        heard = Heard()
        with heard.listening():  # some ask before the first token is wanted
            tokens = front.llm.stream(prompt, **prompt_args)
        return front.recorded(asked, overheard(tokens, heard), heard)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """The inner model's `astream`, or a stored answer to the same question, word by word."""
        front = self._front
        asked = self._asked_for_stream(prompt, prompt_args)
        found = await front.afind(asked)
        if found is not None:
            return aplayed(found)
        if asked is None:
            return await front.llm.astream(prompt, **prompt_args)
        heard = Heard()
        with heard.listening():
            tokens = await front.llm.astream(prompt, **prompt_args)
        return front.arecorded(asked, aoverheard(tokens, heard), heard)

    def _asked_for_stream(
        self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> Asked | None:
        """What a template asks; None where an answer is parsed, which is refused in streams."""
        if prompt.output_parser is not None or self._front.llm.output_parser is not None:
            return None
        return self._asked_by_template(prompt, prompt_args)

    def _asked_by_template(
        self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> Asked | None:
        return self._front.asked(self._template_reader(prompt, prompt_args), {}, _TEXT)

    def _template_reader(
        self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> Callable[[], Reading]:
        """What reads a template with its variables."""
        front, llm = self._front, self._front.llm

        def written(arguments: Mapping[str, Any]) -> str | Sequence[ChatMessage]:
            if llm.metadata.is_chat_model:
                return llm._get_messages(prompt, **arguments)
            return llm._get_prompt(prompt, **arguments)

        def read() -> Reading:
            return read_template(prompt, prompt_args, front.settings.question_vars, written)

        return read
