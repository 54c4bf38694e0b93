"""Streams: taken down while they pass, and played back from one whole answer.

Rule of this file: what is taken down is kept only when the stream has ended by itself; what is
played back adds up to what was kept, in text and in deltas.
"""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    closing,
    nullcontext,
)
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    TextBlock,
)

from llama_index_valkey_semcache.answers import Response, text_of, told_to_end, usage_of
from llama_index_valkey_semcache.compat import THINKING
from llama_index_valkey_semcache.listening import Heard
from valkey_semcache.rules.finish import cut_off

_WORDS = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+$")

_MOST_CHUNKS = 100

_C = TypeVar("_C")


class _End(enum.Enum):
    END = "no more chunks"


_END = _End.END


class Recording:
    """A stream's chunks, added one by one, as one answer.

    Args:
        heard: What is heard of the models behind the stream; None to take it from the chunks.
    """

    def __init__(self, heard: Heard | None = None) -> None:
        self.heard = Heard() if heard is None else heard
        self._last: Any = None
        self._deltas: list[str] = []
        self._usage: dict[str, int] = {}
        self._ended: bool | None = None  # None while no chunk has a place to say so

    def add(self, chunk: Any) -> None:
        """Take a chunk down."""
        self._last = chunk
        if isinstance(chunk, ChatResponse | CompletionResponse):
            if chunk.delta:
                self._deltas.append(chunk.delta)
            self.heard.cut = self.heard.cut or cut_off(chunk.raw)
            if not self._ended and (told := told_to_end(chunk.raw)) is not None:
                self._ended = told
            self._usage |= usage_of(chunk)
        elif isinstance(chunk, str):
            self._deltas.append(chunk)

    def answer(self) -> tuple[Any, str | None]:
        """The whole answer, or None and why there is none to keep."""
        last = self._last
        self.heard.usage.update(self._usage)
        if last is None:
            return None, "empty answer"
        if self._ended is False:
            return None, "the stream broke off"
        streamed = "".join(self._deltas)
        if isinstance(last, str):
            return streamed, None
        if not isinstance(last, ChatResponse | CompletionResponse):
            return last, None
        text = text_of(last)
        if text.startswith(streamed):
            return last, None
        if not streamed.startswith(text):
            return None, "the stream's text and its deltas differ"
        return _with_text(last, streamed), None  # the text lags by a chunk


def _with_text(response: Response, text: str) -> Response:
    if isinstance(response, CompletionResponse):
        return response.model_copy(update={"text": text})
    message = response.message
    others = [block for block in message.blocks if not isinstance(block, TextBlock)]
    blocks = [*others, TextBlock(text=text)]
    return response.model_copy(update={"message": message.model_copy(update={"blocks": blocks})})


def closed_after(chunks: Any) -> AbstractContextManager[Any]:
    """Closes a stream after a block, if it can be closed: any iterator may be one."""
    return closing(chunks) if hasattr(chunks, "close") else nullcontext()


def aclosed_after(chunks: Any) -> AbstractAsyncContextManager[Any]:
    """The same for async streams."""
    return aclosing(chunks) if hasattr(chunks, "aclose") else nullcontext()


def overheard(chunks: Generator[_C, None, None], heard: Heard) -> Generator[_C, None, None]:
    """A stream as it is, the models behind each of its chunks heard."""
    with closed_after(chunks):
        following = iter(chunks)
        while True:
            with heard.listening():
                chunk = next(following, _END)
            if isinstance(chunk, _End):
                return
            yield chunk


async def aoverheard(chunks: AsyncGenerator[_C, None], heard: Heard) -> AsyncGenerator[_C, None]:
    """The same for async streams."""
    async with aclosed_after(chunks):
        following = aiter(chunks)
        while True:
            with heard.listening():
                chunk = await anext(following, _END)
            if isinstance(chunk, _End):
                return
            yield chunk


def played(answer: Any) -> Generator[Any, None, None]:
    """An answer as a stream of words: text so far and deltas, all else in the last chunk."""
    if isinstance(answer, ChatResponse):
        yield from _chat(answer)
    elif isinstance(answer, CompletionResponse):
        yield from _completion(answer)
    elif isinstance(answer, str):
        yield from pieces_of(answer)
    else:
        yield answer


async def aplayed(answer: Any) -> AsyncGenerator[Any, None]:
    """The same for async callers."""
    for chunk in played(answer):
        yield chunk


def _chat(answer: ChatResponse) -> Iterator[ChatResponse]:
    *pieces, rest = pieces_of(text_of(answer))
    text = ""
    for piece in pieces:
        text += piece
        message = ChatMessage(role=answer.message.role, content=text)
        yield ChatResponse(
            message=message, delta=piece, additional_kwargs=dict(answer.additional_kwargs)
        )
    answer.delta = rest
    blocks = answer.message.blocks
    thoughts = [block.content or "" for block in blocks if isinstance(block, THINKING)]
    if thoughts:
        answer.additional_kwargs["thinking_delta"] = "".join(thoughts)
    yield answer


def _completion(answer: CompletionResponse) -> Iterator[CompletionResponse]:
    *pieces, rest = pieces_of(answer.text)
    text = ""
    for piece in pieces:
        text += piece
        yield CompletionResponse(
            text=text, delta=piece, additional_kwargs=dict(answer.additional_kwargs)
        )
    answer.delta = rest
    yield answer


def pieces_of(text: str) -> list[str]:
    """A text in words with the white space before them, at most a hundred pieces, at least one."""
    words = _WORDS.findall(text)
    if "".join(words) != text:
        words = [text]
    size = -(-len(words) // _MOST_CHUNKS) or 1
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)] or [""]
