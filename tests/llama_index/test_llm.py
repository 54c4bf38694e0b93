"""LlamaIndex with the cache in front: what its users see, model calls counted."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool

from llama_index_valkey_semcache import MiniLMEmbedding, SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from llama_index_valkey_semcache.identity import UnnamableError, model_identity
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import ConfigurationError, NotStorableError, UnreadableError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


@pytest.fixture
async def cache(either_index: Served) -> AsyncIterator[ValkeySemanticCache]:
    options = either_index.options | {"on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbedding(), **options) as cache:
        yield cache


def user(text: str, *before: ChatMessage) -> list[ChatMessage]:
    return [*before, ChatMessage(role="user", content=text)]


async def test_chat(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    first = await way(llm.chat, user(ASKED))
    again = await way(llm.chat, user(ASKED))
    reworded = await way(llm.chat, user(REWORDED))
    assert inner.calls == 1
    texts = {r.message.content for r in (first, again, reworded)}
    assert texts == {f"counting on: {ASKED}"}
    assert "semantic_cache" not in first.additional_kwargs
    assert again.additional_kwargs["semantic_cache"]["tier"] == "exact"
    note = reworded.additional_kwargs["semantic_cache"]
    assert (note["tier"], note["question"]) == ("semantic", ASKED)
    await way(llm.chat, user("which wine goes with fish"))
    assert inner.calls == 2
    assert cache.stats().saved_tokens == {"input_tokens": 8, "output_tokens": 4}


async def test_complete(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    answers = {(await way(llm.complete, text)).text for text in (ASKED, ASKED, REWORDED)}
    assert answers == {f"counting on: {ASKED}"}
    assert inner.calls == 1
    await way(llm.chat, user(ASKED))
    assert inner.calls == 2, "a chat of the same words is another request"
    await way(llm.complete, ASKED, formatted=True)
    assert inner.calls == 3


async def test_context_must_be_the_same(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    contexts: list[list[ChatMessage]] = [
        [],
        [ChatMessage(role="system", content="Be brief.")],
        [ChatMessage(role="system", content="Be rude.")],
        [ChatMessage(role="developer", content="Be rude.")],
        user("Paris?", ChatMessage(role="assistant", content="Yes")),
        [ChatMessage(role="system", content="Be rude.", additional_kwargs={"a": 1})],
    ]
    for number, context in enumerate(contexts, 1):
        await way(llm.chat, user(ASKED, *context))
        assert inner.calls == number
    for context in contexts:
        await way(llm.chat, user(REWORDED, *context))
    assert inner.calls == len(contexts)


async def test_models_and_parameters_never_meet(cache: ValkeySemanticCache, way: Way) -> None:
    inners = [CountingLLM(), CountingLLM(name="other"), CountingLLM(temperature=0.5)]
    for inner in inners:
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED))
        await way(SemanticCacheLLM(inner, cache).chat, user(REWORDED))
        assert inner.calls == 1
    inner = CountingLLM()
    for number, call in enumerate([{"top_p": 0.1}, {"top_p": 0.2}], 1):
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED), **call)
        await way(SemanticCacheLLM(inner, cache).chat, user(REWORDED), **call)
        assert inner.calls == number


async def test_secrets_and_time_limits_are_no_part_of_a_model(
    cache: ValkeySemanticCache, way: Way
) -> None:
    await way(SemanticCacheLLM(CountingLLM(), cache).chat, user(ASKED))
    other = CountingLLM(api_key="sk-another", timeout=1)
    await way(SemanticCacheLLM(other, cache).chat, user(ASKED))
    assert other.calls == 0
    elsewhere = CountingLLM(base_url="http://elsewhere")
    await way(SemanticCacheLLM(elsewhere, cache).chat, user(ASKED))
    assert elsewhere.calls == 1


async def test_tenants_and_model_ids(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    views: list[dict[str, Any]] = [
        {},
        {"namespace": "acme"},
        {"namespace": "globex"},
        {"model_id": "mine/1"},
        {"model_id": "mine/2"},
    ]
    for number, view in enumerate(views, 1):
        await way(SemanticCacheLLM(inner, cache, **view).chat, user(ASKED))
        assert inner.calls == number
    for view in views:
        await way(SemanticCacheLLM(inner, cache, **view).chat, user(REWORDED))
    assert inner.calls == len(views)


class Odd:
    """What has no faithful name."""


async def test_what_cannot_be_named_or_read_is_not_cached(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM(extra=Odd())
    llm = SemanticCacheLLM(inner, cache)
    for _ in range(2):
        await way(llm.chat, user(ASKED))
    assert inner.calls == 2
    assert cache.stats().misses == {"not_cacheable": 2}
    named = SemanticCacheLLM(inner, cache, model_id="mine")
    for _ in range(2):
        await way(named.chat, user(ASKED))
    assert inner.calls == 3
    odd = ChatMessage(role="system", content="x", additional_kwargs={"odd": Odd()})
    for _ in range(2):
        await way(named.chat, user(ASKED, odd))
    assert inner.calls == 5


async def test_answers_not_to_be_given_to_others_are_not_stored(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for asked in ("say nothing", "use the tool"):
        await way(llm.chat, user(asked))
    inner._finish = "length"
    await way(llm.chat, user("go on and on"))
    await way(llm.complete, "go on and on")
    assert cache.stats().stored == 0
    assert cache.stats().not_stored == {
        "empty answer": 1,
        "tool calls": 1,
        "finish_reason length": 2,
    }


async def test_a_last_message_that_is_not_the_users_is_exact_only(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for asked in (ASKED, ASKED, REWORDED):
        await way(llm.chat, [ChatMessage(role="tool", content=asked)])
    assert inner.calls == 2


async def test_an_image_must_be_the_same(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)

    def with_image(text: str, image: bytes) -> list[ChatMessage]:
        blocks = [TextBlock(text=text), ImageBlock(image=image, image_mimetype="image/png")]
        return [ChatMessage(role="user", blocks=blocks)]

    await way(llm.chat, with_image(ASKED, b"one"))
    await way(llm.chat, with_image(REWORDED, b"one"))
    assert inner.calls == 1
    await way(llm.chat, with_image(ASKED, b"two"))
    assert inner.calls == 2


async def test_several_texts_around_images_are_exact_only(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    images = [ImageBlock(image=data, image_mimetype="image/png") for data in (b"one", b"two")]
    for texts in (("the dog:", "the cat:"), ("the cat:", "the dog:")):
        pairs = zip((TextBlock(text=text) for text in texts), images, strict=True)
        blocks = [block for pair in pairs for block in pair]
        await way(llm.chat, [ChatMessage(role="user", blocks=blocks)])
    assert inner.calls == 2


async def test_an_open_file_counts_by_its_bytes_and_is_left_as_it_was(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for number, content in enumerate((b"an image", b"another"), 1):
        for asked in (ASKED, REWORDED):
            image = ImageBlock(image=b"x", image_mimetype="image/png")
            image.image = io.BytesIO(content)
            image.image.seek(2)
            message = ChatMessage(role="user", blocks=[TextBlock(text=asked), image])
            await way(llm.chat, [message])
            assert image.image.read() == content[2:]
        assert inner.calls == number


async def test_a_stream_that_reading_would_use_up_is_not_cached(
    cache: ValkeySemanticCache, way: Way
) -> None:
    class Once(io.BytesIO):
        def seekable(self) -> bool:
            return False

    image = ImageBlock(image=b"x", image_mimetype="image/png")
    image.image = Once(b"the image")
    message = ChatMessage(role="user", blocks=[TextBlock(text=ASKED), image])
    await way(SemanticCacheLLM(CountingLLM(), cache).chat, [message])
    assert image.image.read() == b"the image"
    assert cache.stats().misses == {"not_cacheable": 1}


async def test_words_in_a_schema_are_no_secrets(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for word in ("author", "timeout", "api_key"):
        schema = {"type": "object", "properties": {word: {"type": "string"}}}
        await way(llm.chat, user(ASKED), response_format=schema)
    assert inner.calls == 3


async def test_parameters_in_private_attributes_count(cache: ValkeySemanticCache, way: Way) -> None:
    cold, hot = CountingLLM(), CountingLLM()
    hot._finish = "stopped"
    for inner in (cold, hot):
        await way(SemanticCacheLLM(inner, cache).chat, user(ASKED))
        assert inner.calls == 1


class Raising:
    """A provider's object that raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


