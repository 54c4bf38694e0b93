"""LangChain with the cache in front: real clients, real HTTP, model calls counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from langchain_valkey_semcache import MiniLMEmbeddings, ValkeySemanticCache
from langchain_valkey_semcache.answers import reason_not_to_store
from langchain_valkey_semcache.codec import GenerationCodec
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import ConfigurationError, NotStorableError, UnreadableError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
async def cache(either_index: Served) -> AsyncIterator[ValkeySemanticCache]:
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        set_llm_cache(cache)
        yield cache
        set_llm_cache(None)


def chat_model(openai: OpenAIServer, **options: Any) -> ChatOpenAI:
    openai.chats.clear()
    options = {"model": "gpt-4o-mini", "max_retries": 0} | options
    return ChatOpenAI(base_url=openai.url, api_key="sk-planted-secret", **options)


async def test_set_llm_cache_is_all_it_takes(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    again = await way(model.invoke, ASKED)
    reworded = await way(model.invoke, REWORDED)
    assert first.content == again.content == reworded.content == f"gpt-4o-mini at None on: {ASKED}"
    assert len(openai.chats) == 1
    assert "semantic_cache" not in first.response_metadata
    note = again.response_metadata["semantic_cache"]
    assert (note["tier"], note["similarity"], note["question"]) == ("exact", 1.0, ASKED)
    note = reworded.response_metadata["semantic_cache"]
    assert note["tier"] == "semantic"
    assert 0.9 <= note["similarity"] < 1
    await way(model.invoke, "which wine goes with fish")
    assert len(openai.chats) == 2
    assert cache.stats().hits == {"exact": 1, "semantic": 1}
    assert cache.stats().saved_tokens["total_tokens"] == 32


async def test_different_models_and_parameters_never_meet(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    models = [
        chat_model(openai),
        chat_model(openai, model="gpt-5"),
        chat_model(openai, temperature=0.1),
        chat_model(openai, temperature=0.2),
        chat_model(openai).bind(stop=["\n"]),
    ]
    for number, model in enumerate(models, 1):
        await way(model.invoke, ASKED)
        assert len(openai.chats) == number
    answers = [(await way(model.invoke, REWORDED)).content for model in models]
    assert len(openai.chats) == len(models)
    assert len(set(answers)) == len(models) - 1  # the server does not see `stop`


async def test_a_follow_up_hits_only_in_its_own_conversation(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    paris = [HumanMessage("Capital of France?"), AIMessage("Paris.")]
    rome = [HumanMessage("Capital of Italy?"), AIMessage("Rome.")]
    await way(model.invoke, [*paris, HumanMessage("how many people live there")])
    await way(model.invoke, [*rome, HumanMessage("how many people live there")])
    assert len(openai.chats) == 2
    await way(model.invoke, [*paris, HumanMessage("how many people live there ?")])
    assert len(openai.chats) == 2


async def test_unrelated_questions_under_one_long_system_prompt_miss(
    openai: OpenAIServer, either_index: Served, way: Way
) -> None:
    """Embedded whole, such prompts are all alike; here only the question is embedded."""
    system = SystemMessage("You are the helpful assistant of a large bank. " * 42)
    model = chat_model(openai)
    questions = ["Why is the sky blue?", "How do I reset my password?", "Who wrote Faust?"]
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(MiniLMEmbeddings(), **options) as cache:
        set_llm_cache(cache)
        for number, question in enumerate(questions, 1):
            await way(model.invoke, [system, HumanMessage(question)])
            assert len(openai.chats) == number
        reworded = await way(model.invoke, [system, HumanMessage("What makes the sky blue?")])
        set_llm_cache(None)
    assert reworded.response_metadata["semantic_cache"]["question"] == questions[0]
    assert len(openai.chats) == len(questions)


async def test_embeddings_of_openai(openai: OpenAIServer, plain: Served, way: Way) -> None:
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=openai.url,
        api_key="sk-planted-secret",
        check_embedding_ctx_length=False,
    )
    openai.embeddings.clear()
    model = chat_model(openai)
    async with ValkeySemanticCache(embeddings, **plain.options, on_error="raise") as cache:
        model.cache = cache
        await way(model.invoke, ASKED)
        await way(model.invoke, ASKED)
        assert len(openai.embeddings) == 1
        hit = await way(model.invoke, REWORDED)
        assert hit.response_metadata["semantic_cache"]["tier"] == "semantic"
        assert len(openai.embeddings) == 2
        assert len(openai.chats) == 1
        everything = b"".join(
            key + b"".join(plain.admin.hvals(key))
            for key in plain.admin.scan_iter(f"{plain.name}:*", _type="hash")
        )
        assert b"planted" not in everything + repr(cache).encode()


async def test_tokens_of_a_hit_are_reported_as_not_spent(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    hit = await way(model.invoke, ASKED)
    assert first.usage_metadata["total_tokens"] == 16
    assert hit.usage_metadata["total_tokens"] == 0
    assert hit.response_metadata["semantic_cache"]["usage"]["total_tokens"] == 16


async def test_each_hit_is_a_new_object(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.invoke, ASKED)
    one = await way(model.invoke, ASKED)
    one.content = "spoilt"
    one.response_metadata.clear()
    other = await way(model.invoke, ASKED)
    assert other.content.startswith("gpt-4o-mini")
    assert one.id is other.id is None, "an old id makes LangGraph replace the earlier message"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [("use the tool", "tool calls"), ("be cut off please", "finish_reason length")],
)
async def test_answers_not_to_be_given_to_others_are_not_stored(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way, asked: str, reason: str
) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    model = chat_model(openai).bind_tools([tool])
    await way(model.invoke, asked)
    again = await way(model.invoke, asked)
    assert len(openai.chats) == 2
    assert "semantic_cache" not in again.response_metadata
    assert cache.stats().not_stored == {reason: 2}


async def test_several_generations_stay_apart(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai, n=2, temperature=1)
    first = await way(model.generate, [[HumanMessage(ASKED)]])
    again = await way(model.generate, [[HumanMessage(REWORDED)]])
    assert len(first.generations[0]) == len(again.generations[0]) == 2
    assert len(openai.chats) == 1


async def test_batches(openai: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    model = chat_model(openai)
    questions = [f"question {letter * 3}" for letter in "abcdefghij"]
    answers = await way(model.batch, questions)
    again = await way(model.batch, questions)
    assert [a.content for a in answers] == [a.content for a in again]
    assert len(openai.chats) == len(questions)


async def test_completion_models(cache: ValkeySemanticCache, way: Way) -> None:
    model = FakeListLLM(responses=["one", "two", "three"])
    assert await way(model.invoke, ASKED) == "one"
    assert await way(model.invoke, ASKED) == "one"
    assert await way(model.invoke, REWORDED) == "one"
    assert await way(model.invoke, "which wine goes with fish") == "two"


async def test_a_dead_server_does_not_break_the_call(openai: OpenAIServer, way: Way) -> None:
    model = chat_model(openai)
    async with ValkeySemanticCache(HashingEmbeddings(), "valkey://127.0.0.1:1") as cache:
        model.cache = cache
        for number in (1, 2):
            assert (await way(model.invoke, ASKED)).content.endswith(ASKED)
            assert len(openai.chats) == number


async def test_tenants(openai: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    acme = chat_model(openai, cache=cache.with_namespace("acme"))
    globex = chat_model(openai, cache=cache.with_namespace("globex"))
    await way(acme.invoke, ASKED)
    await way(globex.invoke, ASKED)
    assert len(openai.chats) == 2
    await way(acme.invoke, REWORDED)
    assert len(openai.chats) == 2
    await way(cache.clear, namespace="acme")
    await way(globex.invoke, REWORDED)
    assert len(openai.chats) == 2
    await way(acme.invoke, REWORDED)
    assert len(openai.chats) == 3


async def test_clearing_by_model_and_llm_string(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    one, other = chat_model(openai), chat_model(openai, model="gpt-5")
    for model in (one, other):
        await way(model.invoke, ASKED)
    await way(cache.clear, model="gpt-5")
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 2
    await way(other.invoke, ASKED)
    assert len(openai.chats) == 3
    await way(cache.clear, llm_string=one._get_llm_string())
    await way(other.invoke, ASKED)
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 4
    with pytest.raises(TypeError, match="namspace"):
        await way(cache.clear, namspace="acme")
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 4


async def test_what_cannot_be_read_is_not_cached_and_does_not_fail(
    cache: ValkeySemanticCache, way: Way
) -> None:
    prompt = '[{"lc": 1, "type": "not_implemented", "id": ["x"], "repr": "<X at 0x1>"}]'
    assert await way(cache.lookup, prompt, "llm") is None
    await way(cache.update, prompt, "llm", [Generation(text="x")])
    assert await way(cache.lookup, prompt, "llm") is None
    assert cache.stats().misses == {"not_cacheable": 2}
    assert cache.stats().not_stored == {"unreadable prompt or answer": 1}


def test_wrong_embeddings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a LangChain Embeddings, not str"):
        ValkeySemanticCache("text-embedding-3-small", "valkey://h")


# The codec

CODEC = GenerationCodec()

ROUND_TRIPS: list[list[Generation]] = [
    [Generation(text="a")],
    [Generation(text="", generation_info={"reason": "x", "n": None})],
    [ChatGeneration(message=AIMessage("a"))],
    [ChatGeneration(message=AIMessage("a", name="bob"), generation_info={"finish_reason": "stop"})],
    [ChatGeneration(message=AIMessage([{"type": "text", "text": "a"}, "b"]))],
    [
        ChatGeneration(
            message=AIMessage(
                "a",
                additional_kwargs={"refusal": None, "reasoning": {"x": [1, 2.5, "\ud800"]}},
                response_metadata={"model_name": "m", "logprobs": {"content": [{"t": -0.1}]}},
                usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            )
        )
    ],
    [
        ChatGeneration(
            message=AIMessage(
                "",
                tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}],
                invalid_tool_calls=[
                    {
                        "name": "g",
                        "args": "{",
                        "id": "d",
                        "error": "bad",
                        "type": "invalid_tool_call",
                    }
                ],
            )
        )
    ],
]


@pytest.mark.parametrize("generations", ROUND_TRIPS)
def test_generations_come_back_as_they_were(generations: list[Generation]) -> None:
    assert CODEC.decode(CODEC.encode(generations)) == generations


def test_ids_are_not_kept_and_chunks_are_folded() -> None:
    chunk = ChatGenerationChunk(message=AIMessageChunk("a", id="run-1"))
    (generation,) = CODEC.decode(CODEC.encode([chunk]))
    assert generation == ChatGeneration(message=AIMessage("a"))
    assert type(generation.message) is AIMessage  # type: ignore[attr-defined]
    assert generation.message.id is None  # type: ignore[attr-defined]


class Person(BaseModel):
    full_name: str = Field(alias="name")


class Lossy(BaseModel):
    secret: str = Field("x", exclude=True)


def test_a_structured_answer_is_stored_as_its_class_takes_it_back() -> None:
    message = AIMessage("{}", additional_kwargs={"parsed": Person(name="Ann")})
    (generation,) = CODEC.decode(CODEC.encode([ChatGeneration(message=message)]))
    parsed = generation.message.additional_kwargs["parsed"]  # type: ignore[attr-defined]
    assert Person(**parsed) == Person(name="Ann")


CUT_OFF: list[dict[str, Any]] = [
    {"finish_reason": "length"},
    {"finish_reason": "content_filter"},
    {"stop_reason": "max_tokens"},
    {"stopReason": "max_tokens"},
    {"finish_reason": "FinishReason.MAX_TOKENS"},
    {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"choices": [{"finish_reason": "length"}]},
]


@pytest.mark.parametrize("metadata", CUT_OFF)
def test_an_answer_that_was_cut_off_is_told(metadata: dict[str, Any]) -> None:
    generation = ChatGeneration(message=AIMessage("a", response_metadata=metadata))
    assert reason_not_to_store([generation])
    assert reason_not_to_store([Generation(text="a", generation_info=metadata)])
    for fine in ({}, {"finish_reason": "stop"}, {"stop_reason": "end_turn"}, {"status": "ok"}):
        assert not reason_not_to_store([Generation(text="a", generation_info=fine)])


@pytest.mark.parametrize(
    "content",
    ["", [], [{"type": "text", "text": ""}], [{"type": "refusal", "refusal": "No."}]],
)
def test_an_empty_answer_or_a_refusal_is_told(content: Any) -> None:
    assert reason_not_to_store([ChatGeneration(message=AIMessage(content))])


@pytest.mark.parametrize(
    "prompt",
    [
        "[" * 100_000,
        '[{"lc": 1, "kwargs": []}]',
        '[{"lc": 1, "type": "constructor", "id": null, "kwargs": {"content": "a"}}]',
        '[{"lc": 1, "type": "constructor", "id": [], "kwargs": {"content": [{"id": []}]}}]',
    ],
)
async def test_odd_prompts_do_not_break_the_call(
    cache: ValkeySemanticCache, way: Way, prompt: str
) -> None:
    assert await way(cache.lookup, prompt, "llm") is None
    await way(cache.update, prompt, "llm", [Generation(text="x")])


@pytest.mark.parametrize(
    "generation",
    [
        ChatGeneration(message=HumanMessage("a")),
        ChatGeneration(message=AIMessage("a", additional_kwargs={"parsed": Lossy(secret="y")})),
        Generation(text="a", generation_info={"x": {1: "number as a key"}}),
        ChatGeneration(message=AIMessage("a", additional_kwargs={"x": object()})),
        Generation(text="a", generation_info={"x": {1, 2}}),
        type("Mine", (Generation,), {})(text="a"),
    ],
    ids=["human", "lossy", "number key", "object", "set", "subclass"],
)
def test_what_would_not_come_back_is_not_stored(generation: Generation) -> None:
    with pytest.raises(NotStorableError):
        CODEC.encode([generation])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"text": 1, "info": null}]',
        b'[{"text": "a", "info": 5}]',
        b'[{"message": {"content": 5}, "info": null}]',
        b'[{"message": {"content": "a", "tool_calls": "x"}, "info": null}]',
        b'[{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}]',
        b"[" * 100_000,
    ],
)
def test_damaged_answers_are_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        CODEC.decode(content)


def test_stored_bytes_build_nothing_but_messages() -> None:
    hostile = (
        b'[{"message": {"content": "a", "id": "run-1", "type": "system", "lc": 1,'
        b' "additional_kwargs": {"lc": 1, "type": "constructor", "id": ["os", "system"]}},'
        b' "info": null, "type": "X"}]'
    )
    (generation,) = CODEC.decode(hostile)
    assert type(generation) is ChatGeneration
    assert type(generation.message) is AIMessage
    assert generation.message.id is None
    assert isinstance(generation.message.additional_kwargs, dict)
