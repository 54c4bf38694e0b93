"""Which answers are stored, which are not and why, and how one is taken out again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import create_model

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import Says, chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import Question

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [("use the tool", "tool calls"), ("be cut off please", "finish_reason length")],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_answers_not_to_be_given_to_others(
    openai: OpenAIServer,
    cache: ValkeySemanticCache,
    way: Way,
    asked: str,
    reason: str,
    streaming: bool,
) -> None:
    model = chat_model(openai, streaming=streaming).bind_tools([TOOL])
    for calls in (1, 2):
        answer = await way(model.invoke, asked)
        assert openai.calls == calls
        assert "semantic_cache" not in answer.response_metadata
    assert cache.stats().not_stored == {reason: 2}


CALL: Any = {"name": "add", "args": {}, "id": "c", "type": "tool_call"}
BAD_CALL: Any = {"name": "a", "args": "{", "id": "c", "error": "", "type": "invalid_tool_call"}
NOT_STORED: list[tuple[AIMessage, str]] = [
    (AIMessage(""), "empty answer"),
    (AIMessage([]), "empty answer"),
    (AIMessage([{"type": "reasoning", "reasoning": "Hm."}]), "empty answer"),
    (AIMessage("", tool_calls=[CALL]), "tool calls"),
    (AIMessage("", invalid_tool_calls=[BAD_CALL]), "tool calls"),
    (
        AIMessage("a", response_metadata={"finish_reason": "content_filter"}),
        "finish_reason content_filter",
    ),
    (AIMessage("a", response_metadata={"stop_reason": "max_tokens"}), "stop_reason max_tokens"),
    (AIMessage([{"type": "refusal", "refusal": "No."}]), "refusal"),
    (AIMessage("", additional_kwargs={"refusal": "No."}), "refusal"),
    (
        AIMessage([{"type": "non_standard", "value": {"type": "refusal", "refusal": "No."}}]),
        "refusal",
    ),
    (
        AIMessage([{"type": "text", "text": "a"}, {"type": "web_search_call", "id": "ws_1"}]),
        "items that the provider keeps",
    ),
    (
        AIMessage([{"type": "text", "text": "a"}, {"type": "image_generation_call", "id": "ig"}]),
        "items that the provider keeps",
    ),
    (
        AIMessage(
            [{"type": "text", "text": "a"}, {"type": "compaction", "encrypted_content": "x"}]
        ),
        "items that the provider keeps",
    ),
    (
        AIMessage([{"type": "text", "text": "a"}, {"type": "file", "file_id": "file-1"}]),
        "items that the provider keeps",
    ),
    (
        AIMessage(
            [
                {"type": "text", "text": "a"},
                {"type": "server_tool_call", "id": "1", "name": "web_search", "args": {}},
            ]
        ),
        "items that the provider keeps",
    ),
    (
        AIMessage("a", additional_kwargs={"tool_outputs": [{"type": "web_search_call"}]}),
        "items that the provider keeps",
    ),
    (AIMessage("a", additional_kwargs={"odd": object()}), "not storable"),
    (AIMessage("a", odd=1), "not storable"),
]


@pytest.mark.parametrize(("message", "reason"), NOT_STORED)
async def test_what_is_not_stored_is_counted_by_reason(
    plain: Served, way: Way, message: AIMessage, reason: str
) -> None:
    async with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        model = Says(message=AIMessage("to be replaced"), cache=cache)
        model.message = message
        for calls in (1, 2):
            answer = await way(model.invoke, ASKED)
            assert answer.content == message.content
            assert model.calls == calls
        assert cache.stats().not_stored == {reason: 2}
        assert cache.stats().errors == {}
    assert plain.entries() == []


async def test_an_image_is_an_answer(plain: Served, way: Way) -> None:
    async with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
        model = Says(message=AIMessage([image]), cache=cache)
        for _ in range(2):
            assert (await way(model.invoke, ASKED)).content == [image]
        assert model.calls == 1


async def test_should_store_sees_question_and_generations(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    seen: list[tuple[str, str]] = []

    def should_store(question: Question, generations: list[Generation]) -> bool:
        seen.append((question.text, generations[0].text))
        return "password" in question.text

    options = plain.options | {"should_store": should_store}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        for _ in range(2):
            await way(model.invoke, ASKED)
            await way(model.invoke, "which wine goes with fish")
        assert openai.calls == 3
        assert [text for text, _ in seen] == [ASKED] + ["which wine goes with fish"] * 2
        assert seen[0][1].endswith(ASKED)
        assert sum(cache.stats().not_stored.values()) == 2


async def test_an_error_in_should_store_stores_nothing_and_breaks_nothing(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    options = plain.options | {"should_store": lambda question, answer: 1 / 0}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        for _ in range(2):
            assert (await way(model.invoke, ASKED)).content.endswith(ASKED)
        assert openai.calls == 2
        assert cache.stats().errors == {"ZeroDivisionError": 2}
        assert cache.stats().stored == 0


async def test_delete_takes_one_answer_out(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    wine = "which wine goes with fish"
    for asked in (ASKED, wine):
        await way(model.invoke, asked)
    prompt, llm_string = dumps([HumanMessage(ASKED)]), model._get_llm_string()
    assert not await way(cache.delete, dumps([HumanMessage(REWORDED)]), llm_string)
    assert not await way(cache.delete, prompt, "another llm")
    assert await way(cache.delete, prompt, llm_string)
    assert not await way(cache.delete, prompt, llm_string)
    await way(model.invoke, wine)
    assert openai.calls == 2
    await way(model.invoke, REWORDED)
    assert openai.calls == 3


async def test_delete_of_a_completion(cache: ValkeySemanticCache, way: Way) -> None:
    await way(cache.update, ASKED, "llm", [Generation(text="a")])
    assert await way(cache.delete, ASKED, "llm")
    assert await way(cache.lookup, ASKED, "llm") is None


# Provider's ids

REASONING: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
    {"type": "reasoning", "reasoning": "Hm.", "extras": {"encrypted_content": "gAAAA"}},
]


@pytest.mark.parametrize("item", REASONING)
async def test_reasoning_that_the_provider_keeps_is_left_out(
    openai: OpenAIServer, plain: Served, way: Way, item: dict[str, Any]
) -> None:
    """Sent on without its id, or in another conversation, it would be an error."""
    text = {"type": "text", "text": "Press the button.", "annotations": [], "id": "msg_1"}
    metadata = {"id": "resp_1", "model_provider": "openai", "model_name": "gpt-5"}
    answer = AIMessage([item, text], id="resp_1", response_metadata=metadata)
    async with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        model = Says(message=answer, cache=cache)
        await way(model.invoke, ASKED)
        hit = await way(model.invoke, REWORDED)
    assert model.calls == 1
    assert hit.content == [{"type": "text", "text": "Press the button.", "annotations": []}]
    goes_on = chat_model(openai, use_responses_api=True, use_previous_response_id=True, cache=False)
    await way(goes_on.invoke, [HumanMessage(ASKED), hit, HumanMessage("And then?")])
    (sent,) = openai.responses
    assert "previous_response_id" not in sent
    assert [part["role"] for part in sent["input"]] == ["user", "assistant", "user"]
    assert not any(name in json.dumps(sent) for name in ("rs_1", "msg_1", "resp_1", "gAAAA"))


async def test_reasoning_in_plain_words_is_kept(plain: Served, way: Way) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "text", "text": "a"},
    ]
    answer = AIMessage(blocks, additional_kwargs={"reasoning_content": "Hm."})
    async with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        model = Says(message=answer, cache=cache)
        await way(model.invoke, ASKED)
        hit = await way(model.invoke, ASKED)
    assert model.calls == 1
    assert hit.content == blocks
    assert hit.additional_kwargs == {"reasoning_content": "Hm."}


async def test_nothing_in_valkey_names_the_providers_request(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    options = plain.options | {"cache_tool_calls": True}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        for api in (False, True):
            for version in ("v0", "v1"):
                model = chat_model(
                    openai, use_responses_api=api, output_version=version, cache=cache
                )
                await way(model.invoke, ASKED)
                await way(model.bind_tools([TOOL]).invoke, "use the tool")
    assert openai.calls == cache.stats().stored == 8
    stored = b"".join(b"".join(plain.admin.hvals(key)) for key in plain.entries())
    for prefix in (b"msg_", b"resp_", b"fc_", b"chatcmpl-"):
        assert prefix not in stored


# What LangChain does not tell its caches; should one of these fail, take it out of the README


async def test_known_limit_a_model_changed_after_its_first_call(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai, temperature=0.1)
    before = await way(model.invoke, ASKED)
    model.temperature = 0.9
    assert (await way(model.invoke, ASKED)).content == before.content
    fresh = chat_model(openai, temperature=0.9)
    assert (await way(fresh.invoke, ASKED)).content != before.content


async def test_known_limit_a_completion_models_bound_arguments(
    cache: ValkeySemanticCache, way: Way
) -> None:
    model = FakeListLLM(responses=["one", "two", "three"])
    assert await way(model.invoke, ASKED) == "one"
    assert await way(model.bind(n=2).invoke, ASKED) == "one"
    assert await way(model.bind(stop=["x"]).invoke, ASKED) == "two"


async def test_known_limit_two_schemas_of_one_name(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    made = [create_model("Answer", text=(str, ...)), create_model("Answer", number=(int, ...))]
    model = chat_model(openai)
    strings = [model._get_llm_string(response_format=schema) for schema in made]
    assert strings[0] == strings[1]


def test_the_class_says_what_the_cache_cannot_see() -> None:
    told = " ".join((ValkeySemanticCache.__doc__ or "").split())
    for limit in ("changed after its first call", "Completion models leave", "Pydantic schemas"):
        assert limit in told
    assert "Danger" in told


async def test_a_generation_of_another_class_is_not_stored(
    cache: ValkeySemanticCache, way: Way
) -> None:
    class Mine(ChatGeneration):
        """Holds more than is stored."""

    await way(cache.update, ASKED, "llm", [Mine(message=AIMessage("a"))])
    assert await way(cache.lookup, ASKED, "llm") is None
    assert cache.stats().not_stored == {"not storable": 1}
