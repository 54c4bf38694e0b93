"""Answers in fewer bytes: Zstandard (RFC 8878), where it helps.

Rule of this file: what is stored cannot make a reader allocate more than it allows. A frame says
how long its content is, and that is looked at before anything is decompressed.
"""

from __future__ import annotations

import threading

import zstandard

from valkey_semcache.errors import AnswerTooLargeError, UnreadableError

MAX_ANSWER_BYTES = 4 * 2**20
"""Answers above this are neither stored nor read, unless told otherwise."""

_WORTH = 0.9  # share of its length that compressed content may have at most
_LEVEL = 3


class _Own(threading.local):
    """Each thread's own: neither is thread-safe, and making one costs more than using it."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_own = _Own()


def compressed(content: bytes) -> bytes | None:
    """The content as one frame, or None where that saves less than a tenth."""
    frame = _own.compressor.compress(content)
    return frame if len(frame) < _WORTH * len(content) else None


def decompressed(frame: bytes, most: int) -> bytes:
    """The content of a frame.

    Args:
        frame: What `compressed` gave.
        most: Bytes that the content may have.

    Raises:
        AnswerTooLargeError: It says that it has more.
        UnreadableError: It is no frame, does not say how long it is, or is not as long.
    """
    check_length(full_length(frame), most)
    try:
        return _own.decompressor.decompress(frame, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UnreadableError("The stored answer cannot be decompressed.") from error


def full_length(frame: bytes) -> int:
    """Bytes that the content of a frame has, as it says; nothing is decompressed.

    Raises:
        UnreadableError: It is no frame, or does not say so.
    """
    try:
        length = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise UnreadableError("The stored answer is no frame.") from error
    if length < 0:
        raise UnreadableError("The stored answer does not say how long it is.")
    return length


def check_length(length: int, most: int) -> None:
    """Refuse an answer that is too long.

    Raises:
        AnswerTooLargeError: It is.
    """
    if length > most:
        raise AnswerTooLargeError(
            f"The stored answer has {length:,} bytes, more than max_answer_bytes={most:,}. Give "
            "the cache a larger max_answer_bytes= to have it read."
        )
