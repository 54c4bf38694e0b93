"""What an app says for the length of a `with` block.

Rule of this file: a value is seen by what is called inside the block and by nothing else: not by
other threads or tasks, not after the block, and by no other cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# One variable for all blocks, since Python never gives a context variable back; and a new
# mapping for each block, since the tasks started inside share the one they were given.
_VALUES: ContextVar[Mapping[Any, Any]] = ContextVar("valkey_semcache_blocks")
_NONE: Mapping[Any, Any] = {}


class Block(Generic[T]):
    """A value for the length of a block, kept in a context variable (PEP 567).

    Tasks started inside the block see it, also after its end, and so do threads that are given
    a copy of the context: `asyncio.to_thread`, LangChain's `batch`. A bare `threading.Thread`
    or `ThreadPoolExecutor` starts without it.
    """

    __slots__ = ()

    def value(self) -> T | None:
        """The value of the innermost block around the caller, or None outside of any."""
        value: T | None = _VALUES.get(_NONE).get(self)
        return value

    @contextmanager
    def __call__(self, value: T) -> Iterator[None]:
        """Set the value for the length of a `with` block; blocks can be nested."""
        before = _VALUES.get(_NONE)
        token = _VALUES.set({**before, self: value})
        try:
            yield
        finally:
            try:
                _VALUES.reset(token)
            except ValueError:
                # Left in another context than it was entered in, as generators can be: that
                # context never saw the value, unless it is a copy.
                _VALUES.set({k: v for k, v in _VALUES.get(_NONE).items() if k is not self})
