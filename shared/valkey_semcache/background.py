"""Renewals in the background, by the app's own function.

Rule of this file: whoever looked up has its answer and waits for nothing. A renewal that fails is
counted and leaves the old answer; a process that ends waits for none.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from valkey_semcache.question import Question
from valkey_semcache.stats import Counters

Refresh: TypeAlias = Callable[[Question], Any]
"""Asks the model anew: the answer as the codec takes it, or an awaitable of it."""

_MOST = 8  # renewals under way at once


class Background:
    """Calls `refresh=` and stores what it gives.

    Args:
        refresh: The app's function.
        counters: Where failures are counted.
    """

    def __init__(self, refresh: Refresh, counters: Counters) -> None:
        self._refresh = refresh
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._free = threading.BoundedSemaphore(_MOST)

    def begin(self, question: Question, store: Callable[[Question, Any], Any]) -> None:
        """Renew in a thread.

        Args:
            question: What the entry was asked for, with its tenant.
            store: Stores an answer to a question.
        """
        if self._admitted():
            context = contextvars.copy_context()
            arguments = (self._renew, question, store)
            thread = threading.Thread(
                target=context.run, args=arguments, name="semcache-refresh", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more: the old answer serves on
                self._free.release()
                self._counters.failed("renewing an answer", error)

    def abegin(
        self,
        question: Question,
        store: Callable[[Question, Any], Any],
        astore: Callable[[Question, Any], Awaitable[Any]],
    ) -> None:
        """Renew in a task of the running event loop, or in a thread if the function blocks.

        Args:
            question: As for `begin`.
            store: As for `begin`.
            astore: The same, to be awaited.
        """
        if not inspect.iscoroutinefunction(self._refresh):
            self.begin(question, store)
        elif self._admitted():
            task = asyncio.create_task(self._arenew(question, astore))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _admitted(self) -> bool:
        if self._free.acquire(blocking=False):
            return True
        self._counters.warn(
            "refreshing", "%s renewals are under way; a further one waits its turn.", _MOST
        )
        return False

    def _renew(self, question: Question, store: Callable[[Question, Any], Any]) -> None:
        try:
            answer = self._refresh(question)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_awaited(answer))
            store(question, answer)
        except Exception as error:  # noqa: BLE001 - the old answer serves on
            self._counters.failed("renewing an answer", error)
        finally:
            self._free.release()

    async def _arenew(
        self, question: Question, astore: Callable[[Question, Any], Awaitable[Any]]
    ) -> None:
        try:
            await astore(question, await self._refresh(question))
        except Exception as error:  # noqa: BLE001 - the old answer serves on
            self._counters.failed("renewing an answer", error)
        finally:
            self._free.release()


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer
