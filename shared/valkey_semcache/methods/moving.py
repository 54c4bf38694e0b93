"""Exporting a cache's entries and importing them into another.

Rule of this file: lines in, lines out. An entry that cannot be read or written is counted and
stops nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.operations import Flow
from valkey_semcache.flow.together import together
from valkey_semcache.methods.asking import Asking
from valkey_semcache.methods.filling import Progress
from valkey_semcache.methods.many import batches

if TYPE_CHECKING:
    from valkey_semcache.stored import carrying
else:
    carrying = at_first_use("valkey_semcache.stored.carrying")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Args:
        stored: Entries stored.
        expired: Entries whose time had run out since the export.
        failed: Lines that are no entry, or could not be stored; `stats()` counts the errors.
    """

    stored: int = 0
    expired: int = 0
    failed: int = 0


class Moving(Asking):
    """Exports and imports."""

    def export_entries(self, *, vectors: bool = False) -> Iterator[dict[str, Any]]:
        """All that is stored, as values for JSON: first a header, then an entry each.

        Questions and answers are in them as plain text, keys and secrets are not. Wordings
        remembered for others (`promote=`) are left out: they come again by themselves.

        Args:
            vectors: Whether to give the vectors too, so that an import into a cache with the
                same embedding model need not embed.

        Yields:
            The header, and the entries in no order.

        Raises:
            ServerError: Valkey could not be reached or refused.
        """
        carried = self._carrying()
        yield carrying.header(self.embedding_id, self._check(), vectors=vectors)
        pages = carried.pages()
        while (page := self._drive.run(carried.page(pages, vectors=vectors))) is not None:
            yield from page

    async def aexport_entries(self, *, vectors: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The same as `export_entries`, without blocking the event loop."""
        carried = self._carrying()
        yield carrying.header(self.embedding_id, self._check(), vectors=vectors)
        pages = carried.pages()
        while (page := await self._drive.arun(carried.page(pages, vectors=vectors))) is not None:
            for entry in page:
                yield entry

    def import_entries(
        self, lines: Iterable[dict[str, Any]], *, progress: Progress | None = None
    ) -> Imported:
        """Store what `export_entries` gave, here or elsewhere, with the time that is left to it.

        Vectors are taken over if they are of the same embedding model; else questions are
        embedded anew, and an entry whose question's text was not kept is found by its very
        words only.

        Args:
            lines: The header and the entries.
            progress: Called after each batch of 256, with its length.

        Returns:
            How many were stored, had expired, and failed.

        Raises:
            ConfigurationError: The first line is no header, or of a cache with another key.
        """
        lines = iter(lines)
        same = self._same_model(next(lines, None))
        done = Imported()
        for batch in batches(lines):
            results = self._drive.run(together(self._brought(batch, same)))
            done = self._added(done, results)
            if progress is not None:
                progress(len(batch))
        return done

    async def aimport_entries(
        self, lines: Iterable[dict[str, Any]], *, progress: Progress | None = None
    ) -> Imported:
        """The same as `import_entries`, without blocking the event loop."""
        lines = iter(lines)
        same = self._same_model(next(lines, None))
        done = Imported()
        for batch in batches(lines):
            results = await self._drive.arun(together(self._brought(batch, same)))
            done = self._added(done, results)
            if progress is not None:
                progress(len(batch))
        return done

    def _carrying(self) -> carrying.Carrying:
        return carrying.Carrying(self._flows, self._addressing.prefix)

    def _check(self) -> str:
        return self._digests("export")

    def _same_model(self, first: Any) -> bool:
        carrying.check_header(first, self._check())
        return bool(first.get("embedding") == self.embedding_id)

    def _brought(self, batch: Sequence[dict[str, Any]], same_model: bool) -> list[Flow[bool]]:
        carried = self._carrying()
        return [carried.bring(entry, same_model=same_model) for entry in batch]

    def _added(self, done: Imported, results: Sequence[bool | Exception]) -> Imported:
        failed = [result for result in results if isinstance(result, Exception)]
        for error in failed:
            if not isinstance(error, ConfigurationError):
                self._counters.failed("an import", error)
        stored = sum(result is True for result in results)
        expired = len(results) - stored - len(failed)
        return Imported(done.stored + stored, done.expired + expired, done.failed + len(failed))
