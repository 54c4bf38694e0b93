"""Every Python block of the README and of docs/ runs as it stands."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from valkey_semcache import SemanticCache
from valkey_semcache.options import Options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LANGCHAIN = (ROOT / "docs/langchain.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {page.name: found for page in PAGES if (found := FENCED.findall(page.read_text()))}

# Each block by itself, in the order of the page.
RUN = """
import json, sys
for number, block in enumerate(json.load(sys.stdin), 1):
    exec(compile(block, f"block {number}", "exec"), {"__name__": "__main__"})
    print("\\n--- done", flush=True)
"""


# What a comment says that a line prints; "…" stands for what may differ.
SAID = re.compile(
    r"\)  # (?:((?:exact|semantic|None|hit |miss |Hit\(|Miss\(|\{|\d).*)|an? (Hit|Miss)\b.*)$",
    re.MULTILINE,
)


@pytest.mark.parametrize("page", BLOCKS)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", RUN],
        input=json.dumps(BLOCKS[page]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # Where a block signs for a service, so that it does not look for a machine's own keys.
        env=os.environ | {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a secret"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    *outputs, _ = done.stdout.split("\n--- done\n")
    for block, output in zip(BLOCKS[page], outputs, strict=True):
        for told in SAID.findall(block):
            for part in "".join(told).split("…"):
                assert part.strip() in output, told


def test_the_table_of_options_is_complete_and_its_defaults_are_true() -> None:
    from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
    from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache

    section = README.split("\n## Options\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", section, re.MULTILINE)
    shown = {
        name: default
        for names, default in rows
        for name, default in zip(
            re.findall(r"`(\w+)`", names),
            default.split(", ") if "`, `" in names and ", " in default else [default] * 9,
            strict=False,
        )
    }
    options = defaults(SemanticCache)
    assert set(options) == set(shown)
    for name, default in options.items():
        if default not in (None, ()):
            text = (
                f"{default >> 20} MiB"
                if name in ("flat_max_bytes", "max_answer_bytes")
                else str(default)
            )
            assert shown[name].strip("`").strip('"') == text, name
    handed_on = set(Options.__annotations__)
    langchain_only = {n: d for n, d in defaults(LangChainCache).items() if n in LANGCHAIN_ONLY}
    assert rows_of("## Options of its own") == as_shown(langchain_only)
    for cache in (LangChainCache, LlamaIndexCache):
        own = {n: d for n, d in defaults(cache).items() if n not in LANGCHAIN_ONLY}
        assert own.items() <= options.items()
        assert set(own) | handed_on == set(options) - {"codec"}


LANGCHAIN_ONLY = {"question_from", "context", "cache_tool_calls", "usage_on_hit"}


def test_the_table_of_cached_and_the_middleware_is_complete_and_its_defaults_are_true() -> None:
    from langchain_valkey_semcache import SemanticCacheMiddleware, cached

    rows = rows_of("## Streaming")
    assert rows == as_shown(defaults(cached)) == as_shown(defaults(SemanticCacheMiddleware))


def rows_of(section: str) -> dict[str, str]:
    """The table in a section of the page on LangChain: names and defaults."""
    table = LANGCHAIN.split(f"{section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| (`\w+`) \| (.*?) \|", table, re.MULTILINE))


def as_shown(options: dict[str, object]) -> dict[str, str]:
    """Options as a table shows them."""
    return {
        f"`{name}`": "none" if default is None else f"`{default!r}`".replace("'", '"')
        for name, default in options.items()
    }


def defaults(cache: Callable[..., object]) -> dict[str, object]:
    """The optional arguments of a cache, or of what takes one."""
    parameters = inspect.signature(cache).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
