"""What a flow can ask for.

Rule of this file: plain values. A flow (flow.py) yields them, a drive (drive.py) carries
them out and sends back the outcome, or throws the error in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from valkey_semcache.errors import ServerReplyError

if TYPE_CHECKING:
    from valkey_semcache.precision.judging import Judging

Argument: TypeAlias = str | bytes | int | float


class Command:
    """One command to the server; the outcome is its reply, undecoded.

    In a cluster it goes where its key lies, or to `node`, one of those that `Nodes` gave.
    """

    __slots__ = ("arguments", "node")

    def __init__(self, *arguments: Argument, node: Any = None) -> None:
        self.arguments = arguments
        self.node = node


class Nodes:
    """The outcome is a list of a cluster's primaries, for `Command(node=…)`; of a single server
    it is `[None]`."""

    __slots__ = ()


class Settle:
    """From now on, after each script on a key of `prefix`, the drive sends `searches()` to the
    key's node: in a cluster, and to a single server if `everywhere`. See server/settling.py."""

    __slots__ = ("everywhere", "prefix", "searches")

    def __init__(
        self, prefix: str, searches: Callable[[], list[tuple[Argument, ...]]], *, everywhere: bool
    ) -> None:
        self.prefix = prefix
        self.searches = searches
        self.everywhere = everywhere


class Source:
    """The text of a Lua script and the SHA-1 by which the server knows it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # SHA-1 because EVALSHA says so, not for security.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Script:
    """One script on one key (EVALSHA, and EVAL where the server does not know it yet)."""

    __slots__ = ("arguments", "key", "source")

    def __init__(self, source: Source, key: str, *arguments: Argument) -> None:
        self.source = source
        self.key = key
        self.arguments = arguments


class Pipeline:
    """Several commands and scripts at once; the outcome is a list of replies, a `ServerReplyError`
    in place of one that is an error."""

    __slots__ = ("commands",)

    def __init__(self, commands: Sequence[Command | Script]) -> None:
        self.commands = commands


class Embed:
    """One text to be embedded; the outcome is a `Vector` (see embedding.py)."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class EmbedMany:
    """Several texts to be embedded at once; the outcome is a list of vectors, an `EmbeddingError`
    in place of one that cannot be compared."""

    __slots__ = ("texts",)

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts


class Judge:
    """One candidate to be judged: whether its answer does for the asked question too. The outcome
    is True, False, or None from a judge that cannot tell; a `JudgeError` is thrown in."""

    __slots__ = ("by", "case")

    def __init__(self, by: Judging, asked: str, stored: str, answer: str) -> None:
        self.by = by
        self.case = asked, stored, answer


class JudgeMany:
    """Several candidates of one judge at once; the outcome is a list of verdicts, a `JudgeError`
    in place of one that failed."""

    __slots__ = ("by", "cases")

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.by = judges[0].by
        self.cases = [judge.case for judge in judges]


class Sleep:
    """Wait for so many seconds."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


Operation: TypeAlias = (
    Command | Pipeline | Script | Embed | EmbedMany | Judge | JudgeMany | Nodes | Settle | Sleep
)
T = TypeVar("T")
Flow: TypeAlias = Generator[Operation, Any, T]


batched: ContextVar[bool] = ContextVar("valkey_semcache_batched", default=False)
"""Whether the flow that goes on is one of several: what it waited for was the whole batch."""


def is_wrong_type(error: ServerReplyError) -> bool:
    """Whether the key holds a value of another type than the command is for."""
    return str(error).startswith("WRONGTYPE")


def unless_wrong_type(command: Command) -> Flow[Any]:
    """The reply, or None where the key holds a value of another type: none of ours."""
    try:
        return (yield command)
    except ServerReplyError as error:
        if not is_wrong_type(error):
            raise
        return None


def replies_to(commands: list[Command]) -> Flow[list[Any]]:
    """The replies to several commands, in one round trip.

    Those to keys of another type, which are none of ours, are errors among them.

    Raises:
        ServerReplyError: Any other error reply.
    """
    replies: list[Any] = yield Pipeline(commands)
    for reply in replies:
        if isinstance(reply, ServerReplyError) and not is_wrong_type(reply):
            raise reply
    return replies
