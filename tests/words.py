"""Words for tests that need many."""

from __future__ import annotations


def word(number: int) -> str:
    """A word of its own for a number, without digits: those would make scopes of their own."""
    return "w" + "".join("abcdefghij"[int(digit)] for digit in str(number))
