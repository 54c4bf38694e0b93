"""A stream through the cache, sync and async.

Rule of this file: a hit is replayed, a miss is passed through chunk by chunk as it comes, and only
what was read to its end is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk

from langchain_valkey_semcache.calls import CallCache
from langchain_valkey_semcache.replay import Recording, replayed


def stream(
    call: CallCache,
    model: BaseChatModel,
    prompt: str,
    llm_string: str,
    source: Iterator[ChatGenerationChunk],
    run_manager: Any,
) -> Generator[ChatGenerationChunk, None, None]:
    """The chunks of a stored answer, or those of the model.

    Args:
        call: The cache for this call.
        model: The model, for its settings.
        prompt: The messages, as LangChain hands them to a cache.
        llm_string: The model with its parameters, likewise.
        source: The model's stream, not begun.
        run_manager: Told of each replayed chunk, as models do; may be None.
    """
    call.run_manager = run_manager
    with call, _closed(source):
        if (found := call.lookup(prompt, llm_string)) is not None:
            for chunk in replayed(found[0]):
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
            return
        if (limiter := model.rate_limiter) is not None:
            limiter.acquire(blocking=True)
        recording = Recording(model.output_version)
        try:
            for chunk in source:
                recording.keep(chunk)
                call.paused(True)
                yield chunk
                call.paused(False)
        except BaseException as error:
            call.skip(_why(error))
            raise
        answer, reason = recording.answer()
        if answer is not None:
            call.update(prompt, llm_string, [answer])
        else:
            call.skip(reason)


async def astream(
    call: CallCache,
    model: BaseChatModel,
    prompt: str,
    llm_string: str,
    source: AsyncIterator[ChatGenerationChunk],
    run_manager: Any,
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The same as `stream`, without blocking the event loop."""
    call.run_manager = run_manager
    with call:
        async with _aclosed(source):
            if (found := await call.alookup(prompt, llm_string)) is not None:
                for chunk in replayed(found[0]):
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
                return
            if (limiter := model.rate_limiter) is not None:
                await limiter.aacquire(blocking=True)
            recording = Recording(model.output_version)
            try:
                async for chunk in source:
                    recording.keep(chunk)
                    call.paused(True)
                    yield chunk
                    call.paused(False)
            except BaseException as error:
                call.skip(_why(error))
                raise
            answer, reason = recording.answer()
            if answer is not None:
                await call.aupdate(prompt, llm_string, [answer])
            else:
                call.skip(reason)


def _why(error: BaseException) -> str:
    if isinstance(error, GeneratorExit | asyncio.CancelledError):
        return "abandoned stream"
    return "failed stream"


@contextmanager
def _closed(source: Any) -> Iterator[None]:
    """Closes the model's stream at the end: it holds a connection. Plain iterators cannot."""
    try:
        yield
    finally:
        if hasattr(source, "close"):
            source.close()


@asynccontextmanager
async def _aclosed(source: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()
