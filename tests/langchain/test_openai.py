"""The real OpenAI client in front of a server that counts: what LangChain's users do, cached.

Each is shown with LangChain's global cache, and with `cached(model, cache)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from pydantic import BaseModel

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, REWORDED, added_up, chat_model, streamed, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served
from tests.words import word

Make: TypeAlias = Callable[..., Any]


@pytest.fixture(params=["global", "cached"])
def make(request: pytest.FixtureRequest, openai: OpenAIServer, cache: ValkeySemanticCache) -> Make:
    """Makes models that are cached, the one way or the other."""

    def made(**options: Any) -> BaseChatModel:
        if request.param == "global":
            return chat_model(openai, **options)
        return cached(chat_model(openai, cache=False, **options), cache)

    return made


APIS: list[dict[str, Any]] = [{}, {"use_responses_api": True}]


@pytest.mark.parametrize("api", APIS, ids=["chat completions", "responses"])
async def test_a_plain_string(openai: OpenAIServer, make: Make, way: Way, api: Any) -> None:
    model = make(**api)
    answers = [await way(model.invoke, asked) for asked in (ASKED, ASKED, REWORDED)]
    assert [answer.text for answer in answers] == [ANSWER] * 3 if not api else True
    assert all(ASKED in answer.text for answer in answers)
    assert [tier(answer) for answer in answers] == [None, "exact", "semantic"]
    assert openai.calls == 1


async def test_system_and_human(openai: OpenAIServer, make: Make, way: Way) -> None:
    model = make()
    bank, shop = SystemMessage("You work for a bank."), SystemMessage("You work in a shop.")
    assert tier(await way(model.invoke, [bank, HumanMessage(ASKED)])) is None
    assert tier(await way(model.invoke, [bank, HumanMessage(REWORDED)])) == "semantic"
    assert tier(await way(model.invoke, [shop, HumanMessage(ASKED)])) is None
    assert openai.calls == 2


async def test_several_turns(openai: OpenAIServer, make: Make, way: Way) -> None:
    model = make()
    france = [HumanMessage("capital of france"), AIMessage("Paris.")]
    italy = [HumanMessage("capital of italy"), AIMessage("Rome.")]
    asked, reworded = "how many people live there", "how many people live there now"
    for talk, text, wanted in (
        (france, asked, None),
        (italy, asked, None),
        (france, reworded, "semantic"),
        (italy, asked, "exact"),
    ):
        assert tier(await way(model.invoke, [*talk, HumanMessage(text)])) == wanted
    assert openai.calls == 2


@tool
def weather(city: str) -> str:
    """Says how the weather is."""
    return "sunny"  # not the city: the model would take it for a wish


async def test_tools(openai: OpenAIServer, make: Make, way: Way) -> None:
    """A call for a tool is not stored; what is said after its result is, for these very words."""
    model = make().bind_tools([weather])
    for number in (1, 2):
        (call,) = (await way(model.invoke, "use the tool")).tool_calls
        assert openai.calls == number
    assert call["args"] == {"city": "use the tool"}
    turn: list[Any] = [HumanMessage("use the tool"), AIMessage("", tool_calls=[call])]
    results = ["sunny all day long", "sunny all day long today"]
    after = [[*turn, ToolMessage(result, tool_call_id=call["id"])] for result in results]
    assert [tier(await way(model.invoke, messages)) for messages in (*after, *after)] == [
        None,
        None,
        "exact",
        "exact",
    ]
    assert openai.calls == 4


async def test_images(openai: OpenAIServer, make: Make, way: Way) -> None:
    def showing(picture: str, text: str) -> list[Any]:
        url = {"url": f"data:image/png;base64,{picture}"}
        return [
            HumanMessage([{"type": "text", "text": text}, {"type": "image_url", "image_url": url}])
        ]

    model = make()
    asked, reworded = (
        "what is to be seen on this picture",
        "what is to be seen on this picture here",
    )
    assert tier(await way(model.invoke, showing("AAAA", asked))) is None
    assert tier(await way(model.invoke, showing("AAAA", reworded))) == "semantic"
    assert tier(await way(model.invoke, showing("BBBB", asked))) is None
    assert openai.calls == 2


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # by openai's own stream
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
async def test_structured_output(openai: OpenAIServer, make: Make, way: Way, method: Any) -> None:
    schema = Person if method == "json_schema" else None
    model = make().with_structured_output(schema, method=method)
    asked = "name somebody, in JSON, who sings very well"
    first = await way(model.invoke, asked)
    assert await way(model.invoke, f"{asked} indeed") == first
    assert openai.calls == 1
    assert isinstance(first, Person if schema else dict)


@pytest.mark.parametrize("method", ["function_calling"])
async def test_structured_output_by_a_call(
    openai: OpenAIServer, plain: Served, way: Way, method: Any
) -> None:
    """It is a call for a tool, and so stored for its very words only, where that is wanted."""
    options = plain.options | {"cache_tool_calls": True, "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbeddings(), **options) as cache:
        model = cached(chat_model(openai), cache).with_structured_output(Person, method=method)
        first = await way(model.invoke, "name somebody who sings very well")
        assert await way(model.invoke, "name somebody who sings very well") == first
        assert isinstance(first, Person)
        assert openai.calls == 1
        await way(model.invoke, "name somebody who sings very well indeed")
        assert openai.calls == 2


async def test_a_batch_of_fifty(openai: OpenAIServer, make: Make, way: Way) -> None:
    """Ten questions, five times each, then all in other words."""
    model = make()
    questions = [f"tell me all about {word(n)} and {word(n + 100)} please" for n in range(10)]
    await way(model.batch, questions)
    assert openai.calls == 10
    answers = await way(model.batch, questions * 5)
    assert openai.calls == 10
    for question, answer in zip(questions * 5, answers, strict=True):
        assert answer.content.endswith(question)
        assert tier(answer) == "exact"
    reworded = await way(model.batch, [f"{question} now" for question in questions] * 5)
    assert openai.calls == 10
    assert {tier(answer) for answer in reworded} == {"semantic"}
    for question, answer in zip(questions * 5, reworded, strict=True):
        assert answer.content.endswith(question)


async def test_fifty_at_once_of_which_none_is_known(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    """Only `cached` can have them wait for one another."""
    questions = [f"tell me all about {word(n)} and {word(n + 100)} please" for n in range(10)]
    answers = await way(cached(chat_model(openai), own).batch, questions * 5)
    assert [answer.content.partition("on: ")[2] for answer in answers] == questions * 5
    assert openai.calls == 10


async def test_two_answers_to_one_question(openai: OpenAIServer, make: Make, way: Way) -> None:
    model = make(n=2)
    for number in range(3):
        result = await way(model.generate, [[HumanMessage(ASKED if number < 2 else REWORDED)]])
        texts = [generation.text for generation in result.generations[0]]
        assert texts == [ANSWER, f"{ANSWER} (1)"]
        assert openai.calls == 1


async def test_a_chain_with_a_retriever(openai: OpenAIServer, make: Make, way: Way) -> None:
    """Question and passages in one message: they are told apart by their labels."""
    embeddings = OpenAIEmbeddings(
        base_url=openai.url,
        api_key="sk-planted-secret",  # type: ignore[arg-type]
        check_embedding_ctx_length=False,
    )
    store = InMemoryVectorStore(embeddings)
    store.add_texts(["Passwords are reset at the counter.", "Wine is served with fish."])
    prompt = ChatPromptTemplate.from_template(
        "Answer from the context.\n\nContext: {context}\n\nQuestion: {question}"
    )
    retriever = store.as_retriever(search_kwargs={"k": 2})
    given: Any = {"context": retriever | _joined, "question": RunnablePassthrough()}
    chain = given | prompt | make() | StrOutputParser()
    first = await way(chain.invoke, ASKED)
    assert await way(chain.invoke, REWORDED) == first
    assert openai.calls == 1
    other = await way(chain.invoke, "which wine goes with the fish")
    assert (other != first, openai.calls) == (True, 2)


def _joined(documents: list[Any]) -> str:
    return "\n".join(sorted(document.page_content for document in documents))


async def test_a_chain_is_streamed_from_the_cache(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | cached(chat_model(openai), own) | StrOutputParser()
    for number in range(2):
        words = await streamed(way, chain, {"question": ASKED})
        assert "".join(words) == ANSWER
        assert len(words) > len(ANSWER.split()), number
    assert openai.calls == 1


@pytest.mark.parametrize("api", APIS, ids=["chat completions", "responses"])
async def test_both_apis_are_streamed_from_the_cache(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, api: Any
) -> None:
    model = cached(chat_model(openai, **api), own)
    answers = [added_up(await streamed(way, model, asked)) for asked in (ASKED, ASKED, REWORDED)]
    assert [tier(answer) for answer in answers] == [None, "exact", "semantic"]
    assert all(ASKED in answer.text for answer in answers)
    assert openai.calls == 1
    assert (len(openai.responses) == 1) == bool(api)
