"""Fixtures for all tests: a server of the matrix, and a way to call, sync or async."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

# Before numpy is first imported: with more threads than one, small products crawl.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from tests.servers import MATRIX, Served, Servers, check_real_servers, cleaned


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers of this session."""
    check_real_servers()
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(params=MATRIX)
def served(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Served]:
    """Each server of the matrix in turn."""
    yield from cleaned(servers.served(request.param))


@pytest.fixture(params=["flat", "search-1.0.2"])
def either_index(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Served]:
    """One server for each index, where what is shown has nothing to do with releases."""
    yield from cleaned(servers.served(request.param))


@pytest.fixture
def plain(servers: Servers) -> Iterator[Served]:
    """A plain Valkey with the flat index."""
    yield from cleaned(servers.served("flat"))


@pytest.fixture
def searching(servers: Servers) -> Iterator[Served]:
    """A stand-in for the newest release of valkey-search."""
    yield from cleaned(servers.served("search-1.2.1"))


class Way:
    """Calls a cache's method, or its async twin: `await way(cache.lookup, question)`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if self.name == "sync":
            return method(*args, **kwargs)
        return await getattr(method.__self__, f"a{method.__name__}")(*args, **kwargs)


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    """Both ways of calling."""
    return Way(request.param)


@pytest.fixture(autouse=True)
def _no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a server, or a key, that it was not given."""
    for name in list(os.environ):
        if name.startswith(("VALKEY_", "REDIS_")) or name == "OPENAI_API_KEY":
            monkeypatch.delenv(name)
