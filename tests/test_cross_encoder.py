"""A cross-encoder as judge. The model itself is stood in for: it would need torch. What it is
asked, and what is made of its scores, is real."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.precision.judges import CrossEncoderJudge

STORED = "how do i convert a mile to a foot"
REWORDED = "how do i convert a mile to a foot please"
TURNED = "how do i convert a foot to a mile"


class CrossEncoder:
    """Gives what `predict` of sentence-transformers gives for models of one label: an array of
    float32, a score for each pair. Here, the share of places at which two texts have one word."""

    def __init__(self, name: str = "", shape: tuple[int, ...] = (-1,)) -> None:
        self.name = name
        self.shape = shape
        self.asked: list[list[tuple[str, str]]] = []

    def predict(self, pairs: list[tuple[str, str]], show_progress_bar: bool | None = None) -> Any:
        assert show_progress_bar is False
        self.asked.append(pairs)
        scores = [
            np.mean([x == y for x, y in zip(a.split(), b.split(), strict=False)]) for a, b in pairs
        ]
        return np.array(scores, dtype=np.float32).reshape(self.shape)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
async def test_questions_that_score_are_served_and_others_are_not(
    either_index: Served, way: Way, shape: tuple[int, ...]
) -> None:
    model = CrossEncoder(shape=shape)
    options = either_index.options | {"similarity_threshold": 0.7, "guards": ()}
    judge = CrossEncoderJudge(model, bar=0.9)
    async with SemanticCache(
        HashingEmbedder(), judge=judge, judge_below=1.0, on_error="raise", **options
    ) as cache:
        cache.store(STORED, "x")
        assert await way(cache.lookup, REWORDED)
        assert model.asked == [[(REWORDED, STORED), (STORED, REWORDED)]]
        assert (await way(cache.lookup, TURNED + " please")).reason == "judged"


def test_the_lower_score_of_both_orders_counts() -> None:
    class Lopsided(CrossEncoder):
        def predict(self, pairs: Any, show_progress_bar: bool | None = None) -> Any:
            return [0.9, 0.4]

    assert not CrossEncoderJudge(Lopsided(), bar=0.5).judge("a", "b", "c")
    assert CrossEncoderJudge(Lopsided(), bar=0.4).judge("a", "b", "c")


@pytest.mark.parametrize("scores", [[0.9], [[0.1, 0.9], [0.2, 0.8]], [float("nan"), 0.9], 0.9])
def test_what_is_not_one_score_for_a_pair_is_refused(scores: Any) -> None:
    class Odd(CrossEncoder):
        def predict(self, pairs: Any, show_progress_bar: bool | None = None) -> Any:
            return scores

    with pytest.raises(ConfigurationError, match="one number for each was expected"):
        CrossEncoderJudge(Odd()).judge("a", "b", "c")


def test_a_model_by_name_is_loaded_once_and_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def counted(name: str) -> CrossEncoder:
        made.append(name)
        return CrossEncoder(name)

    module = ModuleType("sentence_transformers")
    module.CrossEncoder = counted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    judge = CrossEncoderJudge("some/model", bar=0.9)
    assert made == []
    assert judge.judge("a b", "a b", "x")
    assert not judge.judge("a b", "b a", "x")
    judge.load()
    assert made == ["some/model"]
    assert repr(judge) == "CrossEncoderJudge('some/model', bar=0.9)"


def test_without_the_package_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from valkey_semcache.precision.judges import CrossEncoderJudge\n"
        "CrossEncoderJudge().judge('a', 'b', 'c')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'valkey-semcache[cross-encoder]'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [{"model": 5}, {"bar": float("nan")}, {"bar": "high"}, {"bar": True}]
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CrossEncoderJudge(**arguments)
