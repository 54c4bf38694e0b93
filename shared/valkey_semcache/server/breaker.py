"""A circuit breaker: after a few failures in a row, answer at once instead of waiting.

Rule of this file: it counts and tells the time; it does not know what failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from valkey_semcache.locks import ForkLock


class Breaker:
    """Closed: calls go through. Open: none does. Half-open: one tries, the rest wait outside.

    Args:
        failures: Failures in a row that open it.
        cooldown: Seconds it stays open before one call may try.
    """

    def __init__(self, failures: int = 5, cooldown: float = 0.5) -> None:
        self._limit = failures
        self._cooldown = cooldown
        self._failures = 0
        self._retry_at = 0.0
        self.on_change: Callable[[Literal["open", "closed"]], None] | None = None
        self._lock = ForkLock()

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """The state, as of now."""
        if self._failures < self._limit:
            return "closed"
        return "open" if time.monotonic() < self._retry_at else "half-open"

    @property
    def failing(self) -> bool:
        """Whether the last call that came to an end was not answered."""
        return self._failures > 0

    def allows(self) -> bool:
        """Whether a call may go through now."""
        if self._failures < self._limit:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._retry_at:
                return False
            # The one that tries; if it never reports, another may after the next cooldown.
            self._retry_at = now + self._cooldown
            return True

    def succeeded(self) -> None:
        """A call was answered."""
        if self._failures:
            was_open = self._failures >= self._limit
            self._failures = 0
            if was_open and self.on_change is not None:
                self.on_change("closed")

    def failed(self) -> None:
        """A call was not answered."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._limit:
                self._retry_at = time.monotonic() + self._cooldown
            opened = self._failures == self._limit
        if opened and self.on_change is not None:
            self.on_change("open")
