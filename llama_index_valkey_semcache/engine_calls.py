"""`EngineCalls`: the streams of one query engine through its cache.

Rule of this file: a stream is passed on as it comes, and kept once it was read to its end; however
it ends, those who wait for it are freed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from llama_index_valkey_semcache.engine_front import AskedEngine, EngineFront


class EngineCalls(EngineFront):
    """A cache in front of one query engine; see `EngineFront`."""

    def recorded(
        self, asked: AskedEngine, response: StreamingResponse, chunks: Iterator[str]
    ) -> Generator[str, None, None]:
        """A stream as it is; what it added up to is kept once it has ended by itself."""
        text, kept = _Text(), _emptied(response)
        asked.paused(False)
        try:
            while True:
                with asked.heard.listening():
                    chunk = next(chunks, _END)
                if chunk is _END:
                    break
                text.add(chunk)
                asked.paused(True)
                yield chunk
                asked.paused(False)
        except BaseException:
            asked.__exit__()
            self._skip("stream not read to its end")
            raise
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        kept.response_txt = text.joined
        self.keep(asked, kept)

    async def arecorded(
        self, asked: AskedEngine, response: AsyncStreamingResponse, chunks: AsyncIterator[str]
    ) -> AsyncGenerator[str, None]:
        """The same for async streams."""
        text, kept = _Text(), _emptied(response)
        asked.paused(False)
        try:
            while True:
                with asked.heard.listening():
                    chunk = await anext(chunks, _END)
                if chunk is _END:
                    break
                text.add(chunk)
                asked.paused(True)
                yield chunk
                asked.paused(False)
        except BaseException:
            asked.__exit__()
            self._skip("stream not read to its end")
            raise
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
        kept.response_txt = text.joined
        await self.akeep(asked, kept)


_END: Any = object()


class _Text:
    """A stream's chunks as one text; None if one of them was no text."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, chunk: Any) -> None:
        """Take a chunk down."""
        self._chunks.append(chunk)

    @property
    def joined(self) -> str | None:
        """The whole."""
        texts = all(isinstance(chunk, str) for chunk in self._chunks)
        return "".join(self._chunks) if texts else None


def _emptied(response: StreamingResponse | AsyncStreamingResponse) -> StreamingResponse:
    """A streaming response's sources and metadata as they are now, without its stream."""
    nodes, metadata = list(response.source_nodes), response.metadata
    return StreamingResponse(iter(()), nodes, metadata)  # type: ignore[arg-type]
