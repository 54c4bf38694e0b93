"""The report of benchmarks/precision.py: a page and its plots.

Rule of this file: figures in, Markdown and PNGs out; nothing is measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.precision_judge import section
from benchmarks.precision_rules import DEFAULTS, FEATURES, NAMES, RAW, RULES, TEXT

HERE = Path(__file__).parent
CLASSES = ("number", "unit", "date", "negation", "direction", "name")
WORDING = "wording"
THRESHOLDS = ("0.8", "0.85", "0.9", "0.95")
PUBLISHED = {"0.95": (425, 25, 549), "0.9": (804, 77, 118), "0.8": (904, 92, 3)}
"""GPTCache's own figures for its pairs (its README): right, wrong, missed."""

_COLOURS = ("#b0b0b0", "#d9822b", "#3b7dd8", "#1f4e9c", "#7b4fb5")


def page(facts: dict[str, Any]) -> str:
    """The page."""
    parts = [
        "# Precision",
        f"all-MiniLM-L6-v2 on numpy, Python {facts['python']}, {facts['date']}. Made by "
        "`make bench-precision`. The figures of the defaults were also asked of a real cache, on "
        "the pairs, and came out the same.",
        _own(facts["own"], facts["unseen"], section(facts["judge"])),
    ]
    others = {name: facts[name] for name in ("gptcache", "banking77") if name in facts}
    parts.append(_alone(facts["own"], others))
    if "gptcache" in facts:
        parts.append(_gptcache(facts["gptcache"]))
    if "banking77" in facts:
        parts.append(_banking(facts["banking77"]))
    parts.append(
        "Streams, and `policy=Verified(…)` at 0.5, 1, 2 and 5%, are in [VERIFIED.md](VERIFIED.md)."
    )
    return "\n\n".join(parts) + "\n"


def expectation(own: dict[str, Any]) -> str:
    """What was expected of the defaults on the project's own pairs, and what came out."""
    plain, default = _wrong(own, TEXT.name, "0.9"), _wrong(own, DEFAULTS.name, "0.9")
    positives = own["pairs"][WORDING]
    before = own["served"][f"{TEXT.name} 0.9"][WORDING] / positives
    after = own["served"][f"{DEFAULTS.name} 0.9"][WORDING] / positives
    return (
        f"Expected of the defaults: at most a third of the wrong answers of the threshold alone, "
        f"and at most 5 points of the positives lost. Found: {default} of {plain} "
        f"({default / plain:.0%}), and {100 * (before - after):.1f} points "
        f"({before:.1%} to {after:.1%})."
    )


def _wrong(own: dict[str, Any], name: str, threshold: str) -> int:
    given = own["served"][f"{name} {threshold}"]
    return sum(count for kind, count in given.items() if kind != WORDING)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _classes(own: dict[str, Any]) -> list[str]:
    return [kind for kind in CLASSES if kind in own["pairs"]]


def _by_class(own: dict[str, Any]) -> str:
    sizes, classes = own["pairs"], _classes(own)
    rows = []
    for rule in RULES:
        given = own["served"][f"{rule.name} 0.9"]
        counts = [f"{given[kind]}" for kind in classes]
        positives = f"{given[WORDING] / sizes[WORDING]:.1%}"
        rows.append([rule.name, *counts, f"{_wrong(own, rule.name, '0.9')}", positives])
    return _table(
        [
            "served at similarity 0.9",
            *(f"{kind} ({sizes[kind]})" for kind in classes),
            f"all ({sum(sizes[kind] for kind in classes)})",
            f"positives ({sizes[WORDING]})",
        ],
        rows,
    )


def _by_threshold(own: dict[str, Any]) -> str:
    sizes = own["pairs"]
    negatives = sum(sizes[kind] for kind in _classes(own))
    rows = []
    for rule in RULES:
        cells = [rule.name]
        for threshold in THRESHOLDS:
            right = own["served"][f"{rule.name} {threshold}"][WORDING] / sizes[WORDING]
            cells.append(f"{_wrong(own, rule.name, threshold) / negatives:.1%} / {right:.1%}")
        rows.append(cells)
    return _table(["hard negatives / positives served", *THRESHOLDS], rows)


