"""The notebooks as they are committed. That they run is shown by running them (nbmake)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.notebook_cells import NOTEBOOKS, code_of
from tests.openai_server import OpenAIServer


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_there_is_one_for_each_framework_and_then_by_theme() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names[:2] == ["1_langchain", "2_llama_index"]
    assert names[2:4] == ["3_which_questions_meet", "4_production"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_as_run_from_top_to_bottom(path: Path) -> None:
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for output in outputs(notebook)]
    assert "error" not in kinds
    assert {"display_data", "execute_result", "stream"} <= set(kinds)
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_warnings_and_no_paths_of_a_machine(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert [o for o in outputs(notebook) if o.get("name") == "stderr"] == []
    for output in outputs(notebook):
        output.get("data", {}).pop("image/png", None)
    assert (
        re.findall(r"/(?:root|home|tmp|usr|Users|work|opt|var)/|\w*Warning\b", str(notebook)) == []
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_hits_of_both_kinds(path: Path) -> None:
    shown = str(outputs(json.loads(path.read_text())))
    assert "exact hit" in shown
    assert "semantic hit" in shown


def test_with_a_key_the_first_one_asks_openais_models() -> None:
    """From its first cell to its last, by the real client."""
    code = "\n".join(code_of(NOTEBOOKS[0]))
    with OpenAIServer() as server:
        env = {"OPENAI_API_KEY": "sk-any", "OPENAI_BASE_URL": server.url, "MPLBACKEND": "agg"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        asked = {body["model"] for body in server.chats}
        questions = [body["messages"][-1]["content"] for body in server.chats]
    assert asked == {"gpt-4o-mini", "gpt-4.1-nano"}
    assert questions.count("Can you explain what Valkey is?") == 2, "once by each model"
    assert "semantic hit" in done.stdout
