"""Stored entries: reading them, and what every entry is written with.

Rule of this file: what lies in Valkey is data. An entry that cannot be read is removed and is a
miss; one that a newer release or another codec wrote is a miss and is left alone.
"""

from __future__ import annotations

from valkey_semcache.answer import Envelope, place_of, unpack
from valkey_semcache.errors import (
    AnswerTooLargeError,
    NewerFormatError,
    ServerReplyError,
    UnreadableError,
)
from valkey_semcache.operations import Argument, Command, Flow, is_wrong_type
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters


class Entries:
    """Reads entries, and counts those that cannot be read.

    Args:
        counters: Where they are counted.
        max_answer_bytes: Larger answers are not read.
    """

    def __init__(self, counters: Counters, max_answer_bytes: int) -> None:
        self._counters = counters
        self._max_answer_bytes = max_answer_bytes

    def read(self, key: str) -> Flow[bytes | None]:
        """An entry's envelope as bytes. A key of another type is none of ours and gives way."""
        try:
            data: bytes | None = (yield Command("HMGET", key, "p"))[0]
        except ServerReplyError as error:
            if not is_wrong_type(error):
                raise
            yield from self.remove_unreadable(key)
            return None
        return data

    def envelope(self, key: str, data: bytes) -> Flow[Envelope | None]:
        """An entry's envelope; one that cannot be read is deleted. One that is newer or larger
        than this cache reads is left alone, for those who do."""
        try:
            envelope = unpack(data, self._max_answer_bytes)
            if envelope.place != place_of(key):
                raise UnreadableError("The envelope belongs to another entry.")
            return envelope
        except NewerFormatError:
            return None
        except AnswerTooLargeError as error:
            self._counters.failed("reading an entry", error)
            return None
        except UnreadableError:
            yield from self.remove_unreadable(key)
            return None

    def remove_unreadable(self, key: str) -> Flow[None]:
        """Delete an entry that nobody can read, and say so."""
        self._counters.count("errors", "UnreadableError")
        self._counters.warn("unreadable", "An entry of the cache was unreadable and is removed.")
        yield Command("UNLINK", key)


def is_rejected(address: Address, rejected: bytes | None) -> bool:
    """Whether an entry's field `x` names this question."""
    return rejected is not None and address.text_digest.encode() in rejected.split()


def fields_of(address: Address, packed: bytes) -> tuple[Argument, ...]:
    """The fields that every entry has, names and values in turn."""
    digests = ("m", address.model_digest, "n", address.namespace_digest)
    return (*digests, "i", address.identity_digest, "p", packed)


def milliseconds(seconds: float | None) -> int:
    """A TTL for the scripts: whole milliseconds, at least 1; 0 for none."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