def _own(own: dict[str, Any], unseen: dict[str, Any], judge: str) -> str:
    return "\n\n".join(
        [
            "## The project's own pairs",
            "`benchmarks/data`: hard negatives that differ in one thing, of which each served one "
            "is a wrong answer, and positives that differ in words only, of which each served one "
            "is a right answer. Each pair by itself. *The raw prompt* is what other packages "
            "embed: the serialized message list that LangChain hands to its cache.",
            _by_class(own),
            _by_threshold(own),
            expectation(own),
            "Names are not compared by default: see what the guard `names` costs below.",
            "![Wrong answers by class](PRECISION_classes.png)",
            judge,
            "### Unseen pairs",
            "The guards were corrected by what they did on the pairs above and on GPTCache's. "
            "These others were written when they were done, and nothing was corrected by them.",
            _by_class(unseen),
            expectation(unseen),
        ]
    )


def _alone(own: dict[str, Any], others: dict[str, Any]) -> str:
    """What each feature and guard does by itself."""
    head = ["at 0.9, by itself", "own pairs: wrong", "positives"]
    plain = own["served"][f"{TEXT.name} 0.9"]
    wrong = sum(plain[kind] for kind in CLASSES)
    if "gptcache" in others:
        head += ["GPTCache: wrong", "right"]
    streams = others.get("banking77", {})
    for name in streams:
        head += [f"Banking77, {name}: wrong", "hits"]
    rows = [["*the question's text*", f"{wrong}", f"{plain['wording']}"]]
    if "gptcache" in others:
        base = others["gptcache"]["by_threshold"][f"{TEXT.name} 0.9"]
        rows[0] += [f"{base['wrong']}", f"{base['right']}"]
    for stream in streams.values():
        figures = stream["by_threshold"][f"{TEXT.name} 0.9"]
        rows[0] += [f"{figures['wrong']:.2%}", f"{figures['hits']:.1%}"]
    for name, given in own["alone"].items():
        cells = [
            name,
            _signed(sum(given[kind] for kind in CLASSES) - wrong),
            _signed(given[WORDING] - plain[WORDING]),
        ]
        if "gptcache" in others:
            counts = others["gptcache"]["alone"][name]
            cells += [_signed(counts[what] - base[what]) for what in ("wrong", "right")]
        for stream in streams.values():
            before = stream["by_threshold"][f"{TEXT.name} 0.9"]
            after = stream["alone"][name]
            cells.append(_points(after["wrong"] - before["wrong"], 2))
            cells.append(_points(after["hits"] - before["hits"], 1))
        rows.append(cells)
    return "\n\n".join(
        [
            "## What each exact feature and each guard costs and saves",
            "The change against embedding the question's text alone, at similarity 0.9. Fewer "
            "wrong answers is what it saves; fewer positives, right answers or hits is what it "
            "costs. A wrong answer that is refused becomes a miss, and so a stored entry, which "
            "later questions hit: on streams, hits may rise. Banking77 in points of all requests.",
            _table(head, rows),
        ]
    )


def _signed(change: int) -> str:
    return f"{change:+d}" if change else "0"


def _points(change: float, digits: int) -> str:
    shown = f"{100 * change:+.{digits}f}"
    return "0" if float(shown) == 0 else shown


def _gptcache(found: dict[str, Any]) -> str:
    rows = []
    for rule in RULES:
        cells = [rule.name]
        for threshold in THRESHOLDS:
            counts = found["by_threshold"][f"{rule.name} {threshold}"]
            cells.append(f"{counts['right']} / {counts['wrong']} / {counts['miss']}")
        rows.append(cells)
    published = [
        " / ".join(map(str, PUBLISHED[threshold])) if threshold in PUBLISHED else ""
        for threshold in THRESHOLDS
    ]
    rows.append(["*GPTCache's own figures, with its own model*", *published])
    return "\n\n".join(
        [
            "## GPTCache's 999 pairs",
            "Every `origin` stored, every `similar` asked: right / wrong / missed; an `origin` "
            "that comes twice has one answer. They are statements about a program library, "
            "reworded by a model, not questions of users; code and quotations come in most of "
            "them, and negations are often reworded too (`not mandatory`, `optional`).",
            _table(["right / wrong / missed", *THRESHOLDS], rows),
        ]
    )


