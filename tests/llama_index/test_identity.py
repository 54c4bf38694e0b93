"""Which model is which: by class, name and parameters, in every process alike."""

from __future__ import annotations

import copy
import dataclasses
import logging
import subprocess
import sys
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.mock import MockLLM
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, SecretStr

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.identity import UnnamableError, model_identity
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, EchoLLM

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def user(text: str, *before: ChatMessage) -> list[ChatMessage]:
    return [*before, ChatMessage(role="user", content=text)]


async def test_models_and_parameters_never_meet(cache: ValkeySemanticCache, way: Way) -> None:
    inners = [CountingLLM(), CountingLLM(name="other"), CountingLLM(temperature=0.5)]
    for inner in inners:
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED))
        await way(SemanticCacheLLM(inner, cache).chat, user(REWORDED))
        assert inner.calls == 1
    inner = CountingLLM()
    for number, call in enumerate([{"top_p": 0.1}, {"top_p": 0.2}], 1):
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED), **call)
        await way(SemanticCacheLLM(inner, cache).chat, user(REWORDED), **call)
        assert inner.calls == number


async def test_secrets_and_time_limits_are_no_part_of_a_model(
    cache: ValkeySemanticCache, way: Way
) -> None:
    await way(SemanticCacheLLM(CountingLLM(), cache).chat, user(ASKED))
    other = CountingLLM(api_key="sk-another", timeout=1)
    await way(SemanticCacheLLM(other, cache).chat, user(ASKED))
    assert other.calls == 0
    elsewhere = CountingLLM(base_url="http://elsewhere")
    await way(SemanticCacheLLM(elsewhere, cache).chat, user(ASKED))
    assert elsewhere.calls == 1


class Odd:
    """What has no faithful name."""


async def test_what_cannot_be_named_or_read_is_not_cached(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM(extra=Odd())
    llm = SemanticCacheLLM(inner, cache)
    for _ in range(2):
        await way(llm.chat, user(ASKED))
    assert inner.calls == 2
    assert cache.stats().misses == {"not_cacheable": 2}
    named = SemanticCacheLLM(inner, cache, model_id="mine")
    for _ in range(2):
        await way(named.chat, user(ASKED))
    assert inner.calls == 3
    odd = ChatMessage(role="system", content="x", additional_kwargs={"odd": Odd()})
    for _ in range(2):
        await way(named.chat, user(ASKED, odd))
    assert inner.calls == 5


async def test_words_in_a_schema_are_no_secrets(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for word in ("author", "timeout", "api_key"):
        schema = {"type": "object", "properties": {word: {"type": "string"}}}
        await way(llm.chat, user(ASKED), response_format=schema)
    assert inner.calls == 3


async def test_parameters_in_private_attributes_count(cache: ValkeySemanticCache, way: Way) -> None:
    cold, hot = CountingLLM(), CountingLLM()
    hot._finish = "stopped"
    for inner in (cold, hot):
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED))
        assert inner.calls == 1


@dataclasses.dataclass
class Knobs:
    heat: float = 0.0


class KeepsToItself(MockLLM):
    """Holds a parameter, a record of its calls and a client where no field shows them."""

    _kept: Any = PrivateAttr(default=None)
    _record: Any = PrivateAttr(default_factory=list)
    _machine: Any = PrivateAttr(default_factory=Odd)

    @classmethod
    def holding(cls, kept: Any, record: Any = None) -> KeepsToItself:
        llm = cls()
        llm._kept = kept
        llm._record = [] if record is None else record
        return llm

    @property
    def calls(self) -> int:
        return len(self._record)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        if isinstance(self._record, set):
            self._record.add(len(self._record))
        elif isinstance(self._record, dict):
            self._record[str(len(self._record))] = prompt
        else:
            self._record.append(prompt)
        return CompletionResponse(text=f"{self._kept}")


PRIVATE = [
    (["a"], ["b"]),
    ({"heat": 1}, {"heat": 2}),
    ({"a"}, {"b"}),
    ((1, 2), (2, 1)),
    (Knobs(0.1), Knobs(0.2)),
    (CountingLLM(name="one"), CountingLLM(name="other")),
]


@pytest.mark.parametrize(("one", "other"), PRIVATE, ids=lambda value: type(value).__name__)
async def test_whatever_data_a_model_keeps_to_itself_counts(
    cache: ValkeySemanticCache, way: Way, one: Any, other: Any
) -> None:
    for kept in (one, other):
        inner = KeepsToItself.holding(kept)
        for _ in range(2):
            answer = await way(SemanticCacheLLM(inner, cache).complete, ASKED)
            assert answer.text == str(kept)
        assert inner.calls == 1
    again = KeepsToItself.holding(one)
    assert (await way(SemanticCacheLLM(again, cache).complete, ASKED)).text == str(one)
    assert again.calls == 0, "an equal model in another place shares"


