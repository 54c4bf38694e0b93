"""README and docs/ say what is there: links, commands, extras, pictures, tokens."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from valkey_semcache.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose(page)):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def shown(prefix: str) -> list[str]:
    """Lines of shell blocks, and code in the text, that begin with a command."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.M | re.S):
            found += [line.removeprefix("$ ").partition(" #")[0] for line in block.splitlines()]
        found += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    return [line for line in found if line.startswith(prefix)]


def test_every_command_that_is_shown_can_be_given() -> None:
    lines = shown("semcache ")
    assert len(lines) > 10
    for line in lines:
        name, *words = shlex.split(line)[1:]
        if name == "COMMAND":
            continue
        assert name in COMMANDS, line
        options = {option for param in COMMANDS[name].params for option in param.opts}
        for word in words:
            if word.startswith("--") and word != "--help":
                assert word.partition("=")[0] in options, line


def test_every_command_has_its_line_and_an_example() -> None:
    table = (ROOT / "docs/cli.md").read_text()
    assert re.findall(r"^\| `semcache (\w+)` ", table, re.MULTILINE) == list(COMMANDS)
    for name, command in COMMANDS.items():
        assert command.epilog.startswith(f"Example: semcache {name}")


def test_every_extra_and_target_that_is_shown_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    lines = shown("pip install")
    assert any("langchain" in line for line in lines)
    for names in re.findall(r"valkey-semcache\[([^\]]*)\]", "\n".join(lines)):
        assert {name.strip() for name in names.split(",")} <= set(extras)
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in shown("make "):
        assert line.split()[1] in targets


def test_pictures_fetch_nothing() -> None:
    for picture in (ROOT / "docs/images").glob("*.svg"):
        text = picture.read_text()
        assert "url(http" not in text
        assert "href=" not in text
        assert len(text) < 50_000


def test_a_token_for_elasticache_is_signed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/servers.md").read_text(), re.M | re.S
    )
    names: dict[str, Any] = {}
    exec(block, names)  # a document's own code
    user, token = names["tokens"].get_credentials()
    assert user == "semcache"
    assert token.startswith("my-cache/?Action=connect&User=semcache&X-Amz-")
    assert "X-Amz-Expires=900&" in token
    assert re.search(r"%2Feu-central-1%2Felasticache%2Faws4_request&", token)
    assert "a secret" not in token
    names["client"].close()
