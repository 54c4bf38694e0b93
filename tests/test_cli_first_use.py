"""`semcache` as a newcomer meets it: what it says of itself, and what to type next."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from typer.main import get_command
from typer.testing import CliRunner

import valkey_semcache
from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from tests import test_cli
from tests.langchain.embeddings import HashingEmbeddings
from tests.servers import Served
from tests.test_cli import Semcache
from valkey_semcache.cli.app import app

semcache = test_cli.semcache


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (("doctor",), "semcache doctor valkey://host:6379"),
        (("stats",), "semcache stats valkey://host:6379"),
        (("bench",), "semcache bench valkey://host:6379"),
        (("reindex", "--to", "flat"), "semcache reindex valkey://host:6379"),
        (("clear",), "semcache clear valkey://host:6379"),
        (("ask", "what's new?"), """semcache ask 'what'"'"'s new?' --url valkey://host:6379"""),
    ],
)
def test_without_a_server_it_says_what_to_type(
    semcache: Semcache, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], typed: str
) -> None:
    for name in ("VALKEY_URL", "VALKEY_HOST", "REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)
    done = semcache(*command)
    assert done.code == 2
    assert f"Give a URL ({typed}) or set VALKEY_URL" in done.err
    assert "client=" not in done.err


def test_the_environments_server_is_taken(
    plain: Served, semcache: Semcache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(plain.admin.connection_pool.connection_kwargs["port"]))
    for name in ("VALKEY_URL", "VALKEY_HOST", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    assert semcache("doctor", "--name", plain.name, "--timeout", "20").code == 0
    monkeypatch.setenv("REDIS_PORT", "many")
    assert "REDIS_PORT='many' is no port" in semcache("stats").err


# The release.


def test_the_release_is_told(semcache: Semcache) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    done = semcache("--version")
    assert (done.code, done.out) == (0, f"{project['version']}\n")
    assert valkey_semcache.__version__ == project["version"]


def test_the_release_is_looked_up_when_somebody_asks() -> None:
    script = (
        "import sys, valkey_semcache\n"
        "assert 'valkey_semcache.version' not in sys.modules\n"
        "print(valkey_semcache.__version__, 'valkey_semcache.version' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == f"{valkey_semcache.__version__} True\n", done.stderr


# Help.


def test_every_command_has_an_example_and_the_exit_codes_are_told() -> None:
    group: Any = get_command(app)
    assert "3 Valkey could not be reached" in CliRunner().invoke(app, ["--help"]).output
    for name, command in group.commands.items():
        assert f"semcache {name} " in f"{command.epilog} ", name
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).output
        assert "Example:" in shown
        assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("columns", [80, 100])
def test_help_fills_its_lines_and_flags_have_no_type(columns: int) -> None:
    group: Any = get_command(app)
    for name, command in group.commands.items():
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": str(columns)}).output
        about = shown.split("\u256d")[0].split("Usage:")[1].splitlines()[1:]
        for line, following in pairwise(text.strip() for text in about):
            first = following.split()[:1]
            if line and first:
                assert len(line) + 1 + len(first[0]) > columns - 2, (name, line, following)
        assert "<bool>" not in shown, name
        assert "--json" in shown
        assert " ".join(command.help.split()) in " ".join(shown.split())
    assert "<bool>" not in CliRunner().invoke(app, ["--help"]).output
    assert "float range" in CliRunner().invoke(app, ["stats", "--help"]).output.lower()


def test_the_example_of_ask_is_of_a_frameworks_cache_which_asks_for_its_model(
    plain: Served, semcache: Semcache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in the help, with an app that has what it names."""
    main = SimpleNamespace(
        cache=LangChainCache(HashingEmbeddings(), **plain.options),
        llm=FakeListChatModel(responses=["x"]),
    )
    monkeypatch.setitem(sys.modules, "app.main", main)  # type: ignore[arg-type]  # for a module
    monkeypatch.setitem(sys.modules, "app", SimpleNamespace(main=main))  # type: ignore[arg-type]  # too
    group: Any = get_command(app)
    words = shlex.split(group.commands["ask"].epilog)
    assert words[:2] == ["Example:", "semcache"]
    done = semcache(*words[2:])
    assert (done.code, done.err) == (1, "")
    assert "Nothing is stored" in done.out
