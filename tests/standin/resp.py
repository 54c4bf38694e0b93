"""The wire protocol: bytes to values and values to bytes, RESP2 and RESP3 alike.

No sockets here, and no knowledge of any command.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CRLF = b"\r\n"


class Simple(str):
    """A status reply, such as OK; a plain `str` or `bytes` is sent as a bulk string."""

    __slots__ = ()


@dataclass(frozen=True)
class Failure:
    """An error reply."""

    text: str


class SetOf(list[Any]):
    """A set in RESP3, an array in RESP2."""


class Push(list[Any]):
    """What a RESP3 server sends without being asked."""


class ProtocolError(Exception):
    """Bytes that are no RESP."""


def encode(value: Any, protocol: int) -> bytes:
    """A reply's bytes in RESP2 (`protocol=2`) or RESP3 (`protocol=3`)."""
    match value:
        case Simple():
            return b"+%s\r\n" % value.encode("utf-8", "surrogateescape")
        case str():
            return encode(value.encode(), protocol)
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case Failure():
            return b"-%s\r\n" % value.text.encode("utf-8", "surrogateescape")
        case bool():
            return (b"#t\r\n" if value else b"#f\r\n") if protocol == 3 else b":%d\r\n" % value
        case int():
            return b":%d\r\n" % value
        case None:
            return b"_\r\n" if protocol == 3 else b"$-1\r\n"
        case dict():
            head = b"%%%d\r\n" % len(value) if protocol == 3 else b"*%d\r\n" % (2 * len(value))
            return head + b"".join(encode(x, protocol) for pair in value.items() for x in pair)
        case list() | tuple():
            mark = b"~" if protocol == 3 and isinstance(value, SetOf) else b"*"
            return mark + b"%d\r\n" % len(value) + b"".join(encode(x, protocol) for x in value)
    raise TypeError(f"no RESP for {type(value).__name__}")


def encode_command(args: Iterable[bytes | str | int]) -> bytes:
    """A command's bytes, as a client sends them."""
    parts = [x if isinstance(x, bytes) else str(x).encode() for x in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in parts)


def decode(data: bytes, at: int = 0) -> tuple[Any, int] | None:
    """The value that starts at `at` and where it ends; None while bytes are missing."""
    stop = data.find(CRLF, at)
    if stop < 0:
        return None
    kind, head, after = data[at : at + 1], data[at + 1 : stop], stop + 2
    match kind:
        case b"+":
            return Simple(head.decode("utf-8", "surrogateescape")), after
        case b"-":
            return Failure(head.decode("utf-8", "surrogateescape")), after
        case b":":
            return int(head), after
        case b"$" | b"=" | b"!":
            return _decode_bulk(kind, int(head), data, after)
        case b"*" | b"~" | b">":
            found = _decode_items(int(head), data, after)
            if found is None or kind == b"*":
                return found
            items, after = found
            return (SetOf(items or []) if kind == b"~" else Push(items or [])), after
        case b"%":
            found = _decode_items(2 * int(head), data, after)
            if found is None:
                return None
            items, after = found
            return dict(zip(items[::2], items[1::2], strict=True)), after
        case b"_":
            return None, after
        case b"#":
            return head == b"t", after
        case b",":
            return float(head), after
        case b"(":
            return int(head), after
    raise ProtocolError(f"unexpected {kind!r}")


def _decode_bulk(kind: bytes, length: int, data: bytes, at: int) -> tuple[Any, int] | None:
    if length < 0:
        return None, at
    if len(data) < at + length + 2:
        return None
    text = data[at : at + length]
    if kind == b"!":
        return Failure(text.decode("utf-8", "surrogateescape")), at + length + 2
    return (text[4:] if kind == b"=" else text), at + length + 2


def _decode_items(count: int, data: bytes, at: int) -> tuple[Any, int] | None:
    if count < 0:
        return None, at
    items = []
    for _ in range(count):
        found = decode(data, at)
        if found is None:
            return None
        item, at = found
        items.append(item)
    return items, at


def end_of(data: bytes, at: int) -> int:
    """Where the value that starts at `at` ends, without decoding it; -1 while bytes are missing."""
    missing = 1
    while missing:
        stop = data.find(CRLF, at)
        if stop < 0:
            return -1
        kind = data[at]
        if kind in b"$=!":
            length = int(data[at + 1 : stop])
            at = stop + 2 if length < 0 else stop + length + 4
            if at > len(data):
                return -1
            missing -= 1
        elif kind in b"*~>":
            missing += max(int(data[at + 1 : stop]), 0) - 1
            at = stop + 2
        elif kind in b"%|":
            # An attribute is followed by the value that it belongs to.
            missing += 2 * int(data[at + 1 : stop]) - (kind == ord("%"))
            at = stop + 2
        else:
            missing -= 1
            at = stop + 2
    return at


def read_command(data: bytes, at: int) -> tuple[list[bytes], int] | None:
    """The command that starts at `at` and where it ends; None while bytes are missing."""
    stop = data.find(CRLF, at)
    if stop < 0:
        return None
    if data[at : at + 1] != b"*":
        return data[at:stop].split(), stop + 2
    parts = []
    count, at = int(data[at + 1 : stop]), stop + 2
    for _ in range(count):
        stop = data.find(CRLF, at)
        if stop < 0:
            return None
        if data[at : at + 1] != b"$":
            raise ProtocolError(f"expected '$', got {data[at : at + 1]!r}")
        start = stop + 2
        at = start + int(data[at + 1 : stop]) + 2
        if at > len(data):
            return None
        parts.append(data[start : at - 2])
    return parts, at
