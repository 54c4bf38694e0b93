"""What can go wrong, by kind.

Rule of this file: every error that the package raises is a `SemcacheError`, and its
message says what happened, what was expected and what to do. Where Python has a kind of
its own for it (`ValueError`, `ImportError`), the class is that too.
"""

from __future__ import annotations


class SemcacheError(Exception):
    """Base of all errors raised by valkey-semcache."""


class ConfigurationError(SemcacheError, ValueError):
    """An argument is out of range, of the wrong type, or at odds with another."""


class MissingPackageError(SemcacheError, ImportError):
    """An optional package is needed and not installed; the message has the command."""


class EmbeddingError(SemcacheError):
    """The embedding model raised, or gave a vector that cannot be compared."""


class JudgeError(SemcacheError):
    """A judge raised, took too long, or gave what is no verdict."""


class DimensionMismatchError(EmbeddingError):
    """The embedding has another dimension than the entries already stored."""


class UnknownTenantError(SemcacheError):
    """It cannot be told which tenant is asking, so the request is not cached."""


class NotStorableError(SemcacheError):
    """A codec cannot write down this answer faithfully, so it is not stored."""


class UnreadableError(SemcacheError):
    """Stored bytes that this release cannot make sense of."""


class AnswerTooLargeError(UnreadableError):
    """A stored answer has more bytes than this cache reads."""


class NewerFormatError(UnreadableError):
    """Stored bytes of a newer release: left alone for those who can read them."""


class ForgedError(UnreadableError):
    """An entry without a valid signature, where only signed ones are read."""


class LockedError(NewerFormatError):
    """An entry encrypted with a key that is not given here: left alone for those who have it."""


class IndexKindError(SemcacheError):
    """The cache was written with the other kind of index, or the server has none."""


class IndexLostError(SemcacheError):
    """The index is gone from the server (flushed, dropped, or lost in a failover)."""


class ServerError(SemcacheError):
    """Valkey could not be reached or refused a command."""


class ServerUnreachableError(ServerError):
    """No answer from Valkey: refused, timed out, or the connection broke."""


class ServerReplyError(ServerError):
    """Valkey answered a command with an error."""


class SearchTimeoutError(ServerError):
    """The server gave up a search: the scope holds very many entries, or the server is busy."""
