"""`predict`, `stream` and their async twins: what query engines ask, template by template.

Rule of this file: the model is sent what its own `predict` would have sent, written by its own
methods; a model that has a `predict` of its own is left to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import LLMPredictEndEvent, LLMPredictStartEvent
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen

from llama_index_valkey_semcache.answers import Response, text_of
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from llama_index_valkey_semcache.front import Asked
from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.prompt import Reading, read_template
from llama_index_valkey_semcache.stream import aoverheard, aplayed, overheard, played
from llama_index_valkey_semcache.wrapped import WrappedLLM
from valkey_semcache import Codec, TextCodec

dispatcher = get_dispatcher(__name__)

CHAT, COMPLETION = ChatCodec(), CompletionCodec()
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
        front, llm = self._front, self._front.llm
        own = type(llm).predict is not LLM.predict
        asked = self._asked_by_template(prompt, prompt_args, own)
        found = front.find(asked)
        if found is not None:
            return found if own else llm._parse_output(text_of(found))
        if own or asked is None:
            heard = Heard()
            with heard.listening():
                output = llm.predict(prompt, **prompt_args)
            front.keep(asked, output, heard)
            return output
        _begin(llm, prompt, prompt_args)
        if llm.metadata.is_chat_model:
            response: Response = llm.chat(llm._get_messages(prompt, **prompt_args))
        else:
            response = llm.complete(llm._get_prompt(prompt, **prompt_args), formatted=True)
        output = llm._parse_output(text_of(response))  # one that cannot be parsed is not kept
        front.keep(asked, response)
        dispatcher.event(LLMPredictEndEvent(output=output))
        return output

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The inner model's `apredict`, or a stored answer to the same question."""
        front, llm = self._front, self._front.llm
        own = type(llm).apredict is not LLM.apredict
        asked = self._asked_by_template(prompt, prompt_args, own)
        found = await front.afind(asked)
        if found is not None:
            return found if own else llm._parse_output(text_of(found))
        if own or asked is None:
            heard = Heard()
            with heard.listening():
                output = await llm.apredict(prompt, **prompt_args)
            await front.akeep(asked, output, heard)
            return output
        _begin(llm, prompt, prompt_args)
        if llm.metadata.is_chat_model:
            response: Response = await llm.achat(llm._get_messages(prompt, **prompt_args))
        else:
            response = await llm.acomplete(llm._get_prompt(prompt, **prompt_args), formatted=True)
        output = llm._parse_output(text_of(response))
        await front.akeep(asked, response)
        dispatcher.event(LLMPredictEndEvent(output=output))
        return output

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """The inner model's `stream`, or a stored answer to the same question, word by word."""
        front, llm = self._front, self._front.llm
        own = type(llm).stream is not LLM.stream
        asked = None if _parses(llm, prompt) else self._asked_by_template(prompt, prompt_args, own)
        found = front.find(asked)
        if found is not None:
            return _tokens(played(found))
        if asked is None:
            return llm.stream(prompt, **prompt_args)
        if own:
            heard = Heard()
            tokens = overheard(llm.stream(prompt, **prompt_args), heard)
            return front.recorded(asked, tokens, heard)
        _begin(llm, prompt, prompt_args)
        if llm.metadata.is_chat_model:
            chunks: Any = llm.stream_chat(llm._get_messages(prompt, **prompt_args))
        else:
            written = llm._get_prompt(prompt, **prompt_args)
            chunks = llm.stream_complete(written, formatted=True)
        return _tokens(front.recorded(asked, chunks))

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """The inner model's `astream`, or a stored answer to the same question, word by word."""
        front, llm = self._front, self._front.llm
        own = type(llm).astream is not LLM.astream
        asked = None if _parses(llm, prompt) else self._asked_by_template(prompt, prompt_args, own)
        found = await front.afind(asked)
        if found is not None:
            return _atokens(aplayed(found))
        if asked is None:
            return await llm.astream(prompt, **prompt_args)
        if own:
            heard = Heard()
            tokens = aoverheard(await llm.astream(prompt, **prompt_args), heard)
            return front.arecorded(asked, tokens, heard)
        _begin(llm, prompt, prompt_args)
        chunks: Any
        if llm.metadata.is_chat_model:
            chunks = await llm.astream_chat(llm._get_messages(prompt, **prompt_args))
        else:
            written = llm._get_prompt(prompt, **prompt_args)
            chunks = await llm.astream_complete(written, formatted=True)
        return _atokens(front.arecorded(asked, chunks))

    def _asked_by_template(
        self, prompt: BasePromptTemplate, prompt_args: dict[str, Any], own: bool
    ) -> Asked | None:
        """What a template asks; of a model with a method of its `own`, the answer is its text."""
        front, llm = self._front, self._front.llm
        chat = llm.metadata.is_chat_model
        codec: Codec = _TEXT if own else CHAT if chat else COMPLETION

        def written(arguments: Mapping[str, Any]) -> str | Sequence[ChatMessage]:
            if chat:
                return llm._get_messages(prompt, **arguments)
            return llm._get_prompt(prompt, **arguments)

        def read() -> Reading:
            return read_template(
                prompt, prompt_args, front.settings.question_vars, written, ["template", codec.name]
            )

        return front.asked(read, {}, codec)


def _begin(llm: LLM, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> None:
    """Say that a prompt is sent, as the model's own method would."""
    dispatcher.event(LLMPredictStartEvent(template=prompt, template_args=prompt_args))
    llm._log_template_data(prompt, **prompt_args)


def _parses(llm: LLM, prompt: BasePromptTemplate) -> bool:
    """Whether the answer is parsed, which the model's own `stream` refuses to do."""
    return prompt.output_parser is not None or llm.output_parser is not None


def _tokens(chunks: Iterator[Any]) -> TokenGen:
    for chunk in chunks:
        yield chunk if isinstance(chunk, str) else chunk.delta or ""


async def _atokens(chunks: AsyncIterator[Any]) -> TokenAsyncGen:
    async for chunk in chunks:
        yield chunk if isinstance(chunk, str) else chunk.delta or ""
