"""The log of a scope, read in pieces.

Rule of this file: of a log, however long, no more than a piece is in memory at once. What no cache
writes (other bytes than ASCII, scores without end, a log without its token) is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from valkey_semcache.flow.operations import Command, Flow, replies_to, unless_wrong_type

PIECE = 1_000
"""Members of a log that are read at once."""

Piece: TypeAlias = list[tuple[bytes, int]]
"""Members and versions, in order. The log's token is its last member: a piece without it goes on,
and one that is empty means that there is no log."""


def read_piece(log: str, version: int) -> Flow[Piece]:
    """What a log has from `version` on; 0 for its beginning.

    The entry at `version` itself comes again, if it was not taken out, and the token with the last
    one's version: so there is always something to read.
    """
    limit = ("LIMIT", 0, PIECE)
    command = Command("ZRANGE", log, version, "+inf", "BYSCORE", *limit, "WITHSCORES")
    reply: list[Any] = (yield from unless_wrong_type(command)) or []
    piece = _pairs(reply)
    if not piece or has_token(piece):
        return piece
    full = len(reply) == (PIECE if isinstance(reply[0], list | tuple) else 2 * PIECE)
    return piece if full and piece[-1][1] > version else []


def read_ends(log: str, count: int) -> Flow[tuple[bytes | None, int]]:
    """A log's token, None if there is no log, and the version of the last but `count` entry; 0 if
    there are fewer."""
    places = (-1, -1 - count)
    commands = [Command("ZRANGE", log, place, place, "WITHSCORES") for place in places]
    last, first = [
        _pairs(reply) if isinstance(reply, list | tuple) else []
        for reply in (yield from replies_to(commands))
    ]
    return (last[0][0] if last and has_token(last) else None), (first[0][1] if first else 0)


def has_token(piece: Piece) -> bool:
    """Whether the piece reaches to the end of the log."""
    return piece[-1][0].startswith(b"~")


def _pairs(reply: Sequence[Any]) -> Piece:
    """RESP2 gives a flat list and scores as text, RESP3 pairs and floats."""
    nested = bool(reply) and isinstance(reply[0], list | tuple)
    scored = reply if nested else zip(reply[::2], reply[1::2], strict=True)
    try:
        return [(member, int(float(score))) for member, score in scored if member.isascii()]
    except OverflowError:
        return []
