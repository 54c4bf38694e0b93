"""What all measurements share: random vectors by name, the server, and how reports are written."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import valkey

HERE = Path(__file__).parent


class RandomEmbedder:
    """A random direction for each text; `~` after a text gives one near it.

    Random unit vectors are the hardest case for a graph index: all are equally far apart.

    Args:
        dimension: Of the vectors.
        near: Cosine similarity of a text and the same with `~`.
    """

    def __init__(self, dimension: int = 384, near: float = 0.95) -> None:
        self.model = f"random-{dimension}"
        self._dimension = dimension
        self._near = near

    def embed(self, texts: Sequence[str]) -> list[Any]:
        """Unit vectors."""
        return [self.vector(text) for text in texts]

    async def aembed(self, texts: Sequence[str]) -> list[Any]:
        """The same, for those who await."""
        return self.embed(texts)

    def vector(self, text: str) -> Any:
        """One unit vector."""
        base = self._direction(text.rstrip("~"))
        if not text.endswith("~"):
            return base
        noise = self._direction(text)
        noise -= base * float(noise @ base)
        noise /= np.linalg.norm(noise)
        return self._near * base + (1 - self._near**2) ** 0.5 * noise

    def _direction(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        vector = np.random.default_rng(seed).standard_normal(self._dimension)
        return vector / np.linalg.norm(vector)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds that a call took, and what it gave."""
    began = time.perf_counter()
    outcome = call()
    return 1000 * (time.perf_counter() - began), outcome


def p50(milliseconds: Sequence[float]) -> float:
    """The median."""
    return median(milliseconds)


def p95(milliseconds: Sequence[float]) -> float:
    """The 95th percentile."""
    return quantiles(milliseconds, n=20)[-1]


def about(client: valkey.Valkey) -> dict[str, str]:
    """Which server and machine a run was made on."""
    info: Any = client.info("server")
    found = {"server": f"Valkey {info.get('valkey_version', info.get('redis_version'))}"}
    modules: Any = client.execute_command("MODULE LIST")
    for module in modules:
        facts = (
            module
            if isinstance(module, dict)
            else dict(zip(module[::2], module[1::2], strict=True))
        )
        if facts.get(b"name", facts.get("name")) in (b"search", "search"):
            number = int(facts.get(b"ver", facts.get("ver", 0)))
            found["module"] = f"valkey-search {number >> 16}.{number >> 8 & 255}.{number & 255}"
    found["python"] = platform.python_version()
    found["date"] = time.strftime("%Y-%m-%d")
    return found


def write(name: str, facts: dict[str, Any], page: str) -> None:
    """Write a run's figures and its page beside this file."""
    (HERE / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    (HERE / f"{name}.md").write_text(page)
