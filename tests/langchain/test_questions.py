"""Prompts built around a question: the question alone is compared by meaning, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_valkey_semcache import MiniLMEmbeddings, ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import ConfigurationError

PASSAGES = """\
Valkey is an open source, in-memory data store that began as a fork of Redis in March under the
Linux Foundation. It keeps strings, hashes, lists and sorted sets, and replicates them.
Its module valkey-search adds vector similarity search. Companies such as AWS run it as a service.
"""
PLAIN = "Answer from what follows.\n\n{context}\n\n{question}"
LABELLED = "Answer from the context.\nContext: {context}\nQuestion: {question}\nAnswer:"

ASKED = "Which companies run it as a service?"
REWORDED = "Which companies are running it as a service?"
OTHER = "When did it begin?"

Making = Callable[..., ValkeySemanticCache]


@pytest.fixture
async def making(plain: Served) -> AsyncIterator[Making]:
    """Makes caches that embed by meaning, each LangChain's global one from then on."""
    made: list[ValkeySemanticCache] = []

    def make(**options: Any) -> ValkeySemanticCache:
        cache = ValkeySemanticCache(
            MiniLMEmbeddings(), **plain.options, similarity_threshold=0.85, **options
        )
        made.append(cache)
        set_llm_cache(cache)
        return cache

    yield make
    set_llm_cache(None)
    for cache in made:
        await cache.aclose()


def asking(template: str, model: Any) -> Runnable[dict[str, str], Any]:
    return ChatPromptTemplate.from_template(template) | model


def test_the_trap_embedded_whole_all_questions_over_the_same_passages_are_one() -> None:
    """What a cache that embeds the prompt would serve; the figures behind what follows."""
    ask = ChatPromptTemplate.from_template(PLAIN)
    prompts = [
        ask.invoke({"context": PASSAGES, "question": question}).to_string()
        for question in (ASKED, OTHER)
    ]
    whole = np.array(MiniLMEmbeddings().embed_documents(prompts))
    alone = np.array(MiniLMEmbeddings().embed_documents([ASKED, OTHER]))
    assert whole[0] @ whole[1] > 0.9
    assert alone[0] @ alone[1] < 0.4


