"""Images, audio, video and documents beside a question count by their bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, ImageBlock, TextBlock

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from llama_index_valkey_semcache.canonical import UnreadablePromptError, spelled
from tests.conftest import Way
from tests.llama_index.models import CountingLLM

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"

Make = Callable[..., Any]


def image(**source: Any) -> Any:
    return ImageBlock(**_as("image", source), image_mimetype="image/png")


def audio(**source: Any) -> Any:
    return AudioBlock(**_as("audio", source), format="mp3")


def document(**source: Any) -> Any:
    kind = types.DocumentBlock
    return kind(**_as("data", source), title="a", document_mimetype="application/pdf")


def video(**source: Any) -> Any:
    return types.VideoBlock(**_as("video", source), video_mimetype="video/mp4")


def _as(name: str, source: dict[str, Any]) -> dict[str, Any]:
    return {name if key == "content" else key: value for key, value in source.items()}


KINDS = [image, audio, document] + ([video] if hasattr(types, "VideoBlock") else [])


def asking(text: str, block: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text=text), block])]


@pytest.mark.parametrize("make", KINDS)
async def test_the_same_text_with_other_bytes_misses(
    cache: ValkeySemanticCache, way: Way, make: Make, tmp_path: Path
) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x00one")
    await way(llm.chat, asking(ASKED, make(content=b"\x00one")))
    await way(llm.chat, asking(REWORDED, make(content=b"\x00one")))
    await way(llm.chat, asking(REWORDED, make(path=path)))
    assert inner.calls == 1
    await way(llm.chat, asking(ASKED, make(content=b"\x00two")))
    path.write_bytes(b"\x00three")
    await way(llm.chat, asking(ASKED, make(path=path)))
    assert inner.calls == 3
    for place in ("http://a.example/1", "http://a.example/2"):
        await way(llm.chat, asking(ASKED, make(url=place)))
    assert inner.calls == 5
    await way(llm.chat, asking(REWORDED, make(url=place)))
    assert inner.calls == 5
    assert "not_cacheable" not in cache.stats().misses


async def test_an_earlier_image_counts_too(cache: ValkeySemanticCache, way: Way) -> None:
    inner = CountingLLM()
    llm = SemanticCacheLLM(inner, cache)
    for number, content in enumerate((b"one", b"two"), 1):
        before = asking("Look at this.", image(content=content))
        for asked in (ASKED, REWORDED):
            await way(llm.chat, [*before, ChatMessage(role="user", content=asked)])
        assert inner.calls == number


async def test_a_file_that_is_gone_is_the_models_affair(
    cache: ValkeySemanticCache, way: Way, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    block = image(path=path)
    path.unlink()
    inner = CountingLLM()
    await way(SemanticCacheLLM(inner, cache).chat, asking(ASKED, block))
    assert inner.calls == 1
    assert cache.stats().misses == {"not_cacheable": 1}


@pytest.mark.skipif(not hasattr(types, "CitableBlock"), reason="not in this release")
def test_what_lies_within_blocks_counts() -> None:
    def spelling(content: Any, title: str = "t") -> Any:
        block = types.CitableBlock(title=title, source="s", content=content)
        return spelled([ChatMessage(role="user", blocks=[block])])

    spellings = [
        spelling("a"),
        spelling("b"),
        spelling("a", title="u"),
        spelling([image(content=b"1")]),
        spelling([image(content=b"2")]),
    ]
    assert all(spelling not in spellings[:at] for at, spelling in enumerate(spellings))
    assert spelling([image(content=b"1")]) == spellings[3]


def test_what_has_no_spelling_is_an_error() -> None:
    for extra in ({"x": object()}, {"x": {1: 2}}, {"tool_calls": [object()]}):
        with pytest.raises(UnreadablePromptError):
            spelled([ChatMessage(content="a", additional_kwargs=extra)])


def test_ids_of_calls_count_by_their_place() -> None:
    def turns(first: str, second: str, answered: str) -> Any:
        calls = [
            {"id": id_, "function": {"name": "add", "arguments": "{}"}} for id_ in (first, second)
        ]
        return spelled(
            [
                ChatMessage(role="assistant", additional_kwargs={"tool_calls": calls}),
                ChatMessage(role="tool", additional_kwargs={"tool_call_id": answered}),
            ]
        )

    assert turns("a", "b", "a") == turns("x", "y", "x")
    assert turns("a", "b", "b") == turns("x", "y", "y")
    assert turns("a", "b", "a") != turns("a", "b", "b")
