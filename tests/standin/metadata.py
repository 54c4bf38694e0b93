"""What a server with the module loaded says of itself: MODULE LIST and COMMAND.

The server behind answers first; its reply is completed, never replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.standin.release import ACL_CATEGORIES, Release
from tests.standin.resp import CRLF, SetOf, Simple, encode, end_of


def items_of(reply: bytes) -> list[bytes]:
    """The items of an array's bytes, each still as bytes."""
    at, items = reply.index(CRLF) + 2, []
    while at < len(reply):
        end = end_of(reply, at)
        items.append(reply[at:end])
        at = end
    return items


def array_of(items: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


def with_module(release: Release, reply: bytes, protocol: int) -> bytes:
    """The reply of MODULE LIST with the module in it."""
    module = {"name": "search", "ver": release.module_number, "path": "libsearch.so", "args": []}
    return array_of([*items_of(reply), encode(module, protocol)])


def with_commands(release: Release, names: Sequence[str], reply: bytes, protocol: int) -> bytes:
    """The reply of COMMAND INFO with the module's commands in it."""
    items = items_of(reply)
    for at, name in enumerate(names):
        if name in release.command_flags:
            items[at] = _command_info(release, name, protocol)
    return array_of(items)


def _command_info(release: Release, name: str, protocol: int) -> bytes:
    flags = SetOf(Simple(x) for x in release.command_flags[name])
    categories = SetOf(Simple(x) for x in ACL_CATEGORIES[name])
    nothing = SetOf()
    info = [name, -1, flags, 0, 0, 0, categories, nothing, nothing, []]
    return encode(info, protocol)
