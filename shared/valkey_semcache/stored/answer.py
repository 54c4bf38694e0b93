"""The stored envelope: what lies in an entry's field `p`.

Rule of this file: bytes out of Valkey are data. `unpack` reads numbers, text and JSON, and
builds nothing else. Whatever does not fit is an `UnreadableError`; what a newer release
wrote is a `NewerFormatError`, and is left to those who can read it.

Layout, integers and floats big-endian:

| bytes | what |
|---|---|
| 2 | `sc` |
| 1 | format of the stored layout |
| 1 | flags: 1 compressed, 2 signed, 4 encrypted |
| 32 | scope and text digest of the entry that it belongs to, 16 bytes each |
| 8 | created, seconds since 1970, float |
| 8 | expires, likewise; 0 for never |
| 1 + n | length of the codec's name, and the name in ASCII |
| 4 + n | length of the private header, and the header: JSON with the model's name `m`, the question's text `q`, the usage `u`; each left out when there is none |
| rest | the content, as the codec wrote it |

Compression is of the content. What is signed or encrypted is opened before it gets here (see
sealing.py): encryption is of everything from the private header's length on, with a nonce of 12
bytes before it and a tag of 16 at its end (AES-GCM); a signature adds 16 bytes of the vector's digest
and an HMAC-SHA-256 of 32.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import NamedTuple

from valkey_semcache.digest import FORMAT
from valkey_semcache.errors import NewerFormatError, UnreadableError
from valkey_semcache.stored.compression import (
    MAX_ANSWER_BYTES,
    check_length,
    compressed,
    decompressed,
    full_length,
)

COMPRESSED, SIGNED, ENCRYPTED = 1, 2, 4
_KNOWN_FLAGS = COMPRESSED
_MAGIC = b"sc"
_HEAD = struct.Struct(">2sBB32sddB")
_HEAD_BYTES = _HEAD.size
_LENGTH = struct.Struct(">I")
# Made once: `json.loads` would look for blanks around the text, and `json.dumps` with arguments
# makes an encoder each time.
_raw_decode = json.JSONDecoder().raw_decode
_encoded = json.JSONEncoder(separators=(",", ":")).encode
_COUNTS = {int}  # the type of every value in an answer's usage

ALIAS_CODEC = "alias/1"
"""Codec of an entry that points to another wording's entry (see `Alias`)."""


class Envelope(NamedTuple):
    """One stored answer with what is known about it.

    Args:
        place: Whose envelope it is, see `place_of`: one that turns up elsewhere is not read.
        codec: Who can read `content`, e.g. `lc-gen/1`.
        content: The answer's bytes.
        created: Seconds since 1970.
        expires: Seconds since 1970, or None for never. The server's own expiry decides; this
            is for those who must know it without asking.
        model: The model's name, or "".
        question: The text that was answered, or None when texts are not kept.
        usage: Token counts of the answer, by name.
        sealed: Digest of the vector that the entry was signed with; None for one not signed.
    """

    place: bytes
    codec: str
    content: bytes
    created: float
    expires: float | None = None
    model: str = ""
    question: str | None = None
    usage: Mapping[str, int] | None = None
    sealed: bytes | None = None

    def pack(self, compress_over: int | None = None) -> bytes:
        """The envelope as bytes.

        Args:
            compress_over: Content of more bytes is compressed where that helps; None for none.
        """
        private: dict[str, object] = {}
        if self.model:
            private["m"] = self.model
        if self.question is not None:
            private["q"] = self.question
        if self.usage:
            private["u"] = dict(self.usage)
        header = _encoded(private).encode()
        codec = self.codec.encode("ascii")
        content, flags = self.content, 0
        if compress_over is not None and len(content) > compress_over:
            frame = compressed(content)
            if frame is not None:
                content, flags = frame, COMPRESSED
        head = _HEAD.pack(
            *(_MAGIC, FORMAT, flags, self.place),
            *(self.created, self.expires or 0.0, len(codec)),
        )
        return b"".join((head, codec, _LENGTH.pack(len(header)), header, content))


def place_of(key: str) -> bytes:
    """An entry's scope and text digest, off its key (`NAME:EMB:SCOPE:TEXT`), as 32 bytes.

    Raises:
        UnreadableError: The key is not of that shape.
    """
    try:
        _, _, scope, text = key.split(":")
        return bytes.fromhex(scope + text)
    except ValueError as error:
        raise UnreadableError("The entry's key is none that a cache gives.") from error