def _banking(found: dict[str, Any]) -> str:
    parts = [
        "## Banking77",
        "10,000 of the 13,083 questions in a seeded shuffle, and 20,000 draws with repeats (Zipf, "
        "exponent 0.8). A hit is right when the stored question has the same intent. Semantic "
        "hits / wrong answers, of all requests; then of the requests that repeat no stored "
        "question word by word; then the share of semantic hits that are wrong.",
    ]
    for name, stream in found.items():
        rows = []
        for rule in RULES:
            cells = [f"{rule.name} (first 2,000)" if rule.raw else rule.name]
            for threshold in THRESHOLDS:
                figures = stream["by_threshold"].get(f"{rule.name} {threshold}")
                if figures is None:
                    continue
                cells.append(
                    f"{figures['hits']:.1%} / {figures['wrong']:.2%}; "
                    f"{figures['fresh_hits']:.1%} / {figures['fresh_wrong']:.2%}; "
                    f"{figures['wrong_of_hits']:.1%}"
                )
            if len(cells) > 1:
                rows.append(cells)
        exact = stream["by_threshold"][f"{DEFAULTS.name} 0.9"]["exact"]
        parts.append(f"### {name}: {exact:.1%} exact repeats under the defaults")
        parts.append(_table(["hits / wrong; without repeats; wrong of hits", *THRESHOLDS], rows))
    parts.append("![Hits and wrong answers](PRECISION_banking77.png)")
    return "\n\n".join(parts)


def plots(facts: dict[str, Any]) -> None:
    """Write the plots beside this file."""
    _plot_classes(facts["own"])
    if "banking77" in facts:
        _plot_banking(facts["banking77"])


def _plot_classes(own: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(RULES)
    for number, (rule, colour) in enumerate(zip(RULES, _COLOURS, strict=True)):
        given = own["served"][f"{rule.name} 0.9"]
        shares = [100 * given[kind] / own["pairs"][kind] for kind in (*CLASSES, "wording")]
        places = [place + (number - 2) * width for place in range(len(shares))]
        axes.bar(places, shares, width, label=rule.name, color=colour)
    names = [f"{kind}\n({own['pairs'][kind]})" for kind in CLASSES]
    names.append(f"positives\n({own['pairs']['wording']})")
    axes.axvline(len(CLASSES) - 0.5, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("served at similarity 0.9, %")
    axes.set_title("Hard negatives served wrongly, by what differs; right: positives served")
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(HERE / "PRECISION_classes.png", dpi=110)
    plt.close(figure)


def _plot_banking(found: dict[str, Any]) -> None:
    figure, all_axes = plt.subplots(1, len(found), figsize=(10, 4), layout="constrained")
    for axes, (name, stream) in zip(all_axes, found.items(), strict=True):
        for rule, colour in zip((RAW, TEXT, FEATURES, DEFAULTS, NAMES), _COLOURS, strict=True):
            named = [f"{rule.name} {threshold}" for threshold in THRESHOLDS]
            figures = [stream["by_threshold"][n] for n in named if n in stream["by_threshold"]]
            if not figures:
                continue
            hits = [100 * one["hits"] for one in figures]
            wrong = [100 * one["wrong"] for one in figures]
            axes.plot(hits, wrong, marker="o", label=rule.name, color=colour, markersize=4)
        axes.set_yscale("log")
        ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set_xlabel("semantic hits, % of requests")
        axes.set_ylabel("wrong answers, % of requests")
        axes.set_title(f"Banking77, {name}", fontsize=10)
        axes.grid(visible=True, which="major", linewidth=0.3)
    all_axes[0].legend(fontsize=8)
    figure.suptitle("Thresholds 0.95, 0.9, 0.85 and 0.8, from left to right", fontsize=9)
    figure.savefig(HERE / "PRECISION_banking77.png", dpi=110)
    plt.close(figure)
