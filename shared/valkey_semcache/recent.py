"""What was made lately, to be had again without making it.

Rule of this file: what is forgotten costs time, never an answer; and what is remembered is
bounded in size, not in number, for one prompt may be a hundred times as long as another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, those not asked for lately forgotten.

    Two dicts take turns. What is new, or asked for, is in the younger one; once that is full it
    becomes the older one, and what was in there is forgotten. So finding is a look into a dict,
    without a lock or an order to keep. Threads that meet may forget too much, or count a value too
    few until the next turn.

    Args:
        most: Sum of the sizes in one of the two; there is at most twice as much.
        size: Of what is kept under a key, such as its characters. More than a hundredth of
            `most` is not kept, or a few of them would have all others forgotten.
    """

    __slots__ = ("_held", "_most", "_old", "_size", "_young")

    def __init__(self, most: int, size: Callable[[K], int]) -> None:
        self._most = most
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._held = 0

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember a value, which is not None."""
        size = self._size(key)
        if size > self._most // 100:
            return
        self._young[key] = value
        self._held += size
        if self._held > self._most:
            self._old, self._young, self._held = self._young, {}, 0

    def clear(self) -> None:
        """Forget all."""
        self._young, self._old, self._held = {}, {}, 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
