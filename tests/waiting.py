"""Waiting for a fact instead of sleeping for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENT: dict[str, Any] = {"timeout": 20.0, "connect_timeout": 20.0}
"""Options of a cache whose server answers: on a busy machine it may take long to."""


def wait_until(fact: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `fact()` is true.

    Raises:
        AssertionError: It was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


async def await_until(fact: Callable[[], object], seconds: float = 20.0) -> None:
    """The same, while the event loop goes on.

    Raises:
        AssertionError: It was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)
