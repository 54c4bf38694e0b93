"""Locks that a forked worker can use.

Rule of this file: a lock that some other thread held when the process forked would stay locked
for ever in the child, where that thread does not exist. Every lock of the package is a
`ForkLock`, which the child gets anew; but for that of `at_first_use.py`, which a fork waits for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from weakref import WeakSet

_all: WeakSet[ForkLock] = WeakSet()


class ForkLock:
    """A `threading.Lock` for `with`, unlocked in a forked child.

    Args:
        after_fork: Called in the child, to put right what another thread may have been in the
            middle of changing.
    """

    __slots__ = ("__weakref__", "_after_fork", "_lock")

    def __init__(self, after_fork: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._after_fork = after_fork
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Unlock it, whoever held it."""
        self._lock = threading.Lock()
        if self._after_fork is not None:
            self._after_fork()


def _renew_all() -> None:
    for lock in list(_all):
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)
