"""What a hit gives back: the answer, as new as if the model had given it, and marked."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.outputs import Generation
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import Says, chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import ConfigurationError, LocalTier

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
TOOL_CALL: Any = {"name": "add", "args": {"a": 1}, "id": "call_first", "type": "tool_call"}


def note_of(message: AIMessage) -> dict[str, Any]:
    note: dict[str, Any] = message.response_metadata["semantic_cache"]
    return note


async def test_a_hit_says_where_it_came_from(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    assert "semantic_cache" not in first.response_metadata
    exact, semantic = await way(model.invoke, ASKED), await way(model.invoke, REWORDED)
    assert openai.calls == 1
    assert note_of(exact) | {"age": 0} == {
        "tier": "exact",
        "similarity": 1.0,
        "age": 0,
        "question": ASKED,
        "usage": dict(first.usage_metadata),
        "key": note_of(exact)["asked"],
        "asked": note_of(semantic)["key"],
    }
    assert note_of(semantic)["asked"] != note_of(semantic)["key"]
    assert 0 <= note_of(exact)["age"] < 60
    assert note_of(semantic)["tier"] == "semantic"
    assert 0.9 <= note_of(semantic)["similarity"] < 1
    assert note_of(semantic)["question"] == ASKED
    assert isinstance(cache.lookup(dumps([HumanMessage(ASKED)]), model._get_llm_string()), list)


async def test_a_hit_has_no_id_and_no_name_of_the_first_request(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai, include_response_headers=True)
    first = await way(model.invoke, ASKED)
    hit = await way(model.invoke, ASKED)
    assert first.id
    assert hit.id is None
    assert {"id", "headers"} <= set(first.response_metadata)
    assert not {"id", "headers"} & set(hit.response_metadata)
    kept = {"id", "headers", "token_usage"}
    assert {k: v for k, v in first.response_metadata.items() if k not in kept}.items() <= (
        hit.response_metadata.items()
    )


@pytest.mark.parametrize("usage_on_hit", ["zero", "keep"])
async def test_tokens_of_a_hit(
    openai: OpenAIServer, plain: Served, way: Way, usage_on_hit: Any
) -> None:
    options = plain.options | {"usage_on_hit": usage_on_hit}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        first = await way(model.invoke, ASKED)
        hit = await way(model.invoke, REWORDED)
    tokens = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
    assert first.usage_metadata.items() >= tokens.items()
    assert note_of(hit)["usage"] == first.usage_metadata
    if usage_on_hit == "zero":
        tokens = dict.fromkeys(tokens, 0)
    assert hit.usage_metadata.items() >= tokens.items()
    assert hit.usage_metadata["total_cost"] == 0, "LangChain's own word for a hit"
    assert hit.response_metadata["token_usage"]["total_tokens"] == tokens["total_tokens"]
    assert cache.stats().saved_tokens["total_tokens"] == 16


def test_a_word_for_usage_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="usage_on_hit='none' is not allowed"):
        ValkeySemanticCache(HashingEmbeddings(), usage_on_hit="none")  # type: ignore[arg-type]


async def test_each_hit_is_a_new_object_to_the_last_dict(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    await way(model.invoke, ASKED)
    one = await way(model.invoke, ASKED)
    one.content = "spoilt"
    one.response_metadata["model_name"] = "spoilt"
    one.response_metadata["token_usage"].clear()
    one.additional_kwargs["spoilt"] = True
    other = await way(model.invoke, ASKED)
    assert "spoilt" not in repr(other)
    assert other.response_metadata["token_usage"]


async def test_a_hit_in_this_process_is_new_too(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    options = plain.options | {"local": LocalTier()}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        for _ in range(2):
            await way(model.invoke, ASKED)
        one = await way(model.invoke, ASKED)
        one.response_metadata["token_usage"].clear()
        other = await way(model.invoke, ASKED)
    assert openai.calls == 1
    assert note_of(one)["tier"] == note_of(other)["tier"] == "local"
    assert other.response_metadata["token_usage"]
    assert other.id is None


async def test_a_graph_keeps_every_answer(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    """`add_messages` replaces a message of the same id: an old one would swallow a turn."""
    model = chat_model(openai)

    def answer(state: MessagesState) -> Any:
        return {"messages": [model.invoke([state["messages"][-1]])]}

    async def aanswer(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke([state["messages"][-1]])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("answer", answer if way.name == "sync" else aanswer)
    graph.add_edge(START, "answer")
    app = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for turn in range(1, 4):
        state = await way(app.invoke, {"messages": [HumanMessage(ASKED)]}, config)
        assert openai.calls == 1
        messages: list[AnyMessage] = state["messages"]
        assert [m.type for m in messages] == ["human", "ai"] * turn
        assert len({m.id for m in messages}) == 2 * turn
    assert add_messages([messages[1]], [messages[3]]) == [messages[1], messages[3]]


async def test_a_conversation_goes_on_alike_after_a_hit_and_after_a_call(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    """What the model gave and what the cache gave back are the same context."""
    for api in (False, True):
        openai.reset()
        model = chat_model(openai, use_responses_api=api)
        first = await way(model.invoke, ASKED)
        again = await way(model.invoke, ASKED)
        assert openai.calls == 1
        follow_up = HumanMessage("and how long does that take me")
        await way(model.invoke, [HumanMessage(ASKED), first, follow_up])
        await way(model.invoke, [HumanMessage(ASKED), again, follow_up])
        assert openai.calls == 2


@tool
def add(a: int) -> int:
    """Add."""
    return a + 1


async def test_an_agent_is_answered_from_the_cache_and_keeps_every_message(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    options = plain.options | {"cache_tool_calls": True, "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache)
        agent: Any = create_agent(model, [add], checkpointer=InMemorySaver())
        ids: set[str] = set()
        for thread in ("one", "two", "three"):
            config = {"configurable": {"thread_id": thread}}
            state = await way(agent.invoke, {"messages": [("human", "use the tool")]}, config)
            assert openai.calls == 2, "the call for the tool, and what comes of its result"
            kinds = [message.type for message in state["messages"]]
            assert kinds == ["human", "ai", "tool", "ai"]
            call, result = state["messages"][1:3]
            assert result.tool_call_id == call.tool_calls[0]["id"]
            ids.add(result.tool_call_id)
        assert len(ids) == 3
        assert cache.stats().hits == {"exact": 4}
        again = {"messages": [("human", "use the tool once more")]}
        state = await way(agent.invoke, again, config)
        assert [message.type for message in state["messages"]] == kinds * 2


async def test_tool_calls_are_found_by_their_very_words_only(
    openai: OpenAIServer, plain: Served, way: Way
) -> None:
    options = plain.options | {"cache_tool_calls": True}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = chat_model(openai, cache=cache).bind_tools([add])
        asked = "please use the tool to add one to this number of mine"
        first = await way(model.invoke, asked)
        again = await way(model.invoke, asked)
        assert openai.calls == 1
        assert first.tool_calls[0]["args"] == again.tool_calls[0]["args"]
        await way(model.invoke, f"{asked} now")
        assert openai.calls == 2
        assert cache.stats().hits == {"exact": 1}


PLACES: dict[str, AIMessage] = {
    "tool_calls": AIMessage("", tool_calls=[TOOL_CALL]),
    "Anthropic's block": AIMessage(
        [{"type": "tool_use", "id": "call_first", "name": "add", "input": {"a": 1}}],
        tool_calls=[TOOL_CALL],
    ),
    "standard block": AIMessage(content_blocks=[TOOL_CALL]),
    "OpenAI's item": AIMessage(
        [
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_first",
                "name": "add",
                "arguments": "{}",
            }
        ],
        tool_calls=[TOOL_CALL],
        additional_kwargs={"__openai_function_call_ids__": {"call_first": "fc_1"}},
    ),
    "additional_kwargs": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [
                {
                    "id": "call_first",
                    "type": "function",
                    "function": {"name": "add", "arguments": "{}"},
                }
            ]
        },
        tool_calls=[TOOL_CALL],
    ),
    "beside an invalid one": AIMessage(
        "",
        tool_calls=[TOOL_CALL],
        invalid_tool_calls=[
            {
                "name": "g",
                "args": "{",
                "id": "call_other",
                "error": "bad",
                "type": "invalid_tool_call",
            }
        ],
    ),
}


@pytest.mark.parametrize("place", PLACES)
async def test_tool_call_ids_are_new_each_time_and_alike_everywhere(
    plain: Served, way: Way, place: str
) -> None:
    options = plain.options | {"cache_tool_calls": True, "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = Says(message=PLACES[place], cache=cache)
        await way(model.invoke, ASKED)
        hits = [await way(model.invoke, ASKED) for _ in range(2)]
        assert model.calls == 1
    seen = []
    for hit in hits:
        told = json.dumps([hit.content, hit.additional_kwargs, hit.invalid_tool_calls])
        id_ = hit.tool_calls[0]["id"]
        assert re.fullmatch(r"call_[0-9a-f]{24}", id_)
        assert not re.search("call_first|call_other|fc_", told)
        if place not in ("tool_calls", "beside an invalid one"):
            assert id_ in told
        seen.append(id_)
        ToolMessage("2", tool_call_id=id_)
    assert seen[0] != seen[1]
    assert "call_first" in repr(model.message), "what the model gave is left as it was"


@pytest.mark.parametrize(
    ("id_", "form"),
    [
        ("D681PevKs", "[0-9a-f]{9}"),  # Mistral takes just nine letters and digits
        ("toolu_01A09q90qw90lq917835lq9", "toolu_[0-9a-f]{23}"),
        ("chatcmpl-tool-9f2c", "[0-9a-f]{18}"),
        ("call_1", "call_[0-9a-f]{24}"),
        ("1", "[0-9a-f]{24}"),
    ],
)
async def test_a_new_id_has_the_form_of_the_old(
    plain: Served, way: Way, id_: str, form: str
) -> None:
    options = plain.options | {"cache_tool_calls": True}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        message = AIMessage("", tool_calls=[TOOL_CALL | {"id": id_}])
        model = Says(message=message, cache=cache)
        await way(model.invoke, ASKED)
        hit = await way(model.invoke, ASKED)
    assert re.fullmatch(form, hit.tool_calls[0]["id"])
    assert hit.tool_calls[0]["id"] != id_


async def test_plain_generations_come_back_equal(cache: ValkeySemanticCache, way: Way) -> None:
    generations = [
        Generation(text="one", generation_info={"logprobs": None, "id": "cmpl-1"}),
        Generation(text="two"),
    ]
    await way(cache.update, ASKED, "llm", generations)
    for asked in (ASKED, REWORDED):
        found = await way(cache.lookup, asked, "llm")
        assert found == generations
        assert found[0] is not generations[0]


async def test_several_generations_stay_apart(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai, n=2, temperature=1)
    first = await way(model.generate, [[HumanMessage(ASKED)]])
    again = await way(model.generate, [[HumanMessage(REWORDED)]])
    assert openai.calls == 1
    texts = [generation.text for generation in first.generations[0]]
    assert [generation.text for generation in again.generations[0]] == texts
    assert len(set(texts)) == 2
