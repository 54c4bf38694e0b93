"""A cached query engine as a part of others, what is seen of it, and what it stores."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import PydanticResponse, Response, StreamingResponse
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import (
    CustomQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
)
from llama_index.core.question_gen.types import SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheHitEvent,
    SemanticCacheMissEvent,
    SemanticCacheQueryEngine,
    SemanticCacheStoreEvent,
    ValkeySemanticCache,
)
from llama_index_valkey_semcache.response_codec import ResponseCodec
from tests.conftest import Way
from tests.llama_index.engines import (
    ASKED,
    OTHER,
    REWORDED,
    RetrievingEmbedding,
    engine,
    retrievals,
)
from tests.llama_index.models import EchoLLM, ToolLLM
from valkey_semcache.errors import NotStorableError, UnreadableError


def cached(inner: Any, cache: ValkeySemanticCache, **options: Any) -> Any:
    return SemanticCacheQueryEngine(inner, cache, **{"corpus_version": "v1"} | options)


# As a part of others


async def test_inside_a_tool(real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way) -> None:
    llm, bare = EchoLLM(), EchoLLM()
    asking = cached(engine(llm, minilm), real)
    tool = QueryEngineTool.from_defaults(asking, name="handbook")
    uncached = QueryEngineTool.from_defaults(engine(bare, minilm), name="handbook")
    expected = await way(uncached.call, ASKED)
    for question in (ASKED, ASKED, REWORDED):
        output = await way(tool.call, question)
        assert output.content == expected.content
        assert output.raw_output == expected.raw_output
    assert (llm.calls, retrievals(asking)) == (1, 1)


async def test_inside_a_function_agents_tool(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding
) -> None:
    def script(messages: Any, tools: Any) -> ChatMessage:
        if messages[-1].role == "tool":
            return ChatMessage(role="assistant", content=f"It says: {messages[-1].content}")
        call = {"name": "handbook", "arguments": json.dumps({"input": messages[-1].content})}
        calls = [{"id": "call_1", "type": "function", "function": call}]
        return ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": calls})

    llm = EchoLLM()
    asking = cached(engine(llm, minilm), real)
    tool = QueryEngineTool.from_defaults(asking, name="handbook")
    answers = []
    for question in (ASKED, REWORDED):
        agent = FunctionAgent(tools=[tool], llm=ToolLLM(script))
        memory = ChatMemoryBuffer.from_defaults(token_limit=4000)
        answers.append(str(await agent.run(question, memory=memory)))
    assert answers[0] == answers[1]
    assert "red button" in answers[0]
    assert (llm.calls, retrievals(asking)) == (1, 1)


async def test_as_a_sub_engine_of_routers_and_sub_questions(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    class Choosing(EchoLLM):
        def _answer(self, prompt: str) -> str:
            if "Some choices are given" in prompt:
                return '[{"choice": 1, "reason": "it is the one"}]'
            return super()._answer(prompt)

    class Fixed:
        def _get_prompts(self) -> dict[str, Any]:
            return {}

        def generate(self, tools: Any, query: Any) -> list[SubQuestion]:
            return [SubQuestion(sub_question=q, tool_name="handbook") for q in (ASKED, OTHER)]

        async def agenerate(self, tools: Any, query: Any) -> list[SubQuestion]:
            return self.generate(tools, query)

    llm, outer = EchoLLM(), Choosing()
    asking = cached(engine(llm, minilm), real)
    tools = [QueryEngineTool.from_defaults(asking, name="handbook", description="everything")]
    router = RouterQueryEngine(LLMSingleSelector.from_defaults(outer), tools, llm=outer)
    for question in (ASKED, REWORDED):
        assert "red button" in str(await way(router.query, question))
    assert (llm.calls, outer.calls) == (1, 2)
    parts = SubQuestionQueryEngine(
        Fixed(),  # type: ignore[arg-type]
        get_response_synthesizer(outer),
        tools,
        verbose=False,
        use_async=False,
    )
    first, second = [await way(parts.query, "all of it") for _ in range(2)]
    assert first.response == second.response
    sources = [
        [s.node.get_content() for s in response.source_nodes] for response in (first, second)
    ]
    assert sources[0] == sources[1], "their ids are new each time"
    assert (llm.calls, retrievals(asking)) == (2, 2)


async def test_a_hit_reads_as_a_miss_to_a_retriever_that_asks_the_engine(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    """It makes a node of the response and its metadata, which goes into a prompt."""
    asking = cached(engine(EchoLLM(), minilm), real)
    link = IndexNode(text="the handbook", index_id="handbook", id_="link")
    index = VectorStoreIndex(nodes=[link], embed_model=minilm)
    retriever = VectorIndexRetriever(index, object_map={"handbook": asking})
    texts = []
    for _ in range(2):
        (found,) = await way(retriever.retrieve, ASKED)
        texts.append(found.node.get_content(MetadataMode.LLM))
    assert texts[0] == texts[1]
    assert "red button" in texts[0]
    assert real.stats().hits == {"exact": 1}


async def test_wrapped_around_an_engine_of_cached_engines(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    class Choosing(EchoLLM):
        def _answer(self, prompt: str) -> str:
            return '[{"choice": 1, "reason": "it is the one"}]'

    llm, outer = EchoLLM(), Choosing()
    asking = cached(engine(llm, minilm), real)
    tools = [QueryEngineTool.from_defaults(asking, name="handbook", description="everything")]
    router = RouterQueryEngine(LLMSingleSelector.from_defaults(outer), tools, llm=outer)
    whole = cached(router, real)
    responses = [await way(whole.query, question) for question in (ASKED, ASKED, REWORDED)]
    assert responses[0] == responses[1] == responses[2]
    assert "red button" in str(responses[0])
    assert responses[2].metadata["selector_result"].inds == [0]
    assert (outer.calls, llm.calls, retrievals(asking)) == (1, 1, 1)
    # a setting of the engine inside of the one inside is part of the scope
    asking.retriever.similarity_top_k = 1
    await way(whole.query, ASKED)
    assert (outer.calls, llm.calls) == (2, 2)


async def test_under_a_chat_engine(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way
) -> None:
    class Condensing(EchoLLM):
        def _answer(self, prompt: str) -> str:
            return ASKED

    llm = EchoLLM()
    asking = cached(engine(llm, minilm), real)
    answers = []
    for message in ("And how do I do that?", "Tell me again?"):
        memory = ChatMemoryBuffer.from_defaults(
            chat_history=[ChatMessage(role="user", content="Hello")], token_limit=4000
        )
        chat = CondenseQuestionChatEngine.from_defaults(asking, llm=Condensing(), memory=memory)
        answers.append(str(await way(chat.chat, message)))
    assert answers[0] == answers[1]
    assert "red button" in answers[0]
    assert (llm.calls, retrievals(asking)) == (1, 1)


# Seen from outside


class Listening(BaseEventHandler):
    heard: list[BaseEvent] = []  # noqa: RUF012 - a pydantic field

    def handle(self, event: BaseEvent, **_: Any) -> None:
        self.heard.append(event)


@pytest.mark.parametrize("streaming", [False, True])
async def test_events_tell_of_hits_misses_and_stores_and_a_hit_asks_no_model(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding, way: Way, streaming: bool
) -> None:
    asking = cached(engine(EchoLLM(), minilm, streaming=streaming), real)
    handler = Listening()
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        told = []
        for question in (ASKED, REWORDED):
            handler.heard.clear()
            response = await way(asking.query, question)
            whole = response.get_response() if streaming else response
            whole = await whole if streaming and way.name == "async" else whole
            told.append([type(event).__name__ for event in handler.heard])
            if question == REWORDED:
                (hit,) = [e for e in handler.heard if isinstance(e, SemanticCacheHitEvent)]
    finally:
        dispatcher.event_handlers.remove(handler)
    miss, store = SemanticCacheMissEvent.class_name(), SemanticCacheStoreEvent.class_name()
    ours = [name for name in told[0] if name.startswith("Semantic")]
    assert ours == [miss, store]
    assert "LLMChatEndEvent" in told[0]
    embedded = ["EmbeddingStartEvent", "EmbeddingEndEvent"]
    hit_event = SemanticCacheHitEvent.class_name()
    assert told[1] == ["QueryStartEvent", *embedded, hit_event, "QueryEndEvent"]
    assert (hit.tier, hit.question) == ("semantic", ASKED)
    assert hit.usage == {"input_tokens": 4, "output_tokens": 2}


async def test_tokens_of_all_calls_count_once(cache: ValkeySemanticCache, way: Way) -> None:
    asking = cached(engine(EchoLLM(), RetrievingEmbedding(), response_mode="refine"), cache)
    await way(asking.query, ASKED)
    await way(asking.query, ASKED)
    assert cache.stats().saved_tokens == {"input_tokens": 8, "output_tokens": 4}


# What is stored


def nodes() -> list[Any]:
    related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d", metadata={"a": 1})}
    return [
        TextNode(text="text", id_="1", metadata={"page": 3, "tags": ["x"]}, relationships=related),
        TextNode(text="with a vector", id_="2", embedding=[0.25, -1.5]),
        TextNode(text="hidden", id_="3", excluded_llm_metadata_keys=["page"], start_char_idx=4),
        IndexNode(text="link", id_="4", index_id="other"),
        IndexNode(text="link", id_="5", index_id="other", obj=TextNode(text="in it", id_="6")),
        ImageNode(text="picture", id_="7", image="aGVsbG8=", image_mimetype="image/png"),
        Document(text="document", id_="8", metadata={"year": 2024}),
    ]


@pytest.mark.parametrize("node", nodes(), ids=lambda node: f"{type(node).__name__}-{node.node_id}")
def test_nodes_come_back_as_themselves(node: Any) -> None:
    codec = ResponseCodec()
    for score in (0.75, 0.0, None):
        response = Response("answer", [NodeWithScore(node=node, score=score)], {"a": [1, None]})
        back = codec.decode(codec.encode(response))
        assert back == response
        assert type(back.source_nodes[0].node) is type(node)
        assert back.source_nodes[0].node is not node


class Own(TextNode):
    """A node type of the app's own."""

    colour: str = "red"


