"""`semcache stats`: the fleet's figures on the screen, for programs, and by exit code."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import LocalTier, Question, SemanticCache
from valkey_semcache.cli import fleet
from valkey_semcache.cli.app import app
from valkey_semcache.cli.stats import Fitting

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
USAGE = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}


def work(served: Served) -> None:
    """A fleet of two: six look-ups, of which four hit."""
    options: dict[str, Any] = served.options | {"fleet_stats": True, "local": LocalTier()}
    with SemanticCache(HashingEmbedder(), **options) as cache:
        for model in ("gpt-4o", "claude-sonnet-4-5"):
            asked = Question(ASKED, identity=model, model=model)
            cache.lookup(asked)
            cache.store(asked, "x", usage=USAGE)
            cache.lookup(asked)
        cache.failed("something", TimeoutError("it took too long"))
    with SemanticCache(HashingEmbedder(), **options | {"local": None}) as other:
        other.lookup(Question(ASKED, identity="gpt-4o", model="gpt-4o"))
        other.lookup(Question(REWORDED, identity="gpt-4o", model="gpt-4o"))


def semcache(served: Served, *arguments: str) -> Any:
    command = ["stats", served.admin_url, "--name", served.name, *arguments]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def printed(served: Served, width: int) -> list[str]:
    options = served.options | {"url": served.admin_url}
    with SemanticCache(HashingEmbedder(), **options) as cache:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(*fleet.view(fleet.read(cache)), sep="\n")
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_laptop_shows_what_the_fleet_has_done(plain: Served, width: int) -> None:
    assert "No figures" in printed(plain, width)[0]
    work(plain)
    lines = printed(plain, width)
    assert max(len(line.rstrip()) for line in lines) <= width
    rows = {
        line.split("  ")[0].strip() or line.split()[0]: line.split()
        for line in lines
        if line.strip()
    }
    assert rows["look-ups"][1:] == ["6"] * 3
    assert rows["hit rate"][2:] == ["66.7%"] * 3
    assert rows["local"][1:] == ["33.3%"] * 3
    assert rows["exact"][1:] == rows["semantic"][1:] == ["16.7%"] * 3
    assert rows["saved tokens"][2:] == ["4,800"] * 3
    assert rows["saved USD, about"][-1] == f"{3 * 0.0045 + 0.006:.4f}"
    assert rows["TimeoutError"][1:] == ["1"] * 3
    assert any(
        row[1:7] == ["4", "75.0%", "25.0%", "25.0%", "25.0%", "3,600"] for row in rows.values()
    )
    assert {"gpt-4o", "claude-sonnet-4-5"} <= set(rows)
    assert rows["gpt-4o"][-1] == "0.0135"
    assert rows["misses p50, p95"][3:] != ["-", "-"] * 3


def test_programs_get_json_and_exit_codes(either_index: Served) -> None:
    work(either_index)
    done = semcache(either_index, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["fleet"]["processes"] == 1
    assert told["fleet"]["since"] == pytest.approx(time.time(), abs=60)
    for window in told["fleet"]["windows"].values():
        assert window["hit_rate"] == pytest.approx(4 / 6)
        assert window["hits"] == {"local": 2, "exact": 1, "semantic": 1}
        assert window["errors"] == {"TimeoutError": 1}
        assert window["seconds"]["miss"]["p50"] > 0
    assert told["indexes"][0]["entries"] == 2
    assert semcache(either_index, "--min-hit-rate", "0.5").exit_code == 0
    assert semcache(either_index, "--min-hit-rate", "0.7").exit_code == 1
    assert semcache(either_index, "--min-hit-rate", "7").exit_code == 2


def test_a_hit_rate_that_is_not_reached_is_said(plain: Served) -> None:
    none = semcache(plain, "--min-hit-rate", "0.3")
    assert none.exit_code == 1
    assert "no look-ups were told of in the last hour" in none.stderr
    assert "fleet_stats=True" in none.stderr
    assert semcache(plain, "--min-hit-rate", "0").exit_code == 0
    work(plain)
    short = semcache(plain, "--min-hit-rate", "0.7", "--json")
    assert short.exit_code == 1
    assert short.stderr == "semcache: the last hour's hit rate is 66.7%, below 70.0%.\n"
    assert json.loads(short.stdout)["cache"] == plain.name
    assert semcache(plain, "--min-hit-rate", "0.5").stderr == ""


def test_watching_shows_what_comes_and_walks_the_keys_once(searching: Served) -> None:
    assert searching.standin is not None
    work(searching)
    with searching.standin.counting() as seen:
        done = semcache(searching, "--watch", "--json", "--times", "3", "--interval", "0.1")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["fleet"]["windows"]["all"]["lookups"] for line in lines] == [6, 6, 6]
    assert lines[0]["at"] < lines[1]["at"] < lines[2]["at"]
    walks = [
        command for command in seen if command.name == "SCAN" and command.args[0] in (b"0", b"SCAN")
    ]
    assert len(walks) == 1
    assert {c.name for c in seen} & {"HSET", "HINCRBY", "EVALSHA", "EVAL"} == set(), (
        "nothing is written"
    )
    shown = semcache(searching, "--watch", "--times", "2", "--interval", "0.1")
    assert shown.exit_code == 0
    assert "66.7%" in shown.stdout
    assert "claude-sonnet-4-5" in shown.stdout
    # No terminal, so nothing to change: each look is printed, as it is for `| cat`.
    assert shown.stdout.count("hit rate ") == 2
    assert shown.stdout.count("Cache ") == 2


def test_a_long_model_name_is_broken_at_its_hyphens(plain: Served) -> None:
    name = "anthropic/claude-sonnet-4-5-20250929-[preview]"
    with SemanticCache(HashingEmbedder(), **plain.options | {"fleet_stats": True}) as cache:
        cache.lookup(Question(ASKED, model=name))
    lines = [line.split()[0] for line in printed(plain, 80) if line.strip()]
    at = lines.index("anthropic/claude-sonnet-")
    assert lines[at + 1] == "4-5-20250929-[preview]"


def test_the_embedding_models_name_and_id_are_whole_in_80_columns(plain: Served) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2/dimensions=384"
    with SemanticCache(HashingEmbedder(), **plain.options, embedding_id=name) as cache:
        cache.store(ASKED, "x" * 5000)
        (index,) = cache.indexes()
    command = ["stats", plain.url, "--name", plain.name]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "80"}).output.splitlines()
    assert max(len(line.rstrip()) for line in shown) <= 80
    at = shown.index(f"embedding model {name}")
    assert shown[at + 1].rstrip() == f"64 dimensions, id {index.id}"
    assert "memory each" in shown[at + 3]
    assert shown[at + 5].split()[:4] == ["flat", "1", "4.9", "KiB"]


def test_in_a_low_terminal_the_tables_at_the_top_are_whole(plain: Served) -> None:
    work(plain)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "valkey_semcache.cli", "stats", plain.url]
    process = subprocess.Popen(
        [*command, "--name", plain.name, "--watch", "--times", "1"],
        stdout=theirs,
        stdin=theirs,
        env={name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
        | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while more := os.read(ours, 4096):
            seen += more
    os.close(ours)
    assert process.wait(20) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).rsplit("Cache ", 1)[1]
    assert "breaker opened" in shown
    assert "claude-sonnet" not in shown
    assert shown.rstrip().endswith("More in a higher terminal, or without --watch.")


def test_what_fits_is_shown_whole() -> None:
    parts = [Text("a\nb"), Text("c\nd"), Text("e")]
    shown = {}
    for height in (5, 4, 3):
        console = Console(width=80, height=height, record=True, file=io.StringIO())
        console.print(Fitting(parts))
        shown[height] = console.export_text().split("\n")[:-1]
    assert shown[5] == ["a", "b", "c", "d", "e"]
    assert shown[4] == shown[3] == ["a", "b", "More in a higher terminal, or without --watch."]