async def test_an_odd_answer_is_passed_on(cache: ValkeySemanticCache, way: Way) -> None:
    class Odd(CountingLLM):
        def _raw(self) -> Any:
            return Raising()

    response = await way(SemanticCacheLLM(Odd(), cache).chat, user(ASKED))
    assert response.message.content.endswith(ASKED)
    assert cache.stats().not_stored == {"unreadable answer": 1}


def test_a_deep_copy_shares_the_cache(plain: Served) -> None:
    with ValkeySemanticCache(HashingEmbedding(), **plain.options) as cache:
        llm = SemanticCacheLLM(CountingLLM(), cache)
        llm.complete(ASKED)
        copied = copy.deepcopy(llm)
        assert copied.cache is cache
        assert copied.complete(REWORDED).additional_kwargs["semantic_cache"]


QA = PromptTemplate(
    "Context information is below.\n---------------------\n{context_str}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the query.\n"
    "Query: {query_str}\nAnswer: "
)


async def test_predict_compares_the_question_and_not_the_passages(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)

    async def ask(question: str, passages: str) -> str:
        answer: str = await way(llm.predict, QA, query_str=question, context_str=passages)
        return answer

    first = await ask(ASKED, "Press the button.\n\nThen wait.\n\nDone.")
    assert await ask(REWORDED, "Press the button.\n\nThen wait.\n\nDone.") == first
    assert inner.calls == 1
    await ask("which wine goes with fish", "Press the button.\n\nThen wait.\n\nDone.")
    await ask(ASKED, "Press another button.\n\nThen wait.\n\nDone.")
    assert inner.calls == 3


