"""What a constructed cache has not loaded yet, and how it is loaded when it is used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_type_hints

import pytest

import langchain_valkey_semcache
import llama_index_valkey_semcache
import valkey_semcache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.waiting import PATIENT
from valkey_semcache import Miss, SemanticCache, embedding
from valkey_semcache.at_first_use import at_first_use

CONSTRUCTED = """
import json, sys
from {package} import {cache}
class Model:
    model = "m"
    def embed(self, texts): ...
{cache}(Model(), "valkey://localhost:1")
print(json.dumps(sorted(sys.modules)))
"""
LATER = {
    "numpy",
    "statistics",
    "valkey_semcache.explanation",
    "valkey_semcache.flow.clear",
    "valkey_semcache.flow.contents",
    "valkey_semcache.flow.explaining",
    "valkey_semcache.flow.sampling",
    "valkey_semcache.flow.verifying",
    "valkey_semcache.index.flat",
    "valkey_semcache.index.opening",
    "valkey_semcache.index.search",
    "valkey_semcache.precision.judges",
    "valkey_semcache.precision.learning",
    "valkey_semcache.precision.verified",
    "valkey_semcache.rules.now",
    "valkey_semcache.stored.carrying",
}
LLAMA_INDEX_ONES = {
    "llama_index_valkey_semcache.events",
    "llama_index_valkey_semcache.llm",
    "llama_index_valkey_semcache.query_engine",
}
PACKAGES = [valkey_semcache, langchain_valkey_semcache, llama_index_valkey_semcache]


@pytest.mark.parametrize(
    ("package", "cache", "later"),
    [
        ("valkey_semcache", "SemanticCache", LATER),
        ("langchain_valkey_semcache", "ValkeySemanticCache", LATER),
        # Its own framework loads these two.
        (
            "llama_index_valkey_semcache",
            "ValkeySemanticCache",
            LATER - {"numpy", "statistics"} | LLAMA_INDEX_ONES,
        ),
    ],
)
def test_a_constructed_cache_has_not_loaded_what_it_does_not_need_yet(
    package: str, cache: str, later: set[str]
) -> None:
    script = CONSTRUCTED.format(package=package, cache=cache)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert later & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_listed(package: object) -> None:
    names: list[str] = package.__all__  # type: ignore[attr-defined]
    assert set(names) <= set(dir(package))
    for name in names:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        _ = package.nothing  # type: ignore[attr-defined]


def test_annotations_of_what_is_loaded_later_can_be_read() -> None:
    hints = get_type_hints(SemanticCache.explain)
    assert hints["return"] is valkey_semcache.Explanation
    assert get_type_hints(SemanticCache.indexes)["return"] == list[valkey_semcache.StoredIndex]


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that takes its time to load: until somebody writes the file `go`."""
    (tmp_path / "slow_one.py").write_text(
        "import pathlib, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "with (here / 'loads').open('a') as loads: loads.write('x')\n"
        "while not (here / 'go').exists(): time.sleep(0.001)\n"
        "value = object()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_one", raising=False)
    return tmp_path


def loading(slow: Path) -> None:
    """Wait until it is being loaded."""
    while not (slow / "loads").exists():
        pass


def test_threads_that_use_it_at_once_get_the_same(slow: Path) -> None:
    later, found = at_first_use("slow_one"), []
    threads = [threading.Thread(target=lambda: found.append(later.value)) for _ in range(8)]
    for thread in threads:
        thread.start()
    loading(slow)
    assert found == []
    (slow / "go").touch()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert (slow / "loads").read_text() == "x"
    assert later.__dict__["value"] is found[0]  # from now on a plain attribute


def test_a_fork_in_the_middle_of_loading_leaves_a_child_that_can_use_it(slow: Path) -> None:
    later = at_first_use("slow_one")
    loader = threading.Thread(target=lambda: later.value)
    loader.start()
    loading(slow)
    threading.Timer(0.05, (slow / "go").touch).start()
    child = os.fork()  # waits for the loader, which the child does not have
    if child == 0:
        signal.alarm(20)
        os._exit(0 if (slow / "go").exists() and later.value else 1)
    assert os.waitpid(child, 0)[1] == 0
    loader.join(20)


WITHOUT_NAMES_OF_PACKAGES = """
import importlib, pkgutil, sys
packages = [importlib.import_module(name) for name in sys.argv[1:]]
for package in packages:
    later = set(package.__all__) - set(vars(package))
    def used(name, package=package.__name__, later=later):
        if name in later:
            raise RuntimeError(f"{package}.{name} is used while a module is being loaded")
        raise AttributeError(name)
    package.__getattr__ = used
for package in packages:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith("valkey_semcache.cli."):  # apps of their own
            try:
                importlib.import_module(module.name)
            except ImportError:  # of what not everybody has installed
                continue
            print(module.name)
"""


def test_no_module_uses_a_package_s_later_names_while_it_is_loaded() -> None:
    """Two threads that load parts of a package would wait for each other."""
    names = [package.__name__ for package in PACKAGES]
    script = [sys.executable, "-c", WITHOUT_NAMES_OF_PACKAGES, *names]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.stderr == ""
    assert {"valkey_semcache.drive", "llama_index_valkey_semcache.front"} <= set(
        done.stdout.split()
    )


LOADED_BY = """
import asyncio, sys, threading
from valkey_semcache import SemanticCache
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "valkey_semcache.index.opening"):
            print(name, threading.current_thread() is threading.main_thread())
class Model:
    model = "m"
    def embed(self, texts): return [[1.0, 2.0]]
sys.meta_path.insert(0, Finder())
async def main():
    async with SemanticCache(Model(), sys.argv[1], name=sys.argv[2]) as cache:
        print(await cache.alookup("what is a cache?"))
asyncio.run(main())
"""


def test_the_event_loop_does_not_load_what_comes_with_the_first_vector(plain: Served) -> None:
    script = [sys.executable, "-c", LOADED_BY, plain.url, plain.name]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:2] == ["numpy False", "valkey_semcache.index.opening False"]
    assert "no_neighbour" in done.stdout


async def test_what_cannot_be_loaded_is_a_counted_miss_and_tried_again(
    plain: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SemanticCache(HashingEmbedder(), plain.url, name=plain.name, **PATIENT)
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "valkey_semcache.vectors", None)
        broken.setattr(embedding, "vectors", at_first_use("valkey_semcache.vectors"))
        missed = await way(cache.lookup, "what is a cache?")
        assert isinstance(missed, Miss)
        assert missed.reason == "error"
        assert "valkey_semcache.vectors" in missed.detail
        assert not await way(cache.store, "what is a cache?", "a store")
        assert cache.stats().errors
    assert await way(cache.store, "what is a cache?", "a store")
    assert await way(cache.lookup, "what is a cache?")
    cache.close()
