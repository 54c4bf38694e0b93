"""From `import` of an adapter to the first constructed cache, in fresh processes.

Rule of this file: what the adapter loads of its framework is loaded before the clock starts, and
what that leaves to the garbage collector is collected; nothing else is. The modules are compiled
before, as those of an installed package are. Of several processes the fastest counts: the others
waited for something.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_ADAPTERS = {
    "LangChain": ("langchain_valkey_semcache", ("langchain_core", "langchain")),
    "LlamaIndex": ("llama_index_valkey_semcache", ("llama_index",)),
}

_LOADED = """
import json, sys
import {adapter} as adapter
class Model:
    model = "m"
    def embed(self, texts): ...
adapter.ValkeySemanticCache(Model(), "valkey://localhost:1")
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in {framework}]))
"""

_TIMED = """
import gc, importlib, json, sys, time
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
gc.collect()
class Model:
    model = "m"
    def embed(self, texts): ...
wall, cpu = time.perf_counter(), time.process_time()
import {adapter} as adapter
adapter.ValkeySemanticCache(Model(), "valkey://localhost:1")
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def adapter_import(framework: str, processes: int) -> dict[str, Any]:
    """Milliseconds, the least of several processes, by the clock and of processor time."""
    adapter, packages = _ADAPTERS[framework]
    names = _run(_LOADED.format(adapter=adapter, framework=packages))
    runs = [
        json.loads(_run(_TIMED.format(adapter=adapter), names)) for _ in range(max(1, processes))
    ]
    wall, cpu = (1000 * min(times) for times in zip(*runs, strict=True))
    return {"ours": {"wall": wall, "cpu": cpu}, "processes": processes}


def _run(script: str, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout
