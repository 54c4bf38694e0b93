"""Every option out of range is refused at once, by name, with what is allowed."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
import valkey

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.embedding import embedding_identity
from valkey_semcache.options import Options

NAN = float("nan")

BAD = [
    ("similarity_threshold", [-0.01, 1.01, 90, "0.9", None, True, NAN]),
    ("ttl", [0, -1, "60", True, NAN, float("inf"), timedelta(0), timedelta(seconds=-1)]),
    ("ttl_jitter", [-0.1, 1, "0.1", None, True, NAN]),
    ("sliding", [None, 1, "no"]),
    ("max_age", [0, -1, "60", True, timedelta(0)]),
    ("models", ["gpt-4o*", [], [""], [5], 5]),
    ("should_cache", [True, "no"]),
    ("should_store", [True, "no"]),
    ("name", ["", "a:b", "a b", "a" * 65, "ä", None, 5, "a*", "a\n"]),
    ("namespace", [None, 5, b"acme"]),
    ("index", ["hnsw", "", None, 1]),
    ("timeout", [0, -1, "1", None, True, 10_000]),
    ("connect_timeout", [0, -1, "1", None]),
    ("embed_timeout", [0, -1, "1", True, 10_000]),
    ("algorithm", ["tree", "FLAT", None, True]),
    ("m", [1, 513, 16.0, "16", True]),
    ("ef_construction", [0, 4097, 1.5, "9", True]),
    ("ef_runtime", [0, 4097, 1.5, "9", True]),
    ("initial_cap", [0, -1, 1.5, "9", True, 2**31]),
    ("on_error", ["ignore", None, True]),
    ("max_semantic_chars", [-1, 1.5, "10", True, None]),
    ("volatile", ["abc", ["("], [1], 5]),
    ("features", [True, "numbers", ["numbers"]]),
    ("guards", ["polarity", True, 5, ["polarty"], [None], [5]]),
    ("store_questions", [None, 1, "no"]),
    ("promote", [None, 1, "no"]),
    ("refresh_after", [0, 1, -1, "0.8", True, NAN]),
    ("refresh", [True, "no", lambda question: "x"]),
    ("max_entries_per_namespace", [0, -1, 1.5, "10", True]),
    ("batch_window", [-1, 1001, "5", None, True, NAN]),
    ("compress_over", [-1, 1.5, "1k", True]),
    ("max_answer_bytes", [0, 1.5, "1M", None]),
    ("local", [True, 64, {"ttl": 30}]),
    ("digest_key", ["short", b"short", 5]),
    ("flat_max_bytes", [0, 1000, 1e9, "1G"]),
    ("on_event", ["print", 5, [print]]),
    ("telemetry", ["yes", 1, {"record_text": True}]),
    ("fleet_stats", [None, 1, "no"]),
    ("url", [5, b"valkey://h", "", "http://h", "valkey://h:port"]),
    ("client", ["valkey://h", 5, object()]),
    ("async_client", ["valkey://h", 5]),
    ("namespace_from", [True, "acme", 5]),
    ("embedding_id", ["", " ", 5, b"x", True]),
    ("codec", [5, "json", object()]),
    ("cluster", ["yes", None, 5, "Auto"]),
    ("judge", [True, "gpt", 5]),
    ("judge_below", [-0.1, 1.1, "x", True, NAN]),
    ("judge_timeout", [0, -1, "1", True, None, 10_000]),
    ("policy", [True, "verified", 5]),
    ("signing_key", ["short", 5, [], [None]]),
    ("encryption_key", ["short", 5, [], [None]]),
]

SECRET = ("digest_key", "signing_key", "encryption_key", "url", "client", "async_client", "judge")
"""Options whose errors name no value: it may be secret, or hold what is."""

AT_ODDS: list[dict[str, Any]] = [
    {"client": valkey.Valkey()},
    {"refresh": lambda question: "x"},
    {"guards": ["polarity"], "store_questions": False},
    {"judge": lambda *_: True, "store_questions": False},
    {"judge": lambda *_: True, "judge_below": 0.5},
    {"cluster": True, "url": "unix:///socket"},
    {"cluster": True, "url": "embedded://"},
    {"cluster": True, "url": "valkey://h/3"},
    {"index": "flat", "algorithm": "hnsw"},
    {"index": "flat", "m": 16},
    {"index": "flat", "initial_cap": 100},
    {"algorithm": "flat", "ef_runtime": 100},
]


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in BAD for value in values]
)
def test_a_bad_option_is_refused(option: str, value: Any) -> None:
    server = {} if option in ("url", "client", "async_client") else {"url": "valkey://h"}
    named = "URL|url=" if option == "url" else option
    with pytest.raises(ConfigurationError, match=named) as caught:
        SemanticCache(HashingEmbedder(), **server, **{option: value})
    assert isinstance(caught.value, ValueError)
    values = value if isinstance(value, list) and value and option == "guards" else [value]
    assert option in SECRET or repr(values[0]) in str(caught.value) or callable(value)


def test_no_option_is_left_out() -> None:
    options = set(inspect.signature(SemanticCache).parameters) - {"embedding"}
    assert options == {option for option, _ in BAD}


MISNAMED = [
    ("similarity_treshold", "Did you mean similarity_threshold="),
    ("name_space", "Did you mean namespace="),
    ("max_entries_per_tenant", "Did you mean max_entries_per_namespace="),
    ("redis_url", "Here it is url="),
    ("redis_client", "Here it is client=, a valkey.Valkey, or async_client="),
    ("distance_threshold", r"Here it is similarity_threshold=, which is 1 - distance .*0\.9 here"),
    ("score_threshold", r"For a similarity .* for a distance, .*1 - distance"),
    ("quantum", r"help\((Valkey)?SemanticCache\) tells which it has"),
]
CACHES: list[tuple[Any, Any]] = [
    (SemanticCache, HashingEmbedder),
    (LangChainCache, HashingEmbeddings),
    (LlamaIndexCache, HashingEmbedding),
]


@pytest.mark.parametrize(("name", "advice"), MISNAMED)
@pytest.mark.parametrize(("cache", "model"), CACHES)
def test_an_option_by_another_name_is_told_by_its_own(
    cache: Any, model: Any, name: str, advice: str
) -> None:
    said = rf"^{cache.__name__} has no option {name}=\. {advice}"
    with pytest.raises(TypeError, match=said):
        cache(model(), "valkey://h", **{name: 1})


def test_an_option_of_langchains_cache_is_told_by_its_own_name() -> None:
    with pytest.raises(TypeError, match=r"Did you mean usage_on_hit=\?"):
        LangChainCache(HashingEmbeddings(), "valkey://h", usage_on_hits="keep")  # type: ignore[call-arg]


@pytest.mark.parametrize(("cache", "model"), CACHES)
def test_an_option_that_is_handed_on_is_taken(cache: Any, model: Any) -> None:
    for option in Options.__annotations__:
        default = inspect.signature(SemanticCache).parameters[option].default
        cache(model(), "valkey://h", **{option: default})


@pytest.mark.parametrize("options", AT_ODDS, ids=" ".join)
def test_options_at_odds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SemanticCache(HashingEmbedder(), **{"url": "valkey://h"} | options)
    assert isinstance(caught.value, ValueError)
    said = str(caught.value)
    assert any(f"{option}=" in said for option in options) or "URL" in said


@pytest.mark.parametrize(
    "given",
    [
        {"similarity_threshold": 0},
        {"similarity_threshold": 1},
        {"ttl": None},
        {"ttl": timedelta(days=400)},
        {"name": "A-z_0.9"},
        {"namespace": "any text: {even} this\n"},
        {"max_semantic_chars": 0},
        {"digest_key": "sixteen letters!"},
    ],
)
def test_the_ends_of_ranges_are_allowed(given: dict[str, Any]) -> None:
    SemanticCache(HashingEmbedder(), "valkey://h", **given)


async def test_a_threshold_out_of_range_says_so(way: Way) -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"similarity_threshold=90 .* from 0 .* to 1"):
        SemanticCache(HashingEmbedder(), "valkey://h", similarity_threshold=90)
    with pytest.raises(ValueError, match=r"similarity_threshold=1\.5"):
        await way(cache.lookup, "a", similarity_threshold=1.5)
    with pytest.raises(ValueError, match="ttl=-5"):
        await way(cache.store, "a", "b", ttl=-5)


@pytest.mark.parametrize("question", [None, 5, b"bytes", ["a"]])
async def test_what_is_no_question_is_refused_not_cached(way: Way, question: Any) -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1")
    for call in (cache.lookup, cache.delete):
        with pytest.raises(ConfigurationError, match="A question is a string"):
            await way(call, question)
    with pytest.raises(ConfigurationError, match="A question is a string"):
        await way(cache.store, question, "x")


@pytest.mark.parametrize("part", ["text", "context", "identity", "model", "namespace"])
def test_parts_of_a_question_are_strings(part: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Question\({part}="):
        Question(**({"text": "a"} | {part: 5}))  # type: ignore[arg-type]


def test_a_namespace_that_is_no_string_is_refused() -> None:
    cache = SemanticCache(HashingEmbedder(), "valkey://h")
    with pytest.raises(ConfigurationError, match="namespace=None"):
        cache.with_namespace(None)  # type: ignore[arg-type]


# The embedding model's name


class Model:
    def embed(self, texts: list[str]) -> Any:
        raise AssertionError("no vector is measured for a name")


def named(**attributes: Any) -> Model:
    model = Model()
    model.__dict__.update(attributes)
    return model


@pytest.mark.parametrize(
    ("attributes", "identity"),
    [
        ({"model": "m"}, "Model/m"),
        ({"model_name": "m", "dimensions": 256}, "Model/m/dimensions=256"),
        ({"model_id": "m", "dimensions": None}, "Model/m"),
        ({"deployment": "d"}, "Model/d"),
        ({"model": "m", "deployment": "d"}, "Model/m/deployment=d"),
        ({"model": object(), "model_name": "m"}, "Model/m"),
    ],
)
def test_an_embedding_model_is_known_by_class_name_and_dimensions(
    attributes: dict[str, Any], identity: str
) -> None:
    assert embedding_identity(named(**attributes)) == identity


@pytest.mark.parametrize("attributes", [{}, {"model": ""}, {"model_name": "unknown"}])
def test_a_nameless_embedding_model_needs_an_id(attributes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Model names no model.*embedding_id="):
        SemanticCache(named(**attributes), "valkey://h")
    SemanticCache(named(**attributes), "valkey://h", embedding_id="mine")


def test_what_cannot_embed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"has no method embed\(texts\)"):
        SemanticCache(object(), "valkey://h")


async def test_entries_of_two_embedding_models_never_meet(plain: Served, way: Way) -> None:
    options = plain.options | {"on_error": "raise", "similarity_threshold": 0}
    async with (
        SemanticCache(HashingEmbedder(), embedding_id="one", **options) as one,
        SemanticCache(HashingEmbedder(), embedding_id="other", **options) as other,
    ):
        await way(one.store, "asked", "x")
        assert not await way(other.lookup, "asked")
        assert not await way(other.lookup, "asked again")
        assert await way(one.lookup, "asked again")
