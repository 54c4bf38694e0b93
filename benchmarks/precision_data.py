"""The labelled questions that precision is measured on, and their vectors.

Rule of this file: reading and embedding only. The project's own pairs are always there; the
public sets are read from the folder that SEMCACHE_BENCH_DATA names, or from ../shared/data.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from rich.progress import track

from valkey_semcache.offline import MiniLM

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether one answer does for both."""

    kind: str
    stored: str
    asked: str
    same: bool


@dataclass(frozen=True)
class Stream:
    """Questions in the order they are asked, by place in `texts`."""

    name: str
    texts: list[str]
    labels: list[str]
    order: list[int]


def folder() -> Path | None:
    """Where the public sets lie, if they do."""
    given = os.environ.get("SEMCACHE_BENCH_DATA")
    found = Path(given) if given else HERE.parents[1] / "shared" / "data"
    return found if found.is_dir() else None


OWN = ("hard_negatives", "positives")
UNSEEN = ("unseen",)


def own_pairs(names: Sequence[str] = OWN) -> list[Pair]:
    """The project's own: hard negatives and positives."""
    rows = []
    for name in names:
        for line in (HERE / "data" / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            rows.append(Pair(row["class"], row["a"], row["b"], row["same"]))
    return rows


def gptcache_pairs(data: Path) -> list[Pair]:
    """GPTCache's own pairs: each `similar` is to be answered by its `origin`."""
    rows = json.loads((data / "gptcache_mock_999.json").read_text())
    return [Pair("gptcache", row["origin"], row["similar"], True) for row in rows]


def banking_streams(data: Path, seed: int = 0) -> list[Stream]:
    """Banking77 as 10,000 questions shuffled, and 20,000 drawn with repeats (Zipf, 0.8)."""
    texts, labels = [], []
    for part in ("train", "test"):
        with (data / f"banking77_{part}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                texts.append(row["text"].strip())
                labels.append(row["category"])
    chance = random.Random(seed)
    order = list(range(len(texts)))
    chance.shuffle(order)
    weights = [1 / rank**0.8 for rank in range(1, len(order) + 1)]
    return [
        Stream("10,000 shuffled", texts, labels, order[:10_000]),
        Stream(
            "20,000 with repeats (Zipf, 0.8)",
            *(texts, labels),
            chance.choices(order, weights=weights, k=20_000),
        ),
    ]


def embedded(texts: list[str], what: str, *, raw: bool = False) -> Any:
    """Unit vectors by all-MiniLM-L6-v2, of the texts or of the prompts that LangChain hands over.

    They are kept in the folder for temporary files, so that a second run need not wait.

    Args:
        texts: The questions.
        what: Shown while it goes on.
        raw: Embed the serialized message list (`dumps([HumanMessage(text)])`) instead.
    """
    model = MiniLM()
    if raw:
        texts = [dumps([HumanMessage(text)]) for text in texts]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"valkey-semcache-vectors-{digest}.npy"
    if kept.exists():
        return np.load(kept)
    chunks = [texts[start : start + 64] for start in range(0, len(texts), 64)]
    name = f"{what}, raw prompts" if raw else what
    vectors = np.concatenate([model.embed(chunk) for chunk in track(chunks, description=name)])
    np.save(kept, vectors)
    return vectors
