"""How an answer becomes bytes, and bytes an answer.

Rule of this file: a codec knows its fields. It builds only what it names itself, and
refuses what it cannot write down faithfully.
"""

from __future__ import annotations

from typing import Any, Protocol

from valkey_semcache.errors import NotStorableError, UnreadableError


class Codec(Protocol):
    """Writes and reads one kind of answer. `name` goes into the envelope, e.g. `text/1`."""

    @property
    def name(self) -> str:
        """The codec's name and version, ASCII, at most 255 characters."""

    def encode(self, answer: Any) -> bytes:
        """The answer as bytes.

        Raises:
            NotStorableError: The answer cannot be written down faithfully.
        """

    def decode(self, content: bytes) -> Any:
        """A new answer object from bytes.

        Raises:
            UnreadableError: The bytes are not what `encode` writes.
        """


def text_of(codec: Codec, content: bytes) -> str:
    """A stored answer as the text that a person would read.

    A codec can have a method `text(answer)` that gives it; otherwise it is `str(answer)`.

    Raises:
        UnreadableError: The bytes are not what the codec writes.
    """
    answer = codec.decode(content)
    read = getattr(codec, "text", None)
    return str(answer if read is None else read(answer))


class TextCodec:
    """Answers that are plain strings. The core's own, `text/1`."""

    name = "text/1"

    def encode(self, answer: Any) -> bytes:
        """UTF-8; lone surrogates are kept as they are."""
        if not isinstance(answer, str):
            raise NotStorableError(
                f"The answer is of type {type(answer).__name__}; the codec text/1 stores strings. "
                "Pass a string, or give the cache a codec= of your own."
            )
        return answer.encode("utf-8", "surrogatepass")

    def decode(self, content: bytes) -> str:
        """The string."""
        try:
            return content.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise UnreadableError("The stored answer is not UTF-8 text.") from error
