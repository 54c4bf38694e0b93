"""The one function that turns what is asked into names.

Rule of this file: every digest in the package, in a key, a tag or a field, comes from
`Digests`. Parts are length-prefixed, so no two different lists of parts run together to
the same bytes, and each use has a label of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

FORMAT = 1
"""Version of the stored layout (keys, fields, envelope). Not the package's version."""

DIGEST_LENGTH = 32
"""Hexadecimal digits kept of each SHA-256: 128 bits."""

_LENGTH = struct.Struct(">Q").pack


def length_prefixed(parts: tuple[str | bytes, ...]) -> bytes:
    """Join `parts` so that they can be told apart again: 8 bytes of length before each.

    Lone surrogates, which UTF-8 cannot hold, are passed through as they are.
    """
    out: list[bytes] = []
    for part in parts:
        try:  # an error handler's name would cost more than the encoding
            data = part.encode() if isinstance(part, str) else part
        except UnicodeEncodeError:
            data = str(part).encode("utf-8", "surrogatepass")
        out += (_LENGTH(len(data)), data)
    return b"".join(out)


class Digests:
    """SHA-256 over length-prefixed parts; HMAC-SHA-256 (RFC 2104) when a key is given.

    Args:
        key: Secret of any length. With it, nobody without the key can tell which question
            a digest belongs to by trying likely ones.
    """

    __slots__ = ("_key", "_prefixes")

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self._prefixes: dict[str, bytes] = {}

    def __call__(self, label: str, *parts: str | bytes) -> str:
        """The digest of `parts` in the role of `label`, as 32 lower-case hex digits."""
        prefix = self._prefixes.get(label)
        if prefix is None:
            prefix = self._prefixes[label] = length_prefixed((str(FORMAT), label))
        message = prefix + length_prefixed(parts)
        if self._key is None:
            return hashlib.sha256(message).hexdigest()[:DIGEST_LENGTH]
        return hmac.digest(self._key, message, "sha256").hex()[:DIGEST_LENGTH]

    def __repr__(self) -> str:
        return f"Digests(keyed={self._key is not None})"