class Scored(NodeWithScore):
    """A scored node of the app's own."""


UNSTORABLE = {
    "own type": NodeWithScore(node=Own(text="x"), score=1.0),
    "own scored": Scored(node=TextNode(text="x"), score=1.0),
    "no number": NodeWithScore(node=TextNode(text="x"), score=float("nan")),
    "tuple": NodeWithScore(node=TextNode(text="x", metadata={"pair": (1, 2)}), score=1.0),
    "object": NodeWithScore(node=IndexNode(text="x", index_id="i", obj=object()), score=1.0),
    "image document": NodeWithScore(node=ImageDocument(text="x", image="aGVsbG8="), score=1.0),
    "other object": NodeWithScore(node=IndexNode(text="x", index_id="i", obj={"a": 1}), score=1.0),
}


@pytest.mark.parametrize("scored", UNSTORABLE.values(), ids=UNSTORABLE)
async def test_nodes_that_would_not_come_back_are_not_stored(
    cache: ValkeySemanticCache, way: Way, scored: NodeWithScore
) -> None:
    class Custom(CustomQueryEngine):
        def custom_query(self, query_str: str) -> Any:
            return Response("red", [scored])

    asking = cached(Custom(), cache)
    for _ in range(2):
        response = await way(asking.query, ASKED)
        assert response.source_nodes == [scored] or scored.score != scored.score
        assert response.semantic_cache is None
    assert cache.stats().not_stored == {"not storable": 2}


