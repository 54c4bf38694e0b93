"""Entries rewritten by somebody who can write to Valkey, and has no key because there is none.

Then the promise is: nothing is built that the codec does not know, nothing is executed, nothing
raises, memory stays bounded, and what cannot be read is gone after it was met.
"""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import MockLLM

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from langchain_valkey_semcache.codec import GenerationCodec
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from llama_index_valkey_semcache.codec import ChatCodec, CompletionCodec
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import SemanticCache
from valkey_semcache.errors import UnreadableError
from valkey_semcache.stored.answer import Envelope, place_of

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
FEW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))

PLAIN = (str, int, float, bool, type(None), bytes)
BUILT: list[str] = []


class Trap:
    """Notes that it was built. Nothing may ever build it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        BUILT.append(f"{arguments} {options}")


def constructor(*path: str, **kwargs: Any) -> dict[str, Any]:
    """What `langchain_core.load.loads` would build a class from."""
    return {"lc": 1, "type": "constructor", "id": list(path), "kwargs": kwargs}


TRAPS = [
    constructor("tests", "test_poison", "Trap", x=1),
    constructor("langchain_core", "messages", "ai", "AIMessage", content="built"),
    {"lc": 1, "type": "secret", "id": ["HOME"]},
    {"__class__": "tests.test_poison.Trap", "__reduce__": ["os.system", ["true"]]},
    {"class_name": "Trap", "module": "tests.test_poison"},
]
values = st.recursive(
    st.sampled_from(TRAPS) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def parts_of(value: Any) -> Any:
    """Everything within a value, itself first."""
    yield value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from parts_of(name)
            yield from parts_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from parts_of(part)


# The codecs, by themselves.

GOOD = {
    "langchain": (
        GenerationCodec(),
        [ChatGeneration(message=AIMessage(content="x", name="n")), Generation(text="y")],
    ),
    "chat": (ChatCodec(), ChatResponse(message=ChatMessage(role="assistant", content="x"))),
    "completion": (CompletionCodec(), CompletionResponse(text="x")),
}


@pytest.mark.parametrize("kind", GOOD)
@FEW
@given(data=st.data())
def test_a_codec_builds_only_what_it_knows(kind: str, data: st.DataObject) -> None:
    codec, answer = GOOD[kind]
    stored = json.loads(codec.encode(answer))
    holders = [part for part in parts_of(stored) if isinstance(part, dict | list) and part]
    holder = data.draw(st.sampled_from(holders))
    places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    place = data.draw(st.sampled_from(places))
    holder[place] = data.draw(values)
    try:
        decoded = codec.decode(json.dumps(stored).encode())
    except UnreadableError:
        return
    assert not BUILT
    found = decoded if isinstance(decoded, list) else [decoded]
    for each in found:
        assert type(each).__name__ in (
            *("Generation", "ChatGeneration", "ChatResponse", "CompletionResponse"),
        )
        for part in parts_of(each.model_dump()):
            assert isinstance(part, (*PLAIN, dict, list, tuple)), type(part)
        message = getattr(each, "message", None)
        assert type(message).__name__ in ("AIMessage", "ChatMessage", "NoneType")


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("content", [b"", b"\x00", b"null", b"[]", b"{}", b"1e999", deep(100_000)])
def test_a_codec_refuses_what_it_did_not_write(kind: str, content: bytes) -> None:
    codec, _ = GOOD[kind]
    with pytest.raises(UnreadableError):
        codec.decode(content)


# Entries in Valkey.


def packed(key: str, content: bytes, codec: str = "text/1", **changes: Any) -> bytes:
    return Envelope(place_of(key), codec, content, 0.0, question=ASKED, **changes).pack()


async def met(served: Served, way: Way, cache: SemanticCache, key: str, data: bytes) -> bool:
    """Whether either tier serves an entry with these bytes; neither may raise."""
    served_once = False
    for text in (ASKED, REWORDED):
        await way(cache.store, ASKED, "good")
        served.admin.hset(key, "p", data)
        outcome = await way(cache.lookup, text)
        served_once |= bool(outcome)
    return served_once


async def test_rewritten_envelopes(either_index: Served, way: Way) -> None:
    dice = random.Random(7)
    async with SemanticCache(HashingEmbedder(), **either_index.options) as cache:
        await way(cache.store, ASKED, "good")
        (key,) = either_index.entries()
        good = either_index.admin.hget(key, "p")
        assert good is not None
        for _ in range(80):
            data = bytearray(good)
            for _ in range(dice.randrange(1, 4)):
                data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
            if dice.random() < 0.3:
                data = data[: dice.randrange(len(data))]
            await met(either_index, way, cache, key, bytes(data))
        # None of it did lasting harm.
        await way(cache.store, ASKED, "good")
        assert (await way(cache.lookup, REWORDED)).answer == "good"
        assert set(cache.stats().errors) <= {"UnreadableError", "AnswerTooLargeError"}


async def test_hostile_envelopes_are_not_served_and_go(either_index: Served, way: Way) -> None:
    async with SemanticCache(HashingEmbedder(), **either_index.options) as cache:
        await way(cache.store, ASKED, "good")
        (key,) = either_index.entries()
        header = b'{"m":' + deep(2000) + b"}"
        head = packed(key, b"")[:59]
        hostile = [
            head + struct.pack(">I", len(header)) + header + b"x",
            head + struct.pack(">I", 2**32 - 1) + b"{}x",
            packed(key, b"\xff\xfe"),
            packed("n:" + "0" * 32 + ":" + "1" * 32 + ":" + "2" * 32, b"another entry's"),
        ]
        for data in hostile:
            assert not await met(either_index, way, cache, key, data)
            assert not either_index.admin.exists(key), "unreadable, so it is removed"
        assert not await met(either_index, way, cache, key, packed(key, b"x", codec="lc-gen/1"))
        assert either_index.admin.exists(key), "another codec's is left alone"


async def test_huge_answers_are_not_decompressed(either_index: Served, way: Way) -> None:
    bomb = zstandard.ZstdCompressor().compress(b"\0" * 200_000_000)
    assert len(bomb) < 100_000
    options = either_index.options | {"max_answer_bytes": 10_000}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        await way(cache.store, ASKED, "good")
        (key,) = either_index.entries()
        plain = packed(key, bomb)
        for data in (plain[:3] + b"\x01" + plain[4:], packed(key, b"x" * 20_000)):
            assert not await met(either_index, way, cache, key, data)
        # Each is met twice when its own words are asked (exactly, then by meaning), else once.
        assert cache.stats().errors["AnswerTooLargeError"] == 2 * (2 + 1)


async def test_langchain_constructors_and_tool_calls_in_stored_answers(
    either_index: Served, way: Way
) -> None:
    call = {"name": "delete_everything", "args": {}, "id": "call_1", "type": "tool_call"}
    contents: list[Any] = [
        *([{"message": trap, "info": None}] for trap in TRAPS),
        *([trap] for trap in TRAPS),
        [{"message": {"content": TRAPS[0]}, "info": None}],
        [{"message": {"content": "x", "additional_kwargs": TRAPS[0]}, "info": TRAPS[1]}],
        [{"message": {"content": "", "tool_calls": [call, 5, TRAPS[0]]}, "info": None}],
        [{"text": "x", "info": None}] * 3,
    ]
    with LangChainCache(HashingEmbedder(), **either_index.options) as cache:
        path = ("langchain", "schema", "messages", "HumanMessage")
        prompt = json.dumps([constructor(*path, content=ASKED, type="human")])
        for content in contents:
            await way(cache.update, prompt, "llm", [Generation(text="good")])
            (key,) = either_index.entries()
            data = packed(key, json.dumps(content).encode(), codec="lc-gen/1")
            either_index.admin.hset(key, "p", data)
            found = await way(cache.lookup, prompt, "llm")
            assert found is None or all(
                type(each) in (Generation, ChatGeneration) for each in found
            )
        assert not BUILT
        await way(cache.update, prompt, "llm", [Generation(text="good")])
        (answer,) = await way(cache.lookup, prompt, "llm")
        assert answer.text == "good"
        await cache.aclose()


async def test_llama_index_answers_of_any_shape(either_index: Served, way: Way) -> None:
    contents: list[Any] = [
        *TRAPS,
        {"role": "assistant", "blocks": [TRAPS[4]], "calls": [], "extra": {}, "response": {}},
        {"role": "root", "blocks": [], "calls": [], "extra": {}, "response": {}},
        {"role": "assistant", "blocks": [], "calls": [TRAPS[0]], "extra": {}, "response": {}},
        {"text": TRAPS[0], "response": {}},
    ]
    with LlamaIndexCache(HashingEmbedder(), **either_index.options) as cache:
        llm = SemanticCacheLLM(MockLLM(max_tokens=5), cache)
        messages = [ChatMessage(role="user", content=ASKED)]
        right = (await way(llm.chat, messages)).message.content
        (key,) = either_index.entries()
        for content in contents:
            data = packed(key, json.dumps(content).encode(), codec="li-chat/1")
            either_index.admin.hset(key, "p", data)
            assert (await way(llm.chat, messages)).message.content == right
        assert not BUILT
        await cache.aclose()
