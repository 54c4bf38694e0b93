"""Durations counted in buckets, which can be added up over processes.

Rule of this file: arithmetic only. Buckets grow by the fourth root of two from a microsecond on,
so a quantile read from them is off by a tenth at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from math import log2

_STEPS = 4  # buckets to a doubling
_LEAST = 20  # the first bucket ends at 2 ** -20 seconds
LAST = 120
"""The last bucket: 2 ** 10 seconds, and all that is longer."""


def bucket(seconds: float) -> int:
    """The number of the bucket that a duration falls into, 0 to `LAST`."""
    if seconds <= 0.0:
        return 0
    return min(LAST, max(0, int((log2(seconds) + _LEAST) * _STEPS) + 1))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds below which a share of the counted ones lies; None for none.

    Args:
        counts: How many fell into each bucket.
        share: Such as 0.95.
    """
    wanted = share * sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if counts[number] and seen >= wanted:
            return float(2.0 ** ((number - 0.5) / _STEPS - _LEAST))
    return None


def together(counts: Mapping[str, Mapping[int, int]], kinds: Collection[str]) -> Counter[int]:
    """The buckets of some kinds added up; of all, if none is named."""
    summed: Counter[int] = Counter()
    for kind, buckets in counts.items():
        if not kinds or kind in kinds:
            summed.update(buckets)
    return summed


def shown(seconds: float | None) -> str:
    """A duration in the unit that fits, or a dash."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
