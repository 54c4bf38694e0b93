"""Signing and encrypting what is stored, for servers that others can write to or read.

Rule of this file: with a signing key nothing is read that somebody without it has made. A
signature covers the entry's key (cache, embedding model, scope and question), every byte of the
envelope and the vector, so that no part can be changed or put elsewhere. What is left to somebody
without the key is to make misses and to put back what was there and has not expired; rejections
(field `x`) are not signed, since an invented one makes a miss and a removed one is such a putting
back. Encryption hides question, answer, model and usage; vectors stay readable, and texts can be
guessed from them in part (Morris et al. 2023, "Text Embeddings Reveal (Almost) As Much As Text").
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from valkey_semcache.digest import length_prefixed
from valkey_semcache.errors import (
    ForgedError,
    LockedError,
    MissingPackageError,
    NewerFormatError,
    UnreadableError,
)
from valkey_semcache.stored.answer import (
    COMPRESSED,
    ENCRYPTED,
    SIGNED,
    flags_of,
    public_length,
    with_flags,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VECTOR = 16  # bytes kept of the vector's SHA-256
_MAC = 32
_NONCE = 12  # bytes, drawn at random for each entry (NIST SP 800-38D, 8.2.2)
NO_VECTOR = b"\0" * _VECTOR


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry that may be read.

    Args:
        data: The plain envelope.
        vector: Digest of the vector it was signed with; None if it was not signed.
    """

    data: bytes
    vector: bytes | None


class Seal:
    """Signs and encrypts envelopes, and opens them again.

    Args:
        signing: Secrets, newest first: the first one signs, each may have signed.
        encryption: Secrets, newest first: the first one encrypts, each may have encrypted.

    Raises:
        MissingPackageError: Encryption needs the package `cryptography`.
    """

    def __init__(self, signing: Sequence[bytes] = (), encryption: Sequence[bytes] = ()) -> None:
        self._signing = [derived(secret, "sign") for secret in signing]
        self._ciphers = [_cipher(derived(secret, "encrypt")) for secret in encryption]

    @property
    def signs(self) -> bool:
        """Whether only what is signed is read."""
        return bool(self._signing)

    def signature(self, key: str, data: bytes) -> bytes:
        """Of what is stored under a key and is no envelope; empty where nothing is signed."""
        return _mac(self._signing[0], key, data) if self._signing else b""

    def has_signed(self, key: str, data: bytes, signature: bytes) -> bool:
        """Whether a signature is by one of the keys."""
        return any(
            hmac.compare_digest(_mac(secret, key, data), signature) for secret in self._signing
        )

    def close(self, key: str, data: bytes, vector: bytes) -> bytes:
        """An envelope as it is stored under a key.

        Args:
            key: The entry's.
            data: What `Envelope.pack` gave.
            vector: Digest of the entry's vector, see `digest_of`.
        """
        if self._ciphers:
            data = with_flags(data, flags_of(data) | ENCRYPTED)
            clear = data[: public_length(data)]
            nonce = secrets.token_bytes(_NONCE)
            hidden = self._ciphers[0].encrypt(nonce, data[len(clear) :], _bound(key, clear))
            data = clear + nonce + hidden
        if self._signing:
            data = with_flags(data, flags_of(data) | SIGNED) + vector
            data += _mac(self._signing[0], key, data)
        return data

    def open(self, key: str, data: bytes) -> Opened:
        """The plain envelope of what is stored under a key.

        Raises:
            ForgedError: It is not signed, though only what is signed is read; or its signature
                is by no key given here, or not for this entry.
            LockedError: It is encrypted with no key given here.
            UnreadableError: It is no envelope.
        """
        flags = flags_of(data)
        if flags & ~(COMPRESSED | SIGNED | ENCRYPTED):
            raise NewerFormatError(f"The entry has flags {flags}, which this release cannot read.")
        vector = None
        if flags & SIGNED:
            body, mac = data[:-_MAC], data[-_MAC:]
            if self._signing and not any(
                hmac.compare_digest(_mac(secret, key, body), mac) for secret in self._signing
            ):
                raise ForgedError("The entry's signature is not by a key of signing_key=.")
            data, vector = body[:-_VECTOR], body[-_VECTOR:]
        elif self._signing:
            raise ForgedError("The entry is not signed, and signing_key= is set.")
        if flags & ENCRYPTED:
            data = self._decrypted(key, data)
        return Opened(with_flags(data, flags & ~(SIGNED | ENCRYPTED)), vector)

    def _decrypted(self, key: str, data: bytes) -> bytes:
        signed = with_flags(data, flags_of(data) & ~SIGNED)
        clear = signed[: public_length(signed)]
        nonce, hidden = signed[len(clear) :][:_NONCE], signed[len(clear) + _NONCE :]
        if len(nonce) < _NONCE:
            raise UnreadableError("The stored envelope is cut short.")
        for cipher in self._ciphers:
            try:
                return clear + cipher.decrypt(nonce, hidden, _bound(key, clear))
            except _invalid_tag():
                continue
        raise LockedError("The entry is encrypted with no key of encryption_key=.")


def is_closed(data: bytes) -> bool:
    """Whether an envelope is signed or encrypted."""
    return len(data) > 3 and bool(data[3] & (SIGNED | ENCRYPTED))


def digest_of(vector: bytes | None) -> bytes:
    """What a signature covers of a vector."""
    return NO_VECTOR if vector is None else hashlib.sha256(vector).digest()[:_VECTOR]


def derived(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose (HMAC as a key derivation, NIST SP 800-108)."""
    return hmac.digest(secret, f"valkey-semcache {purpose}".encode(), "sha256")


def _mac(secret: bytes, key: str, data: bytes) -> bytes:
    return hmac.digest(secret, length_prefixed((key, data)), "sha256")


def _bound(key: str, clear: bytes) -> bytes:
    """What a cipher text belongs to, besides its key."""
    return length_prefixed((key, clear))


def _cipher(secret: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingPackageError(
            "encryption_key= needs the package cryptography: pip install "
            "'valkey-semcache[encryption]'"
        ) from None
    return AESGCM(secret)


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag
