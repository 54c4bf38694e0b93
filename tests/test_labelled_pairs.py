"""The project's own labelled pairs are what their README says."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from valkey_semcache.offline import MiniLM

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
CLASSES = {"number", "name", "unit", "date", "negation", "direction"}


def pairs(name: str) -> dict[str, list[tuple[str, str]]]:
    """The pairs of a file by class, each of which says whether it is the same."""
    found = defaultdict(list)
    for line in (DATA / name).read_text().splitlines():
        row = json.loads(line)
        assert set(row) == {"class", "a", "b", "same"}
        assert row["same"] is (row["class"] == "wording")
        found[row["class"]].append((row["a"], row["b"]))
    return found


def test_no_pair_comes_twice_and_none_is_of_equals() -> None:
    files = [pairs(f"{name}.jsonl") for name in ("hard_negatives", "positives", "unseen")]
    everything = [frozenset(pair) for found in files for of in found.values() for pair in of]
    assert len(set(everything)) == len(everything)
    assert all(len(pair) == 2 for pair in everything)


def test_there_are_fifty_hard_negatives_in_each_class_and_200_positives() -> None:
    negatives = pairs("hard_negatives.jsonl")
    assert set(negatives) == CLASSES
    assert all(len(of) >= 50 for of in negatives.values())
    assert {name: len(of) for name, of in pairs("positives.jsonl").items()} == {"wording": 200}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_half_of_a_class_is_so_alike_that_a_threshold_of_0_9_serves_it(name: str) -> None:
    of = pairs("hard_negatives.jsonl")[name]
    model = MiniLM()
    one, other = (np.asarray(model.embed([pair[side] for pair in of])) for side in (0, 1))
    alike = (one * other).sum(axis=1) >= 0.9
    assert alike.mean() >= 0.5
