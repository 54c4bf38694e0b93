"""LangChain with the cache in front: real clients, real HTTP, model calls counted."""

from __future__ import annotations

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation
from langchain_openai import OpenAIEmbeddings

from langchain_valkey_semcache import ValkeySemanticCache
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.models import chat_model
from tests.openai_server import OpenAIServer
from tests.servers import Served
from tests.words import word
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


async def test_set_llm_cache_is_all_it_takes(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    first = await way(model.invoke, ASKED)
    again = await way(model.invoke, ASKED)
    reworded = await way(model.invoke, REWORDED)
    assert first.content == again.content == reworded.content == f"gpt-4o-mini at None on: {ASKED}"
    assert len(openai.chats) == 1
    assert "semantic_cache" not in first.response_metadata
    note = again.response_metadata["semantic_cache"]
    assert (note["tier"], note["similarity"], note["question"]) == ("exact", 1.0, ASKED)
    note = reworded.response_metadata["semantic_cache"]
    assert note["tier"] == "semantic"
    assert 0.9 <= note["similarity"] < 1
    await way(model.invoke, "which wine goes with fish")
    assert len(openai.chats) == 2
    assert cache.stats().hits == {"exact": 1, "semantic": 1}
    assert cache.stats().saved_tokens["total_tokens"] == 32


async def test_different_models_and_parameters_never_meet(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    models = [
        chat_model(openai),
        chat_model(openai, model="gpt-5"),
        chat_model(openai, temperature=0.1),
        chat_model(openai, temperature=0.2),
        chat_model(openai).bind(stop=["\n"]),
    ]
    for number, model in enumerate(models, 1):
        await way(model.invoke, ASKED)
        assert len(openai.chats) == number
    answers = [(await way(model.invoke, REWORDED)).content for model in models]
    assert len(openai.chats) == len(models)
    assert len(set(answers)) == len(models) - 1  # the server does not see `stop`


async def test_a_follow_up_hits_only_in_its_own_conversation(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)
    paris = [HumanMessage("Capital of France?"), AIMessage("Paris.")]
    rome = [HumanMessage("Capital of Italy?"), AIMessage("Rome.")]
    await way(model.invoke, [*paris, HumanMessage("how many people live there")])
    await way(model.invoke, [*rome, HumanMessage("how many people live there")])
    assert len(openai.chats) == 2
    await way(model.invoke, [*paris, HumanMessage("how many people live there ?")])
    assert len(openai.chats) == 2


async def test_embeddings_of_openai(openai: OpenAIServer, plain: Served, way: Way) -> None:
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=openai.url,
        api_key="sk-planted-secret",
        check_embedding_ctx_length=False,
    )
    openai.embeddings.clear()
    model = chat_model(openai)
    async with ValkeySemanticCache(embeddings, **plain.options, on_error="raise") as cache:
        model.cache = cache
        await way(model.invoke, ASKED)
        await way(model.invoke, ASKED)
        assert len(openai.embeddings) == 1
        hit = await way(model.invoke, REWORDED)
        assert hit.response_metadata["semantic_cache"]["tier"] == "semantic"
        assert len(openai.embeddings) == 2
        assert len(openai.chats) == 1
        everything = b"".join(
            key + b"".join(plain.admin.hvals(key))
            for key in plain.admin.scan_iter(f"{plain.name}:*", _type="hash")
        )
        assert b"planted" not in everything + repr(cache).encode()


async def test_batches(openai: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    model = chat_model(openai)
    questions = [f"question {word(number)}" for number in range(50)]
    few = {"max_concurrency": 8}  # the server in this process has a short queue
    answers = await way(model.batch, questions, few)
    again = await way(model.batch, questions, few)
    assert [a.content for a in answers] == [a.content for a in again]
    assert openai.calls == len(questions)
    assert cache.stats().hits == {"exact": 50}


async def test_completion_models(cache: ValkeySemanticCache, way: Way) -> None:
    model = FakeListLLM(responses=["one", "two", "three"])
    assert await way(model.invoke, ASKED) == "one"
    assert await way(model.invoke, ASKED) == "one"
    assert await way(model.invoke, REWORDED) == "one"
    assert await way(model.invoke, "which wine goes with fish") == "two"


async def test_a_dead_server_does_not_break_the_call(openai: OpenAIServer, way: Way) -> None:
    model = chat_model(openai)
    async with ValkeySemanticCache(HashingEmbeddings(), "valkey://127.0.0.1:1") as cache:
        model.cache = cache
        for number in (1, 2):
            assert (await way(model.invoke, ASKED)).content.endswith(ASKED)
            assert len(openai.chats) == number


async def test_tenants(openai: OpenAIServer, cache: ValkeySemanticCache, way: Way) -> None:
    acme = chat_model(openai, cache=cache.with_namespace("acme"))
    globex = chat_model(openai, cache=cache.with_namespace("globex"))
    await way(acme.invoke, ASKED)
    await way(globex.invoke, ASKED)
    assert len(openai.chats) == 2
    await way(acme.invoke, REWORDED)
    assert len(openai.chats) == 2
    await way(cache.clear, namespace="acme")
    await way(globex.invoke, REWORDED)
    assert len(openai.chats) == 2
    await way(acme.invoke, REWORDED)
    assert len(openai.chats) == 3


async def test_clearing_by_model_and_llm_string(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    one, other = chat_model(openai), chat_model(openai, model="gpt-5")
    for model in (one, other):
        await way(model.invoke, ASKED)
    await way(cache.clear, model="gpt-5")
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 2
    await way(other.invoke, ASKED)
    assert len(openai.chats) == 3
    await way(cache.clear, llm_string=one._get_llm_string())
    await way(other.invoke, ASKED)
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 4
    with pytest.raises(TypeError, match="namspace"):
        await way(cache.clear, namspace="acme")
    await way(one.invoke, ASKED)
    assert len(openai.chats) == 4


async def test_what_cannot_be_read_is_not_cached_and_does_not_fail(
    cache: ValkeySemanticCache, way: Way
) -> None:
    prompt = '[{"lc": 1, "type": "not_implemented", "id": ["x"], "repr": "<X at 0x1>"}]'
    assert await way(cache.lookup, prompt, "llm") is None
    await way(cache.update, prompt, "llm", [Generation(text="x")])
    assert await way(cache.lookup, prompt, "llm") is None
    assert cache.stats().misses == {"not_cacheable": 2}
    assert cache.stats().not_stored == {"unreadable prompt or answer": 1}


def test_wrong_embeddings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a LangChain Embeddings, not str"):
        ValkeySemanticCache("text-embedding-3-small", "valkey://h")


@pytest.mark.parametrize(
    "prompt",
    [
        "[" * 100_000,
        '[{"lc": 1, "kwargs": []}]',
        '[{"lc": 1, "type": "constructor", "id": null, "kwargs": {"content": "a"}}]',
        '[{"lc": 1, "type": "constructor", "id": [], "kwargs": {"content": [{"id": []}]}}]',
    ],
)
async def test_odd_prompts_do_not_break_the_call(
    cache: ValkeySemanticCache, way: Way, prompt: str
) -> None:
    assert await way(cache.lookup, prompt, "llm") is None
    await way(cache.update, prompt, "llm", [Generation(text="x")])
