"""What was made lately, to be had again without making it.

Rule of this file: what is forgotten costs time, never an answer; and what is remembered is
bounded in size, not in number, for one prompt may be a hundred times as long as another.
"""

from __future__ import annotations

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
    """

    __slots__ = ("_held", "_most", "_old", "_young")

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._held = 0

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self.put(key, *found)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remember a value.

        Args:
            key: The key.
            value: The value.
            size: Of both, about. More than a hundredth of `most` is not kept: a few of them would
                have all others forgotten.
        """
        if size * 100 > self._most:
            return
        self._young[key] = value, size
        self._held += size
        if self._held > self._most:
            self._old, self._young, self._held = self._young, {}, 0

    def clear(self) -> None:
        """Forget all."""
        self._young, self._old, self._held = {}, {}, 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
