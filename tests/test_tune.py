"""Thresholds found on labelled questions."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.cli.tune import _table
from valkey_semcache.errors import EmbeddingError
from valkey_semcache.offline import MiniLM
from valkey_semcache.precision.labelled import Grouped, Labelled, read
from valkey_semcache.precision.tuning import Share, tune, wilson

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
PAIRS = [
    *read(DATA / "hard_negatives.jsonl")[::9],
    *read(DATA / "positives.jsonl")[::5],
]


class Remembering(MiniLM):
    """MiniLM, which embeds each text once for all tests of this file."""

    vectors: ClassVar[dict[str, Any]] = {}

    def embed(self, texts: Any) -> Any:
        new = [text for text in texts if text not in self.vectors]
        self.vectors.update(zip(new, super().embed(new), strict=True))
        return [self.vectors[text] for text in texts]


def unserved(**options: Any) -> SemanticCache:
    """A cache that nothing is asked of but its rules: any connection would fail."""
    return SemanticCache(Remembering(), "valkey://127.0.0.1:1", **options)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Computed by R's prop.test(correct=FALSE), which gives Wilson's interval.
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0, 0.2775328), (81, 263, 0.2552773, 0.3662135)],
)
def test_intervals_are_wilsons(count: int, of: int, low: float, high: float) -> None:
    share = wilson(count, of)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-4)
    assert share.value == count / of


def test_of_nothing_nothing_is_known() -> None:
    share = wilson(0, 0)
    assert (share.low, share.high, str(share)) == (0, 1, "-")
    assert np.isnan(share.value)


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95])
def test_what_is_said_of_a_threshold_is_what_a_cache_with_it_does(
    plain: Served, threshold: float
) -> None:
    right = wrong = 0
    options = plain.options | {"on_error": "raise", "similarity_threshold": threshold}
    with SemanticCache(Remembering(), **options) as cache:
        for number, pair in enumerate(PAIRS):
            cache.store(Question(pair.b, namespace=str(number)), "x")
            if cache.lookup(Question(pair.a, namespace=str(number))):
                right += pair.same
                wrong += not pair.same
        tuning = tune(PAIRS, cache)
    row = tuning.at(threshold)
    assert right > 10
    assert (row.precision.count, row.precision.of) == (right, right + wrong)
    assert (row.recall.count, row.recall.of) == (right, 40)
    assert (row.wrong.count, row.wrong.of) == (wrong, len(PAIRS))


def test_features_and_guards_count_as_in_the_cache() -> None:
    default, bare = tune(PAIRS, unserved()), tune(PAIRS, unserved(guards=()))
    own = tune(PAIRS, unserved(guards=(), features=lambda text: [text]))
    assert 0 < bare.kept_apart < default.kept_apart
    assert own.kept_apart == len(PAIRS)
    assert default.at(0.9).wrong.count < bare.at(0.9).wrong.count


def test_questions_by_group_are_paired_with_the_nearest_they_may_meet() -> None:
    questions = [
        Grouped("How do I reset my password?", "password"),
        Grouped("How can I reset my password?", "password"),
        Grouped("Where can I reset my PIN?", "pin"),
        Grouped("How can I reset my password 2?", "another"),  # another number: meets none
    ]
    row = tune(questions, unserved()).at(0.9)
    assert (row.precision.count, row.precision.of) == (2, 2)
    assert (row.recall.count, row.recall.of) == (2, 2)
    low = tune(questions, unserved()).at(0.5)
    assert (low.precision.count, low.precision.of) == (2, 3)  # the PIN meets a password


def labelled(similarities: dict[float, tuple[int, int]]) -> tuple[list[Labelled], Any]:
    """Pairs at given similarities, so many right and so many wrong, and their embedder."""
    vectors, pairs = {}, []
    for similarity, (right, wrong) in similarities.items():
        for number in range(right + wrong):
            a, b = (
                f"{side}{chr(97 + number // 26)}{chr(97 + number % 26)} {similarity:.2f}".replace(
                    ".", ""
                ).translate(LETTERS)
                for side in "pq"
            )
            vectors[a] = np.array([1.0, 0.0])
            vectors[b] = np.array([similarity, (1 - similarity**2) ** 0.5])
            pairs.append(Labelled(a, b, number < right))

    class Fixed:
        model = "fixed"

        def embed(self, texts: list[str]) -> list[Any]:
            return [vectors[text] for text in texts]

    return pairs, Fixed()


LETTERS = str.maketrans("0123456789", "ghijklmnop")


def test_the_threshold_for_a_precision_holds_with_confidence() -> None:
    pairs, embedder = labelled({0.95: (200, 0), 0.85: (100, 0), 0.75: (50, 50)})
    tuning = tune(pairs, SemanticCache(embedder, "valkey://127.0.0.1:1"))
    assert tuning.threshold_for(0.98) == 0.76
    assert tuning.threshold_for(0.5) == 0.5
    assert tuning.threshold_for(0.999) is None  # 300 right ones do not show that much
    few = tune(pairs[:5], SemanticCache(embedder, "valkey://127.0.0.1:1"))
    assert few.at(0.9).precision == Share(5, 5, pytest.approx(0.5655, abs=1e-3), 1.0)
    assert few.threshold_for(0.9) is None
    for bad in (0, 1, 90):
        with pytest.raises(ConfigurationError, match="above 0 and below 1"):
            tuning.threshold_for(bad)


def test_a_threshold_beyond_wrong_answers_is_not_taken() -> None:
    pairs, embedder = labelled({0.95: (0, 50), 0.85: (500, 0)})
    tuning = tune(pairs, SemanticCache(embedder, "valkey://127.0.0.1:1"))
    assert tuning.at(0.8).precision.low > 0.85
    assert tuning.threshold_for(0.85) is None


def test_it_is_printable_and_a_table_in_jupyter() -> None:
    tuning = tune(PAIRS, unserved())
    assert "precision" in str(tuning)
    assert "<table>" in tuning._repr_html_()


def test_the_plot_shows_the_figures(tmp_path: Path) -> None:
    tuning = tune(PAIRS, unserved(similarity_threshold=0.87))
    figure = tuning.plot()
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    recall = lines["recall: served and right, of all that could be"]
    drawn = dict(zip(recall.get_xdata(), recall.get_ydata(), strict=True))
    assert drawn == {row.threshold: row.recall.value for row in tuning.rows[-len(drawn) :]}
    assert 5 < len(drawn) < len(tuning.rows)
    precision = lines["precision: right, of all served"]
    assert list(precision.get_xdata()) == [at for at in drawn if tuning.at(at).precision.of]
    assert list(lines["the cache's threshold, 0.87"].get_xdata()) == [0.87, 0.87]
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_plot_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from valkey_semcache.precision.tuning import Tuning\n"
        "Tuning((), 0, 0, 0.95, 0.9).plot()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'valkey-semcache[plots]'" in done.stderr


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="confidence="):
        tune(PAIRS[:2], unserved(), confidence)


def test_no_pairs_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no labelled pair"):
        tune([], unserved())


# Files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", 'a,b,same,note\nx,y,yes,\n"p, q",r,No,z\n'),
        ("pairs.csv", '\ufeffQuestion A,question b,Label\nx,y,1\n"p, q",r,0\n'),
        (
            "pairs.jsonl",
            '{"a": "x", "b": "y", "same": true}\n\n{"a": "p, q", "b": "r", "same": "no"}\n',
        ),
    ],
)
def test_csv_and_jsonl_are_read_alike(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name) == [Labelled("x", "y", True), Labelled("p, q", "r", False)]


def test_questions_by_group_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("text,category\nwhere is it,where\nwhen is it,when\n")
    assert read(tmp_path / "q.csv") == [
        Grouped("where is it", "where"),
        Grouped("when is it", "when"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.csv", "a,b,same\nx,y,perhaps\n", r"p\.csv, line 2: same is 'perhaps'"),
        ("p.csv", "a,b,same\nx,,yes\n", r"p\.csv, line 2: b is ''"),
        ("p.csv", "x,y\n1,2\n", "the columns x, y; it must have a, b and same"),
        ("p.csv", "", "holds no labelled questions"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": true}\n{oops\n', r"line 2 is no JSON"),
        ("p.jsonl", "[1]\n", "line 1 holds no JSON object"),
        ("p.jsonl", '{"a": 5, "b": "y", "same": true}\n', "line 1: a is 5"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_line(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        read(tmp_path / name)


# semcache tune


def semcache(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "valkey_semcache.cli", "tune", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )


def test_the_command_shows_and_plots_and_names_a_threshold(tmp_path: Path) -> None:
    rows = [{"a": pair.a, "b": pair.b, "same": pair.same} for pair in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = semcache("pairs.jsonl", "--precision", "0.6", "--png", "plot.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = tune(PAIRS, unserved()).at(0.9)
    assert str(row.precision) in done.stdout
    assert "similarity_threshold=" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    done = semcache("pairs.jsonl", "--precision", "0.999", cwd=tmp_path)
    assert done.returncode == 1
    assert "No threshold has a precision of 99.9% with 95% confidence" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_command_takes_the_apps_own_cache(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from langchain_valkey_semcache import MiniLMEmbeddings, ValkeySemanticCache\n"
        "cache = ValkeySemanticCache(\n"
        "    MiniLMEmbeddings(), 'valkey://127.0.0.1:1', features=lambda text: [text]\n"
        ")\n"
        "other = 5\n"
    )
    (tmp_path / "pairs.csv").write_text("a,b,same\nhow are you,how do you do,yes\n")
    done = semcache("pairs.csv", "--cache", "app:cache", cwd=tmp_path)
    assert "1 pair, 95% intervals" in done.stdout, done.stderr
    assert "1 pair can never meet (other numbers, or a guard)" in done.stdout
    done = semcache("pairs.csv", "--cache", "app:other", cwd=tmp_path)
    assert "--cache app:other is a int, not a cache." in done.stderr


def test_a_vector_that_cannot_be_had_is_raised() -> None:
    class Broken(HashingEmbedder):
        def embed(self, texts: Any) -> Any:
            raise RuntimeError("no model")

    cache = SemanticCache(Broken(), "valkey://127.0.0.1:1")
    with pytest.raises(EmbeddingError, match="Broken/hashing raised RuntimeError"):
        tune(PAIRS[:2], cache)


def test_a_notebook_shows_plot_and_table_without_a_line_of_set_up() -> None:
    """By IPython's own formatters, as they are before pyplot is imported."""
    from IPython.core.formatters import DisplayFormatter

    tuning = tune(PAIRS, unserved())
    shown, _ = DisplayFormatter().format(tuning)
    assert "<table>" in shown["text/html"]
    assert 'src="data:image/png;base64,iVBOR' in shown["text/html"]
    shown, _ = DisplayFormatter().format(tuning.plot())
    assert shown["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_is_whole_in_terminals_of_any_width(width: int) -> None:
    tuning = tune(PAIRS, unserved())
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(_table(tuning))
    text = console.export_text()
    assert "…" not in text
    row = tuning.at(0.95)
    for share in (row.precision, row.recall, row.wrong):
        assert all(part in text for part in str(share).split())
    assert "0.55" not in text, "thresholds below which nothing changes are left out"
