"""Which index a cache uses: what the user said, what the server can, what is stored already.

Rule of this file: asked once per process and embedding dimension, at the first use that needs
an index. An answer to the letter, or an error that says what to do; never a guess.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from valkey_semcache.digest import FORMAT
from valkey_semcache.errors import (
    IndexKindError,
    NewerFormatError,
    ServerReplyError,
    UnreadableError,
)
from valkey_semcache.index.contract import IndexKind, VectorIndex
from valkey_semcache.index.flat import FlatIndex
from valkey_semcache.index.scripts import META
from valkey_semcache.index.search import (
    SearchIndex,
    dimension_mismatch,
    index_name,
    is_lost,
    is_unknown_command,
)
from valkey_semcache.operations import Command, Flow, Script, unless_wrong_type

logger = logging.getLogger("valkey_semcache")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index is made with.

    Args:
        wanted: `"search"`, `"flat"`, or `"auto"` for what the server can do.
        name: The cache's name.
        embedding: Digest of the embedding model's name.
        model: That name, for messages.
        timeout_ms: How long the server may search, in milliseconds.
        flat_max_bytes: Memory for the flat index in this process.
    """

    wanted: Literal["auto", "search", "flat"]
    name: str
    embedding: str
    model: str
    timeout_ms: int
    flat_max_bytes: int

    @property
    def prefix(self) -> str:
        """`NAME:EMB:`, before every entry's key."""
        return f"{self.name}:{self.embedding}:"

    @property
    def log_prefix(self) -> str:
        """`NAME:log:EMB:`, before every log's key."""
        return f"{self.name}:log:{self.embedding}:"

    @property
    def meta_key(self) -> str:
        """`NAME:meta`."""
        return f"{self.name}:meta"


def open_index(settings: IndexSettings, dimension: int) -> Flow[VectorIndex]:
    """The index for vectors of `dimension`, created if it is not there.

    Raises:
        IndexKindError: The server cannot do what is wanted, or the cache was written with the
            other kind.
        DimensionMismatchError: Stored vectors have another dimension.
        NewerFormatError: A newer release wrote the cache.
    """
    fields = ("format", "index", f"dimension:{settings.embedding}")
    stored = yield from unless_wrong_type(Command("HMGET", settings.meta_key, *fields))
    stored_format, stored_kind, stored_dimension = stored or (None, None, None)
    if not all(value is None or value.isdigit() for value in (stored_format, stored_dimension)):
        raise UnreadableError(
            f"The hash {settings.meta_key!r} holds no numbers where format and dimension should "
            "be. clear() the cache, or give it another name=."
        )
    if stored_format is not None and int(stored_format) > FORMAT:
        raise NewerFormatError(
            f"The cache {settings.name!r} has format {int(stored_format)}; this release writes "
            f"{FORMAT}. Update valkey-semcache, or give the cache another name=."
        )
    kind, info = yield from _kind(settings, stored_kind and stored_kind.decode())
    meta = Script(
        META,
        settings.meta_key,
        *("format", FORMAT, "index", kind),
        *(fields[2], dimension, f"generation:{settings.embedding}", 0),
    )
    index: VectorIndex
    if kind == "search":
        search = SearchIndex(settings.prefix, dimension, settings.timeout_ms, settings.model)
        if info is None:
            yield from search.create()
        else:
            search.check(info)
        index = search
    else:
        if stored_dimension is not None and int(stored_dimension) != dimension:
            raise dimension_mismatch(int(stored_dimension), dimension, settings.model)
        index = FlatIndex(
            settings.prefix, settings.log_prefix, dimension, settings.flat_max_bytes, meta
        )
    if None in (stored_format, stored_kind, stored_dimension):
        yield meta
    return index


def _kind(settings: IndexSettings, stored: str | None) -> Flow[tuple[IndexKind, Any]]:
    """The kind to use, and FT.INFO's reply about the index if it exists."""
    if settings.wanted == "flat":
        if stored == "search":
            raise _other_kind(settings, stored)
        return "flat", None
    available, info = yield from _search_available(settings)
    if settings.wanted == "search":
        if not available:
            raise IndexKindError(
                "index='search' was asked for, but the server has no module valkey-search. Use a "
                "server that has it (for example the image valkey/valkey-bundle), or "
                "index='flat', which any Valkey serves."
            )
        if stored == "flat":
            raise _other_kind(settings, stored)
        return "search", info
    if stored == "flat":
        if available:
            logger.warning(
                "The cache %r was written with the flat index and goes on with it, though the "
                "server has valkey-search. To move over, clear() it or take another name=.",
                settings.name,
            )
        return "flat", None
    if available:
        return "search", info
    if stored == "search":
        raise _other_kind(settings, stored)
    return "flat", None


def _other_kind(settings: IndexSettings, stored: str) -> IndexKindError:
    other = "flat" if stored == "search" else "search"
    where = " on a server with valkey-search" if stored == "search" else ""
    return IndexKindError(
        f"The cache {settings.name!r} was written with index={stored!r} and its entries would not "
        f"be found with index={other!r}. Open it with index={stored!r}{where}, clear() it, or "
        "give this one another name=."
    )


def _search_available(settings: IndexSettings) -> Flow[tuple[bool, Any]]:
    """Whether the server has valkey-search, by FT.INFO of the cache's own index.

    Raises:
        IndexKindError: It has Redis's module, which answers otherwise and is not supported.
    """
    try:
        info = yield Command("FT.INFO", index_name(settings.prefix))
    except ServerReplyError as error:
        if is_unknown_command(error):
            return False, None
        if is_lost(error):
            return True, None
        if "unknown index" in str(error).lower() or "no such index" in str(error).lower():
            raise IndexKindError(
                "The server's search module is Redis's own, not valkey-search. Use a Valkey "
                "server, or index='flat', which needs no module."
            ) from error
        raise
    return True, info
