"""README and docs/ say what is there: links, commands, extras, figures, pictures, tokens."""

from __future__ import annotations

import gc
import re
import shlex
import tomllib
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import typer.main
from readme_renderer import markdown

from valkey_semcache import SemanticCache
from valkey_semcache.cli.app import app
from valkey_semcache.offline import MiniLM

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
    assert set(re.findall(r"^\| `semcache (\w+)` ", table, re.MULTILINE)) == set(COMMANDS)
    for name, command in COMMANDS.items():
        assert command.epilog.startswith(f"Example: semcache {name}")


def test_every_extra_and_target_that_is_shown_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    lines = shown("pip install")
    assert any("langchain" in line for line in lines)
    for names in re.findall(r"(?:valkey-semcache|\.)\[([^\]]*)\]", "\n".join(lines)):
        assert {name.strip() for name in names.split(",")} <= set(extras)
    table = (ROOT / "README.md").read_text().split("\n## Installing\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    of_ours = {"demo", "dev", "docs", "notebooks"}
    assert told == {name for name in extras if not name.startswith("test-")} - of_ours
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in shown("make "):
        assert line.split()[1] in targets


def rows(page: str) -> dict[str, list[str]]:
    """The figures of a page's tables by a row's name, as the first that has it says them."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("| "):
            name, *cells = (cell.strip(" *") for cell in line.strip("| ").split("|"))
            found.setdefault(name, cells)
    return found


DEFAULTS = "+ guards (the defaults)"


def test_the_limits_say_how_wrong_it_can_be() -> None:
    limits = (ROOT / "README.md").read_text().split("\n## Limits\n")[1]
    measured = rows("benchmarks/PRECISION.md")[DEFAULTS]
    report = (ROOT / "benchmarks/PRECISION.md").read_text().split("### 10,000 shuffled")[1]
    wrong = re.findall(r"^\| \+ guards .*$", report, re.MULTILINE)[0].split(" | ")[3]
    assert f"{measured[-2]} of the 364\n  hard negatives" in limits
    assert f"on Banking77 {wrong.split(';')[0].split(' / ')[1]} of all requests" in limits


def test_the_figures_of_precision_are_those_of_the_report() -> None:
    measured = rows("benchmarks/PRECISION.md")
    ours = {
        "the raw prompt embedded, as langchain-redis does": "the raw prompt",
        "the question's text embedded": "the question's text",
        "and exact features": "+ exact features",
        "and guards: the defaults": DEFAULTS,
        "and the guard `names`": "+ the guard `names`",
    }
    told = rows("docs/precision.md")
    for name, theirs in ours.items():
        assert told[name] == measured[theirs][-2:], name
    readme = " ".join((ROOT / "README.md").read_text().split())
    (raw, most), (left, answered) = measured["the raw prompt"][-2:], measured[DEFAULTS][-2:]
    assert f"lets {raw} wrong answers through" in readme
    assert f"the defaults let {left} through" in readme
    assert f"the defaults answer {answered}, the raw prompt {most}." in readme


def test_what_each_feature_and_guard_saves_is_that_of_the_report() -> None:
    measured, told = rows("benchmarks/PRECISION.md"), rows("docs/precision.md")
    named = [name for name in told if name.startswith(("features:", "guard:"))]
    assert len(named) == 10
    for name in named:
        assert told[name] == measured[name][:6], name


def test_the_figures_of_sizing_are_those_of_the_report() -> None:
    measured, told = rows("benchmarks/SIZING.md"), rows("docs/sizing.md")
    for dimensions in ("384", "768", "1,536", "3,072"):
        assert told[dimensions] == [cell.split(" ")[0] for cell in measured[dimensions]]


def test_what_differs_in_direction_only_is_as_near_as_the_documents_say() -> None:
    there, back = MiniLM().embed(["from Paris to Rome", "from Rome to Paris"])
    assert float(there @ back) > 0.99


def test_the_readme_renders_where_packages_are_shown() -> None:
    shown = markdown.render((ROOT / "README.md").read_text())
    assert shown is not None
    assert shown.count("<table>") == (ROOT / "README.md").read_text().count("\n|---")
    assert "<img" in shown


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
    gc.collect()  # what the document does not hold is gone when a token is needed
    user, token = names["tokens"].get_credentials()
    assert user == "semcache"
    assert token.startswith("my-cache/?Action=connect&User=semcache&X-Amz-")
    assert "X-Amz-Expires=900&" in token
    assert re.search(r"%2Feu-central-1%2Felasticache%2Faws4_request&", token)
    assert "a secret" not in token
    names["client"].close()


def test_every_metric_has_its_line() -> None:
    source = (ROOT / "shared/valkey_semcache/telemetry/otel.py").read_text()
    page = (ROOT / "docs/observability.md").read_text()
    made = set(re.findall(r'(?:counter|seconds|gauge)\(\s*"(semcache[\w.]+)"', source))
    assert len(made) > 10
    assert set(re.findall(r"^\| `(semcache\.[\w.]+)`", page, re.MULTILINE)) == made


def test_what_replaces_another_caches_arguments_is_there() -> None:
    from langchain_valkey_semcache import ValkeySemanticCache
    from llama_index_valkey_semcache import SemanticCacheLLM

    ours = (SemanticCache, ValkeySemanticCache, SemanticCacheLLM)
    calls = [*ours, *(getattr(kind, name) for kind in ours for name in dir(kind) if name[0] != "_")]
    names = {name for call in calls if callable(call) for name in signature(call).parameters}
    page = (ROOT / "docs/migration.md").read_text()
    cells = re.findall(r"^\| .* \| (.*) \|$", page, re.MULTILINE)
    assert len(cells) > 40
    for cell in cells:
        for code in re.findall(r"`([^`]+)`", cell):
            assert {*re.findall(r"\b(\w+)=", code)} <= names | {"cache"}, code
            for method in re.findall(r"^(\w+)\(", code):
                assert any(hasattr(kind, method) for kind in ours) or method in OTHERS, code


OTHERS = {"LocalTier", "ValkeySemanticCache", "embed", "aembed"}
