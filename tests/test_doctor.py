"""`semcache doctor`, and the diagnosis that it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from typer.testing import CliRunner

from tests.embedders import HashingEmbedder
from tests.servers import SINGLE, Served
from tests.standin import PlainValkey
from tests.tls import Papers
from tests.tls_proxy import TlsProxy
from tests.waiting import PATIENT
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.cli.app import app
from valkey_semcache.diagnosis import Check, diagnose
from valkey_semcache.diagnosis.server import release_of

ASKED = "how do i reset the password of my account"
ORDER = ["reachable", "server", "memory", "persistence", "role", "module", "cache", "entries"]


def look(url: str, name: str = "semcache") -> dict[str, Check]:
    """The checks by name, waiting as long as a busy machine needs."""
    return {c.name: c for c in diagnose(url, name=name, **PATIENT).checks}


def verdicts(checks: dict[str, Check]) -> set[str]:
    return {check.verdict for check in checks.values()}


def index_of(checks: dict[str, Check]) -> Check:
    (index,) = (check for name, check in checks.items() if name.startswith("index "))
    return index


def fill(served: Served, count: int = 2, url: str | None = None) -> None:
    options = served.options | {"on_error": "raise", "index": "auto"}
    with SemanticCache(HashingEmbedder(), **(options | ({"url": url} if url else {}))) as cache:
        for number in range(count):
            cache.store(f"{ASKED} {'x' * number}", "x")


# A server on which all is well.


@pytest.mark.parametrize("served", SINGLE, indirect=True)
def test_every_server_of_the_matrix_is_well(served: Served) -> None:
    before = look(served.url, served.name)
    assert list(before) == [*ORDER, "rights"]
    assert verdicts(before) == {"pass"}
    assert "not begun yet" in before["cache"].found
    fill(served, 3)
    checks = look(served.url, served.name)
    assert verdicts(checks) == {"pass"}
    assert checks["server"].found.startswith("Valkey ")
    assert f"index {served.index}, dimensions 64" in checks["cache"].found
    assert checks["entries"].found == "3 entries"
    assert "in a cluster" in checks["role"].found
    if served.standin:
        assert checks["module"].found == f"valkey-search {served.standin.release}"
        told = "FLAT, 64 dimensions, model HashingEmbedder/hashing, 3 documents"
        assert index_of(checks).found == f"{told}, 0 indexing failures; serves all scopes"
    elif served.index == "flat":
        assert checks["module"].found.startswith("none")


def test_nothing_is_written(searching: Served) -> None:
    fill(searching)
    standin = searching.standin
    assert standin is not None
    with standin.counting() as received:
        look(searching.url, searching.name)
    reading = {"INFO", "MODULE", "CONFIG", "FT.INFO", "FT._LIST", "SCAN", "HMGET", "HGETALL"}
    assert {one.name for one in received} <= {*reading, "ACL", "EVAL"}
    assert len(searching.entries()) == 2


@pytest.mark.parametrize(
    ("number", "release"),
    [(10_000, "1.0.2"), (66_049, "1.2.1"), (65_792, "1.1.0"), (131_075, "2.0.3")],
)
def test_a_modules_number_is_its_release(number: int, release: str) -> None:
    assert release_of(number) == release
    assert "unknown release (number 20810)" in release_of(20_810)


# A server that cannot be reached.


def test_a_server_that_is_not_there() -> None:
    found = diagnose("valkey://user:hunter2@127.0.0.1:1")
    assert not found.ok
    (check,) = found.checks
    assert (check.name, check.verdict) == ("reachable", "fail")
    assert "host, port and firewall" in check.advice
    assert "hunter2" not in str(found)


@pytest.fixture
def guarded() -> Iterator[PlainValkey]:
    with PlainValkey(["--requirepass", "right"]) as server:
        yield server


@pytest.mark.parametrize("login", ["", ":hunter2@", "nobody:hunter2@"])
def test_a_password_that_is_missing_or_wrong(guarded: PlainValkey, login: str) -> None:
    found = diagnose(f"valkey://{login}127.0.0.1:{guarded.port}", **PATIENT)
    (check,) = found.checks
    assert check.verdict == "fail"
    assert "Give user and password" in check.advice
    assert "hunter2" not in str(found)


def test_an_authority_that_is_not_known(plain: Served, tmp_path: Path) -> None:
    papers = Papers.issued(tmp_path)
    port = plain.admin.connection_pool.connection_kwargs["port"]
    with TlsProxy(port, papers.ca.issue_cert("127.0.0.1")) as proxy:
        url = f"valkeys://127.0.0.1:{proxy.port}"
        assert "ssl_ca_certs" in look(url)["reachable"].advice
        assert look(f"{url}?ssl_ca_certs={papers.ca_file}")["reachable"].verdict == "pass"


def test_a_server_that_dies_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with PlainValkey() as server:

        def die(*_: Any) -> list[Check]:
            server.kill()
            return []

        monkeypatch.setattr("valkey_semcache.diagnosis.round.module", lambda ask, _: ask("PING"))
        monkeypatch.setattr("valkey_semcache.diagnosis.round.server_checks", die)
        checks = look(server.url)
    assert [check.verdict for check in checks.values()] == ["pass", "fail"]
    assert "reachable again" in checks


def test_arguments_that_cannot_be_read() -> None:
    for url, name in (("http://h", "semcache"), ("valkey://h", "a:b"), (None, "semcache")):
        with pytest.raises(ConfigurationError):
            diagnose(url, name=name)


@pytest.mark.parametrize("url", ["embedded:", "embedded:x", "embedded:{}/data", "EMBEDDED:{}/data"])
def test_an_embedded_url_with_too_few_slashes_is_refused_and_makes_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="embedded:///absolute/path"):
        diagnose(url.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_is_said_of_the_server() -> None:
    # An embedded one gets its directory when it is started.
    shown = CliRunner().invoke(app, ["doctor", "--help"], env={"COLUMNS": "80"}).output
    words = " ".join(shown.split())
    assert "Nothing is written on the server" in words
    assert "embedded:// starts its server first, and makes its directory" in words


# Memory, persistence, replication.


def test_a_server_that_evicts_nothing_is_warned_of_and_a_full_one_fails() -> None:
    with PlainValkey(["--maxmemory", "50mb"]) as server, valkey.Valkey.from_url(server.url) as own:
        check = look(server.url)["memory"]
        assert check.verdict == "warn"
        assert "noeviction" in check.found
        assert "50.0 MiB" in check.found
        assert "refuses look-ups" in check.advice
        own.config_set("maxmemory-policy", "allkeys-lru")
        assert look(server.url)["memory"].verdict == "pass"
        own.config_set("maxmemory-policy", "noeviction")
        own.config_set("maxmemory", 1)
        assert look(server.url)["memory"].verdict == "fail"


def test_persistence_is_told() -> None:
    with PlainValkey(["--appendonly", "yes", "--save", "60 1"]) as server:
        told = look(server.url)["persistence"]
    assert told.verdict == "pass"
    assert told.found == "append-only file on, snapshots on"


def test_a_replica_takes_no_stores(plain: Served) -> None:
    port = plain.admin.connection_pool.connection_kwargs["port"]
    with PlainValkey(["--replicaof", f"127.0.0.1 {port}"]) as replica:
        assert look(replica.url)["role"].verdict == "fail"
