"""`SemanticCacheLLM` as an object: copied, pickled, written down, and the inner model shining
through."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, SerializeAsAny

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


@pytest.fixture
def shared(plain: Served) -> Iterator[ValkeySemanticCache]:
    with ValkeySemanticCache(HashingEmbedding(), **plain.options) as cache:
        yield cache


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda llm: llm.model_copy()])
def test_a_copy_shares_the_cache(shared: ValkeySemanticCache, copied: Any) -> None:
    llm = SemanticCacheLLM(CountingLLM(), shared, namespace="acme", threshold=0.9)
    llm.complete(ASKED)
    other = copied(llm)
    assert type(other) is SemanticCacheLLM
    assert other.cache is shared
    assert other.complete(REWORDED).additional_kwargs["semantic_cache"]
    assert other.temperature == 0.0


def test_a_deep_copy_has_a_model_of_its_own(shared: ValkeySemanticCache) -> None:
    llm = SemanticCacheLLM(CountingLLM(), shared)
    other = copy.deepcopy([llm, llm])
    assert other[0] is other[1]
    other[0].temperature = 0.5
    assert (llm.temperature, other[0].inner.temperature) == (0.0, 0.5)


def test_pickling_drops_the_cache_and_says_so(
    shared: ValkeySemanticCache, caplog: pytest.LogCaptureFixture
) -> None:
    llm = SemanticCacheLLM(CountingLLM(temperature=0.3), shared, namespace="acme")
    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        other = pickle.loads(pickle.dumps(llm))
    assert "is pickled without its cache" in caplog.text
    assert llm.cache is shared
    assert other.cache is None
    assert other.temperature == 0.3
    for _ in range(2):
        assert "semantic_cache" not in other.complete(ASKED).additional_kwargs
    assert other.calls == 2
    other.cache = shared
    other.complete(ASKED)
    assert other.complete(REWORDED).additional_kwargs["semantic_cache"]
    assert other.calls == 3
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(llm))))
    assert again.cache is None
    with pytest.raises(ValueError, match="cache= takes"):
        other.cache = "valkey://h"


class Holder(BaseModel):
    """Something of LlamaIndex's that has an LLM as a field."""

    llm: SerializeAsAny[Any]


def test_no_key_is_written_down(shared: ValkeySemanticCache) -> None:
    llm = SemanticCacheLLM(CountingLLM(), shared)
    assert llm.to_dict() == {
        "class_name": "SemanticCacheLLM",
        "llm": "custom_llm",
        "model": "counting",
    }
    written = [
        json.dumps(llm.to_dict()),
        llm.to_json(),
        json.dumps(llm.model_dump()),
        llm.model_dump_json(),
        str(llm.to_payload()),
        repr(llm),
        str(llm),
        str(Holder(llm=llm).model_dump()),
        Holder(llm=llm).model_dump_json(),
        str(llm.as_structured_llm(Holder).to_dict()),
        str(llm.__getstate__().keys()),
    ]
    for text in written:
        assert "planted" not in text
    assert repr(llm) == "SemanticCacheLLM(CountingLLM 'counting')"


def test_the_inner_models_attributes_shine_through(shared: ValkeySemanticCache) -> None:
    inner = CountingLLM(temperature=0.3)
    llm: Any = SemanticCacheLLM(inner, shared)
    assert (llm.name, llm.temperature, llm.calls) == ("counting", 0.3, 0)
    assert llm.metadata == inner.metadata
    for name, value in {
        "temperature": 0.5,
        "system_prompt": "Be brief.",
        "pydantic_program_mode": PydanticProgramMode.LLM,
        "query_wrapper_prompt": PromptTemplate("{query_str}"),
    }.items():
        setattr(llm, name, value)
        assert getattr(inner, name) is getattr(llm, name) is value
        setattr(inner, name, None)
        assert getattr(llm, name) is None
    assert not hasattr(llm, "no_such_thing")
    assert not hasattr(llm, "_no_such_thing")
    with pytest.raises(ValueError, match="no_such_thing"):
        llm.no_such_thing = 5


def test_it_is_taken_wherever_an_llm_is(shared: ValkeySemanticCache) -> None:
    llm = SemanticCacheLLM(CountingLLM(), shared)
    assert isinstance(llm, FunctionCallingLLM)
    assert FunctionAgent(llm=llm, tools=[]).llm is llm
    assert not llm.metadata.is_function_calling_model


def test_a_subclass_of_ones_own(shared: ValkeySemanticCache) -> None:
    class Mine(SemanticCacheLLM):
        volume: int = 5

        @property
        def shout(self) -> str:
            return str(self.name).upper()

    llm = Mine(CountingLLM(), shared)
    llm.complete(ASKED)
    assert llm.complete(REWORDED).additional_kwargs["semantic_cache"]
    assert (llm.shout, copy.deepcopy(llm).shout) == ("COUNTING", "COUNTING")
    assert type(copy.copy(llm)) is Mine
    llm.volume = 11
    assert llm.volume == 11
    assert not hasattr(llm.inner, "volume")
