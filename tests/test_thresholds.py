"""Thresholds by rule: by model, by tenant, by a function, and for one call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from llama_index.core.llms.mock import MockLLM

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError, LocalTier, Question, SemanticCache, ThresholdRules
from valkey_semcache.rules.thresholds import Thresholds

STORED = "how do i reset the password of my account"
ASKED = "how do i reset the password of my own account"  # at 0.94
LOW, HIGH = 0.7, 0.99

Make = Callable[..., SemanticCache]


@pytest.fixture
async def make(either_index: Served) -> AsyncIterator[Make]:
    made: list[SemanticCache] = []

    def new(threshold: Any, **options: Any) -> SemanticCache:
        options = either_index.options | options
        made.append(SemanticCache(HashingEmbedder(), similarity_threshold=threshold, **options))
        return made[-1]

    yield new
    for cache in made:
        await cache.aclose()


async def found(way: Way, cache: SemanticCache, **question: Any) -> bool:
    """Whether another wording is served, one by one and in a batch."""
    cache.store(Question(STORED, **question), "x")
    asked = Question(ASKED, **question)
    one = bool(await way(cache.lookup, asked))
    assert [bool(each) for each in await way(cache.lookup_many, [asked])] == [one]
    return one


async def test_by_model(make: Make, way: Way) -> None:
    cache = make({"gpt-4o*": HIGH, "gpt-4o-mini": LOW, "*": HIGH})
    assert not await found(way, cache, model="gpt-4o")
    assert await found(way, cache, model="gpt-4o-mini", identity="mini")
    assert not await found(way, cache, identity="not known")


async def test_by_tenant_and_model_the_higher_counts(make: Make, way: Way) -> None:
    rules = ThresholdRules(LOW, models={"gpt-4*": HIGH}, namespaces={"bank": HIGH, "shop": LOW})
    cache = make(rules)
    assert not await found(way, cache, namespace="bank")
    assert await found(way, cache, namespace="shop")
    assert await found(way, cache, namespace="nobody's")
    assert not await found(way, cache, namespace="shop", model="gpt-4o", identity="other")
    with cache.namespace("bank"):
        assert not await way(cache.lookup, ASKED)
    assert not await way(cache.with_namespace("bank").lookup, ASKED)
    assert await way(cache.with_namespace("shop").lookup, ASKED)


async def test_by_a_function_of_the_question_with_its_tenant(make: Make, way: Way) -> None:
    asked: list[Question] = []

    def rule(question: Question) -> float:
        asked.append(question)
        return HIGH if "password" in question.text and question.namespace == "bank" else LOW

    cache = make(rule, namespace="bank")
    assert not await found(way, cache)
    assert await found(way, cache, namespace="shop")
    assert asked[0] == Question(ASKED, namespace="bank")


async def test_one_call_goes_before_every_rule(make: Make, way: Way) -> None:
    cache = make(lambda question: HIGH)
    cache.store(STORED, "x")
    assert not await way(cache.lookup, ASKED)
    assert await way(cache.lookup, ASKED, similarity_threshold=LOW)
    cache = make({"*": LOW})
    assert await way(cache.lookup, ASKED)
    assert not await way(cache.lookup, ASKED, similarity_threshold=HIGH)


@pytest.mark.parametrize("options", [{"promote": True}, {"local": LocalTier()}])
async def test_a_raised_threshold_holds_for_what_is_remembered(
    make: Make, way: Way, options: dict[str, Any]
) -> None:
    bar = LOW
    cache = make(lambda question: bar, **options)
    cache.store(STORED, "x")
    assert (await way(cache.lookup, ASKED)).tier == "semantic"
    assert (await way(cache.lookup, ASKED)).tier in ("exact", "local")
    bar = HIGH
    assert (await way(cache.lookup, ASKED)).reason == "below_threshold"
    assert await way(cache.lookup, STORED), "the very words are served whatever the threshold"
    bar = LOW
    assert await way(cache.lookup, ASKED)


def broken(question: Question) -> float:
    raise RuntimeError("the app's own rule is broken")


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (broken, "RuntimeError"),
        (lambda question: float("nan"), "ConfigurationError"),
        (lambda question: 1.1, "ConfigurationError"),
        (lambda question: None, "ConfigurationError"),
        (lambda question: "0.9", "ConfigurationError"),
    ],
)
async def test_a_rule_that_fails_is_a_miss(make: Make, way: Way, rule: Any, kind: str) -> None:
    cache = make(rule)
    cache.store(STORED, "x")
    assert (await way(cache.lookup, ASKED)).reason == "error"
    assert cache.stats().errors == {kind: 1}
    strict = make(rule, on_error="raise")
    with pytest.raises((RuntimeError, ConfigurationError)):
        await way(strict.lookup, ASKED)


async def test_whoever_waits_for_another_process_heeds_the_rule(make: Make) -> None:
    cache = make({"*": LOW})
    assert cache.get_or_call(STORED, lambda: "x", coalesce="fleet") == "x"
    assert cache.get_or_call(ASKED, lambda: "y", coalesce="fleet") == "x"
    cache = make({"*": HIGH})
    assert cache.get_or_call(ASKED, lambda: "y", coalesce="fleet") == "y"
    cache = make(broken)
    assert cache.get_or_call(ASKED + " now", lambda: "z", coalesce="fleet") == "z"


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        ({"gpt-4o": 0.9}, r"need one for '\*'"),
        ({"*": 2}, "takes a number from 0"),
        ({"*": 0.9, 5: 0.9}, "takes thresholds by name"),
        (float("nan"), "similarity_threshold=nan"),
        (-0.1, "takes a number from 0"),
        ("0.9", "takes a number from 0"),
        (None, "takes a number from 0"),
        (True, "takes a number from 0"),
    ],
)
def test_what_is_no_threshold_is_refused(threshold: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Thresholds(threshold)
    for rules in ({"default": float("nan")}, {"models": {"a": 2}}, {"namespaces": 0.9}):
        with pytest.raises(ConfigurationError, match="ThresholdRules"):
            ThresholdRules(**rules)


def test_rules_are_shown() -> None:
    def by_hour(question: Question) -> float:
        return 0.9

    assert repr(Thresholds(0.9)) == "0.9"
    assert repr(Thresholds(by_hour)) == "by_hour"
    assert "namespaces={'bank': 0.95}" in repr(
        Thresholds(ThresholdRules(namespaces={"bank": 0.95}))
    )
    options = {"similarity_threshold": {"*": 0.8}}
    assert "{'*': 0.8}" in repr(SemanticCache(HashingEmbedder(), "valkey://x", **options))


# The frameworks


async def test_in_langchain_by_model(either_index: Served, way: Way) -> None:
    class Named(FakeListChatModel):
        model_name: str = ""

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return super()._identifying_params | {"model_name": self.model_name}

    rules = {"strict*": HIGH, "*": LOW}
    async with LangChainCache(
        HashingEmbeddings(), similarity_threshold=rules, **either_index.options
    ) as cache:
        set_llm_cache(cache)
        try:
            for name, served in (("strict-1", False), ("other", True)):
                model = Named(responses=["one", "two"], model_name=name)
                await way(model.invoke, STORED)
                answer = await way(model.invoke, ASKED)
                assert ("semantic_cache" in answer.response_metadata) is served
        finally:
            set_llm_cache(None)


async def test_in_llama_index_by_tenant(either_index: Served, way: Way) -> None:
    rules = ThresholdRules(LOW, namespaces={"bank": HIGH})
    async with LlamaIndexCache(
        HashingEmbedding(), similarity_threshold=rules, **either_index.options
    ) as cache:
        for namespace, served in (("bank", False), ("shop", True)):
            llm = SemanticCacheLLM(MockLLM(), cache, namespace=namespace)
            await way(llm.complete, STORED)
            answer = await way(llm.complete, ASKED)
            assert ("semantic_cache" in answer.additional_kwargs) is served