async def test_tools_are_the_inner_models(cache: ValkeySemanticCache, way: Way) -> None:
    def add(a: int = 1) -> int:
        """Add."""
        return a

    tool = FunctionTool.from_defaults(add)
    llm = SemanticCacheLLM(MockFunctionCallingLLM(is_chat_model=True), cache)
    assert isinstance(llm, FunctionCallingLLM)
    assert llm.metadata.is_function_calling_model
    response = await way(llm.chat_with_tools, [tool], user_msg=ASKED)
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 1})
    plain = SemanticCacheLLM(CountingLLM(), cache)
    with pytest.raises(ConfigurationError, match="cannot call tools"):
        await way(plain.chat_with_tools, [tool], user_msg=ASKED)


async def test_a_dead_server_does_not_break_the_call(way: Way) -> None:
    inner = CountingLLM()
    async with ValkeySemanticCache(HashingEmbedding(), "valkey://127.0.0.1:1") as cache:
        llm = SemanticCacheLLM(inner, cache)
        for number in (1, 2):
            assert (await way(llm.chat, user(ASKED))).message.content.endswith(ASKED)
            assert (await way(llm.complete, ASKED)).text.endswith(ASKED)
            assert inner.calls == 2 * number


async def test_real_embeddings(plain: Served, way: Way) -> None:
    inner = CountingLLM()
    async with ValkeySemanticCache(MiniLMEmbedding(), **plain.options) as cache:
        llm = SemanticCacheLLM(inner, cache)
        await way(llm.complete, "How do I reset my password?")
        hit = await way(llm.complete, "What do I do to reset my password?")
        assert hit.additional_kwargs["semantic_cache"]["tier"] == "semantic"
        await way(llm.complete, "How do I change my e-mail address?")
        assert inner.calls == 2


def test_wrong_arguments_are_refused() -> None:
    cache = ValkeySemanticCache(HashingEmbedding(), "valkey://h")
    with pytest.raises(ConfigurationError, match="llm= takes a LlamaIndex LLM, not str"):
        SemanticCacheLLM("gpt-4o", cache)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cache= takes a llama_index_valkey_semcache"):
        SemanticCacheLLM(CountingLLM(), object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes a LlamaIndex BaseEmbedding, not str"):
        ValkeySemanticCache("default", "valkey://h")


# The model's identity

IN_ANOTHER_PROCESS = """
from tests.llama_index.models import CountingLLM
from llama_index_valkey_semcache.identity import model_identity
print(model_identity(CountingLLM(extra={"b": [1, None], "a": "x"}), {"top_p": 0.5}))
"""


def test_an_identity_is_equal_in_two_processes_and_holds_no_secret() -> None:
    llm = CountingLLM(extra={"a": "x", "b": [1, None]})
    identity = model_identity(llm, {"top_p": 0.5})
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == identity
    for absent in ("planted", "private", "timeout", " at 0x"):
        assert absent not in identity


@pytest.mark.parametrize("odd", [Odd(), lambda: None, {1: 2}, [Odd()], {"a": Odd()}])
def test_what_has_no_faithful_name_is_an_error(odd: Any) -> None:
    with pytest.raises(UnnamableError):
        model_identity(CountingLLM(extra=odd), {})
    with pytest.raises(UnnamableError):
        model_identity(CountingLLM(), {"argument": odd})


# The codecs


@pytest.mark.parametrize("codec", [ChatCodec(), CompletionCodec()])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"text": 5, "response": {}}',
        b'{"role": "nobody", "texts": [], "message": {}, "response": {}}',
        b'{"role": "user", "texts": [5], "message": {}, "response": {}}',
        b"[" * 100_000,
    ],
)
def test_damaged_answers_are_unreadable(codec: Any, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        codec.decode(content)


def test_what_would_not_come_back_is_not_stored() -> None:
    from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

    image = ChatMessage(role="assistant", blocks=[ImageBlock(image=b"x", image_mimetype="a/b")])
    with pytest.raises(NotStorableError):
        ChatCodec().encode(ChatResponse(message=image))
    with pytest.raises(NotStorableError):
        CompletionCodec().encode(CompletionResponse(text="a", additional_kwargs={"x": Odd()}))
