"""How often the cache answers wrongly, and what each exact feature and each guard costs and saves.

    make bench-precision        or        python -m benchmarks.precision [--judge module:object]

Writes benchmarks/PRECISION.md, PRECISION.json and two plots. The project's own labelled pairs are
always measured; Banking77 and GPTCache's pairs only where the folder that SEMCACHE_BENCH_DATA
names (by default ../shared/data) holds them.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks import precision_data as data
from benchmarks import precision_page as page
from benchmarks.precision_data import Pair
from benchmarks.precision_judge import judged, reached
from benchmarks.precision_rules import (
    DEFAULTS,
    EVERY_KIND,
    RAW,
    RULES,
    Neighbours,
    Rule,
    asked_of_all,
    confirmed,
    confirmed_of_all,
    served,
    streamed,
    streamed_raw,
)
from benchmarks.setting import write
from valkey_semcache.precision.guards import DEFAULT

RAW_REQUESTS = 2_000
"""Of the shuffled stream, for the raw prompts."""

THRESHOLDS = (0.8, 0.85, 0.9, 0.95)
ALONE = [
    *(Rule(f"features: {kind}", kinds=(kind,)) for kind in EVERY_KIND),
    *(Rule(f"guard: {name}", guards=(name,)) for name in (*DEFAULT, "names")),
]
"""Each feature and each guard by itself, on top of the question's text."""


def own(pairs: Sequence[Pair], vectors: dict[bool, Any]) -> dict[str, Any]:
    """The project's pairs, by rule, threshold and class: how many of how many are served."""
    similarities = {raw: (stored * asked).sum(axis=1) for raw, (stored, asked) in vectors.items()}
    classes = sorted({pair.kind for pair in pairs})
    found: dict[str, Any] = {
        "pairs": {kind: sum(pair.kind == kind for pair in pairs) for kind in classes},
        "served": {},
        "alone": {},
    }
    for rule in RULES:
        for threshold in THRESHOLDS:
            given = served(pairs, similarities[rule.raw], rule.at(threshold))
            found["served"][f"{rule.name} {threshold}"] = _by_class(pairs, given, classes)
    for rule in ALONE:
        found["alone"][rule.name] = _by_class(
            pairs, served(pairs, similarities[False], rule), classes
        )
    expected = served(pairs, similarities[False], DEFAULTS)
    assert confirmed(pairs, *vectors[False]) == expected, "a real cache decides otherwise"
    return found


def _by_class(
    pairs: Sequence[Pair], given: Sequence[bool], classes: Sequence[str]
) -> dict[str, int]:
    return {
        kind: sum(hit for pair, hit in zip(pairs, given, strict=True) if pair.kind == kind)
        for kind in classes
    }


def gptcache(pairs: Sequence[Pair], vectors: dict[bool, Any]) -> dict[str, Any]:
    """GPTCache's pairs: right, wrong, missed."""
    found: dict[str, Any] = {"by_threshold": {}, "alone": {}}
    for rule in RULES:
        for threshold in THRESHOLDS:
            counts = asked_of_all(pairs, *vectors[rule.raw], rule.at(threshold))
            found["by_threshold"][f"{rule.name} {threshold}"] = counts
    for rule in ALONE:
        found["alone"][rule.name] = asked_of_all(pairs, *vectors[False], rule)
    expected = asked_of_all(pairs, *vectors[False], DEFAULTS)
    assert confirmed_of_all(pairs, *vectors[False]) == expected, "a real cache decides otherwise"
    return found


def banking(streams: Sequence[data.Stream]) -> dict[str, Any]:
    """Banking77's streams: shares of hits and of wrong answers."""
    texts = streams[0].texts
    neighbours = Neighbours.of(data.embedded(texts, "Banking77"))
    # Raw prompts are four times as long as their questions, and as slow to embed.
    first = data.Stream(
        streams[0].name,
        [texts[place] for place in streams[0].order[:RAW_REQUESTS]],
        [streams[0].labels[place] for place in streams[0].order[:RAW_REQUESTS]],
        [*range(RAW_REQUESTS)],
    )
    raw = data.embedded(first.texts, "Banking77", raw=True)
    found: dict[str, Any] = {}
    for stream in streams:
        by_threshold = {
            f"{rule.name} {threshold}": streamed(stream, neighbours, rule.at(threshold)).figures
            for rule in RULES
            if not rule.raw
            for threshold in THRESHOLDS
        }
        alone = {rule.name: streamed(stream, neighbours, rule).figures for rule in ALONE}
        found[stream.name] = {"by_threshold": by_threshold, "alone": alone}
    found[streams[0].name]["by_threshold"] |= {
        f"{RAW.name} {threshold}": streamed_raw(first, raw, threshold).figures
        for threshold in THRESHOLDS
    }
    return found


def _vectors(pairs: Sequence[Pair], what: str) -> dict[bool, Any]:
    """Those of the stored and of the asked questions, by whether they are of raw prompts."""
    stored, asked = [pair.stored for pair in pairs], [pair.asked for pair in pairs]
    return {
        raw: (
            data.embedded(stored, f"{what}, stored", raw=raw),
            data.embedded(asked, f"{what}, asked", raw=raw),
        )
        for raw in (False, True)
    }


def main() -> None:
    """Measure, write, and say what was expected."""
    parser = argparse.ArgumentParser(description="Measure precision.")
    parser.add_argument("--judge", help="a judge of yours to measure too, as module:object")
    name = parser.parse_args().judge
    pairs, unseen = data.own_pairs(), data.own_pairs(data.UNSEEN)
    vectors = _vectors(pairs, "own pairs")
    judging = reached(pairs, *vectors[False])
    if name is not None:
        module, _, path = name.partition(":")
        judge = getattr(import_module(module), path)
        judging |= {"name": name, "judged": judged(pairs, *vectors[False], judge)}
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "own": own(pairs, vectors),
        "judge": judging,
        "unseen": own(unseen, _vectors(unseen, "unseen pairs")),
    }
    folder = data.folder()
    if folder is None:
        print("Banking77 and GPTCache's pairs are not there: SEMCACHE_BENCH_DATA names no folder.")
    else:
        others = data.gptcache_pairs(folder)
        facts["gptcache"] = gptcache(others, _vectors(others, "GPTCache's pairs"))
        facts["banking77"] = banking(data.banking_streams(folder))
    page.plots(facts)
    write("PRECISION", facts, page.page(facts))
    print(page.expectation(facts["own"]))


if __name__ == "__main__":
    main()
