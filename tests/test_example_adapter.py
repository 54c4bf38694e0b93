"""The adapter of CONTRIBUTING.md does what an adapter must."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from examples.adapter import CachedBot, Messages, Reply, ReplyCodec
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import SemanticCache, UnreadableError

ROOT = Path(__file__).parents[1]


class Parrot:
    """The framework's model: counts what it is asked."""

    def __init__(self, name: str = "parrot-1", **settings: Any) -> None:
        self.name = name
        self.settings: dict[str, Any] = settings
        self.asked: list[Messages] = []
        self.finish = "stop"

    def ask(self, messages: Messages) -> Reply:
        self.asked.append(messages)
        return Reply(f"answer {len(self.asked)}", self.finish, {"output_tokens": 7})

    async def aask(self, messages: Messages) -> Reply:
        return self.ask(messages)


def chat(text: str, before: Sequence[dict[str, str]] = (), role: str = "user") -> Messages:
    return [*before, {"role": role, "content": text}]


@pytest.fixture
def cache(plain: Served) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(plain.options | {"on_error": "raise"}))


ASKED = "how do I reset the password of my old account"
REWORDED = f"{ASKED} please"


async def test_the_same_and_other_words_hit(cache: SemanticCache, way: Way) -> None:
    inner = Parrot(temperature=0)
    bot = CachedBot(inner, cache)
    replies = [await way(bot.ask, chat(text)) for text in (ASKED, ASKED, REWORDED)]
    assert [reply.text for reply in replies] == ["answer 1"] * 3
    assert replies[0] is not replies[1]
    assert cache.stats().hits == {"exact": 1, "semantic": 1}
    assert cache.stats().saved_tokens == {"output_tokens": 14}


async def test_what_the_answer_depends_on_must_be_the_same(cache: SemanticCache, way: Way) -> None:
    polite = [{"role": "system", "content": "Be polite."}]
    bots = [Parrot(), Parrot("parrot-2"), Parrot(temperature=1)]
    for inner in bots:
        for before in ([], polite):
            await way(CachedBot(inner, cache).ask, chat(ASKED, before))
    assert [len(inner.asked) for inner in bots] == [2, 2, 2]


async def test_what_is_not_the_users_is_found_by_its_very_words_only(
    cache: SemanticCache, way: Way
) -> None:
    inner = Parrot()
    for text in (ASKED, ASKED, REWORDED):
        await way(CachedBot(inner, cache).ask, chat(text, role="tool"))
    assert len(inner.asked) == 2


async def test_what_cannot_be_read_or_stored_goes_to_the_model(
    cache: SemanticCache, way: Way
) -> None:
    unreadable, cut_off = Parrot(stop=object()), Parrot()
    cut_off.finish = "length"
    for inner in (unreadable, cut_off):
        for _ in range(2):
            assert (await way(CachedBot(inner, cache).ask, chat(ASKED))).text
        assert len(inner.asked) == 2
    assert cache.stats().stored == 0


@pytest.mark.parametrize("content", [b"", b"[]", b'{"text": "x"}', b'{"text": 1, "tokens": 2}'])
def test_bytes_that_are_no_reply_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        ReplyCodec().decode(content)


def test_it_has_under_a_hundred_lines() -> None:
    assert len((ROOT / "examples/adapter.py").read_text().splitlines()) < 100
    assert "examples/adapter.py" in (ROOT / "CONTRIBUTING.md").read_text()
