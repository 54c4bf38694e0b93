"""The servers that the tests of the cache run against.

Rule of this file: a test sees a `Served` and cannot tell which server it is, unless it asks.
Real servers with valkey-search join in when the environment names them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import valkey
import valkey.cluster

from tests.cluster import Cluster
from tests.standin import PlainValkey, StandIn
from tests.waiting import PATIENT
from valkey_semcache.server import acl

REAL_URL = os.environ.get("SEMCACHE_TEST_URL")
REAL_CLUSTER_URL = os.environ.get("SEMCACHE_TEST_CLUSTER_URL")
MAY_BE_FULL = bool(os.environ.get("SEMCACHE_TEST_NOT_EMPTY"))

# A kind of index, of which release, RESP3 or not, and `cluster`, or `acl` for a user with the
# least rights.
SINGLE = [
    *("flat", "flat-resp3"),
    *("search-1.0.2", "search-1.0.2-resp3", "search-1.2.1", "search-1.2.1-resp3"),
]
MATRIX = [
    *SINGLE,
    *("flat-cluster", "search-1.0.2-cluster", "search-1.2.1-cluster-resp3"),
    *("flat-acl", "search-1.0.2-acl", "search-1.2.1-acl"),
]
if REAL_URL:
    SINGLE += ["real"]
    MATRIX += ["real", "real-acl"]
if REAL_CLUSTER_URL:
    MATRIX += ["real-cluster"]


@dataclass
class Served:
    """One server of the matrix, with a cache's name that no other test uses.

    `admin` and `admin_url` are for a user who may do everything; `url` may be for one who may
    do only what a cache of this name needs.
    """

    url: str
    index: str
    name: str
    admin: Any
    standin: StandIn | None
    admin_url: str
    user: str | None = None
    standins: list[StandIn] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        """What a cache needs to be on this server, by keyword.

        The machine may be busy with more than the tests, so nothing times out early. Most tests
        count commands or keys, so those for the fleet are left to the tests about them.
        """
        server = {"url": self.url, "index": self.index, "name": self.name}
        return server | {**PATIENT, "fleet_stats": False}

    def entries(self) -> list[str]:
        """Keys of the entries of this test's cache."""
        keys = self.admin.scan_iter(f"{self.name}:*:*:*", count=1000)
        return [key.decode() for key in keys if key.split(b":")[1] not in (b"log", b"lock")]

    def refusals(self) -> set[str]:
        """What was refused to the user, of commands and keys."""
        log = self.admin.acl_log() if self.user else []
        told = {entry["object"] for entry in log if entry["username"] == self.user}
        return told | {
            what for one in self.standins for who, what in one.refused if who == self.user
        }