def unpack(
    data: bytes, max_answer_bytes: int = MAX_ANSWER_BYTES, sealed: bytes | None = None
) -> Envelope:
    """Read an envelope.

    Args:
        data: What `pack` gave.
        sealed: Digest of the vector that it was signed with, if it was.
        max_answer_bytes: Bytes that its content may have; looked at before decompressing it.

    Raises:
        AnswerTooLargeError: Its content has more.
        NewerFormatError: A newer release wrote it, or it has yet to be opened.
        UnreadableError: It is no envelope, or a damaged one.
    """
    try:
        magic, version, flags, place, created, expires, codec_length = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise UnreadableError("The stored bytes are no envelope of valkey-semcache.")
        if version > FORMAT or flags & ~_KNOWN_FLAGS:
            raise NewerFormatError(
                f"The entry has format {version} and flags {flags}; this release reads format "
                f"{FORMAT} and flag {COMPRESSED}. Update valkey-semcache to read it."
            )
        start = _HEAD_BYTES + codec_length
        codec = data[_HEAD_BYTES:start].decode("ascii")
        (header_length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        end = start + header_length
        if version < 1 or end > len(data):
            raise UnreadableError("The stored envelope is cut short.")
        header = data[start:end].decode()
        private, read = _raw_decode(header)
        model, question, usage = private.get("m", ""), private.get("q"), private.get("u")
        if (
            read < len(header)
            or not isinstance(model, str)
            or not (question is None or isinstance(question, str))
            or not (usage is None or _are_counts(usage))
        ):
            raise UnreadableError("The stored envelope's header holds what it should not.")
        content = data[end:]
        if flags & COMPRESSED:
            content = decompressed(content, max_answer_bytes)
        else:
            check_length(len(content), max_answer_bytes)
        expiry = expires or None
        return Envelope(place, codec, content, created, expiry, model, question, usage, sealed)
    except UnreadableError:
        raise
    except (struct.error, ValueError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"The stored envelope is damaged: {type(error).__name__}.") from error


def flags_of(data: bytes) -> int:
    """The flags of an envelope.

    Raises:
        NewerFormatError: A newer release wrote it.
        UnreadableError: It is none.
    """
    if len(data) < _HEAD.size or data[:2] != _MAGIC:
        raise UnreadableError("The stored bytes are no envelope of valkey-semcache.")
    if data[2] > FORMAT:
        raise NewerFormatError(
            f"The entry has format {data[2]}; this release reads format {FORMAT}. Update "
            "valkey-semcache to read it."
        )
    return data[3]


def content_sizes(data: bytes) -> tuple[int, int]:
    """Bytes of a plain envelope's content, before and after compression; it is not read.

    Raises:
        NewerFormatError: A newer release wrote it.
        UnreadableError: It is none, or a damaged one.
    """
    flags = flags_of(data)
    try:
        start = public_length(data)
        (header_length,) = _LENGTH.unpack_from(data, start)
    except struct.error as error:
        raise UnreadableError("The stored envelope is cut short.") from error
    content = data[start + _LENGTH.size + header_length :]
    return full_length(content) if flags & COMPRESSED else len(content), len(content)


def codec_of(data: bytes) -> bytes:
    """The name of the codec that wrote an envelope (see `flags_of`); it is never encrypted."""
    return data[_HEAD.size : public_length(data)]


def with_flags(data: bytes, flags: int) -> bytes:
    """The same envelope with other flags."""
    return data if data[3] == flags else b"".join((data[:3], bytes((flags,)), data[4:]))


def public_length(data: bytes) -> int:
    """Bytes of an envelope that are never encrypted: the head and the codec's name."""
    return _HEAD.size + data[_HEAD.size - 1]


def _are_counts(usage: object) -> bool:
    return isinstance(usage, dict) and set(map(type, usage.values())) <= _COUNTS


class Alias(NamedTuple):
    """Content of an alias: another wording of a stored question, in the same scope.

    It holds no answer, only the way to one: deleting the source ends it, and so does
    renewing it, since `created` then differs.

    Args:
        source: Text digest of the entry that holds the answer.
        created: That entry's time of creation, seconds since 1970.
        similarity: How near the two wordings are, -1 to 1.
    """

    source: str
    created: float
    similarity: float

    def pack(self) -> bytes:
        """The alias as bytes."""
        return json.dumps([self.source, self.created, self.similarity]).encode()


def unpack_alias(content: bytes) -> Alias:
    """Read an alias.

    Raises:
        UnreadableError: The content is not one.
    """
    try:
        source, created, similarity = json.loads(content)
        if not (isinstance(source, str) and len(source) == 32 and source.isalnum()):
            raise ValueError(source)
        return Alias(source, float(created), float(similarity))
    except (ValueError, TypeError, RecursionError) as error:
        raise UnreadableError("The stored alias is damaged.") from error
