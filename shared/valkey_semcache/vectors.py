"""Vectors as the core computes with them.

Rule of this file: it is loaded with the first vector, and numpy with it (`at_first_use.py`); what a
cache needs before it has one is in `embedding.py`. What cannot be compared gets no further.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import EmbeddingError

FLOAT32 = np.dtype("<f4")


def only(vectors: Any, model: str) -> Vector:
    """The one of what a model gave for one text, at length 1.

    Args:
        vectors: What it gave.
        model: The embedding model's name, for messages.

    Raises:
        EmbeddingError: It is not one vector of numbers, or has no direction.
    """
    try:
        count = len(vectors)
        vector = np.asarray(vectors[0], dtype=np.float64) if count == 1 else None
    except (TypeError, ValueError, LookupError) as error:
        raise EmbeddingError(
            f"The embedding model {model} gave {type(vectors).__name__}, not a "
            "sequence with one vector of numbers for the one text."
        ) from error
    if vector is None:
        raise EmbeddingError(f"The embedding model {model} gave {count} vectors for one text.")
    return unit(vector, model)


def unit(vector: npt.NDArray[np.float64], origin: str) -> Vector:
    """`vector` at length 1, as float32, little-endian.

    Raises:
        EmbeddingError: It has no direction: empty, all zeros, NaN or infinite in a place, or
            not one-dimensional. `origin` is named.
    """
    if vector.ndim != 1 or not vector.size:
        raise EmbeddingError(f"{origin} gave a vector of shape {vector.shape}, not one row.")
    length = math.sqrt(vector @ vector)  # `norm` looks at every kind of matrix first
    if not 1e-30 <= length < math.inf:
        raise EmbeddingError(
            f"{origin} gave a vector that has no direction (length {length}): zeros, NaN or "
            "infinities cannot be compared, so nothing is looked up or stored under it."
        )
    return (vector / length).astype(FLOAT32)


def similarity(vector: Vector, stored: bytes) -> float:
    """Cosine similarity to a unit vector as it is stored."""
    return float(vector @ np.frombuffer(stored, FLOAT32))
