"""A time limit for a whole reply, in sync connections.

Rule of this file: valkey-py's sync connections wait up to their time limit for each piece of a
reply, so one that drips in keeps a caller for as long as it likes. Here the limit holds for the
reply as a whole, as it does in valkey-py's async connections.
"""

from __future__ import annotations

import time
from typing import Any

from valkey.cluster import ClusterParser
from valkey.connection import DefaultParser

_FROM_THE_SOCKET_S_LIMIT: Any = object()


class _Deadline:
    """Reads a reply piece by piece until its time is up."""

    _until: float | None = None

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._until = None
        return super().read_response(*arguments, **options)  # type: ignore[misc]

    def read_from_socket(self, timeout: Any = _FROM_THE_SOCKET_S_LIMIT, **options: Any) -> Any:
        if timeout is not _FROM_THE_SOCKET_S_LIMIT:
            return super().read_from_socket(timeout=timeout, **options)  # type: ignore[misc]
        limit = self._socket_timeout  # type: ignore[attr-defined]
        if limit is None:
            return super().read_from_socket(**options)  # type: ignore[misc]
        if self._until is None:
            # The first piece, most often the only one, has the socket's own limit.
            self._until = time.monotonic() + limit
            return super().read_from_socket(**options)  # type: ignore[misc]
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the reply took too long")
        return super().read_from_socket(timeout=left, **options)  # type: ignore[misc]


class DeadlineParser(_Deadline, DefaultParser):  # type: ignore[misc, valid-type]
    """For a plain client's connections: `parser_class=`."""


class ClusterDeadlineParser(_Deadline, ClusterParser):
    """For those of a cluster client."""
