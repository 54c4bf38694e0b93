"""The same key never returns the wrong shape: both APIs, streamed or not, each output version."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import _streaming
from pydantic import BaseModel, Field

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import Says, chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
HANDLER = "_V2StreamingCallbackHandler"
"""Whom LangChain streams its newest events to; the oldest supported release has none."""

SHAPES: list[dict[str, Any]] = [
    {"use_responses_api": api, "output_version": version, "streaming": streaming}
    for api, version, streaming in itertools.product(
        (False, True), (None, "v0", "v1", "responses/v1"), (None, True)
    )
    if api or version != "responses/v1"
]


def shape(message: AIMessage) -> Any:
    """Content without what names the one request, or a place in its stream."""
    if isinstance(message.content, str):
        return "text"
    volatile = {"id", "index", "annotations"}
    return [{k: v for k, v in block.items() if k not in volatile} for block in message.content]


async def test_each_way_of_asking_gets_its_own_shape_back(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    models = [chat_model(openai, **{k: v for k, v in s.items() if v is not None}) for s in SHAPES]
    firsts = [await way(model.invoke, ASKED) for model in models]
    assert openai.calls == len(SHAPES)
    for asked in (ASKED, REWORDED):
        for model, first in zip(models, firsts, strict=True):
            hit = await way(model.invoke, asked)
            assert "semantic_cache" in hit.response_metadata
            assert shape(hit) == shape(first)
            assert hit.text == first.text
            version = first.response_metadata.get("output_version")
            assert hit.response_metadata.get("output_version") == version
            assert not {"id", "index"} & set().union(*map(set, listed(hit)))
    assert openai.calls == len(SHAPES)
    assert {type(first.content) for first in firsts} == {str, list}


def listed(message: AIMessage) -> list[Any]:
    return message.content if isinstance(message.content, list) else [{}]


class Standard(BaseCallbackHandler, getattr(_streaming, HANDLER, object)):  # type: ignore[misc]
    """Makes `invoke` stream LangChain's newest events, as LangGraph's streams do."""


@pytest.mark.skipif(not hasattr(_streaming, HANDLER), reason="a later langchain-core brings it")
@pytest.mark.parametrize("api", [False, True], ids=["chat", "responses"])
async def test_an_invoke_that_streams_standard_events_spoils_nobodys_shape(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way, api: bool
) -> None:
    """Its answer is made of standard blocks, under the `llm_string` of those who get none."""
    model = chat_model(openai, use_responses_api=api)
    standard = await way(model.invoke, ASKED, {"callbacks": [Standard()]})
    assert standard.response_metadata["output_version"] == "v1"
    assert cache.stats().not_stored == {"another output_version than the model's": 1}
    first = await way(model.invoke, ASKED)
    assert openai.calls == 2
    for config in ({}, {"callbacks": [Standard()]}):
        hit = await way(model.invoke, REWORDED, config)
        assert shape(hit) == shape(first)
    assert openai.calls == 2


@pytest.mark.parametrize("api", [False, True], ids=["chat", "responses"])
async def test_an_invoke_inside_of_astream_events_shares_its_entry(
    openai: OpenAIServer, cache: ValkeySemanticCache, api: bool
) -> None:
    model = chat_model(openai, use_responses_api=api)
    chain = RunnableLambda(lambda asked: model.invoke(asked))
    async for _ in chain.astream_events(ASKED, version="v2"):
        pass
    assert (openai.chats + openai.responses)[0]["stream"], "it did stream"
    hit = await model.ainvoke(REWORDED)
    assert openai.calls == 1
    cache.clear()
    assert shape(hit) == shape(await model.ainvoke(ASKED))


async def test_a_model_whose_llm_string_says_no_version(plain: Served, way: Way) -> None:
    """Models of one's own say what their `_identifying_params` hold; the version is not there."""
    async with ValkeySemanticCache(HashingEmbeddings(), **plain.options) as cache:
        plainly = Says(message=AIMessage("a"), cache=cache)
        standard = Says(message=AIMessage("a"), output_version="v1", cache=cache)
        assert plainly._get_llm_string() == standard._get_llm_string()
        for calls in (1, 2):
            answer = await way(standard.invoke, ASKED)
            assert answer.content == [{"type": "text", "text": "a"}]
            assert standard.calls == calls
        assert cache.stats().not_stored == {"another output_version than the model's": 2}
        for _ in range(2):
            assert (await way(plainly.invoke, ASKED)).content == "a"
        assert plainly.calls == 1


async def test_an_answer_that_is_put_in_by_hand_takes_the_models_shape(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    for version, content in (("v1", [{"type": "text", "text": "By hand."}]), (None, "By hand.")):
        model: BaseChatModel = chat_model(openai, output_version=version)
        answer = ChatGeneration(message=AIMessage("By hand."))
        prompt = dumps([HumanMessage(ASKED)])
        await way(cache.update, prompt, model._get_llm_string(), [answer])
        assert (await way(model.invoke, REWORDED)).content == content
        assert answer.message.content == "By hand."
    assert openai.calls == 0


class Person(BaseModel):
    """A person."""

    full_name: str = Field(alias="name")
    age: int


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # by openai's own stream
@pytest.mark.parametrize(
    "options",
    [{}, {"streaming": True}, {"use_responses_api": True}],
    ids=["chat", "streamed", "responses"],
)
async def test_structured_output_by_schema(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way, options: dict[str, Any]
) -> None:
    model = chat_model(openai, **options)
    structured = model.with_structured_output(Person, method="json_schema")
    first = await way(structured.invoke, ASKED)
    again = await way(structured.invoke, REWORDED)
    assert openai.calls == 1
    assert isinstance(again, Person)
    assert again == first


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
async def test_structured_output_as_a_dict(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way, method: Any
) -> None:
    schema = {"title": "answer", "type": "object", "properties": {"answer": {"type": "string"}}}
    structured = chat_model(openai).with_structured_output(schema, method=method, include_raw=True)
    first = await way(structured.invoke, f"{ASKED} as json")
    again = await way(structured.invoke, f"{REWORDED} as json")
    assert openai.calls == 1
    assert again["parsed"] == first["parsed"] != {}
    assert again["raw"].response_metadata["semantic_cache"]["tier"] == "semantic"


@pytest.mark.parametrize("caches", [False, True], ids=["by default", "cache_tool_calls"])
async def test_structured_output_by_function_calling(
    openai: OpenAIServer, plain: Served, way: Way, caches: bool
) -> None:
    options = plain.options | {"cache_tool_calls": caches, "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        structured = model.with_structured_output(Person, method="function_calling")
        first = await way(structured.invoke, ASKED)
        assert await way(structured.invoke, ASKED) == first
        assert openai.calls == (1 if caches else 2)
        await way(structured.invoke, REWORDED)
        assert openai.calls == (2 if caches else 3)
