"""The cache's events as LangChain's custom events: `on_custom_event`, `astream_events`.

LangChain tells its caches nothing of the run that asks. What calls a model (a chain, a graph, a
tool) leaves its own run in a context variable, and models made by `cached()` know their run. A
plain model that is called by itself under a global cache has none that an event could belong to.

Rule of this file: translating. Nothing is built where nobody listens, and no text is passed on:
events of a stream go to the app's users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    CallbackManager,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables.config import var_child_runnable_config

from valkey_semcache import (
    BreakerEvent,
    ErrorEvent,
    Event,
    LookupEvent,
    SemanticCache,
    StoreEvent,
)
from valkey_semcache.telemetry.events import collecting

_NAMES: dict[type[Any], str] = {
    LookupEvent: "semantic_cache_lookup",
    StoreEvent: "semantic_cache_store",
    ErrorEvent: "semantic_cache_error",
    BreakerEvent: "semantic_cache_breaker",
}
_TEXTS = ("question", "detail", "message")
_DEAF = (BaseCallbackHandler.on_custom_event, AsyncCallbackHandler.on_custom_event)

_run: ContextVar[Any] = ContextVar("langchain_valkey_semcache_run", default=None)


@contextmanager
def of_run(run_manager: Any) -> Iterator[None]:
    """What is told inside belongs to this run of a model; None where it is not known."""
    if run_manager is None:
        yield
        return
    token = _run.set(run_manager)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def passed_on(core: SemanticCache) -> Iterator[None]:
    """Tell LangChain of what the cache does inside, once it is done."""
    run = _run.get()
    if not is_heard():
        yield
        return
    core.hear()
    with collecting() as events:
        try:
            yield
        finally:
            for event in tuple(events):  # what a listener brings about is not told it again
                name, data = _translated(event)
                try:
                    if run is None:
                        dispatch_custom_event(name, data)
                    else:
                        manager = CallbackManager(**_of(run))
                        manager.on_custom_event(name, data, run_id=run.run_id)
                except Exception as error:  # noqa: BLE001 - who listens never breaks the call
                    core.failed("telling LangChain", error)


@asynccontextmanager
async def apassed_on(core: SemanticCache) -> AsyncIterator[None]:
    """The same, without blocking the event loop."""
    run = _run.get()
    if not is_heard():
        yield
        return
    core.hear()
    with collecting() as events:
        try:
            yield
        finally:
            for event in tuple(events):  # what a listener brings about is not told it again
                name, data = _translated(event)
                try:
                    if run is None:
                        await adispatch_custom_event(name, data)
                    else:
                        manager = AsyncCallbackManager(**_of(run))
                        await manager.on_custom_event(name, data, run_id=run.run_id)
                except Exception as error:  # noqa: BLE001 - who listens never breaks the call
                    core.failed("telling LangChain", error)


def is_heard() -> bool:
    """Whether there is a run, and a handler of it that listens to custom events."""
    run = _run.get()
    if run is None:
        config = var_child_runnable_config.get()
        run = config.get("callbacks") if config else None
        if getattr(run, "parent_run_id", None) is None:
            return False
    return any(
        not handler.ignore_custom_event and type(handler).on_custom_event not in _DEAF
        for handler in run.handlers
    )


def _of(run: Any) -> dict[str, Any]:
    names = ("handlers", "inheritable_handlers", "tags", "metadata")
    return {name: getattr(run, name) for name in names}


def _translated(event: Event) -> tuple[str, dict[str, Any]]:
    data = asdict(event)
    for name in _TEXTS:
        data.pop(name, None)
    return _NAMES[type(event)], data
