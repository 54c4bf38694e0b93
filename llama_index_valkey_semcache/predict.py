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

from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.prompt import Reading, read_template
from llama_index_valkey_semcache.turns import Asked
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
        front, asked = self._front, self._asked_by_template(prompt, prompt_args)
        output: str = front.answer(asked, lambda: front.llm.predict(prompt, **prompt_args), Heard())
        return output

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The inner model's `apredict`, or a stored answer to the same question."""
        front, asked = self._front, self._asked_by_template(prompt, prompt_args)
        output: str = await front.aanswer(
            asked, lambda: front.llm.apredict(prompt, **prompt_args), Heard()
        )
        return output

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """The inner model's `stream`, or a stored answer to the same question, word by word."""
        front, asked = self._front, self._asked_for_stream(prompt, prompt_args)
        tokens: TokenGen = front.stream(
            asked, lambda: front.llm.stream(prompt, **prompt_args), Heard()
        )
        return tokens

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """The inner model's `astream`, or a stored answer to the same question, word by word."""
        front, asked = self._front, self._asked_for_stream(prompt, prompt_args)
        tokens: TokenAsyncGen = await front.astream(
            asked, lambda: front.llm.astream(prompt, **prompt_args), Heard()
        )
        return tokens

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
