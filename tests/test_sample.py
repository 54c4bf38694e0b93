"""Near pairs of a live cache, drawn and labelled."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import wait_until
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.cli.app import app
from valkey_semcache.cli.sample import Labels, ask, labelled_in, run
from valkey_semcache.flow.sampling import NearPair
from valkey_semcache.precision.labelled import Labelled, read

QUESTIONS = [
    "how do i reset the password of my account",
    "how do i reset the password of my own account",
    "how do i reset the password of this account",
    "which wine goes with fish",
    "which wine goes well with fish",
    "when does the library open",
]
SECRET = "a secret of sixteen letters or more"


def cache_on(served: Served, **options: Any) -> SemanticCache:
    options = {"on_error": "raise", "guards": ()} | options
    return SemanticCache(HashingEmbedder(), **(served.options | options))


def similarity(a: str, b: str) -> float:
    one, other = np.array(hashed(a)), np.array(hashed(b))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def pairs_within(low: float, high: float) -> set[frozenset[str]]:
    return {
        frozenset((a, b))
        for a in QUESTIONS
        for b in QUESTIONS
        if a < b and low <= similarity(a, b) <= high
    }


async def test_all_near_pairs_of_a_small_cache_are_found_once(served: Served, way: Way) -> None:
    async with cache_on(served) as cache:
        for question in QUESTIONS:
            cache.store(question, "x")
        cache.store(Question("found by its very words only", exact_only=True), "x")
        keys = served.entries()
        sampled = await way(cache.near_pairs, around=0.85, width=0.15)
        assert (sampled.entries, sampled.unkept) == (len(QUESTIONS), 0)
        expected = pairs_within(0.7, 1.0)
        assert len(sampled.pairs) == len(expected) >= 3
        assert {frozenset((pair.a, pair.b)) for pair in sampled.pairs} == expected
        for pair in sampled.pairs:
            assert pair.similarity == pytest.approx(similarity(pair.a, pair.b), abs=1e-5)
        narrow = await way(cache.near_pairs, around=0.95, width=0.02)
        found = {frozenset((pair.a, pair.b)) for pair in narrow.pairs}
        assert found == pairs_within(0.93, 0.97)
        assert served.entries() == keys


async def test_pairs_are_as_many_as_wanted_and_spread_over_similarities(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain) as cache:
        stem = "how do i reset the password of my"
        for number in range(30):
            last = f"{chr(97 + number)}" if number < 26 else f"z{chr(97 + number - 26)}"
            cache.store(f"{stem} {last}", "x")
        cache.store(f"{stem} very own private", "x")
        drawn = {"count": 5, "around": 0.8, "width": 0.2, "seed": 7}
        one, other = await way(cache.near_pairs, **drawn), await way(cache.near_pairs, **drawn)
        assert len(one.pairs) == 5
        assert set(one.pairs) == set(other.pairs)
        assert len({int(pair.similarity * 25) for pair in one.pairs}) >= 3


async def test_only_questions_that_could_meet_are_paired(either_index: Served, way: Way) -> None:
    async with cache_on(either_index) as cache:
        a, b = QUESTIONS[:2]
        cache.store(Question(a, namespace="acme"), "x")
        cache.store(Question(b, namespace="other"), "x")
        cache.store(Question(b, namespace="acme", context="another prompt"), "x")
        cache.store(Question(a + " 1", namespace="other"), "x")
        assert (await way(cache.near_pairs)).pairs == ()
        cache.store(Question(b, namespace="acme"), "x")
        (pair,) = (await way(cache.near_pairs, width=0.2)).pairs
        assert {pair.a, pair.b} == {a, b}


async def test_a_view_and_a_namespace_see_their_tenants_questions_only(
    either_index: Served, way: Way
) -> None:
    async with cache_on(either_index) as cache:
        for namespace in ("acme", "other"):
            for question in QUESTIONS[:2]:
                cache.store(Question(f"{question} at {namespace}", namespace=namespace), "x")
        assert len((await way(cache.near_pairs, width=0.2)).pairs) == 2
        view = cache.with_namespace("acme")
        for sampled in (
            await way(view.near_pairs, width=0.2),
            await way(cache.near_pairs, width=0.2, namespace="acme"),
        ):
            (pair,) = sampled.pairs
            assert pair.a.endswith("at acme")
            assert sampled.entries == 2
        with pytest.raises(ConfigurationError, match="another tenant's"):
            await way(view.near_pairs, namespace="other")


@pytest.mark.parametrize("sealed", [{"encryption_key": SECRET}, {"signing_key": SECRET}])
async def test_sealed_caches_are_sampled_with_their_keys(
    either_index: Served, way: Way, sealed: dict[str, str]
) -> None:
    async with cache_on(either_index, **sealed) as cache:
        for question in QUESTIONS[:2]:
            cache.store(question, "x")
        (pair,) = (await way(cache.near_pairs, width=0.2)).pairs
        assert {pair.a, pair.b} == set(QUESTIONS[:2])


async def test_what_guards_say_is_told(plain: Served, way: Way) -> None:
    async with cache_on(plain, guards=["polarity"]) as cache:
        cache.store("is the shop open in the summer", "x")
        cache.store("is the shop not open in the summer", "x")
        (pair,) = (await way(cache.near_pairs, width=0.3)).pairs
        assert pair.guarded is not None
        assert pair.guarded.startswith("polarity: 'not'")


async def test_questions_that_are_not_kept_cannot_be_drawn(plain: Served, way: Way) -> None:
    async with cache_on(plain, store_questions=False) as cache:
        assert (await way(cache.near_pairs)).pairs == ()
        cache.store(QUESTIONS[0], "x")
        with pytest.raises(ConfigurationError, match="store_questions=False"):
            await way(cache.near_pairs)


async def test_what_is_out_of_range_is_refused(plain: Served, way: Way) -> None:
    async with cache_on(plain, similarity_threshold=lambda question: 1 / 0) as cache:
        with pytest.raises(ConfigurationError, match=r"around=0\.9"):
            await way(cache.near_pairs)
        for wrong in ({"count": 0}, {"around": 2}, {"width": float("nan")}, {"entries": 1}):
            with pytest.raises(ConfigurationError, match=next(iter(wrong))):
                await way(cache.near_pairs, **({"around": 0.9} | wrong))


# Labelling

PAIRS = [NearPair("one?", "two?", 0.91), NearPair('a "b", c', "d\ne", 0.93, "order: x")]


def pressed(keys: str) -> Any:
    return iter(keys).__next__


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_labels_are_written_at_once_and_read_by_tune(tmp_path: Path, name: str) -> None:
    path, console = tmp_path / name, Console(file=io.StringIO())
    assert labelled_in(path) == set()

    def interrupted() -> Iterator[str]:
        yield "y"
        raise KeyboardInterrupt

    assert ask(PAIRS, Labels(path), console, interrupted().__next__) == [
        Labelled("one?", "two?", True)
    ]
    assert read(path) == [Labelled("one?", "two?", True)]
    assert labelled_in(path) == {frozenset(("one?", "two?"))}
    ask(PAIRS[1:], Labels(path), console, pressed("xN"))
    assert read(path) == [Labelled("one?", "two?", True), Labelled('a "b", c', "d\ne", False)]


@pytest.mark.parametrize(("keys", "given"), [("sy", [False]), ("q", []), ("ss", []), ("\x04", [])])
def test_pairs_can_be_skipped_and_left(keys: str, given: list[bool]) -> None:
    console = Console(file=io.StringIO())
    labels = ask(PAIRS, Labels(None), console, pressed(keys))
    assert [label.a for label in labels] == [PAIRS[1].a for _ in given]


def test_a_stored_question_cannot_write_to_the_terminal() -> None:
    shown = io.StringIO()
    pair = NearPair("\x1b]0;owned\x07[bold]x[/bold]", "\x9b2J", 0.9)
    ask([pair], Labels(None), Console(file=shown, force_terminal=True), pressed("q"))
    text = shown.getvalue()
    assert "\x1b]0" not in text
    assert "\x9b" not in text
    assert "\x07" not in text
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize("text", ["a,b,same\nx,y,yes\n", "question,group\nx,y\n", "oops\n"])
def test_nothing_is_added_to_somebody_elses_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=r"p\.csv"):
        labelled_in(tmp_path / "p.csv")


# The commands


@pytest.fixture
def live(plain: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with an app whose cache holds some questions."""
    with cache_on(plain) as cache:
        for question in QUESTIONS:
            cache.store(question, "x")
    (tmp_path / "sampled_app.py").write_text(
        "from tests.embedders import HashingEmbedder\n"
        "from valkey_semcache import SemanticCache\n"
        f"cache = SemanticCache(HashingEmbedder(), guards=(), **{plain.options!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("sampled_app", None)


def semcache(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_command_lists_pairs_as_json_and_as_a_table(live: Path) -> None:
    drawn = ("sample", "--cache", "sampled_app:cache", "--around", "0.85", "--width", "0.15")
    rows = json.loads(semcache(*drawn, "--json").stdout)
    assert {frozenset((row["a"], row["b"])) for row in rows} == pairs_within(0.7, 1)
    listed = semcache(*drawn, "pairs.csv").stdout
    assert f"{len(rows)} pairs to label, of {len(QUESTIONS)} stored questions" in listed
    assert "labels are asked for in a terminal" in listed
    assert not (live / "pairs.csv").exists()


def test_the_command_asks_in_a_terminal_and_tune_reads_what_it_wrote(live: Path) -> None:
    ours, theirs = pty.openpty()
    drawn = ["--cache", "sampled_app:cache", "--around", "0.85", "--width", "0.15"]
    command = [sys.executable, "-m", "valkey_semcache.cli", "sample", "pairs.csv", *drawn]
    path = os.pathsep.join([str(live), str(Path(__file__).parents[1])])
    shown = b""

    def waits_for_key(number: int) -> bool:
        """Whether the command has asked so often, and made the terminal give it single keys."""
        nonlocal shown
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 4096)
        raw = not termios.tcgetattr(theirs)[3] & termios.ICANON
        return raw and shown.count(b"[q]uit") == number

    with subprocess.Popen(
        command,
        cwd=live,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        try:
            for number, key in enumerate((b"y", b"n", b"q"), 1):
                wait_until(lambda n=number: waits_for_key(n) or process.poll() is not None)
                os.write(ours, key)
            assert process.wait(20) == 0, shown
        finally:
            process.kill()
    waits_for_key(3)
    os.close(ours)
    os.close(theirs)
    seen = shown.decode()
    told = re.sub(r"\s+", " ", seen)
    assert "2 labels are new in pairs.csv. Now: semcache tune pairs.csv --cache sampled_app" in told
    labelled = read(live / "pairs.csv")
    assert [pair.same for pair in labelled if isinstance(pair, Labelled)] == [True, False]
    tuned = semcache("tune", "pairs.csv", "--cache", "sampled_app:cache")
    assert "2 pairs" in tuned.stdout
    again = json.loads(semcache("sample", "pairs.csv", *drawn, "--json").stdout)
    assert len(again) == len(pairs_within(0.7, 1)) - 2


def test_one_is_one_and_the_next_command_is_for_the_same_cache(
    live: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.getchar", lambda: "y")
    run(live / "my pairs.csv", "sampled_app:cache", as_json=False, count=1, around=0.8, width=0.2)
    told = capsys.readouterr().out
    assert "1 pair to label, of 6 stored questions looked at." in told
    assert f"1 label is new in {live}/my pairs.csv. Now: semcache tune '{live}/my" in told
    assert told.endswith("my pairs.csv' --cache sampled_app:cache\n")
    monkeypatch.setattr("typer.getchar", lambda: "q")
    run(live / "my pairs.csv", "sampled_app:cache", as_json=False, around=0.8, width=0.2)
    told = capsys.readouterr().out
    assert ", and 1 that is labelled already." in told
    assert "0 labels are new" in told


def test_tune_labels_pairs_of_a_live_cache_itself(live: Path) -> None:
    done = CliRunner().invoke(
        app, ["tune", "--cache", "sampled_app:cache", "--live", "20"], input="yyyyyyyyyyyyyyyyyyyy"
    )
    assert "pairs, 95% intervals" in done.stdout, done.output
    assert "Does one answer do for both?" in done.stdout


def test_tune_without_a_file_says_what_it_needs() -> None:
    for arguments in (("tune",), ("tune", "--live", "5"), ("tune", "--cache", "a:b")):
        with pytest.raises(ConfigurationError, match="--live COUNT"):
            semcache(*arguments)
