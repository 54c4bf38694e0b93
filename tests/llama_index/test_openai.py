"""The real client of OpenAI, `llama-index-llms-openai`, over HTTP, with the cache in front.

It wants another version of `openai` than the newest `langchain-openai`, so these tests run in an
environment of their own: `make test-llama-index-openai`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("llama_index.llms.openai", reason="run by make test-llama-index-openai")

from llama_index.core import PromptTemplate, SummaryIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.identity import model_identity
from tests.conftest import Way
from tests.llama_index.models import HashingEmbedding
from tests.notebook_cells import NOTEBOOKS, code_of
from tests.openai_server import OpenAIServer
from tests.servers import Served

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
OTHER = "which wine goes with fish"


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    running.reset()
    return running


@pytest.fixture
async def cache(plain: Served) -> AsyncIterator[ValkeySemanticCache]:
    async with ValkeySemanticCache(HashingEmbedding(), **plain.options, on_error="raise") as cache:
        yield cache


def model(server: OpenAIServer, name: str = "gpt-4o", **options: Any) -> OpenAI:
    return OpenAI(name, api_base=server.url, api_key="sk-planted-secret", max_retries=0, **options)


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


async def chunks(way: Way, method: Any, *args: Any, **kwargs: Any) -> list[Any]:
    stream = await way(method, *args, **kwargs)
    return list(stream) if way.name == "sync" else [chunk async for chunk in stream]


def add(a: int = 1) -> int:
    """Add."""
    return a + 1


TOOL = FunctionTool.from_defaults(add)


class Said(BaseModel):
    """Something said."""

    text: str


async def test_chats_and_completions(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    bare = model(server)
    uncached = await way(bare.chat, user(ASKED))
    llm = SemanticCacheLLM(model(server), cache)
    for asked in (ASKED, ASKED, REWORDED):
        response = await way(llm.chat, user(asked))
        assert response.message == uncached.message
        completed = await way(llm.complete, asked)
        assert completed.text == uncached.message.content
    assert server.calls == 3
    assert cache.stats().hits == {"exact": 2, "semantic": 2}
    assert cache.stats().saved_tokens == {"input_tokens": 44, "output_tokens": 20}
    assert "total_tokens" not in response.additional_kwargs
    await way(llm.chat, user(OTHER))
    assert server.calls == 4


async def test_streams(server: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    options = {"additional_kwargs": {"stream_options": {"include_usage": True}}}
    uncached = await chunks(way, model(server, **options).stream_chat, user(ASKED))
    llm = SemanticCacheLLM(model(server, **options), cache)
    for asked in (ASKED, ASKED, REWORDED):
        played = await chunks(way, llm.stream_chat, user(asked))
        assert played[-1].message == uncached[-1].message
        assert "".join(c.delta for c in played) == "".join(c.delta for c in uncached)
    assert (await way(llm.chat, user(ASKED))).message == uncached[-1].message
    assert server.calls == 2
    assert cache.stats().saved_tokens == {"input_tokens": 33, "output_tokens": 15}


@pytest.mark.parametrize("failure", ["break", "error", "cut"])
async def test_streams_that_break_off_are_not_kept(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way, failure: Any
) -> None:
    llm = SemanticCacheLLM(model(server), cache)
    server.failures.append(failure)
    if failure == "cut":  # which the client takes for an end
        await chunks(way, llm.stream_chat, user(ASKED))
        assert cache.stats().not_stored == {"the stream broke off": 1}
    else:
        with pytest.raises(Exception, match=r"planted failure|peer closed|incomplete"):
            await chunks(way, llm.stream_chat, user(ASKED))
    assert cache.stats().stored == 0
    await chunks(way, llm.stream_chat, user(ASKED))
    assert server.calls == 2
    assert cache.stats().stored == 1


async def test_answers_that_were_cut_off_are_not_kept(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    llm = SemanticCacheLLM(model(server), cache)
    await way(llm.chat, user("cut off"))
    await chunks(way, llm.stream_chat, user("cut off"))
    assert cache.stats().not_stored == {"finish_reason length": 2}
    counted = model(server, additional_kwargs={"stream_options": {"include_usage": True}})
    llm = SemanticCacheLLM(counted, cache)  # whose last chunk tells of tokens alone
    await chunks(way, llm.stream_chat, user("cut off"))
    await chunks(way, llm.stream, PromptTemplate("{query_str}"), query_str="cut off")
    await way(llm.predict, PromptTemplate("{query_str}"), query_str="cut off")
    assert cache.stats().not_stored == {"finish_reason length": 5}


async def test_rag(server: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    index = SummaryIndex([TextNode(text="Press the button."), TextNode(text="Then wait.")])
    uncached = str(await way(index.as_query_engine(llm=model(server)).query, ASKED))
    sent = server.chats[-1]
    llm = SemanticCacheLLM(model(server), cache)
    for asked in (ASKED, ASKED, REWORDED):
        assert str(await way(index.as_query_engine(llm=llm).query, asked)) == uncached
    assert server.calls == 2
    assert server.chats[-1] == sent
    await way(index.as_query_engine(llm=llm).query, OTHER)
    assert server.calls == 3


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4"], ids=["json schema", "tools"])
async def test_structured_prediction_is_the_providers_own(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way, name: str
) -> None:
    template = PromptTemplate("{query_str}")
    uncached = await way(model(server, name).structured_predict, Said, template, query_str=ASKED)
    (sent,) = server.chats
    assert ("response_format" in sent) == (name == "gpt-4o")
    llm = SemanticCacheLLM(model(server, name), cache)
    for asked in (ASKED, ASKED, REWORDED):
        found = await way(llm.structured_predict, Said, template, query_str=asked)
        assert found == uncached == Said(text=ASKED)
        *_, last = await chunks(way, llm.stream_structured_predict, Said, template, query_str=asked)
        assert last == uncached
    assert server.calls == 2
    assert server.chats[-1] == sent
    assert cache.stats().saved_tokens["output_tokens"] > 0


async def test_an_object_that_was_cut_short_is_not_kept(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    template = PromptTemplate("{query_str}")
    llm = SemanticCacheLLM(model(server), cache)
    asked = "cut off " * 5  # of which half an object can be mended to a whole one
    *_, mended = await chunks(way, llm.stream_structured_predict, Said, template, query_str=asked)
    assert isinstance(mended, Said)
    assert cache.stats().not_stored == {"finish_reason length": 1}
    server.failures.append("cut")
    asked = "a long question of many words, the answer to which breaks off"
    *_, mended = await chunks(way, llm.stream_structured_predict, Said, template, query_str=asked)
    assert isinstance(mended, Said)
    assert len(mended.text) < len(asked)
    assert cache.stats().stored == 0


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
async def test_agents(server: OpenAIServer, cache: ValkeySemanticCache, streaming: bool) -> None:
    asked = "use the tool please"

    async def run(llm: Any) -> str:
        agent = FunctionAgent(tools=[TOOL], llm=llm, streaming=streaming)
        return str(await agent.run(user_msg=asked))

    uncached = await run(model(server))
    assert server.calls == 2
    llm = SemanticCacheLLM(model(server), cache, cache_tool_calls=True)
    for _ in range(2):
        assert await run(llm) == uncached
        assert server.calls == 4
    del server.chats[:]
    plain = SemanticCacheLLM(model(server), cache, namespace="another")
    for calls in (2, 3):
        assert await run(plain) == uncached
        assert server.calls == calls, "a call for a tool is asked for again, its result is not"


async def test_a_call_from_the_cache_is_sent_back_as_the_models_own(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    llm = SemanticCacheLLM(model(server), cache, cache_tool_calls=True)
    sent = []
    for _ in range(2):
        response = await way(llm.chat_with_tools, [TOOL], user_msg="use the tool please")
        (call,) = llm.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 7})
        result = ChatMessage(
            role="tool", content="8", additional_kwargs={"tool_call_id": call.tool_id}
        )
        with llm.bypass():
            await way(llm.chat, [*user("use the tool please"), response.message, result])
        asked, answered = server.chats[-1]["messages"][1:]
        assert asked["tool_calls"][0]["id"] == answered["tool_call_id"] == call.tool_id
        asked["tool_calls"][0]["id"] = answered["tool_call_id"] = "the same"
        sent.append(json.dumps([asked, answered], sort_keys=True))
    assert sent[0] == sent[1]


IN_ANOTHER_PROCESS = """
import sys
from llama_index.llms.openai import OpenAI
from llama_index_valkey_semcache.identity import model_identity
llm = OpenAI("gpt-4o", api_base=sys.argv[1], api_key="sk-another", timeout=5, max_retries=7)
print(model_identity(llm, {}))
"""


async def test_clients_are_no_part_of_the_identity(server: OpenAIServer) -> None:
    llm = model(server)
    before = model_identity(llm, {})
    llm.chat(user(ASKED))
    await llm.achat(user(ASKED))
    assert model_identity(llm, {}) == before


def test_the_identity_is_equal_in_two_processes_and_holds_no_secret(server: OpenAIServer) -> None:
    before = model_identity(model(server), {})
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, server.url],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == before
    for absent in ("planted", "127.0.0.1", " at 0x"):
        assert absent not in before
    for other in (
        model(server, temperature=0.5),
        model(server, "gpt-4o-mini"),
        model(server, max_tokens=5),
        model(server, additional_kwargs={"seed": 1}),
    ):
        assert model_identity(other, {}) != before
    headers = model(server, additional_kwargs={"extra_headers": {"x": "planted"}})
    assert "planted" not in model_identity(headers, {})


def test_no_key_is_written_down(server: OpenAIServer, cache: ValkeySemanticCache) -> None:
    llm = SemanticCacheLLM(model(server), cache)
    assert llm.model == "gpt-4o"
    for text in (llm.to_json(), str(llm.model_dump()), repr(llm), str(llm.to_payload())):
        assert "planted" not in text


async def test_with_a_key_the_notebook_asks_openais_model(
    server: OpenAIServer, cache: ValkeySemanticCache, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    monkeypatch.setenv("OPENAI_API_BASE", server.url)
    (choosing,) = [code for code in code_of(NOTEBOOKS[1]) if "OPENAI_API_KEY" in code]
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(choosing, names)
    assert isinstance(names["llm"], OpenAI)
    llm = SemanticCacheLLM(names["llm"], cache)
    for asked in (ASKED, REWORDED):
        assert ASKED in (await way(llm.complete, asked)).text
    assert server.calls == 1
