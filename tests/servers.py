"""The servers that the tests of the cache run against.

Rule of this file: a test sees a `Served` and cannot tell which server it is, unless it asks.
A real server with valkey-search joins in when SEMCACHE_TEST_URL names one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import valkey

from tests.standin import PlainValkey, StandIn

REAL_URL = os.environ.get("SEMCACHE_TEST_URL")

MATRIX = ["flat", "flat-resp3", "search-1.0.2", "search-1.2.1", "search-1.2.1-resp3"]
if REAL_URL:
    MATRIX.append("real")


@dataclass
class Served:
    """One server of the matrix, with a cache's name that no other test uses."""

    url: str
    index: str
    name: str
    admin: valkey.Valkey
    standin: StandIn | None

    @property
    def options(self) -> dict[str, Any]:
        """What a cache needs to be on this server, by keyword.

        The machine may be busy with more than the tests, so nothing times out early.
        """
        return {"url": self.url, "index": self.index, "name": self.name, "timeout": 20.0}

    def entries(self) -> list[str]:
        """Keys of the entries of this test's cache."""
        keys = self.admin.scan_iter(f"{self.name}:*:*:*", count=1000)
        return [key.decode() for key in keys if b":log:" not in key]


class Servers:
    """Starts the servers once a session, each when first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._plain: PlainValkey | None = None
        self._standins: dict[str, StandIn] = {}

    def plain(self) -> PlainValkey:
        if self._plain is None:
            self._plain = self._stack.enter_context(PlainValkey())
        return self._plain

    def standin(self, release: str) -> StandIn:
        if release not in self._standins:
            standin = StandIn(release)  # type: ignore[arg-type]
            self._standins[release] = self._stack.enter_context(standin)
        return self._standins[release]

    def served(self, kind: str) -> Served:
        name = f"t{uuid.uuid4().hex[:12]}"
        kind, resp3, _ = kind.partition("-resp3")
        if kind == "real":
            assert REAL_URL is not None
            return Served(REAL_URL, "search", name, valkey.Valkey.from_url(REAL_URL), None)
        if kind == "flat":
            url, standin = self.plain().url, None
        else:
            standin = self.standin(kind.removeprefix("search-"))
            url = standin.url
        admin = valkey.Valkey.from_url(url)
        if resp3:
            url += "?protocol=3"
        return Served(url, kind.partition("-")[0], name, admin, standin)

    def close(self) -> None:
        self._stack.close()


def check_real_server() -> None:
    """Refuse a real server that holds data, unless told that it may be used."""
    if REAL_URL and not os.environ.get("SEMCACHE_TEST_NOT_EMPTY"):
        with valkey.Valkey.from_url(REAL_URL) as client:
            if client.dbsize():
                pytest.exit(
                    "SEMCACHE_TEST_URL names a server that is not empty. Set "
                    "SEMCACHE_TEST_NOT_EMPTY=1 to run there all the same.",
                    returncode=2,
                )


def cleaned(served: Served) -> Iterator[Served]:
    """Give a server to a test, and take the test's keys away afterwards."""
    with served.admin:
        yield served
        for key in list(served.admin.scan_iter(f"{served.name}:*", count=1000)):
            served.admin.unlink(key)
