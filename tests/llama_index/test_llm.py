"""LlamaIndex with the cache in front: what its users see, model calls counted."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.llms import mock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import FunctionTool

from llama_index_valkey_semcache import MiniLMEmbedding, SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.compat import THINKING
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.llama_index.test_structured import Said
from tests.servers import Served
from valkey_semcache import ConfigurationError

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
TAKES_FILES = "IOBase" in str(ImageBlock.model_fields["image"].annotation)


def user(text: str, *before: ChatMessage) -> list[ChatMessage]:
    return [*before, ChatMessage(role="user", content=text)]


async def test_chat(either_cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, either_cache)
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
    assert either_cache.stats().saved_tokens == {"input_tokens": 8, "output_tokens": 4}


async def test_complete(either_cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, either_cache)
    answers = {(await way(llm.complete, text)).text for text in (ASKED, ASKED, REWORDED)}
    assert answers == {f"counting on: {ASKED}"}
    assert inner.calls == 1
    await way(llm.chat, user(ASKED))
    assert inner.calls == 2, "a chat of the same words is another request"
    await way(llm.complete, ASKED, formatted=True)
    assert inner.calls == 3


async def test_context_must_be_the_same(either_cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, either_cache)
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


@pytest.mark.parametrize("role", ["tool", "function", "assistant", "system"])
async def test_a_last_message_that_is_not_the_users_is_exact_only(
    cache: ValkeySemanticCache, way: Way, role: str
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for asked in (ASKED, ASKED, REWORDED):
        await way(llm.chat, [*user("Go on."), ChatMessage(role=role, content=asked)])
    assert inner.calls == 2
    assert cache.stats().embeddings == 0


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


@pytest.mark.skipif(not TAKES_FILES, reason="this release's images take no open files")
@pytest.mark.skipif(not THINKING, reason="this release takes no open files")
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


@pytest.mark.skipif(not TAKES_FILES, reason="this release's images take no open files")
@pytest.mark.skipif(not THINKING, reason="this release takes no open files")
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


async def test_tools_are_the_inner_models(cache: ValkeySemanticCache, way: Way) -> None:
    def add(a: int = 1) -> int:
        """Add."""
        return a

    tool = FunctionTool.from_defaults(add)
    if not hasattr(mock, "MockFunctionCallingLLM"):
        pytest.skip("this release has no such mock")
    llm = SemanticCacheLLM(mock.MockFunctionCallingLLM(is_chat_model=True), cache)
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
    with pytest.raises(ConfigurationError, match="cache\\)\\.as_structured_llm\\(Said\\)"):
        SemanticCacheLLM(CountingLLM().as_structured_llm(Said), cache)
    with pytest.raises(ConfigurationError, match="is a SemanticCacheLLM already"):
        SemanticCacheLLM(SemanticCacheLLM(CountingLLM(), cache), cache)


@pytest.mark.parametrize(
    "option",
    [
        {"mode": "fuzzy"},
        {"namespace": 5},
        {"model_id": ""},
        {"model_id": 5},
        {"question_vars": "query_str"},
        {"question_vars": [1]},
        {"threshold": 2},
        {"ttl": 0},
        {"cache_tool_calls": 1},
        {"should_store": True},
    ],
)
def test_wrong_options_are_refused(option: dict[str, Any]) -> None:
    cache = ValkeySemanticCache(HashingEmbedding(), "valkey://h")
    (name,) = option
    with pytest.raises(ConfigurationError, match=name):
        SemanticCacheLLM(CountingLLM(), cache, **option)


async def test_threshold_and_ttl_are_this_llms_own(
    either_cache: ValkeySemanticCache, either_index: Served, way: Way
) -> None:
    inner = CountingLLM()
    await way(SemanticCacheLLM(inner, either_cache, ttl=60).chat, user(ASKED))
    (key,) = either_index.entries()
    assert 50_000 < either_index.admin.pttl(key) <= 60_000
    await way(SemanticCacheLLM(inner, either_cache, threshold=1.0).chat, user(REWORDED))
    assert inner.calls == 2
    before = set(either_index.entries())
    await way(SemanticCacheLLM(inner, either_cache).chat, user("which wine goes with fish"))
    (key,) = set(either_index.entries()) - before
    assert 3_500_000 < either_index.admin.pttl(key) <= 3_600_000, "the cache's own"


async def test_should_store_decides(cache: ValkeySemanticCache, way: Way) -> None:
    def short(answer: Any) -> bool:
        if "raise" in answer.message.content:
            raise ValueError(answer)
        return len(answer.message.content) < 20

    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache, should_store=short)
    for asked in ("one", "one", "a long question to be sure", "raise"):
        await way(llm.chat, user(asked))
    assert inner.calls == 3
    assert cache.stats().stored == 1
    assert cache.stats().not_stored == {"should_store said no": 1, "should_store raised": 1}


def test_the_documents_table_of_options_is_complete_and_true() -> None:
    page = (Path(__file__).parents[2] / "docs/llama_index.md").read_text()
    section = page.split("`SemanticCacheLLM` takes:")[1].split("\n\n")[1]
    shown = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    options = {
        name: option.default
        for name, option in inspect.signature(SemanticCacheLLM).parameters.items()
        if option.kind is option.KEYWORD_ONLY
    }
    assert set(shown) == set(options)
    for name, default in options.items():
        if default is not None:
            assert shown[name] == f"`{default!r}`".replace("'", '"')
