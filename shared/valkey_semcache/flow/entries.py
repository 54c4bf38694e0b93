"""Stored entries: reading them, and what every entry is written with.

Rule of this file: what lies in Valkey is data. An entry that cannot be read is removed and is a
miss; one that a newer release or another codec wrote is a miss and is left alone.
"""

from __future__ import annotations

from valkey_semcache.embedding import Vector
from valkey_semcache.errors import (
    AnswerTooLargeError,
    ForgedError,
    NewerFormatError,
    ServerReplyError,
    UnreadableError,
)
from valkey_semcache.flow.operations import Argument, Command, Flow, is_wrong_type
from valkey_semcache.question import Address
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope, place_of, unpack
from valkey_semcache.stored.sealing import Seal, digest_of, is_closed

_KEYLESS = Seal()
"""Reads what others have signed, for those who ask for no signature."""


class Entries:
    """Reads entries, and counts those that cannot be read.

    Args:
        counters: Where they are counted.
        max_answer_bytes: Larger answers are not read.
        compress_over: Answers of more bytes are compressed where that helps; None for none.
        seal: Signs and encrypts them, if they are to be.
    """

    def __init__(
        self,
        counters: Counters,
        max_answer_bytes: int,
        compress_over: int | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._counters = counters
        self._max_answer_bytes = max_answer_bytes
        self._compress_over = compress_over
        self._seal = seal
        #: Whether only signed entries are read.
        self.are_signed = seal is not None and seal.signs

    def packed(
        self,
        key: str,
        envelope: Envelope,
        vector: Vector | None = None,
        sealed: bytes | None = None,
    ) -> bytes:
        """An envelope as it is stored.

        Args:
            key: The entry's.
            envelope: The envelope.
            vector: The entry's vector, if it has one.
            sealed: That vector's digest, where it alone is known.
        """
        data = envelope.pack(self._compress_over)
        if self._seal is None:
            return data
        if sealed is None:
            sealed = digest_of(None if vector is None else vector.tobytes())
        return self._seal.close(key, data, sealed)

    def read(self, key: str) -> Flow[bytes | None]:
        """An entry's envelope as bytes. A key of another type is none of ours and gives way."""
        try:
            data: bytes | None = (yield Command("HMGET", key, "p"))[0]
        except ServerReplyError as error:
            yield from self.give_way(key, error)
            return None
        return data

    def give_way(self, key: str, error: ServerReplyError) -> Flow[None]:
        """Delete a key of another type; raise any other error."""
        if not is_wrong_type(error):
            raise error
        yield from self.remove_unreadable(key)

    def envelope(self, key: str, data: bytes) -> Flow[Envelope | None]:
        """An entry's envelope; None, and the entry is put away, if it cannot be read."""
        try:
            return self.opened(key, data)
        except UnreadableError as error:
            yield from self.put_away(key, error)
            return None

    def opened(self, key: str, data: bytes) -> Envelope:
        """An entry's envelope.

        Raises:
            UnreadableError: It cannot be read, and is to be put away.
        """
        sealed = None
        seal = self._seal
        if seal is None and is_closed(data):
            seal = _KEYLESS
        if seal is not None:
            opened = seal.open(key, data)
            data, sealed = opened.data, opened.vector
        envelope = unpack(data, self._max_answer_bytes, sealed)
        if envelope.place != place_of(key):
            raise UnreadableError("The envelope belongs to another entry.")
        return envelope

    def put_away(self, key: str, error: UnreadableError) -> Flow[None]:
        """Delete an entry that cannot be read. One that is newer or larger than this cache reads
        is left alone, for those who do."""
        if isinstance(error, NewerFormatError):
            return
        if isinstance(error, AnswerTooLargeError):
            self._counters.failed("reading an entry", error)
            return
        yield from self.remove_unreadable(key, error)

    def is_vector_of(self, envelope: Envelope, vector: bytes | None) -> bool:
        """Whether a vector is the one that the entry was signed with."""
        return vector is not None and digest_of(vector) == envelope.sealed

    def remove_unreadable(self, key: str, error: UnreadableError | None = None) -> Flow[None]:
        """Delete an entry that nobody can read, or that nobody with a key has made."""
        kind = "ForgedError" if isinstance(error, ForgedError) else "UnreadableError"
        self._counters.count("errors", kind)
        self._counters.warn(
            kind, "An entry of the cache was unreadable and is removed: %s", error or "wrong type"
        )
        # A key of other bytes than ASCII is somebody else's, as the search index gave it.
        yield Command("UNLINK", key if key.isascii() else key.encode("utf-8", "surrogateescape"))


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
