"""The methods about indexes: listing them, taking one away, going over to the other kind.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.flow.operations import Flow
from valkey_semcache.methods.core import Core
from valkey_semcache.options import checked_choice, checked_count

if TYPE_CHECKING:
    from valkey_semcache.flow import contents as counted
    from valkey_semcache.index import listing, moving
else:
    counted = at_first_use("valkey_semcache.flow.contents")
    listing = at_first_use("valkey_semcache.index.listing")
    moving = at_first_use("valkey_semcache.index.moving")


class Indexing(Core):
    """What is stored by embedding model, and in which kind of index."""

    def indexes(self) -> list[listing.StoredIndex]:
        """What is stored under this cache's name, by embedding model; all keys are walked.

        Entries are found only under the embedding model they were stored with. After a change
        of models the old one's are left alone; they are listed here, and `drop_index` removes
        them.

        Raises:
            ServerError: Valkey could not be reached or refused.
        """
        return self._drive.run(listing.list_indexes(self._name, self._embedding))

    async def aindexes(self) -> list[listing.StoredIndex]:
        """The same as `indexes`, without blocking the event loop."""
        return await self._drive.arun(listing.list_indexes(self._name, self._embedding))

    def contents(self, *, sample: int = 500) -> list[counted.Contents]:
        """The same with what their entries take, by a random sample of them.

        Args:
            sample: Entries of each index that are looked at, 1 or more.

        Raises:
            ConfigurationError: `sample` is no such number.
            ServerError: Valkey could not be reached or refused.
        """
        return self._drive.run(self._contents(sample))

    async def acontents(self, *, sample: int = 500) -> list[counted.Contents]:
        """The same as `contents`, without blocking the event loop."""
        return await self._drive.arun(self._contents(sample))

    def _contents(self, sample: int) -> Flow[list[counted.Contents]]:
        return counted.contents_of(self._name, self._embedding, checked_count(sample, "sample", 1))

    def drop_index(self, index: listing.StoredIndex | str) -> int:
        """Remove one embedding model's index with all its entries.

        Args:
            index: One of `indexes()`, or its `id`.

        Returns:
            How many entries were removed.

        Raises:
            ConfigurationError: That is no index's `id`.
            ServerError: Valkey could not be reached or refused. Some entries may be left.
        """
        try:
            return self._drive.run(self._remove(index))
        finally:
            self._flows.forget()

    async def adrop_index(self, index: listing.StoredIndex | str) -> int:
        """The same as `drop_index`, without blocking the event loop."""
        try:
            return await self._drive.arun(self._remove(index))
        finally:
            self._flows.forget()

    def reindex(self, index: Literal["search", "flat"]) -> int:
        """Let everything stored be found by the other kind of index.

        Under `"search"` the server takes the entries in by itself, which takes it some seconds.
        Other processes that use the cache have to be started anew.

        Args:
            index: The kind to go over to.

        Returns:
            How many entries there are.

        Raises:
            IndexKindError: The server has no valkey-search.
            ServerError: Valkey could not be reached or refused. Call it again: it goes on.
        """
        try:
            return self._drive.run(self._reindex(index))
        finally:
            self._flows.forget()

    async def areindex(self, index: Literal["search", "flat"]) -> int:
        """The same as `reindex`, without blocking the event loop."""
        try:
            return await self._drive.arun(self._reindex(index))
        finally:
            self._flows.forget()

    def _remove(self, index: listing.StoredIndex | str) -> Flow[int]:
        id_ = index.id if isinstance(index, listing.StoredIndex) else str(index)
        return listing.remove_index(self._name, id_)

    def _reindex(self, index: str) -> Flow[int]:
        kind = checked_choice(index, "index", ("search", "flat"))
        return moving.reindex(self._name, self._embedding, kind)
