"""`semcache doctor`: the module, its indexes, and what is written about a cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import valkey

from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.standin import StandIn
from tests.test_doctor import ASKED, fill, index_of, look
from tests.waiting import PATIENT
from valkey_semcache import SemanticCache
from valkey_semcache.diagnosis import Check

# The module and its indexes.


@pytest.fixture(params=["1.0.2", "1.2.1"])
def standin(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn(request.param) as standin:
        yield standin


def used(standin: StandIn) -> str:
    """Stores two entries, and says the key of one."""
    with SemanticCache(HashingEmbedder(), standin.url, on_error="raise", **PATIENT) as cache:
        cache.store(ASKED, "x")
        cache.store(f"{ASKED} please", "x")
    with valkey.Valkey.from_url(standin.url) as admin:
        key: bytes = next(iter(admin.scan_iter("semcache:*:*:*")))
        return key.decode()


def test_what_an_index_lacks_is_warned_of(standin: StandIn) -> None:
    key = used(standin)
    with valkey.Valkey.from_url(standin.url) as admin:
        # Both releases count new entries only; one that becomes bad is just not found.
        admin.hset(key[:-32] + "f" * 32, mapping={"s": "0" * 32, "v": "too short"})
    check = index_of(look(standin.url))
    assert check.verdict == "warn"
    assert "1 indexing failure" in check.found
    standin.drop_index(standin.indexes()[0])
    lost = index_of(look(standin.url))
    assert (lost.verdict, lost.found) == ("warn", "not in the server")
    standin.backfill_delay = 60
    with SemanticCache(HashingEmbedder(), standin.url, on_error="raise", **PATIENT) as cache:
        cache.store(ASKED, "x")
    assert "filling up" in index_of(look(standin.url)).found


def test_what_is_for_admins_is_not_needed(standin: StandIn) -> None:
    used(standin)
    usual = look(standin.url)
    for command in ("FT._LIST", "HGETALL", "CONFIG"):
        standin.fail_next(command, f"NOPERM User u has no permissions to run '{command}'")
    checks = look(standin.url)
    assert index_of(checks) == index_of(usual)
    assert "snapshots not known" in checks["persistence"].found


def test_a_module_list_that_is_refused_is_said_so(standin: StandIn) -> None:
    standin.fail_next("MODULE", "NOPERM User u has no permissions to run 'module|list'")
    check = look(standin.url)["module"]
    assert check.found == "valkey-search of unknown release"
    assert "MODULE LIST is refused" in check.advice


def test_redis_s_own_module_fails(standin: StandIn) -> None:
    standin.fail_next("FT.INFO", "Unknown index name")
    check = look(standin.url)["module"]
    assert check.verdict == "fail"
    assert "Redis's own" in check.found
    standin.fail_next("FT.INFO", "NOPERM User u has no permissions to run 'ft.info'")
    assert "FT.INFO is refused" in look(standin.url)["module"].found


def test_which_index_serves_what_and_how_much_of_it_is_dead(standin: StandIn) -> None:
    used(standin)
    only = index_of(look(standin.url))
    assert only.verdict == "pass"
    assert "model HashingEmbedder/hashing" in only.found
    assert "serves all scopes" in only.found
    with SemanticCache(HashingEmbedder(), standin.url, algorithm="hnsw", **PATIENT) as cache:
        cache.store(ASKED, "y")
    with valkey.Valkey.from_url(standin.url) as admin:
        (embedding,) = {key.split(b":")[1].decode() for key in admin.scan_iter("semcache:*:*:*")}
        admin.hset("semcache:meta", f"written:{embedding}", 20)
    flat, graph = indexes_of(look(standin.url))
    assert "FLAT" in flat.found
    assert "serves the scopes that it answers quickly" in flat.found
    assert "90% dead; generation 1, serves scopes that have outgrown FLAT" in graph.found
    assert graph.verdict == "warn"
    with SemanticCache(HashingEmbedder(), standin.url, name="other", **PATIENT) as cache:
        cache.store(ASKED, "y")
    with valkey.Valkey.from_url(standin.url) as admin:
        admin.hset("semcache:meta", f"generation:{embedding}", 2)
        admin.hset("semcache:meta", f"building:{embedding}", 3)
    _, left, missing, building = indexes_of(look(standin.url))
    assert (left.verdict, missing.found) == ("warn", "not in the server")
    assert f"FT.DROPINDEX semcache:{embedding}:hnsw:1" in left.advice
    assert building.found == "not in the server"


def indexes_of(checks: dict[str, Check]) -> list[Check]:
    return [check for name, check in checks.items() if name.startswith("index ")]


# What is written about the cache.


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("format", "99", "update"), ("format", "x", "no number"), ("index", "search", "has not")],
)
def test_a_cache_that_cannot_be_opened_fails(
    plain: Served, field: str, value: str, said: str
) -> None:
    fill(plain)
    plain.admin.hset(f"{plain.name}:meta", field, value)
    check = look(plain.url, plain.name)["cache"]
    assert check.verdict == "fail"
    assert said in check.advice


def test_a_meta_of_another_type_fails_and_entries_without_index_are_warned_of(
    plain: Served,
) -> None:
    fill(plain)
    plain.admin.unlink(f"{plain.name}:meta")
    check = look(plain.url, plain.name)["entries"]
    assert check.verdict == "warn"
    assert check.found == "2 entries, 2 of them of a model without an index"
    plain.admin.set(f"{plain.name}:meta", "x")
    assert look(plain.url, plain.name)["cache"].verdict == "fail"


def test_a_flat_cache_on_a_server_that_could_search_is_warned_of(searching: Served) -> None:
    options = searching.options | {"index": "flat", "on_error": "raise"}
    with SemanticCache(HashingEmbedder(), **options) as cache:
        cache.store(ASKED, "x")
    checks = look(searching.url, searching.name)
    assert checks["cache"].verdict == "warn"
    assert not [name for name in checks if name.startswith("index ")]
    assert checks["rights"].verdict == "pass"
