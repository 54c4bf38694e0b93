"""A hit looks to LangChain's event streams, and to LangGraph's, as a call of the model does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.streams import ANSWER, ASKED, REWORDED, added_up, chat_model, streamed, tier
from tests.openai_server import OpenAIServer

VERSIONS: list[dict[str, Any]] = [
    {},
    {"output_version": "v1"},
    {"use_responses_api": True},
    {"use_responses_api": True, "output_version": "v1"},
    {"streaming": True},
    {"streaming": True, "output_version": "v1"},
]

needs_v3 = pytest.mark.skipif(
    not hasattr(BaseChatModel, "stream_events"), reason="a later langchain-core brings it"
)
"""The newest event stream; the oldest supported release has none."""


@pytest.fixture(autouse=True)
def _beta() -> Iterator[None]:
    """The newest event stream is in beta, and says so once a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        yield


async def v3(way: Way, model: Any, asked: str) -> tuple[Any, list[str]]:
    """The message and the words of `stream_events(version="v3")`, or of its async twin."""
    if way.name == "sync":
        stream = model.stream_events(asked, version="v3")
        return stream.output, list(stream.text)
    stream = await model.astream_events(asked, version="v3")
    words = [word async for word in stream.text]
    return await stream.output, words


def shape(message: Any) -> Any:
    """The parts of a message that do not depend on how it was made."""
    content = message.content
    if isinstance(content, list):
        content = [
            {k: v for k, v in block.items() if k not in ("id", "index", "annotations")}
            for block in content
        ]
    return content, message.tool_calls, message.response_metadata.get("output_version")


@needs_v3
@pytest.mark.parametrize("options", VERSIONS, ids=str)
@pytest.mark.parametrize("first", ["invoke", "stream", "v3"])
async def test_the_same_key_never_gives_the_wrong_shape(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, options: dict[str, Any], first: str
) -> None:
    plain, model = chat_model(openai, **options), cached(chat_model(openai, **options), own)
    wanted = {
        "invoke": shape(await way(plain.invoke, ASKED)),
        "stream": shape(added_up(await streamed(way, plain, ASKED))),
        "v3": shape((await v3(way, plain, ASKED))[0]),
    }
    openai.reset()
    ways = [first, "invoke", "stream", "v3", "invoke"]
    for number, which in enumerate(ways):
        if which == "invoke":
            answer = await way(model.invoke, ASKED)
        elif which == "stream":
            answer = added_up(await streamed(way, model, ASKED))
        else:
            answer, _ = await v3(way, model, ASKED)
        assert shape(answer) == wanted[which], (number, which)
        assert tier(answer) == ("exact" if number else None)
    assert openai.calls == 1


@needs_v3
async def test_the_newest_event_stream_has_the_words_of_a_hit(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    _, words = await v3(way, model, ASKED)
    hit, again = await v3(way, model, REWORDED)
    assert "".join(words) == "".join(again) == ANSWER
    assert len(again) == len(ANSWER.split())
    assert tier(hit) == "semantic"
    assert openai.calls == 1


@needs_v3
async def test_a_model_with_events_of_its_own_is_cached(own: ValkeySemanticCache, way: Way) -> None:
    class Native(FakeListChatModel):
        def _stream_chat_model_events(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            raise AssertionError("goes past the cache")

        async def _astream_chat_model_events(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("goes past the cache")
            yield

    model = cached(Native(responses=["an answer"]), own)
    first, _ = await v3(way, model, ASKED)
    again, _ = await v3(way, model, ASKED)
    assert (tier(first), tier(again)) == (None, "exact")
    assert first.text == again.text == "an answer"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_astream_events_of_a_hit_are_those_of_a_call(
    openai: OpenAIServer, own: ValkeySemanticCache, version: Any
) -> None:
    model = cached(chat_model(openai), own)
    runs = []
    for _ in range(2):
        events = [event async for event in model.astream_events(ASKED, version=version)]
        runs.append(events)
    kinds = [[event["event"] for event in events] for events in runs]
    for events, names in zip(runs, kinds, strict=True):
        assert (names[0], names[-1]) == ("on_chat_model_start", "on_chat_model_end")
        assert set(names[1:-1]) == {"on_chat_model_stream"}
        assert events[0]["name"] == "ChatOpenAI"
        words = [event["data"]["chunk"].content for event in events[1:-1]]
        assert "".join(words) == ANSWER
    assert openai.calls == 1
    assert own.stats().lookups == 2


async def test_astream_events_of_a_chain_that_invokes(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    """An `invoke` inside streams to whoever listens, from the model and from the cache."""
    model = cached(chat_model(openai), own)

    async def node(question: str) -> str:
        return str((await model.ainvoke(question)).content)

    chain = RunnableLambda(node)
    for _ in range(2):
        words = [
            event["data"]["chunk"].content
            async for event in chain.astream_events(ASKED, version="v2")
            if event["event"] == "on_chat_model_stream"
        ]
        assert "".join(words) == ANSWER
        assert len(words) > len(ANSWER.split())
    assert openai.calls == 1
    assert own.stats().lookups == 2


# LangGraph


def graph(model: BaseChatModel) -> Any:
    """A chat with memory."""

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(node, anode))
    builder.add_edge(START, "model")
    return builder.compile(checkpointer=InMemorySaver())


async def test_a_graph_with_memory_streams_messages_and_keeps_each_once(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    chat = graph(cached(chat_model(openai), own))
    for number, thread in enumerate(("one", "two")):
        config: Any = {"configurable": {"thread_id": thread}}
        given: Any = {"messages": [("user", ASKED)]}
        chunks = [
            chunk
            for chunk, _ in await streamed(way, chat, given, config, stream_mode="messages")
            if chunk.type != "human"
        ]
        assert "".join(chunk.text for chunk in chunks) == ANSWER, number
        assert len(chunks) > len(ANSWER.split())
        assert len({chunk.id for chunk in chunks}) == 1
        kept = (await way(chat.get_state, config)).values["messages"]
        assert [message.type for message in kept] == ["human", "ai"]
        assert kept[-1].id == chunks[0].id
    assert openai.calls == 1


async def test_a_graph_keeps_the_same_answer_twice_in_one_conversation(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    def stateless(model: BaseChatModel) -> Any:
        builder: Any = StateGraph(MessagesState)
        node = lambda state: {"messages": [model.invoke([state["messages"][-1]])]}  # noqa: E731
        builder.add_node("model", node)
        builder.add_edge(START, "model")
        return builder.compile(checkpointer=InMemorySaver())

    chat = stateless(cached(chat_model(openai), own))
    config: Any = {"configurable": {"thread_id": "one"}}
    for _ in range(3):
        await way(chat.invoke, {"messages": [("user", ASKED)]}, config)
    kept = (await way(chat.get_state, config)).values["messages"]
    assert [message.type for message in kept] == ["human", "ai"] * 3
    assert len({message.id for message in kept}) == 6
    assert openai.calls == 1
