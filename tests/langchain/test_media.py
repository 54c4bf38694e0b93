"""Images, audio and files count by their content, in whatever form they are handed over."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.content import (
    create_audio_block,
    create_file_block,
    create_image_block,
    create_text_block,
)

from langchain_valkey_semcache import ValkeySemanticCache
from langchain_valkey_semcache.prompt import read_prompt
from tests.conftest import Way
from tests.langchain.models import chat_model
from tests.openai_server import OpenAIServer
from valkey_semcache import Question

Block = dict[str, Any]

CAT = base64.b64encode(b"\x89PNG a cat " * 30).decode()
DOG = base64.b64encode(b"\x89PNG a dog " * 30).decode()
URL = "https://example.com/cat.png"


def read(*content: Any) -> Question:
    return read_prompt(dumps([HumanMessage(list(content))]), "llm")


def text(text: str) -> Block:
    return {"type": "text", "text": text}


IMAGES: dict[str, Any] = {
    "data URL": lambda data: {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{data}"},
    },
    "data URL alone": lambda data: {
        "type": "image_url",
        "image_url": f"data:image/png;base64,{data}",
    },
    "standard": lambda data: create_image_block(base64=data, mime_type="image/png"),
    "v0": lambda data: {
        "type": "image",
        "source_type": "base64",
        "data": data,
        "mime_type": "image/png",
    },
    "Anthropic": lambda data: {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    },
}


@pytest.mark.parametrize("form", IMAGES)
def test_an_image_is_its_content_in_every_form(form: str) -> None:
    reference = read(text("What is this?"), IMAGES["data URL"](CAT))
    question = read(text("What is this?"), IMAGES[form](CAT))
    assert question == reference
    assert question.text == "What is this?"
    assert not question.exact_only
    assert question.context != read(text("What is this?"), IMAGES[form](DOG)).context
    assert CAT not in question.context
    assert hashlib.sha256(base64.b64decode(CAT)).hexdigest() in question.context


def test_a_blocks_random_id_is_no_part_of_it() -> None:
    assert read(create_text_block("Hi"), create_image_block(url=URL)) == read(
        create_text_block("Hi"), create_image_block(url=URL)
    )
    assert read(create_text_block("Hi"), create_image_block(url=URL)).text == "Hi"


SAME: list[tuple[Block, Block]] = [
    (
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image", "source_type": "url", "url": URL},
    ),
    ({"type": "image_url", "image_url": URL}, dict(create_image_block(url=URL))),
    (
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        dict(create_image_block(url=URL, detail="low")),
    ),
    (
        {"type": "input_audio", "input_audio": {"data": CAT, "format": "wav"}},
        dict(create_audio_block(base64=CAT, mime_type="audio/wav")),
    ),
    (
        {"type": "audio", "source_type": "base64", "data": CAT, "mime_type": "audio/wav"},
        dict(create_audio_block(base64=CAT, mime_type="audio/wav")),
    ),
    (
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{CAT}"}},
        dict(create_file_block(base64=CAT, mime_type="application/pdf")),
    ),
    ({"type": "file", "file": {"file_id": "file-1"}}, dict(create_file_block(file_id="file-1"))),
    (
        {"type": "file", "source_type": "id", "id": "file-1"},
        dict(create_file_block(file_id="file-1")),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_forms_of_one_thing(one: Block, other: Block) -> None:
    assert read(text("What is this?"), one) == read(text("What is this?"), other)


APART: list[Block] = [
    {"type": "image_url", "image_url": {"url": URL}},
    {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
    {"type": "image_url", "image_url": {"url": URL + "?size=2"}},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CAT}"}},
    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{CAT}"}},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOG}"}},
    {"type": "image_url", "image_url": {"url": f"data:image/png,{CAT}"}},
    {"type": "input_audio", "input_audio": {"data": CAT, "format": "wav"}},
    {"type": "input_audio", "input_audio": {"data": CAT, "format": "mp3"}},
    {"type": "input_audio", "input_audio": {"data": DOG, "format": "mp3"}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "file", "file": {"file_id": "file-2"}},
    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{CAT}"}},
    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{CAT}", "filename": "a"}},
    {"type": "file", "source_type": "text", "text": "a cat"},
    {"type": "file", "source_type": "text", "text": "a dog"},
    {"type": "video", "base64": CAT, "mime_type": "video/mp4"},
    {"type": "video", "base64": "no base64!", "mime_type": "video/mp4"},
    {"type": "video", "base64": "no base64?", "mime_type": "video/mp4"},
    {"type": "image", "source": {"type": "url", "url": URL + "#anthropic"}},
    {"type": "image", "source": {"type": "file", "file_id": "file-3"}},
    {"type": "media", "mime_type": "image/png", "data": CAT},
    {"type": "media", "mime_type": "image/png", "data": DOG},
    {"type": "text-plain", "text": "a cat", "mime_type": "text/plain"},
    {"type": "text-plain", "text": "a dog", "mime_type": "text/plain"},
    {"type": "input_image", "image_url": f"data:image/png;base64,{CAT}"},
    {"type": "input_image", "image_url": f"data:image/png;base64,{DOG}"},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "image", "odd": 1},
    {"type": "image_url", "image_url": {"odd": 1}},
    {"type": "input_audio", "input_audio": {"odd": 1}},
    {"type": "file", "file": {"odd": 1}},
    {"type": "image", "source": {"odd": 1}},
]


def test_different_things_stay_apart() -> None:
    contexts = [read(text("What is this?"), block).context for block in APART]
    assert len(set(contexts)) == len(APART)
    assert not any(CAT in context or DOG in context for context in contexts)


def test_what_is_said_beside_the_text_counts() -> None:
    """Such as Anthropic's mark up to where its own cache reaches."""
    marked = text("What is Valkey?") | {"cache_control": {"type": "ephemeral"}}
    assert read(marked).text == "What is Valkey?"
    assert read(marked).context != read(text("What is Valkey?")).context


def test_media_in_earlier_turns_counts_too() -> None:
    def ask(image: Block) -> Question:
        earlier = [HumanMessage([text("Look."), image]), AIMessage("I see.")]
        return read_prompt(dumps([*earlier, HumanMessage("What is it?")]), "llm")

    assert ask(IMAGES["standard"](CAT)) == ask(IMAGES["v0"](CAT))
    assert ask(IMAGES["standard"](CAT)) != ask(IMAGES["standard"](DOG))


async def test_a_reworded_question_about_the_same_image_hits(
    openai: OpenAIServer, cache: ValkeySemanticCache, way: Way
) -> None:
    model = chat_model(openai)

    async def ask(words: str, image: Block) -> None:
        await way(model.invoke, [HumanMessage([text(words), image])])

    await ask("what can be seen in this very picture here", IMAGES["data URL"](CAT))
    await ask("what can be seen in this very picture here now", IMAGES["standard"](CAT))
    assert openai.calls == 1
    await ask("what can be seen in this very picture here", IMAGES["data URL"](DOG))
    assert openai.calls == 2
