"""Query engines over a cached LLM: each response mode, sync, async and streaming.

The answer is the uncached one, and the model's calls are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.llms import LLM
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import TextNode
from pydantic import BaseModel

from llama_index_valkey_semcache import MiniLMEmbedding, SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import EchoLLM

ASKED = "How do I reset my password?"
REWORDED = "What do I do to reset my password?"
OTHER = "How do I change my e-mail address?"

NODES = [
    TextNode(id_="1", text="To reset the password, press the red button.\n\nQuery: none here."),
    TextNode(id_="2", text="The e-mail address is changed by post, with a stamp."),
]

CALLS = {  # how often a model is asked for one answer over two passages
    "refine": 2,
    "compact": 1,
    "simple_summarize": 1,
    "tree_summarize": 1,
    "generation": 1,
    "accumulate": 2,
    "compact_accumulate": 1,
}
STREAMING = ["refine", "compact", "simple_summarize", "tree_summarize", "generation"]


class Said(BaseModel):
    """Something said."""

    text: str


def engine(llm: LLM, **options: Any) -> Any:
    """A query engine that reads all passages, whatever is asked."""
    return SummaryIndex(NODES).as_query_engine(llm=llm, **options)


async def ask(way: Way, engine: Any, question: str) -> str:
    response = await way(engine.query, question)
    if isinstance(response, AsyncStreamingResponse):
        return "".join([token async for token in response.async_response_gen()])
    if isinstance(response, StreamingResponse):
        return "".join(response.response_gen)
    return str(response)


@pytest.mark.parametrize("chatting", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("mode", CALLS)
async def test_each_response_mode(
    real: ValkeySemanticCache, way: Way, mode: str, chatting: bool
) -> None:
    bare, inner = EchoLLM(chatting), EchoLLM(chatting)
    uncached = await ask(way, engine(bare, response_mode=mode), ASKED)
    cached = engine(SemanticCacheLLM(inner, real), response_mode=mode)
    assert await ask(way, cached, ASKED) == uncached
    assert inner.calls == bare.calls == CALLS[mode]
    assert sorted(inner.asked) == sorted(bare.asked), "sent what it would have been sent"
    assert await ask(way, cached, ASKED) == uncached
    if mode != "refine":  # whose second prompt holds the first answer's own words
        assert await ask(way, cached, REWORDED) == uncached
    assert inner.calls == CALLS[mode]
    other = await ask(way, engine(bare, response_mode=mode), OTHER)
    assert await ask(way, cached, OTHER) == other
    assert inner.calls == 2 * CALLS[mode]


@pytest.mark.parametrize("mode", STREAMING)
async def test_each_response_mode_streaming(real: ValkeySemanticCache, way: Way, mode: str) -> None:
    bare, inner = EchoLLM(), EchoLLM()
    options = {"response_mode": mode, "streaming": True}
    uncached = await ask(way, engine(bare, **options), ASKED)
    llm = SemanticCacheLLM(inner, real)
    cached = engine(llm, **options)
    assert await ask(way, cached, ASKED) == uncached
    assert inner.calls == CALLS[mode]
    assert await ask(way, cached, ASKED) == uncached
    assert await ask(way, cached, REWORDED) == uncached
    assert inner.calls == CALLS[mode]
    # what was streamed is served whole
    assert await ask(way, engine(llm, response_mode=mode), ASKED) == uncached
    assert inner.calls == CALLS[mode]
    await ask(way, cached, OTHER)
    assert inner.calls == 2 * CALLS[mode]


@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize", "accumulate"])
async def test_output_cls(real: ValkeySemanticCache, way: Way, mode: str) -> None:
    bare, inner = EchoLLM(), EchoLLM()
    options: dict[str, Any] = {"response_mode": mode, "output_cls": Said}
    uncached = await ask(way, engine(bare, **options), ASKED)
    cached = engine(SemanticCacheLLM(inner, real), **options)
    assert await ask(way, cached, ASKED) == uncached
    calls = inner.calls
    assert calls == bare.calls
    for _ in range(2):
        assert await ask(way, cached, ASKED) == uncached
    assert inner.calls == calls
    if mode != "refine":
        assert await ask(way, cached, REWORDED) == uncached
        assert inner.calls == calls


class Answered(BaseModel):
    """An answer, which is what LlamaIndex streams of an object."""

    answer: str


class Answering(EchoLLM):
    def _answer(self, prompt: str) -> str:
        return '{"answer": "press the red button"}'


@pytest.mark.parametrize("mode", ["refine", "compact"])
async def test_output_cls_streaming(real: ValkeySemanticCache, way: Way, mode: str) -> None:
    bare, inner = Answering(), Answering()
    options: dict[str, Any] = {"response_mode": mode, "output_cls": Answered, "streaming": True}
    uncached = await ask(way, engine(bare, **options), ASKED)
    assert "press the red button" in uncached  # alone, or as JSON in older releases
    cached = engine(SemanticCacheLLM(inner, real), **options)
    for _ in range(2):
        assert await ask(way, cached, ASKED) == uncached
        assert inner.calls == bare.calls
    if mode == "compact":
        assert await ask(way, cached, REWORDED) == uncached
        assert inner.calls == bare.calls


async def test_a_structured_llm_around_the_cache(real: ValkeySemanticCache, way: Way) -> None:
    bare, inner = EchoLLM(), EchoLLM()
    uncached = await way(engine(bare.as_structured_llm(Said)).query, ASKED)
    structured = SemanticCacheLLM(inner, real).as_structured_llm(Said)
    for question in (ASKED, ASKED, REWORDED):
        response = await way(engine(structured).query, question)
        assert response.response == uncached.response
        assert isinstance(response.response, Said)
    assert inner.calls == bare.calls == 1
    await way(engine(structured).query, OTHER)
    assert inner.calls == 2


async def test_structured_answer_filtering(real: ValkeySemanticCache, way: Way) -> None:
    class Satisfied(EchoLLM):
        def _answer(self, prompt: str) -> str:
            return '{"answer": "the red button", "query_satisfied": true}'

    def filtering(llm: LLM) -> Any:
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode="refine", structured_answer_filtering=True
        )
        return SummaryIndex(NODES).as_query_engine(llm=llm, response_synthesizer=synthesizer)

    bare, inner = Satisfied(), Satisfied()
    uncached = await ask(way, filtering(bare), ASKED)
    cached = filtering(SemanticCacheLLM(inner, real))
    for _ in range(2):
        assert await ask(way, cached, ASKED) == uncached == "the red button"
    assert inner.calls == bare.calls == 2


async def test_a_changed_index_misses_by_itself(
    real: ValkeySemanticCache, way: Way, minilm: MiniLMEmbedding
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, real)
    documents = [Document(text="Press the red button.", doc_id="a")]
    index = VectorStoreIndex.from_documents(documents, embed_model=minilm)
    first = await ask(way, index.as_query_engine(llm=llm), ASKED)
    assert await ask(way, index.as_query_engine(llm=llm), REWORDED) == first
    assert inner.calls == 1
    index.update_ref_doc(Document(text="Press the green button.", doc_id="a"))
    assert "green" in await ask(way, index.as_query_engine(llm=llm), ASKED)
    assert inner.calls == 2


@pytest.fixture
def _settings() -> Iterator[None]:
    before = Settings._llm
    yield
    Settings._llm = before


@pytest.mark.usefixtures("_settings")
async def test_settings_llm(real: ValkeySemanticCache, way: Way) -> None:
    inner = EchoLLM()
    Settings.llm = SemanticCacheLLM(inner, real)
    query_engine = SummaryIndex(NODES).as_query_engine()
    first = await ask(way, query_engine, ASKED)
    assert await ask(way, query_engine, REWORDED) == first
    assert inner.calls == 1
    assert inner.callback_manager is Settings.callback_manager


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize("mode", ["no_text", "context_only"])
async def test_modes_that_ask_no_model(real: ValkeySemanticCache, way: Way, mode: str) -> None:
    inner = EchoLLM()
    Settings.llm = inner
    uncached = await ask(way, SummaryIndex(NODES).as_query_engine(response_mode=mode), ASKED)
    Settings.llm = SemanticCacheLLM(inner, real)
    cached = SummaryIndex(NODES).as_query_engine(response_mode=mode)
    assert await ask(way, cached, ASKED) == uncached
    assert inner.calls == real.stats().lookups == 0


async def test_a_template_of_ones_own(real: ValkeySemanticCache, way: Way) -> None:
    from llama_index.core import ChatPromptTemplate
    from llama_index.core.prompts import RichPromptTemplate

    templates = [
        ChatPromptTemplate.from_messages(
            [("system", "Answer in rhyme."), ("user", "{context_str}\nQ: {query_str} A:")]
        ),
        RichPromptTemplate("{% chat role='user' %}{{context_str}} ? {{query_str}}{% endchat %}"),
    ]
    for number, template in enumerate(templates, 1):
        bare, inner = EchoLLM(), EchoLLM()
        uncached = await ask(way, engine(bare, text_qa_template=template), ASKED)
        cached = engine(SemanticCacheLLM(inner, real), text_qa_template=template)
        for question in (ASKED, ASKED, REWORDED):
            assert await ask(way, cached, question) == uncached
        assert inner.asked == bare.asked
        assert real.stats().hits == {"exact": number, "semantic": number}