@pytest.mark.parametrize("record", [list, dict, set])
async def test_a_record_of_calls_does_not_count(
    cache: ValkeySemanticCache, way: Way, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inner = KeepsToItself.holding("x", record())
    llm = SemanticCacheLLM(inner, cache)
    for asked in (ASKED, "what is the tallest mountain of the world", ASKED):
        await way(llm.complete, asked)
    twin = copy.deepcopy(llm)
    await way(twin.complete, ASKED)
    await way(SemanticCacheLLM(inner, cache).complete, ASKED)
    assert (inner.calls, cache.stats().hits) == (2, {"exact": 3})
    assert not caplog.records


async def test_secrets_in_what_a_model_keeps_to_itself_do_not_count(
    cache: ValkeySemanticCache, way: Way
) -> None:
    for number in (1, 2):
        inner = KeepsToItself.holding({"api_key": f"sk-{number}", "heat": 1})
        await way(SemanticCacheLLM(inner, cache).complete, ASKED)
        assert inner.calls == 2 - number


async def test_one_warning_says_what_has_no_name(
    cache: ValkeySemanticCache, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    llm = SemanticCacheLLM(CountingLLM(extra={"odd": Odd()}), cache)
    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        for asked in (ASKED, REWORDED):
            await way(llm.chat, user(asked))
    (record,) = caplog.records
    assert "extra.odd is a Odd" in record.getMessage()
    assert "model_id=" in record.getMessage()
    assert " at 0x" not in record.getMessage()


async def test_a_model_that_changes_when_asked_is_told_of(
    cache: ValkeySemanticCache, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    class Growing(EchoLLM):
        seen_so_far: int = 0

        def _answer(self, prompt: str) -> str:
            self.seen_so_far += 1
            return super()._answer(prompt)

    with caplog.at_level(logging.WARNING, "valkey_semcache"):
        llm = SemanticCacheLLM(Growing(), cache)
        for _ in range(3):
            await way(llm.chat, user(ASKED))
    (record,) = caplog.records
    assert "Growing changes its seen_so_far when it is asked" in record.getMessage()


@pytest.mark.parametrize("name", ["calls", "_calls", "call_count", "num_calls", "counter"])
async def test_a_count_of_calls_is_no_parameter(
    cache: ValkeySemanticCache, way: Way, name: str
) -> None:
    kind: Any = type(
        "Counting",
        (MockLLM,),
        {"__annotations__": {name: int}, name: 0, "__module__": __name__},
    )
    inner = kind()
    assert (name in kind.model_fields) != name.startswith("_")
    llm = SemanticCacheLLM(inner, cache)
    for _ in range(3):
        await way(llm.chat, user(ASKED))
        setattr(inner, name, getattr(inner, name) + 1)
    assert cache.stats().hits == {"exact": 2}


async def test_a_parameter_set_through_the_cache_counts(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    await way(llm.chat, user(ASKED))
    llm.temperature = 0.7
    assert inner.temperature == llm.temperature == 0.7
    await way(llm.chat, user(ASKED))
    assert inner.calls == 2


async def test_an_output_parser_is_no_parameter_of_the_model(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM(output_parser=PydanticOutputParser(Schema))
    llm = SemanticCacheLLM(inner, cache)
    for _ in range(2):
        await way(llm.chat, user(ASKED))
    assert inner.calls == 1


class Schema(BaseModel):
    text: str


IN_ANOTHER_PROCESS = """
from tests.llama_index.models import CountingLLM
from tests.llama_index.test_identity import everything, call
from llama_index_valkey_semcache.identity import model_identity
print(model_identity(CountingLLM(extra=everything()), call()))
"""


def everything() -> dict[str, Any]:
    """One of each kind of thing that has a name, in an order of its own."""
    tool = FunctionTool.from_defaults(named)
    inner = MockLLM(max_tokens=5)
    pair = [("b", [1, None, True]), ("a", "x"), ("f", named), ("s", Schema), ("t", tool)]
    pair += [("m", inner), ("o", Schema(text="x")), ("k", SecretStr("sk-planted-secret"))]
    return dict(pair[:: 1 if __name__ == "__main__" else -1])


def call() -> dict[str, Any]:
    return {"top_p": 0.5, "timeout": 5, "extra_headers": {"x": "planted"}, "tools": [everything]}


def named(a: int = 1) -> int:
    """A function with a name."""
    return a


def test_an_identity_is_equal_in_two_processes_and_holds_no_secret() -> None:
    identity = model_identity(CountingLLM(extra=everything()), call())
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == identity
    for absent in ("planted", "private", "timeout", " at 0x"):
        assert absent not in identity


MAIN = """
from tests.llama_index.models import CountingLLM
from llama_index_valkey_semcache.identity import model_identity
def prompt(messages):
    return {result}
print(model_identity(CountingLLM(messages_to_prompt=prompt), {{}}))
"""


def test_functions_of_a_script_are_told_apart_by_their_code() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", MAIN.format(result=result)], check=True, capture_output=True
        ).stdout
        for result in ("str(messages) + 'a'", "str(messages) + 'a'", "str(messages) + 'b'")
    ]
    assert printed[0] == printed[1] != printed[2]


def closure(odd: Any) -> Any:
    def inside() -> Any:
        return odd

    return inside


@pytest.mark.parametrize(
    "odd",
    [Odd(), lambda: None, closure(1), {1: 2}, [Odd()], {"a": Odd()}, Odd().__init__],
    ids=["object", "lambda", "closure", "keys", "list", "mapping", "method"],
)
def test_what_has_no_faithful_name_is_an_error(odd: Any) -> None:
    with pytest.raises(UnnamableError):
        model_identity(CountingLLM(extra=odd), {})
    with pytest.raises(UnnamableError):
        model_identity(CountingLLM(), {"argument": odd})