class Servers:
    """Starts the servers once a session, each when first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._plain: PlainValkey | None = None
        self._standins: dict[str, StandIn] = {}
        self._clusters: dict[str | None, Cluster] = {}
        self._admins: dict[str, Any] = {}

    def plain(self) -> PlainValkey:
        if self._plain is None:
            self._plain = self._stack.enter_context(PlainValkey())
        return self._plain

    def standin(self, release: str) -> StandIn:
        if release not in self._standins:
            standin = StandIn(release)  # type: ignore[arg-type]
            self._standins[release] = self._stack.enter_context(standin)
        return self._standins[release]

    def cluster(self, release: str | None = None) -> Cluster:
        """Three primaries; with a release, behind stand-ins of it."""
        if release not in self._clusters:
            cluster = Cluster(release)  # type: ignore[arg-type]
            self._clusters[release] = self._stack.enter_context(cluster)
        return self._clusters[release]

    def served(self, kind: str) -> Served:
        """A server of the matrix."""
        index, *rest = kind.split("-")
        release = next((word for word in rest if word[0].isdigit()), None)
        served = self._real(rest) if index == "real" else self._started(index, release, rest)
        if "resp3" in rest:
            served.url += "?protocol=3"
        if "acl" in rest:
            _limit(served, release)
        return served

    def _started(self, index: str, release: str | None, words: list[str]) -> Served:
        standins: list[StandIn] = []
        if "cluster" in words:
            cluster = self.cluster(release)
            url, standins = cluster.url, cluster.standins
        elif release is not None:
            standins = [self.standin(release)]
            url = standins[0].url
        else:
            url = self.plain().url
        admin = self._admin(url, words)
        # Of several there is none that a test could look into for all.
        single = standins[0] if len(standins) == 1 else None
        return Served(url, index, _name(), admin, single, url, standins=standins)

    def _real(self, words: list[str]) -> Served:
        """A server that the environment names; with the index that it can have."""
        url = REAL_CLUSTER_URL if "cluster" in words else REAL_URL
        assert url is not None
        admin = self._admin(url, words)
        try:
            admin.execute_command("FT._LIST")
        except valkey.ResponseError:
            return Served(url, "flat", _name(), admin, None, url)
        return Served(url, "search", _name(), admin, None, url)

    def _admin(self, url: str, words: list[str]) -> Any:
        """A client; of a cluster always the same one, which takes a while to make."""
        if "cluster" not in words:
            return valkey.Valkey.from_url(url)
        if url not in self._admins:
            self._admins[url] = valkey.cluster.ValkeyCluster.from_url(url)
            self._stack.callback(self._admins[url].close)
        return self._admins[url]

    def close(self) -> None:
        self._stack.close()


def check_real_servers() -> None:
    """Refuse real servers that hold data, unless told that they may be used."""
    for variable, url in ("URL", REAL_URL), ("CLUSTER_URL", REAL_CLUSTER_URL):
        if url and not MAY_BE_FULL and _has_keys(url, in_cluster=variable == "CLUSTER_URL"):
            pytest.exit(
                f"SEMCACHE_TEST_{variable} names a server that is not empty. Set "
                "SEMCACHE_TEST_NOT_EMPTY=1 to run there all the same.",
                returncode=2,
            )


def _has_keys(url: str, *, in_cluster: bool) -> bool:
    if not in_cluster:
        with valkey.Valkey.from_url(url) as client:
            return bool(client.dbsize())
    cluster: Any = valkey.cluster.ValkeyCluster.from_url(url)
    with cluster:
        # The cluster client's own `dbsize` asks one node.
        nodes = [cluster.get_valkey_connection(node) for node in cluster.get_primaries()]
        return any(node.dbsize() for node in nodes)


def cleaned(served: Served) -> Iterator[Served]:
    """Give a server to a test, and take what the test leaves away afterwards."""
    admin = served.admin
    yield served
    refused = served.refusals()
    for key in list(admin.scan_iter(f"{served.name}:*", count=1000)):
        admin.unlink(key)
    if served.index == "search":
        for name in admin.execute_command("FT._LIST"):
            if name.startswith(served.name.encode()):
                admin.execute_command("FT.DROPINDEX", name)
    if served.user:
        admin.execute_command("ACL", "DELUSER", served.user)
    if not isinstance(admin, valkey.cluster.ValkeyCluster):
        admin.close()
    assert refused == set(), "a cache's user needs more rights than README says"


def _name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def _limit(served: Served, release: str | None) -> None:
    """Let the cache be used by a user with the least rights, who has its name."""
    modules = served.admin.module_list() if release is None and served.index == "search" else []
    version = next((int(m[b"ver"]) for m in modules if m[b"name"] == b"search"), 0)
    of_1_0 = release.startswith("1.0") if release else version < 1 << 16
    rules = acl.rules(served.index, served.name, "1.0" if of_1_0 else "1.2")  # type: ignore[arg-type]
    served.admin.execute_command("ACL", "SETUSER", served.name, "on", ">pw", *rules)
    scheme, _, where = served.url.partition("://")
    served.url = f"{scheme}://{served.name}:pw@{where.rpartition('@')[2]}"
    served.user = served.name
