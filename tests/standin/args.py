"""Reading a command's arguments one by one, with the module's words for what is wrong.

It knows no command; what an argument means is the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from tests.standin.release import Release

T = TypeVar("T")
UINT32 = 2**32 - 1
UINT64 = 2**64 - 1


class CommandError(Exception):
    """What the client gets as an error reply, word for word."""


def show(text: bytes) -> str:
    """A client's bytes inside an error text."""
    return text.decode("utf-8", "surrogateescape")


class Arguments:
    """The arguments of one command and how far they have been read."""

    def __init__(self, items: list[bytes]) -> None:
        self.items = items
        self.at = 0

    @property
    def left(self) -> int:
        return max(len(self.items) - self.at, 0)

    def peek(self) -> bytes:
        if not self.left:
            raise CommandError("Missing argument")
        return self.items[self.at]

    def take(self) -> bytes:
        item = self.peek()
        self.at += 1
        return item

    def take_if(self, word: str) -> bool:
        """Reads the next argument if it is this word, in whatever case."""
        found = self.left > 0 and self.peek().upper() == word.encode()
        self.at += found
        return found

    def take_uint(self, largest: int = UINT32) -> int:
        return to_uint(self.take(), largest)

    def take_int(self) -> int:
        return to_int(self.take())

    def take_one_of(self, choices: Mapping[bytes, T]) -> T:
        word = self.take()
        if not word:
            raise CommandError("Argument value is empty")
        if word.upper() not in choices:
            raise CommandError(f"Unknown argument `{show(word)}`")
        return choices[word.upper()]

    def take_options(
        self,
        options: Mapping[bytes, Callable[[Arguments], None]],
        *,
        stop_at_unknown: bool = False,
    ) -> None:
        """Reads `NAME value` pairs and flags in any order, to the end or to an unknown name."""
        while self.left:
            name = self.peek()
            option = options.get(name.upper())
            if option is None:
                if stop_at_unknown:
                    return
                raise CommandError(f"Unexpected argument `{show(name)}`")
            self.at += 1
            try:
                option(self)
            except CommandError as error:
                text = f"Error parsing value for the parameter `{show(name)}` - {error}"
                raise CommandError(text) from None


def to_uint(text: bytes, largest: int = UINT32) -> int:
    """An unsigned number; what follows the digits is ignored, as the module ignores it."""
    return _to_number(text, rb"\d+", 0, largest)


def to_int(text: bytes) -> int:
    return _to_number(text, rb"-?\d+", -(2**31), 2**31 - 1)


def _to_number(text: bytes, shape: bytes, smallest: int, largest: int) -> int:
    digits = re.match(shape, text)
    if digits and smallest <= int(digits[0]) <= largest:
        return int(digits[0])
    if re.fullmatch(rb"[+-]?\d+(\.\d*)?", text):
        raise CommandError(f"`{show(text)}` is outside acceptable bounds")
    raise CommandError(f"`{show(text)}` is not a valid numeric value")


def check_range(release: Release, value: int, lowest: int, highest: int | None, text: str) -> None:
    """Refuses a value outside of the bounds with `text`."""
    if value < lowest:
        bound = "Invalid range: Value below minimum; "
    elif highest is not None and value > highest:
        bound = "Invalid range: Value above maximum; "
    else:
        return
    raise CommandError((bound if release.names_the_bound else "") + text)


def has_hash_tag(text: bytes) -> bool:
    start = text.find(b"{")
    return start >= 0 and text.find(b"}", start) > start + 1
