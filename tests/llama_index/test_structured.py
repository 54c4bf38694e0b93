"""Structured prediction over a cached LLM: kept as JSON, asked for in the provider's own way."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import ChatPromptTemplate, PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, Field, PrivateAttr

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.codec import OutputCodec
from tests.conftest import Way
from tests.llama_index.models import STREAMS_OBJECTS, EchoLLM, ToolLLM
from valkey_semcache import NotStorableError, UnreadableError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
TEMPLATE = "Given {context_str}. Question: {query_str}"


class Said(BaseModel):
    """Something said."""

    text: str


def template() -> PromptTemplate:
    return PromptTemplate(TEMPLATE)


async def last(way: Way, method: Any, *args: Any, **kwargs: Any) -> Any:
    stream = await way(method, *args, **kwargs)
    if way.name == "sync":
        return list(stream)[-1]
    return [part async for part in stream][-1]


@pytest.mark.parametrize("chatting", [True, False], ids=["chat", "completion"])
async def test_whole_and_streamed(cache: ValkeySemanticCache, way: Way, chatting: bool) -> None:
    inner = EchoLLM(chatting)
    llm = SemanticCacheLLM(inner, cache)
    given = {"context_str": "passages"}
    prompt = template()  # into which the program of such a model puts its parser
    first = await way(llm.structured_predict, Said, prompt, query_str=ASKED, **given)
    assert first == Said(text=f"about {ASKED}")
    for asked in (ASKED, REWORDED):
        again = await way(llm.structured_predict, Said, prompt, query_str=asked, **given)
        assert again == first
        assert again is not first
        stream = llm.stream_structured_predict
        assert await last(way, stream, Said, prompt, query_str=asked, **given) == first
    assert inner.calls == 1
    await way(llm.structured_predict, Said, prompt, query_str="which wine", **given)
    await way(llm.structured_predict, Said, prompt, query_str=ASKED, context_str="others")
    assert inner.calls == 3


@pytest.mark.skipif(not STREAMS_OBJECTS, reason="this release streams none")
async def test_what_was_streamed_is_served_whole(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    prompt, given = template(), {"context_str": "passages", "query_str": ASKED}
    streamed = await last(way, llm.stream_structured_predict, Said, prompt, **given)
    assert await way(llm.structured_predict, Said, prompt, **given) == streamed
    assert inner.calls == 1


async def test_the_schema_counts(cache: ValkeySemanticCache, way: Way) -> None:
    class Other(BaseModel):
        text: str

    told = type("Said", (Said,), {"__doc__": "Another description."})
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    given = {"context_str": "passages", "query_str": ASKED}
    for number, output_cls in enumerate((Said, Other, told), 1):
        for _ in range(2):
            found = await way(llm.structured_predict, output_cls, template(), **given)
            assert type(found) is output_cls
        assert inner.calls == number
    kwargs = {"llm_kwargs": {"top_p": 0.5}}
    await way(llm.structured_predict, Said, template(), **kwargs, **given)
    assert inner.calls == 4


async def test_the_providers_own_method_is_used(cache: ValkeySemanticCache, way: Way) -> None:
    asked = []

    class Provider(EchoLLM):
        def structured_predict(self, output_cls: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(kwargs)
            return output_cls(text="by the provider")

        async def astructured_predict(self, output_cls: Any, *args: Any, **kwargs: Any) -> Any:
            return self.structured_predict(output_cls, *args, **kwargs)

        def stream_structured_predict(self, output_cls: Any, *args: Any, **kwargs: Any) -> Any:
            yield self.structured_predict(output_cls, *args, **kwargs)

        async def astream_structured_predict(self, *args: Any, **kwargs: Any) -> Any:
            async def parts() -> Any:
                for part in self.stream_structured_predict(*args, **kwargs):
                    yield part

            return parts()

    inner = Provider()
    for method in ("structured_predict", "stream_structured_predict"):
        llm = SemanticCacheLLM(inner, cache, namespace=method)
        asked.clear()
        for _ in range(2):
            given = {"context_str": "passages", "query_str": ASKED, "llm_kwargs": {"seed": 1}}
            if method == "structured_predict":
                found = await way(llm.structured_predict, Said, template(), **given)
            else:
                found = await last(way, llm.stream_structured_predict, Said, template(), **given)
            assert found == Said(text="by the provider")
        assert asked == [given]
    assert inner.calls == 0


async def test_models_that_call_functions(cache: ValkeySemanticCache, way: Way) -> None:
    def script(messages: Any, tools: Any) -> ChatMessage:
        function = {"name": tools[0]["function"]["name"], "arguments": '{"text": "called"}'}
        call = {"id": "1", "type": "function", "function": function}
        return ChatMessage(role="assistant", additional_kwargs={"tool_calls": [call]})

    inner = ToolLLM(script)
    llm = SemanticCacheLLM(inner, cache)
    given = {"context_str": "passages"}
    for asked in (ASKED, ASKED, REWORDED):
        found = await way(llm.structured_predict, Said, template(), query_str=asked, **given)
        assert found == Said(text="called")
        stream = llm.stream_structured_predict
        assert await last(way, stream, Said, template(), query_str=asked, **given) == found
    assert inner.calls == 1


async def test_an_answer_that_does_not_fit_is_not_kept(
    cache: ValkeySemanticCache, way: Way
) -> None:
    class Wrong(EchoLLM):
        def _answer(self, prompt: str) -> str:
            return '{"other": 1}'

    inner = Wrong()
    llm = SemanticCacheLLM(inner, cache)
    given = {"context_str": "passages", "query_str": ASKED}
    for number in (1, 2):
        with pytest.raises(ValueError, match="text"):
            await way(llm.structured_predict, Said, template(), **given)
        assert inner.calls == number
    assert cache.stats().stored == 0
    if STREAMS_OBJECTS:
        await last(way, llm.stream_structured_predict, Said, template(), **given)
        assert cache.stats().stored == 0
        assert cache.stats().not_stored == {"not storable": 1}


async def test_a_structured_llm_asks_as_a_chat_does(cache: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    structured = SemanticCacheLLM(inner, cache).as_structured_llm(Said)
    for asked in (ASKED, ASKED, REWORDED):
        messages = [ChatMessage(role="user", content=f"Question: {asked}")]
        response = await way(structured.chat, messages)
        assert response.raw == Said(text=f"about {ASKED}")
    assert inner.calls == 1


async def test_templates_without_a_question_are_exact_only(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    prompt = ChatPromptTemplate.from_messages([("user", "Tell me: {topic}")])
    for asked in (ASKED, ASKED, REWORDED):
        await way(llm.structured_predict, Said, prompt, topic=asked)
    assert inner.calls == 2


# The codec


class Renamed(BaseModel):
    """Whose field has another name in JSON."""

    text: str = Field(alias="said")


class Hiding(BaseModel):
    """Which does not come back from JSON as it was."""

    text: str = Field(exclude=True, default="")


class Secretive(BaseModel):
    """Likewise."""

    text: str = ""
    _hidden: int = PrivateAttr(default=0)


def test_objects_come_back_as_they_were() -> None:
    for answer in (Said(text="é\ud800".encode("utf-8", "replace").decode()), Renamed(said="x")):
        codec = OutputCodec(type(answer))
        assert codec.decode(codec.encode(answer)) == answer


def test_objects_that_would_not_come_back_are_not_stored() -> None:
    secretive = Secretive(text="x")
    secretive._hidden = 5
    for answer in (Hiding(text="x"), secretive):
        with pytest.raises(NotStorableError, match="does not come back"):
            OutputCodec(type(answer)).encode(answer)
    with pytest.raises(NotStorableError, match="no complete Said"):
        OutputCodec(Said).encode(Renamed(said="x"))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"text": 5}', b"[]", b"\xff"])
def test_damaged_objects_are_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        OutputCodec(Said).decode(content)
