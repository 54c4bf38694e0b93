"""`structured_predict` and its three variants: answers that are objects of a pydantic class.

Rule of this file: the object is kept as JSON, its class's schema in the scope; on a miss the
model's own method is used, whatever the provider does there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.prompts.base import BasePromptTemplate, ChatPromptTemplate
from pydantic import BaseModel

from llama_index_valkey_semcache.codec import OutputCodec
from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.predict import PredictingLLM
from llama_index_valkey_semcache.prompt import Reading, read_messages, read_template
from llama_index_valkey_semcache.turns import Asked

_M = TypeVar("_M", bound=BaseModel)


class StructuredPredictingLLM(PredictingLLM):
    """Structured prediction, looked up before it is asked for."""

    def structured_predict(
        self,
        output_cls: type[_M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> _M:
        """The inner model's `structured_predict`, or a stored object for the same question.

        Args:
            output_cls: The class of the object.
            prompt: The template, see `predict`.
            llm_kwargs: Arguments for the model.
            prompt_args: The template's variables.
        """
        front, predict = self._front, self._front.llm.structured_predict
        asked = self._asked_for_output(output_cls, prompt, llm_kwargs, prompt_args)
        output: _M = front.answer(
            asked,
            lambda: predict(output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args),
            Heard(),
        )
        return output

    async def astructured_predict(
        self,
        output_cls: type[_M],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> _M:
        """The inner model's `astructured_predict`, or a stored object for the same question."""
        front, predict = self._front, self._front.llm.astructured_predict
        asked = self._asked_for_output(output_cls, prompt, llm_kwargs, prompt_args)
        output: _M = await front.aanswer(
            asked,
            lambda: predict(output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args),
            Heard(),
        )
        return output

    def stream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """The inner model's stream of ever fuller objects, or a stored one, at once."""
        front, predict = self._front, self._front.llm.stream_structured_predict
        asked = self._asked_for_output(output_cls, prompt, llm_kwargs, prompt_args)
        chunks: Generator[Any, None, None] = front.stream(
            asked,
            lambda: predict(output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args),
            Heard(),
        )
        return chunks

    async def astream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """The inner model's stream of ever fuller objects, or a stored one, at once."""
        front, predict = self._front, self._front.llm.astream_structured_predict
        asked = self._asked_for_output(output_cls, prompt, llm_kwargs, prompt_args)
        chunks: AsyncGenerator[Any, None] = await front.astream(
            asked,
            lambda: predict(output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args),
            Heard(),
        )
        return chunks

    def _asked_for_output(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> Asked | None:
        front, llm = self._front, self._front.llm
        # Programs of models without tools leave their parser in the caller's template.
        parser = prompt.output_parser
        if isinstance(parser, PydanticOutputParser) and parser.output_cls is output_cls:
            prompt = prompt.model_copy(update={"output_parser": None})

        def written(arguments: Mapping[str, Any]) -> Sequence[ChatMessage]:
            return llm._extend_messages(prompt.format_messages(llm=llm, **arguments))

        def read() -> Reading:
            if isinstance(prompt, ChatPromptTemplate) and not (prompt_args or prompt.kwargs):
                return read_messages(written({}))  # a chat, as a StructuredLLM hands it on
            return read_template(
                prompt, prompt_args, front.settings.question_vars, written, "output"
            )

        # The class is named with its schema, as any argument that is one.
        return front.asked(
            read, {**(llm_kwargs or {}), "output_cls": output_cls}, OutputCodec(output_cls)
        )
