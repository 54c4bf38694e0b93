"""A cached LLM and a cached query engine in a `Workflow`: as resources, and inside of steps."""

from __future__ import annotations

from typing import Annotated, Any

from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step
from llama_index.core.workflow.resource import Resource

from llama_index_valkey_semcache import (
    MiniLMEmbedding,
    SemanticCacheLLM,
    SemanticCacheQueryEngine,
    ValkeySemanticCache,
)
from tests.llama_index.engines import ASKED, OTHER, REWORDED, engine, retrievals
from tests.llama_index.models import EchoLLM

made: dict[str, Any] = {}
"""What the resources below are made of, for the test that runs."""


def the_llm() -> SemanticCacheLLM:
    return SemanticCacheLLM(made["llm"], made["cache"])


def the_engine() -> SemanticCacheQueryEngine:
    return SemanticCacheQueryEngine(made["engine"], made["cache"], corpus_version="v1")


class Found(Event):
    question: str
    passages: str


class Handbook(Workflow):
    """Finds an answer in the handbook and puts it shortly. Both by resources."""

    @step
    async def find(
        self,
        start: StartEvent,
        engine: Annotated[SemanticCacheQueryEngine, Resource(the_engine)],
    ) -> Found:
        response = await engine.aquery(start.question)
        return Found(question=start.question, passages=str(response))

    @step
    async def shorten(
        self, found: Found, llm: Annotated[SemanticCacheLLM, Resource(the_llm)]
    ) -> StopEvent:
        prompt = f"Context: {found.passages[-80:]}\n\nQuestion: {found.question}\nAnswer:"
        return StopEvent(result=str(await llm.acomplete(prompt)))


async def test_resources_of_a_workflow(real: ValkeySemanticCache, minilm: MiniLMEmbedding) -> None:
    inner, short = EchoLLM(), EchoLLM(chatting=False)
    made.update(cache=real, engine=engine(inner, minilm), llm=short)
    answers = [
        await Handbook(timeout=30).run(question=question) for question in (ASKED, ASKED, REWORDED)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert ASKED in answers[0]
    assert (inner.calls, retrievals(made["engine"]), short.calls) == (1, 1, 1)
    assert await Handbook(timeout=30).run(question=OTHER) != answers[0]
    assert (inner.calls, retrievals(made["engine"]), short.calls) == (2, 2, 2)


async def test_a_workflow_that_holds_them_and_streams(
    real: ValkeySemanticCache, minilm: MiniLMEmbedding
) -> None:
    class Streaming(Workflow):
        def __init__(self, engine: Any) -> None:
            super().__init__(timeout=30)
            self.engine = engine

        @step
        async def ask(self, start: StartEvent) -> StopEvent:
            response = await self.engine.aquery(start.question)
            tokens = [token async for token in response.async_response_gen()]
            return StopEvent(result=tokens)

    llm = EchoLLM()
    asking = SemanticCacheQueryEngine(
        engine(llm, minilm, streaming=True), real, corpus_version="v1"
    )
    workflow = Streaming(asking)
    first, second, third = [
        await workflow.run(question=question) for question in (ASKED, ASKED, REWORDED)
    ]
    assert len(second) > 10
    assert "".join(first) == "".join(second) == "".join(third)
    assert (llm.calls, retrievals(asking)) == (1, 1)