def test_metadata_that_would_not_come_back_is_not_stored() -> None:
    scored = [NodeWithScore(node=TextNode(text="x"), score=1.0)]
    for metadata in ({1: "a"}, {"a": (1,)}, {"a": object()}):
        with pytest.raises(NotStorableError, match="its metadata"):
            ResponseCodec().encode(Response("red", scored, metadata))


DAMAGED = [
    b"",
    b"[]",
    b"{}",
    b'{"text":"a","metadata":null}',
    b'{"text":"a","nodes":[[{"__data__":{},"__type__":"os.system"},1]],"metadata":null}',
    b'{"text":"a","nodes":[[{"__data__":{"class_name":"TextNode"},"__type__":"x"},1]],"metadata":null}',
    b'{"text":"a","nodes":[[{},1]],"metadata":null}',
    b'{"text":"a","nodes":[1],"metadata":null}',
    b'{"text":"a","nodes":[],"metadata":[]}',
    b'{"text":"a","nodes":[],"metadata":{},"chosen":{"a":[[1]]}}',
    b'{"text":"a","nodes":[],"metadata":null,"chosen":{"a":[]}}',
    b'{"text":1,"nodes":[],"metadata":null}',
    b'{"object":"{}","nodes":[],"metadata":null}',
    b'{"text":"a","nodes":' + b"[" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:40].decode())
def test_damaged_bytes_are_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        ResponseCodec().decode(content)


@pytest.mark.parametrize("inside", [False, True])
def test_stored_bytes_have_no_url_opened_and_no_file_read(tmp_path: Path, inside: bool) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the base class's name

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/a.png"
        for where in ({"image_url": url}, {"image_path": str(tmp_path / "a.png")}):
            data = {"class_name": "ImageDocument", "text": "x", **where}
            node: Any = {"__data__": data, "__type__": Document.get_type()}
            if inside:
                data = {"class_name": "IndexNode", "text": "x", "index_id": "i", "obj": node}
                node = {"__data__": data, "__type__": IndexNode.get_type()}
            content = json.dumps({"text": "a", "nodes": [[node, 1]], "metadata": None})
            with pytest.raises(UnreadableError) as caught:
                ResponseCodec().decode(content.encode())
            assert "ImageDocument" in str(caught.value.__cause__)
        server.shutdown()
    assert asked == []


def test_the_class_of_an_answer_comes_from_the_engine_only() -> None:
    class Said(BaseModel):
        text: str

    class Other(BaseModel):
        number: int

    scored = [NodeWithScore(node=TextNode(text="x"), score=1.0)]
    content = ResponseCodec(Said).encode(PydanticResponse(Said(text="a"), scored))
    assert b"Said" not in content
    assert ResponseCodec(Said).decode(content).response == Said(text="a")  # type: ignore[union-attr]
    for codec in (ResponseCodec(), ResponseCodec(Other)):
        with pytest.raises(UnreadableError):
            codec.decode(content)
    stream = StreamingResponse(iter(()), scored, None, response_txt="a b")  # type: ignore[arg-type]
    back = ResponseCodec().decode(ResponseCodec().encode(stream))
    assert isinstance(back, StreamingResponse)
    assert list(back.response_gen) == ["a", " b"]
