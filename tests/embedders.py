"""Embedding models for tests in which meaning does not matter.

Rule of this file: the same text gives the same vector in every process, texts that share words
are near, and every embedding is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

DIMENSION = 64


def hashed(text: str, dimension: int = DIMENSION) -> list[float]:
    """A bag of words: each word a direction of its own, drawn from its hash."""
    total = np.zeros(dimension)
    for word in text.lower().replace("?", " ").split() or ["(empty)"]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        total += np.random.default_rng(seed).standard_normal(dimension)
    return total.tolist()


class HashingEmbedder:
    """Counts what it is asked, sync and async; `answer` may be replaced to misbehave."""

    model = "hashing"

    def __init__(self, answer: Callable[[str], Any] = hashed) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> list[Any]:
        self.asked.extend(texts)
        return [self.answer(text) for text in texts]

    async def aembed(self, texts: Sequence[str]) -> list[Any]:
        return self.embed(texts)
