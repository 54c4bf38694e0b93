"""`Calls`: whole calls of one model through its cache, streamed or not.

Rule of this file: a call looks up once, asks the model at most once, and frees those who wait for
it however it ends. What was not read to its end is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import nullcontext
from typing import Any, TypeVar

from llama_index_valkey_semcache.front import Front
from llama_index_valkey_semcache.listening import Heard
from llama_index_valkey_semcache.stream import (
    Recording,
    aclosed_after,
    aoverheard,
    aplayed,
    closed_after,
    overheard,
    played,
)
from llama_index_valkey_semcache.turns import Asked, beginning, ending

_C = TypeVar("_C")


class Calls(Front):
    """A cache in front of one model; see `Front`."""

    def answer(
        self, asked: Asked | None, ask: Callable[[], Any], heard: Heard | None = None
    ) -> Any:
        """A stored answer, or the model's, which is kept.

        Args:
            asked: The request, or None, for which there is no cache.
            ask: Asks the model.
            heard: Hears what its models say; None where the answer says it itself.
        """
        with ending(asked):
            found = self.find(asked)
            if found is not None:
                return found
            with nullcontext() if heard is None else heard.listening():
                answer = ask()
            self.keep(asked, answer, heard)
            return answer

    async def aanswer(
        self, asked: Asked | None, ask: Callable[[], Awaitable[Any]], heard: Heard | None = None
    ) -> Any:
        """The same as `answer`, without blocking the event loop."""
        with ending(asked):
            found = await self.afind(asked)
            if found is not None:
                return found
            with nullcontext() if heard is None else heard.listening():
                answer = await ask()
            await self.akeep(asked, answer, heard)
            return answer

    def stream(
        self, asked: Asked | None, ask: Callable[[], Any], heard: Heard | None = None
    ) -> Any:
        """A stored answer played back, or the model's stream, which is kept once it has ended.

        Arguments as for `answer`.
        """
        if asked is None:
            return ask()
        with beginning(asked):
            found = self.find(asked)
            if found is not None:
                return played(found)
            with nullcontext() if heard is None else heard.listening():
                chunks = ask()  # some ask before the first chunk is wanted
            chunks = chunks if heard is None else overheard(chunks, heard)
            return self.recorded(asked, chunks, heard)

    async def astream(
        self, asked: Asked | None, ask: Callable[[], Awaitable[Any]], heard: Heard | None = None
    ) -> Any:
        """The same as `stream`, without blocking the event loop."""
        if asked is None:
            return await ask()
        with beginning(asked):
            found = await self.afind(asked)
            if found is not None:
                return aplayed(found)
            with nullcontext() if heard is None else heard.listening():
                chunks = await ask()
            chunks = chunks if heard is None else aoverheard(chunks, heard)
            return self.arecorded(asked, chunks, heard)

    # Streams

    def recorded(
        self, asked: Asked, chunks: Generator[_C, None, None], heard: Heard | None = None
    ) -> Generator[_C, None, None]:
        """A model's stream as it is; what it added up to is kept once it has ended by itself."""
        recording = Recording(heard)
        with asked:
            asked.paused(False)
            with closed_after(chunks):
                for chunk in chunks:
                    recording.add(chunk)
                    asked.paused(True)
                    yield chunk
                    asked.paused(False)
            answer = self._whole(recording)
            if answer is not None:
                self.keep(asked, answer, recording.heard)

    async def arecorded(
        self, asked: Asked, chunks: AsyncGenerator[_C, None], heard: Heard | None = None
    ) -> AsyncGenerator[_C, None]:
        """The same for async streams."""
        recording = Recording(heard)
        with asked:
            asked.paused(False)
            async with aclosed_after(chunks):
                async for chunk in chunks:
                    recording.add(chunk)
                    asked.paused(True)
                    yield chunk
                    asked.paused(False)
            answer = self._whole(recording)
            if answer is not None:
                await self.akeep(asked, answer, recording.heard)

    def _whole(self, recording: Recording) -> Any:
        try:
            answer, reason = recording.answer()
        except Exception:  # noqa: BLE001 - the stream has been passed on
            answer, reason = None, "unreadable answer"
        if reason is not None:
            self._skip(reason)
        return answer
