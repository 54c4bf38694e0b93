"""A wrong answer rejected by its message: never again for this question, still for its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.models import chat_model
from tests.openai_server import OpenAIServer
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ALSO = "how do i reset the password of my old account"


def tier(message: AIMessage) -> str | None:
    return message.response_metadata.get("semantic_cache", {}).get("tier")


def as_it_came(message: AIMessage) -> Any:
    return message


def through_json(message: AIMessage) -> Any:
    return AIMessage.model_validate(json.loads(message.model_dump_json()))


@pytest.mark.parametrize("kept", [as_it_came, through_json])
async def test_a_rejected_message_is_not_served_for_its_question_again(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way, kept: Any
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    hit = await way(model.invoke, REWORDED)
    assert tier(hit) == "semantic"
    assert await way(cache.reject, kept(hit)) is True
    again = await way(model.invoke, REWORDED)
    assert (tier(again), len(openai.chats)) == (None, 2), "the model was asked"
    assert again.content != hit.content
    own = await way(model.invoke, ASKED)
    assert (tier(own), own.content) == ("exact", first.content)
    assert tier(await way(model.invoke, ALSO)) == "semantic"
    assert (await way(model.invoke, REWORDED)).content == again.content
    assert len(openai.chats) == 2


async def test_generations_are_rejected_as_well(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.generate, [[HumanMessage(ASKED)]])
    ((hit,),) = (await way(model.generate, [[HumanMessage(REWORDED)]])).generations
    assert await way(cache.reject, hit) is True
    await way(model.generate, [[HumanMessage(REWORDED)]])
    assert len(openai.chats) == 2, "asked anew"


async def test_a_completion_does_not_say_that_it_is_a_hit(
    cache: ValkeySemanticCache, way: Way
) -> None:
    model = FakeListLLM(responses=["a", "b"])
    await way(model.generate, [ASKED])
    ((hit,),) = (await way(model.generate, [ASKED])).generations
    assert hit.text == "a"
    with pytest.raises(ConfigurationError, match=r"delete\(prompt, llm_string\)"):
        await way(cache.reject, hit)


async def test_an_answer_found_by_its_very_words_is_deleted(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.invoke, ASKED)
    hit = await way(model.invoke, ASKED)
    assert await way(cache.reject, hit) is True
    assert await way(cache.reject, hit) is False
    assert tier(await way(model.invoke, ASKED)) is None


async def test_what_is_no_hit_is_refused(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    hit = await way(model.invoke, ASKED)
    hit.response_metadata["semantic_cache"]["key"] = "other:" + "0" * 98
    for wrong in (first, AIMessage("x"), "x", None, hit):
        with pytest.raises(ConfigurationError, match=r"reject\(\) takes"):
            await way(cache.reject, wrong)
    assert tier(await way(model.invoke, ASKED)) == "exact"