async def test_a_prompt_whose_question_is_not_known_is_compared_by_its_words(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    cache = making()
    chain = asking(PLAIN, chat_model(openai))
    for question in (ASKED, REWORDED, OTHER):
        await way(chain.invoke, {"context": PASSAGES, "question": question})
    assert openai.calls == 3
    await way(chain.invoke, {"context": PASSAGES, "question": OTHER})
    assert openai.calls == 3
    assert cache.stats().misses == {"exact_only": 3}
    assert cache.stats().embeddings == 0


@pytest.mark.parametrize("cure", ["label", "block", "function"])
async def test_each_cure_of_the_trap(
    openai: OpenAIServer, making: Making, way: Way, cure: str
) -> None:
    def last_line(text: str) -> str:
        return text.splitlines()[-1]

    cache = making(question_from=last_line if cure == "function" else None)
    chain = asking(LABELLED if cure == "label" else PLAIN, chat_model(openai))

    async def ask(question: str, passages: str = PASSAGES) -> Any:
        with cache.question(question) if cure == "block" else nullcontext():
            return await way(chain.invoke, {"context": passages, "question": question})

    await ask(ASKED)
    assert openai.calls == 1
    reworded = await ask(REWORDED)
    assert openai.calls == 1
    note = reworded.response_metadata["semantic_cache"]
    assert (note["tier"], note["question"]) == ("semantic", ASKED)
    await ask(OTHER)
    assert openai.calls == 2
    await ask(ASKED, PASSAGES.replace("AWS", "Acme"))
    assert openai.calls == 3
    assert (await ask(ASKED)).content.endswith(
        chain.first.format(context=PASSAGES, question=ASKED).removeprefix("Human: ")
    )
    assert openai.calls == 3


LABELS = [
    "Context: {c}\nQuestion: {q}",
    "Context: {c}\nQuery: {q}\nAnswer:",
    "{c}\n\nUser's question:\n{q}\n",
    "{c}\n## Question\n{q}\n## Answer",
    "{c}\n**Question:** {q}",
    "<context>{c}</context>\n<question>{q}</question>",
    "Question: {q} \nContext: {c} \nAnswer:",
    "Q: {q}\n{c}\nA:",
]


@pytest.mark.parametrize("template", LABELS)
async def test_labels_that_templates_use(
    openai: OpenAIServer, making: Making, way: Way, template: str
) -> None:
    making()
    model = chat_model(openai)
    for question in (ASKED, REWORDED):
        await way(model.invoke, template.format(c="Valkey is run by AWS.", q=question))
    assert openai.calls == 1
    await way(model.invoke, template.format(c="Valkey is run by AWS.", q=OTHER))
    await way(model.invoke, template.format(c="Valkey is run by Acme.", q=ASKED))
    assert openai.calls == 3


@pytest.mark.parametrize("cure", ["block", "function", "raising", "of another type"])
async def test_a_question_not_found_in_the_last_message_is_exact_only(
    openai: OpenAIServer, making: Making, way: Way, cure: str
) -> None:
    functions: dict[str, Any] = {
        "function": lambda text: "What is the answer?",
        "raising": lambda text: text[1_000_000],
        "of another type": lambda text: ["What is the answer?"],
    }
    cache = making(question_from=functions.get(cure))
    model = chat_model(openai)
    with cache.question("What is the answer?") if cure == "block" else nullcontext():
        for asked in ("What is Valkey?", "So what is Valkey?"):
            await way(model.invoke, asked)
        assert openai.calls == 2
        again = await way(model.invoke, "What is Valkey?")
    assert openai.calls == 2
    assert again.response_metadata["semantic_cache"]["tier"] == "exact"
    assert cache.stats().misses == {"exact_only": 2}
    assert cache.stats().errors == ({"IndexError": 3} if cure == "raising" else {})


async def test_where_the_question_stands_in_the_passages_too_the_last_place_is_meant(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    cache = making()
    chain = asking(PLAIN, chat_model(openai))
    passages = f"{PASSAGES}\nSome ask: {ASKED}"
    for question in (ASKED, REWORDED):
        with cache.namespace("acme"), cache.question(question):
            await way(chain.invoke, {"context": passages, "question": question})
    assert openai.calls == 1
    with cache.question(ASKED), cache.namespace("acme"):
        await way(chain.invoke, {"context": passages, "question": ASKED})
    assert openai.calls == 1
    with cache.question(ASKED):
        await way(chain.invoke, {"context": passages, "question": ASKED})
    assert openai.calls == 2


async def test_a_function_that_knows_of_no_question_leaves_it_to_the_labels(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    making(question_from=lambda text: None)
    chain = asking(LABELLED, chat_model(openai))
    for question in (ASKED, REWORDED):
        await way(chain.invoke, {"context": PASSAGES, "question": question})
    assert openai.calls == 1


async def test_a_block_holds_in_the_threads_of_batch_and_the_tasks_of_abatch(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    cache = making()
    chain = asking(PLAIN, chat_model(openai))
    requests = [{"context": f"{PASSAGES}\n{n}", "question": ASKED} for n in ("one", "two", "three")]
    with cache.question(ASKED):
        await way(chain.batch, requests)
    assert openai.calls == 3
    with cache.question(REWORDED):
        answers = await way(chain.batch, [r | {"question": REWORDED} for r in requests])
    assert openai.calls == 3
    for answer, request in zip(answers, requests, strict=True):
        assert answer.response_metadata["semantic_cache"]["tier"] == "semantic"
        assert request["context"] in answer.content


async def test_blocks_of_tasks_at_the_same_time_do_not_meet(
    openai: OpenAIServer, making: Making
) -> None:
    cache = making()
    chain = asking(PLAIN, chat_model(openai))

    async def ask(question: str, said: str) -> Any:
        with cache.question(said):
            await asyncio.sleep(0)
            return await chain.ainvoke({"context": PASSAGES, "question": question})

    await asyncio.gather(*(ask(question, question) for question in (ASKED, OTHER)))
    hits = await asyncio.gather(*(ask(question, question) for question in (REWORDED, OTHER)))
    assert openai.calls == 2
    assert [hit.response_metadata["semantic_cache"]["question"] for hit in hits] == [ASKED, OTHER]


async def test_a_chain_with_a_retriever(openai: OpenAIServer, making: Making, way: Way) -> None:
    making()
    store = InMemoryVectorStore(HashingLikeQueries())
    store.add_documents(
        [Document("Valkey is run as a service by AWS."), Document("Wine goes with fish.")]
    )
    retriever = store.as_retriever(search_kwargs={"k": 1})
    joined = RunnableLambda(lambda documents: "\n\n".join(d.page_content for d in documents))
    chain = (
        {"context": retriever | joined, "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_template(LABELLED)
        | chat_model(openai)
        | StrOutputParser()
    )
    first = await way(chain.invoke, "Who runs Valkey as a service?")
    assert "AWS" in first
    again = await way(chain.invoke, "Who is running Valkey as a service?")
    assert (again, openai.calls) == (first, 1)
    assert "fish" in await way(chain.invoke, "What goes with fish, wine?")
    assert openai.calls == 2


class HashingLikeQueries(HashingEmbeddings):
    """The retriever's own; it may ask for queries' vectors."""

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


async def test_completion_models_are_read_alike(making: Making, way: Way) -> None:
    cache = making()
    model = FakeListLLM(responses=["one", "two", "three", "four"])
    prompts = [PLAIN.format(context=PASSAGES, question=q) for q in (ASKED, REWORDED, OTHER)]
    for question, prompt, answer in zip(
        (ASKED, REWORDED, OTHER), prompts, ("one", "one", "two"), strict=True
    ):
        with cache.question(question):
            assert await way(model.invoke, prompt) == answer
    assert await way(model.invoke, prompts[1]) == "three"


@pytest.mark.parametrize("question", ["", "  ", None, 5])
def test_a_question_that_is_none_is_refused(making: Making, question: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes the question's text"):
        making().question(question)


@pytest.mark.parametrize("function", ["last line", 5])
def test_a_function_that_is_none_is_refused(making: Making, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="question_from="):
        making(question_from=function)


async def test_a_function_that_must_be_awaited_is_refused(making: Making) -> None:
    async def slow(text: str) -> str:
        return text

    with pytest.raises(ConfigurationError, match="takes a plain function"):
        making(question_from=slow)


# What counts beside the question

PARIS = [HumanMessage("Capital of France?"), AIMessage("Paris.")]
ROME = [HumanMessage("Capital of Italy?"), AIMessage("Rome.")]
FOLLOW_UP = HumanMessage("How many people live there?")


@pytest.mark.parametrize(("context", "calls"), [("conversation", 3), ("system", 2)])
async def test_what_of_a_conversation_counts(
    openai: OpenAIServer, making: Making, way: Way, context: Any, calls: int
) -> None:
    """With `"system"` Rome's people are told for Paris: the danger that its docstring names."""
    making(context=context)
    model = chat_model(openai)
    await way(model.invoke, [SystemMessage("Be brief."), *PARIS, FOLLOW_UP])
    await way(model.invoke, [SystemMessage("Be brief."), *ROME, FOLLOW_UP])
    await way(model.invoke, [SystemMessage("Be rude."), *PARIS, FOLLOW_UP])
    assert openai.calls == calls


async def test_what_system_context_stored_is_not_met_by_conversations(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    making(context="system")
    model = chat_model(openai)
    await way(model.invoke, [*PARIS, FOLLOW_UP])
    making(context="conversation")
    await way(model.invoke, [FOLLOW_UP])
    assert openai.calls == 2


async def test_with_system_context_a_tool_result_still_needs_its_question(
    openai: OpenAIServer, making: Making, way: Way
) -> None:
    making(context="system")
    model = chat_model(openai)
    for city in (PARIS, ROME):
        await way(model.invoke, [*city, AIMessage("I think that")])
    assert openai.calls == 2


def test_a_context_of_another_kind_is_refused(making: Making) -> None:
    with pytest.raises(ConfigurationError, match="context='all' is not allowed"):
        making(context="all")


@pytest.mark.parametrize(
    "message",
    [
        "Valkey is run by AWS and others.\nWho runs it?",
        "One paragraph.\n\nAnother one. Who runs it?",
        "Who runs it, given that " + "it is a fine thing to know, " * 40 + "after all?",
    ],
    ids=["two lines", "two paragraphs", "long"],
)
async def test_long_messages_and_those_of_several_lines_are_exact_only(
    openai: OpenAIServer, making: Making, way: Way, message: str
) -> None:
    cache = making()
    model = chat_model(openai)
    await way(model.invoke, message)
    await way(model.invoke, message.replace("Who runs it", "Who owns it"))
    await way(model.invoke, message)
    assert openai.calls == 2
    assert cache.stats().misses == {"exact_only": 2}


async def test_unrelated_questions_under_one_long_system_prompt_miss(
    openai: OpenAIServer, making: Making, plain: Served, way: Way
) -> None:
    system = SystemMessage(("You are the helpful assistant of a large bank. " * 50)[:2000])
    model = chat_model(openai)
    async with ValkeySemanticCache(MiniLMEmbeddings(), **plain.options) as cache:
        model.cache = cache
        for number, question in enumerate(UNRELATED, 1):
            await way(model.invoke, [system, HumanMessage(question)])
            assert openai.calls == number, question
        reworded = await way(model.invoke, [system, HumanMessage("What makes the sky blue?")])
        assert cache.stats().hits == {"semantic": 1}
    assert reworded.response_metadata["semantic_cache"]["question"] == UNRELATED[0]


UNRELATED = [
    *("Why is the sky blue?", "How do I reset my password?", "Who wrote Faust?"),
    *("What is the capital of Peru?", "How long should I boil an egg?", "Can dogs eat grapes?"),
    *("What does a mortgage cost me?", "How tall is Mount Everest?", "When was Rome founded?"),
    *("Is Pluto a planet?", "How do vaccines work?", "What is the best time to plant tulips?"),
    *("How can I close my account?", "What is a black hole?", "Who painted the Mona Lisa?"),
    *("How do I tie a bow tie?", "What causes earthquakes?", "How far away is the Moon?"),
    *("Why do cats purr?", "How is paper made?", "What is the speed of light?"),
    *("How do I remove a wine stain?", "Which languages are spoken in Belgium?", "What is DNA?"),
    *("Who invented the telephone?", "How do I change a flat tyre?", "What is inflation?"),
    *("Can I travel with my cat by train?", "How does a refrigerator work?", "What is jazz?"),
    *("How many bones does a human have?", "When does the next train to Oslo leave?"),
    *("What is the plot of Hamlet?", "How do I make sourdough bread?", "Are tomatoes fruits?"),
    *("What are your opening hours?", "How do I block a stolen card?", "Who won the 1966 final?"),
    *("Why do leaves turn red?", "How is steel produced?", "What is a haiku?"),
    *("How do I get rid of ants?", "What is the largest ocean?", "How do magnets work?"),
    *("Which visa do I need for Japan?", "How do I learn to juggle?", "What is photosynthesis?"),
    *("Where do penguins live?", "How do I write a will?", "What is the meaning of life?"),
]


def test_there_are_fifty_of_them() -> None:
    assert len(set(UNRELATED)) == 50
