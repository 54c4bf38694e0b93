"""Which index a cache uses: what the user said, what the server can, what is stored already.

Rule of this file: asked once per process and embedding dimension, at the first use that needs
an index. An answer to the letter, or an error that says what to do; never a guess.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from valkey_semcache.digest import FORMAT
from valkey_semcache.errors import (
    IndexKindError,
    NewerFormatError,
    ServerReplyError,
    UnreadableError,
)
from valkey_semcache.flow.operations import Command, Flow, Script, Settle, unless_wrong_type
from valkey_semcache.index.contract import IndexKind, VectorIndex
from valkey_semcache.index.flat import FlatIndex
from valkey_semcache.index.generations import Generations
from valkey_semcache.index.pair import PairIndex
from valkey_semcache.index.scripts import META
from valkey_semcache.index.search import (
    SearchIndex,
    dimension_mismatch,
    index_name,
    is_lost,
    is_unknown_command,
    read_info,
)
from valkey_semcache.index.settings import IndexSettings

logger = logging.getLogger("valkey_semcache")


def open_index(
    settings: IndexSettings, dimension: int, searched: Callable[[str], None]
) -> Flow[VectorIndex]:
    """The index for vectors of `dimension`, created if it is not there.

    Args:
        settings: What it is made with.
        dimension: Of the vectors.
        searched: Told of each search, by what served it.

    Raises:
        IndexKindError: The server cannot do what is wanted, or the cache was written with the
            other kind.
        DimensionMismatchError: Stored vectors have another dimension.
        NewerFormatError: A newer release wrote the cache.
    """
    names = ("dimension", "generation")
    fields = ("format", "index", *(f"{name}:{settings.embedding}" for name in names))
    started = time.perf_counter()
    stored = yield from unless_wrong_type(Command("HMGET", settings.meta_key, *fields))
    round_trip = time.perf_counter() - started
    stored_format, stored_kind, stored_dimension, generation = stored or (None,) * len(fields)
    if not all(value is None or _is_number(value) for value in (stored_format, *stored[2:])):
        raise UnreadableError(
            f"The hash {settings.meta_key!r} holds no numbers where format, dimension or "
            "generation should be. clear() the cache, or give it another name=."
        )
    if stored_format is not None and int(stored_format) > FORMAT:
        raise NewerFormatError(
            f"The cache {settings.name!r} has format {int(stored_format)}; this release writes "
            f"{FORMAT}. Update valkey-semcache, or give the cache another name=."
        )
    kind, info = yield from _kind(settings, stored_kind and stored_kind.decode(errors="replace"))
    if stored_dimension is not None and int(stored_dimension) != dimension:
        raise dimension_mismatch(int(stored_dimension), dimension, settings.model)
    meta = Script(
        META,
        settings.meta_key,
        *("format", FORMAT, "index", kind),
        *(fields[2], dimension, fields[3], 0, f"model:{settings.embedding}", settings.model),
    )
    index: VectorIndex
    if kind == "search":
        pair = yield from _pair(settings, dimension, int(generation or 0), info, searched)
        pair.chooser.arrived(round_trip)
        index = pair
    else:
        index = FlatIndex(
            *(settings.prefix, settings.log_prefix, dimension, settings.flat_max_bytes),
            *(meta, searched, settings.fields),
        )
    if None in (stored_format, stored_kind, stored_dimension):
        yield meta
    return index


def _is_number(value: bytes) -> bool:
    """Whether it is written as the numbers of the meta hash are."""
    return value.isdigit() and len(value) < 19


def _pair(
    settings: IndexSettings,
    dimension: int,
    generation: int,
    info: Any,
    searched: Callable[[str], None],
) -> Flow[PairIndex]:
    """valkey-search's two indexes, or the one of them that is wanted.

    Args:
        settings: What they are made with.
        dimension: Of the vectors.
        generation: Of the HNSW index, 0 for none.
        info: What `_search_available` was told of the FLAT index.
        searched: Told of each search.
    """
    facts = None if isinstance(info, str) else read_info(info)

    def make(generation: int) -> SearchIndex:
        made = (generation, dimension, settings.parameters, settings.model, settings.fields)
        return SearchIndex(settings.prefix, *made)

    flat = graph = None
    if settings.algorithm != "hnsw":
        flat = make(0)
        if facts is None:
            yield from flat.create()
        else:
            _warn(flat, flat.check(facts))
    if settings.algorithm != "flat":
        graph = Generations(
            settings.meta_key, settings.embedding, settings.prefix, generation, make
        )
        if graph.current is not None and (known := (yield from graph.current.info())):
            _warn(graph.current, graph.current.check(known))
        elif flat is None:
            yield from graph.begin(at_once=True)
    pair = PairIndex(flat, graph, dimension, settings.timeout, searched)
    # Only from 1.2 on the error names the database.
    old = "in database" not in info if facts is None else facts.old
    yield Settle(settings.prefix, pair.settling, everywhere=old)
    return pair


def _warn(index: SearchIndex, differs: list[str]) -> None:
    if differs:
        logger.warning(
            "The index %s in the server is not as this cache was told to make it: %s. It goes on "
            "as it is; drop_index() lets it be made anew.",
            *(index.name, "; ".join(differs)),
        )


def _kind(settings: IndexSettings, stored: str | None) -> Flow[tuple[IndexKind, Any]]:
    """The kind to use, and what `_search_available` was told."""
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
                "server has valkey-search. To move over: semcache reindex --to search.",
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
        f"be found with index={other!r}. Open it with index={stored!r}{where}; or move it over: "
        f"semcache reindex --to {other}; or give this one another name=."
    )


def _search_available(settings: IndexSettings) -> Flow[tuple[bool, Any]]:
    """Whether the server has valkey-search, by FT.INFO of the cache's own index.

    Returns:
        With it, FT.INFO's reply; the text of the error where there is no such index yet.

    Raises:
        IndexKindError: It has Redis's module, which answers otherwise and is not supported.
    """
    try:
        info = yield Command("FT.INFO", index_name(settings.prefix))
    except ServerReplyError as error:
        if is_unknown_command(error):
            return False, None
        if is_lost(error):
            return True, str(error)
        if "unknown index" in str(error).lower() or "no such index" in str(error).lower():
            raise IndexKindError(
                "The server's search module is Redis's own, not valkey-search. Use a Valkey "
                "server, or index='flat', which needs no module."
            ) from error
        raise
    return True, info
