"""Every Python block of the README runs as it stands."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from valkey_semcache import SemanticCache

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {n}" for n in range(1, len(BLOCKS) + 1)])
def test_a_block_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", block],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    for comment in re.findall(r"print\(.*\)  # (exact)$", block, re.MULTILINE):
        assert done.stdout.splitlines()[-1] == comment


def test_the_table_of_options_is_complete_and_its_defaults_are_true() -> None:
    from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
    from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache

    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", README.split("## Options")[1], re.MULTILINE)
    shown = {
        name: default
        for names, default in rows
        for name, default in zip(
            re.findall(r"`(\w+)`", names),
            default.split(", ") if "`, `" in names and ", " in default else [default] * 9,
            strict=False,
        )
    }
    for cache in (SemanticCache, LangChainCache, LlamaIndexCache):
        parameters = inspect.signature(cache).parameters
        options = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
        options.pop("codec", None)
        assert set(options) == set(shown), cache
        for name, default in options.items():
            if default not in (None, ()):
                text = "256 MiB" if name == "flat_max_bytes" else str(default)
                assert shown[name].strip("`").strip('"') == text, name
