"""A complete adapter for a made-up framework: its bots take messages and give replies.

A real one has the same three things to do: read a request, write and read an answer, and put
the cache in front of the call.

Rule of this file: it translates, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

from valkey_semcache import NotStorableError, Question, SemanticCache, UnreadableError

Messages = Sequence[Mapping[str, str]]


@dataclass
class Reply:
    text: str
    finish: str = "stop"
    tokens: dict[str, int] = field(default_factory=dict)


class Bot(Protocol):
    name: str
    settings: dict[str, Any]

    def ask(self, messages: Messages) -> Reply: ...
    async def aask(self, messages: Messages) -> Reply: ...


# 1. What is asked.
def question(bot: Bot, messages: Messages) -> Question | None:
    """The last message's text may differ in wording; all else must be the same."""
    try:
        *before, last = messages
        return Question(
            last["content"],
            context=canonical([before, last["role"]]),
            # All that changes an answer, and no secrets: keys and time limits stay out.
            identity=canonical([type(bot).__name__, bot.name, bot.settings]),
            model=bot.name,
            exact_only=False if last["role"] == "user" else "the last turn is not the user's",
        )
    except (TypeError, ValueError, KeyError):
        return None  # what cannot be read is not cached; never guess


def canonical(value: object) -> str:
    """The same text for the same value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


# 2. What is stored.
class ReplyCodec:
    """Replies as JSON. Fields are known by name: no bytes from the server choose a class."""

    name = "example-reply/1"

    def encode(self, reply: Reply) -> bytes:
        if reply.finish != "stop" or not reply.text:
            raise NotStorableError(f"The reply ended with {reply.finish!r}, or is empty.")
        return json.dumps(asdict(reply)).encode()

    def decode(self, content: bytes) -> Reply:
        try:
            fields = json.loads(content)
            return Reply(str(fields["text"]), "stop", dict(fields["tokens"]))
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableError("The stored answer is no reply.") from error


HOW: dict[str, Any] = {"codec": ReplyCodec(), "usage_of": lambda reply: reply.tokens}


# 3. Where it is asked for.
class CachedBot:
    """A bot with a cache in front of it; a bot itself."""

    def __init__(self, bot: Bot, cache: SemanticCache) -> None:
        self.bot, self.cache, self.name, self.settings = bot, cache, bot.name, bot.settings

    def ask(self, messages: Messages) -> Reply:
        if (asked := question(self.bot, messages)) is None:
            return self.bot.ask(messages)
        return cast(Reply, self.cache.get_or_call(asked, lambda: self.bot.ask(messages), **HOW))

    async def aask(self, messages: Messages) -> Reply:
        if (asked := question(self.bot, messages)) is None:
            return await self.bot.aask(messages)
        call = self.cache.aget_or_call(asked, lambda: self.bot.aask(messages), **HOW)
        return cast(Reply, await call)
