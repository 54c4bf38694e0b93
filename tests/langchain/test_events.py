"""The cache's events as LangChain's custom events: where they are heard, and where not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_valkey_semcache import SemanticCacheMiddleware, ValkeySemanticCache, cached, telling
from tests.conftest import Way
from tests.embedders import hashed
from tests.langchain.streams import ASKED, REWORDED, chat_model, streamed
from tests.openai_server import OpenAIServer

PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{asked}")])


class Heard(BaseCallbackHandler):
    """Keeps custom events, and the runs they belong to."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runs: list[UUID] = []
        self.of_runs: set[UUID] = set()

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append((name, data))
        self.runs.append(run_id)

    def on_chain_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.of_runs.add(run_id)

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.of_runs.add(run_id)

    def outcomes(self) -> list[Any]:
        told = []
        for name, data in self.events:
            told.append(data.get("tier") or data.get("reason") or data.get("stored") or name)
        return told


def check(heard: Heard) -> None:
    """A first question, its store, the same words and other words."""
    assert heard.outcomes() == ["no_neighbour", True, "exact", "semantic"]
    names = [name for name, _ in heard.events]
    assert names[:2] == ["semantic_cache_lookup", "semantic_cache_store"]
    assert set(heard.runs) <= heard.of_runs, "each belongs to a run that was announced"
    hit = heard.events[-1][1]
    assert hit["similarity"] > 0.9
    assert (hit["model"], hit["usage"]["input_tokens"] > 0) == ("gpt-4o-mini", True)
    assert hit["seconds"] > 0
    for _, data in heard.events:
        assert not {"question", "detail", "message"} & set(data), "no text goes to a stream"


async def test_in_a_chain_under_a_global_cache(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    heard = Heard()
    chain = PROMPT | chat_model(openai)
    for asked in (ASKED, ASKED, REWORDED):
        await way(chain.invoke, {"asked": asked}, config={"callbacks": [heard]})
    check(heard)


async def test_of_a_cached_model_by_itself(
    own: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    heard = Heard()
    for asked in (ASKED, ASKED, REWORDED):
        await way(model.invoke, asked, config={"callbacks": [heard]})
    check(heard)


async def test_streams_tell_in_a_chain_and_by_themselves_there_is_no_run_to_tell(
    own: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    heard = Heard()
    for asked in (ASKED, ASKED, REWORDED):
        await streamed(way, PROMPT | model, {"asked": asked}, config={"callbacks": [heard]})
    check(heard)
    alone = Heard()
    await streamed(way, model, ASKED, config={"callbacks": [alone]})
    assert alone.events == []


async def test_in_an_agent(own: ValkeySemanticCache, openai: OpenAIServer, way: Way) -> None:
    heard = Heard()
    agent = create_agent(chat_model(openai), [], middleware=[SemanticCacheMiddleware(own)])
    for asked in (ASKED, ASKED, REWORDED):
        state = {"messages": [("user", asked)]}
        await way(agent.invoke, state, config={"callbacks": [heard]})
    check(heard)


@pytest.mark.parametrize("how", ["chain", "lambda"])
async def test_astream_events_has_them_with_their_parents(
    cache: ValkeySemanticCache, openai: OpenAIServer, how: str
) -> None:
    plain = chat_model(openai)
    if how == "chain":  # LangChain streams the model here, and its streams ask no global cache
        model: Any = PROMPT | cached(plain, cache)
        asked: Any = {"asked": ASKED}
    else:

        async def ask(text: str) -> Any:
            return await plain.ainvoke(text)

        model, asked = RunnableLambda(ask), ASKED
    for outcome in ("miss", "hit"):
        events = [event async for event in model.astream_events(asked, version="v2")]
        custom = [event for event in events if event["event"] == "on_custom_event"]
        assert len(custom) == (2 if outcome == "miss" else 1)
        assert custom[0]["name"] == "semantic_cache_lookup"
        assert custom[0]["data"]["outcome"] == outcome
        starts = {e["run_id"]: e["event"] for e in events if e["event"].endswith("_start")}
        assert starts[custom[0]["run_id"]].startswith("on_chain")


async def test_an_async_handler_hears_them_in_async_calls(
    cache: ValkeySemanticCache, openai: OpenAIServer
) -> None:
    class Async(AsyncCallbackHandler):
        heard: list[str] = []  # noqa: RUF012

        async def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            self.heard.append(name)

    await (PROMPT | chat_model(openai)).ainvoke({"asked": ASKED}, config={"callbacks": [Async()]})
    assert Async.heard == ["semantic_cache_lookup", "semantic_cache_store"]


async def test_a_plain_model_by_itself_has_no_run_to_tell(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    heard = Heard()
    await way(chat_model(openai).invoke, ASKED, config={"callbacks": [heard]})
    assert heard.events == []
    assert cache.stats().errors == {}


async def test_errors_are_told_and_a_listener_that_raises_breaks_nothing(
    own: ValkeySemanticCache, openai: OpenAIServer, way: Way
) -> None:
    class Raising(Heard):
        raise_error = True

        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            super().on_custom_event(name, data, **kwargs)
            raise LookupError("a listener's own")

    def embed(texts: list[str]) -> list[Any]:
        if any("wine" in text for text in texts):
            raise ConnectionError("no embedding to be had")
        return [hashed(text) for text in texts]

    own.core._raises = False
    own.core._drive.embedding._embed = embed
    own.core._drive.embedding._aembed = None
    heard = Raising()
    model = cached(chat_model(openai), own)
    assert await way(model.invoke, "which wine goes with fish", config={"callbacks": [heard]})
    assert heard.outcomes()[:2] == ["semantic_cache_error", "error"]
    assert heard.events[0][1]["kind"] == "EmbeddingError"
    assert own.stats().errors["LookupError"] >= 2


async def test_nothing_is_built_where_nobody_listens(
    cache: ValkeySemanticCache, openai: OpenAIServer, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "collecting", None)  # would raise
    await way((PROMPT | chat_model(openai)).invoke, {"asked": ASKED})
    assert cache.stats().stored == 1
