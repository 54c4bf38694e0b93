"""Limits for a whole reply, in time and in bytes.

Rule of this file: valkey-py's sync connections wait up to their time limit for each piece of a
reply, so one that drips in keeps a caller for as long as it likes. Here the limit holds for the
reply as a whole, as it does in valkey-py's async connections. And none of them minds how much
comes: whoever can write to the server could have every process that looks up hold half a gigabyte.
Here a reply that is too long is not read to its end.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from valkey.asyncio.cluster import ClusterParser as AsyncClusterParser
from valkey.asyncio.connection import DefaultParser as AsyncDefaultParser
from valkey.cluster import ClusterParser
from valkey.connection import DefaultParser
from valkey.exceptions import InvalidResponse

MAX_REPLY_BYTES = 64 * 2**20
"""Far above what a look-up is answered with; scopes of 100,000 entries have logs of 8 MB."""

_ANSWERS = 16  # of the largest answers that are read, a reply may hold so many

_FROM_THE_SOCKET_S_LIMIT: Any = object()


class _Limited:
    """What of a reply has come, beside its first piece, and whether that is too much."""

    def __init__(self, socket_read_size: int, max_bytes: int) -> None:
        super().__init__(socket_read_size)  # type: ignore[call-arg]
        self._max_bytes = max_bytes
        self._bytes = 0

    def _took(self, before: int) -> None:
        """A piece was read."""
        self._bytes += self._reader.len() - before  # type: ignore[attr-defined]
        if self._bytes > self._max_bytes:
            raise InvalidResponse(
                f"the reply has more than {self._max_bytes:,} bytes, so it is not read"
            )


class _Deadline(_Limited):
    """Reads a reply piece by piece until its time is up."""

    _until: float | None = None

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._until = None
        return super().read_response(*arguments, **options)  # type: ignore[misc]

    def read_from_socket(self, timeout: Any = _FROM_THE_SOCKET_S_LIMIT, **options: Any) -> Any:
        if timeout is not _FROM_THE_SOCKET_S_LIMIT:
            return super().read_from_socket(timeout=timeout, **options)  # type: ignore[misc]
        limit = self._socket_timeout  # type: ignore[attr-defined]
        if self._until is None:
            # The first piece, most often the only one, has the socket's own limit.
            self._until = float("inf") if limit is None else time.monotonic() + limit
            self._bytes = 0
            return super().read_from_socket(**options)  # type: ignore[misc]
        if limit is not None:
            options["timeout"] = self._until - time.monotonic()
            if options["timeout"] <= 0:
                raise TimeoutError("the reply took too long")
        before = self._reader.len()  # type: ignore[attr-defined]
        read = super().read_from_socket(**options)  # type: ignore[misc]
        self._took(before)
        return read


class _Counting(_Limited):
    """The same for async connections, which have a time limit of their own."""

    async def read_response(self, disable_decoding: bool = False) -> Any:
        self._bytes = 0
        return await super().read_response(disable_decoding)  # type: ignore[misc]

    async def read_from_socket(self) -> Any:
        before = self._reader.len()  # type: ignore[attr-defined]
        read = await super().read_from_socket()  # type: ignore[misc]
        self._took(before)
        return read


class _Parser(_Deadline, DefaultParser):  # type: ignore[misc, valid-type]
    """For a plain client's connections."""


class _ClusterParser(_Deadline, ClusterParser):
    """For those of a cluster client."""


class _AsyncParser(_Counting, AsyncDefaultParser):  # type: ignore[misc, valid-type]
    """For an async client's."""


class _AsyncClusterParser(_Counting, AsyncClusterParser):
    """For those of an async cluster client."""


def max_reply_bytes(max_answer_bytes: int) -> int:
    """Bytes that a reply may have where answers may have so many."""
    return max(MAX_REPLY_BYTES, _ANSWERS * max_answer_bytes)


def parser(max_bytes: int, *, in_cluster: bool = False, for_async: bool = False) -> Any:
    """What valkey-py takes as `parser_class=`.

    Args:
        max_bytes: That a reply may have.
        in_cluster: Whether it is for a cluster client.
        for_async: Whether it is for an async one.
    """
    if for_async:
        kind: type = _AsyncClusterParser if in_cluster else _AsyncParser
    else:
        kind = _ClusterParser if in_cluster else _Parser
    return partial(kind, max_bytes=max_bytes)
