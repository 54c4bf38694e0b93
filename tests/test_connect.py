"""How a server is named and reached, and that secrets stay where they are."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import valkey
import valkey.asyncio

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import SINGLE, Served
from tests.standin import PlainValkey
from tests.waiting import PATIENT
from valkey_semcache import ConfigurationError, SemanticCache, locks
from valkey_semcache.server import address
from valkey_semcache.server.address import from_environment, pool_arguments

ASKED = "how do i reset the password of my account"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"VALKEY_URL": "valkey://a", "VALKEY_HOST": "b", "REDIS_URL": "redis://c"}, "valkey://a"),
        ({"VALKEY_HOST": "b", "REDIS_URL": "redis://c"}, "valkey://b:6379"),
        ({"VALKEY_HOST": "b", "VALKEY_PORT": "7000", "VALKEY_SSL": "True"}, "valkeys://b:7000"),
        ({"VALKEY_URL": "", "REDIS_URL": "redis://c"}, "redis://c"),
        ({"REDIS_HOST": "::1", "REDIS_SSL": "no"}, "valkey://[::1]:6379"),
        ({"VALKEY_HOST": "b", "VALKEY_PASSWORD": "p@:/#"}, "valkey://:p%40%3A%2F%23@b:6379"),
        (
            {"REDIS_HOST": "b", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p", "REDIS_SSL": "1"},
            "valkeys://u:p@b:6379",
        ),
    ],
)
def test_the_environment_names_the_server(environ: dict[str, str], url: str) -> None:
    assert from_environment(environ) == url


async def test_a_cache_takes_its_server_from_the_environment(
    plain: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = plain.url.removeprefix("valkey://").partition(":")
    monkeypatch.setenv("VALKEY_HOST", host)
    monkeypatch.setenv("VALKEY_PORT", port)
    async with SemanticCache(
        HashingEmbedder(), name=plain.name, on_error="raise", **PATIENT
    ) as cache:
        await way(cache.store, ASKED, "x")
    assert plain.entries()


def test_no_server_at_all_is_an_error_that_names_every_choice() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SemanticCache(HashingEmbedder())
    for choice in ("url=", "embedded://", "client=", "async_client=", "VALKEY_URL", "VALKEY_HOST"):
        assert choice in str(caught.value)
    for name in address.SCHEMES:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "localhost",
        "",
        "valkey://h:port",
        "valkey://h:99999",
        "valkey://h?socket_timeout=soon",
        "unix://",
        "embedded://host/path",
        "embedded:///path?option=1",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SemanticCache(HashingEmbedder(), url)


@pytest.mark.parametrize("environ", [{"VALKEY_PORT": "x"}, {"VALKEY_SSL": "maybe"}])
def test_an_environment_that_cannot_be_read_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(environ))):
        from_environment({"VALKEY_HOST": "b"} | environ)


def test_tls_checks_certificate_and_host_name_unless_told_otherwise() -> None:
    for scheme in ("valkeys", "rediss"):
        arguments = pool_arguments(f"{scheme}://h", for_async=False)
        assert arguments["ssl_check_hostname"] is True
        connection = arguments.pop("connection_class")(**arguments)
        assert connection.cert_reqs.name == "CERT_REQUIRED"
    lax = pool_arguments("valkeys://h?ssl_check_hostname=false", for_async=True)
    assert lax["ssl_check_hostname"] is False
    assert "ssl_check_hostname" not in pool_arguments(
        "valkeys://h?ssl_cert_reqs=none", for_async=False
    )


def test_secrets_of_a_url_are_not_shown() -> None:
    for url in ("valkey://user:hunter2@host:1/0", "valkeys://:hunter2@host?password=hunter2"):
        cache = SemanticCache(HashingEmbedder(), url)
        assert "hunter2" not in repr(cache) + str(cache._server)
        assert "host" in repr(cache)
    odd = ["valkey://user:123/hunter2@host", "valkey:u:hunter2@host", "embedded://u:hunter2@h"]
    odd += ["valkey://user:hunter2@host:port", "valkey://:hunter2/x@h", "valkey://:hunter2#x@h"]
    for url in odd:
        try:
            shown = repr(SemanticCache(HashingEmbedder(), url))
        except ConfigurationError as error:
            shown = "".join(traceback.format_exception(error, chain=True))
            shown = "\n".join(line for line in shown.splitlines() if "SemanticCache(" not in line)
        assert "hunter2" not in shown, url


async def test_a_unix_socket(servers: Any, plain: Served, way: Way) -> None:
    url = f"unix://{servers.plain().unix_path}"
    async with SemanticCache(
        HashingEmbedder(), url, name=plain.name, on_error="raise", **PATIENT
    ) as cache:
        await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).answer == "x"


@pytest.fixture
def guarded() -> Iterator[PlainValkey]:
    """A server that wants a password."""
    with PlainValkey(["--requirepass", "p@ss word"]) as server:
        yield server


async def test_a_password_with_signs_in_it(guarded: PlainValkey, way: Way) -> None:
    host = guarded.url.removeprefix("valkey://")
    options: dict[str, Any] = {"on_error": "raise"}
    async with SemanticCache(
        HashingEmbedder(), f"valkey://:p%40ss%20word@{host}", **options
    ) as cache:
        await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).answer == "x"
    async with SemanticCache(HashingEmbedder(), f"valkey://:wrong-one@{host}") as cache:
        miss = await way(cache.lookup, ASKED)
        assert miss.reason == "error"
        assert "wrong-one" not in miss.detail


@pytest.mark.parametrize("served", SINGLE, indirect=True)
@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoding"])
async def test_a_client_of_the_users_own_serves_both_ways_and_stays_open(
    served: Served, way: Way, decode: bool
) -> None:
    client = valkey.Valkey.from_url(served.url, decode_responses=decode)
    options = {"name": served.name, "index": served.index, "on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), client=client, **options) as cache:
        await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).answer == "x"
        assert (await way(cache.lookup, f"{ASKED} please")).answer == "x"
        await way(cache.clear)
    assert client.ping()
    client.close()


@pytest.mark.parametrize("served", SINGLE, indirect=True)
async def test_an_async_client_of_the_users_own_serves_both_ways_and_stays_open(
    served: Served, way: Way
) -> None:
    client = valkey.asyncio.Valkey.from_url(served.url, decode_responses=True)
    options = {"name": served.name, "index": served.index, "on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), async_client=client, **options) as cache:
        await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).answer == "x"
        assert (await way(cache.lookup, f"{ASKED} please")).answer == "x"
    assert await client.ping()
    await client.aclose()


def test_wrong_clients_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"client= takes a valkey\.Valkey"):
        SemanticCache(HashingEmbedder(), client=object())
    with pytest.raises(ConfigurationError, match="async_client= takes"):
        SemanticCache(HashingEmbedder(), async_client=valkey.Valkey())
    with pytest.raises(ConfigurationError, match="Both url= and a client"):
        SemanticCache(HashingEmbedder(), "valkey://h", client=valkey.Valkey())


def connections(served: Served, name: str) -> int:
    return sum(c["name"] == name for c in served.admin.client_list())


def test_one_cache_serves_loop_after_loop_and_closes_their_connections(plain: Served) -> None:
    url = f"{plain.url}?client_name={plain.name}"
    cache = SemanticCache(HashingEmbedder(), url, name=plain.name, on_error="raise", **PATIENT)

    async def use() -> None:
        await cache.astore(ASKED, "x")
        hits = await asyncio.gather(*(cache.alookup(ASKED) for _ in range(5)))
        assert all(hits)
        assert connections(plain, plain.name) >= 1

    for _ in range(20):
        asyncio.run(use())
    deadline = time.monotonic() + 5
    while connections(plain, plain.name):
        assert time.monotonic() < deadline
    gc.collect()


def test_loops_in_many_threads_at_once(plain: Served) -> None:
    cache = SemanticCache(
        HashingEmbedder(), plain.url, name=plain.name, on_error="raise", **PATIENT
    )
    answers: list[str] = []

    async def use(number: int) -> None:
        await cache.astore(f"{ASKED} {'x' * number}", str(number))
        answers.append((await cache.alookup(f"{ASKED} {'x' * number}")).answer)  # type: ignore[union-attr]

    threads = [
        threading.Thread(target=lambda n=n: asyncio.run(use(n)))  # type: ignore[misc]
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=int) == [str(n) for n in range(12)]


async def test_a_closed_cache_can_be_used_again(plain: Served, way: Way) -> None:
    cache = SemanticCache(
        HashingEmbedder(), plain.url, name=plain.name, on_error="raise", **PATIENT
    )
    for _ in range(2):
        await way(cache.store, ASKED, "x")
        assert await way(cache.lookup, ASKED)
        await way(cache.close)
    await cache.aclose()


def test_a_fork_while_every_lock_is_held_leaves_a_child_that_works(plain: Served) -> None:
    """As when other threads were in the middle of something: the child has no such threads."""
    cache = SemanticCache(
        HashingEmbedder(), plain.url, name=plain.name, on_error="raise", **PATIENT
    )
    cache.store(ASKED, "x")
    assert cache.lookup(f"{ASKED} please")
    with contextlib.ExitStack() as held:
        for lock in list(locks._all):
            held.enter_context(lock)
        child = os.fork()
        if child == 0:
            found = cache.lookup(f"{ASKED} child")
            os._exit(0 if found and found.answer == "x" else 1)
    deadline = time.monotonic() + 20
    ended = status = 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended, "the child hangs"
    assert status == 0
    assert cache.lookup(f"{ASKED} parent")
    cache.close()


def test_a_forked_worker_uses_the_cache_it_was_born_with(plain: Served) -> None:
    cache = SemanticCache(
        HashingEmbedder(), plain.url, name=plain.name, on_error="raise", **PATIENT
    )
    cache.store(ASKED, "parent's")
    child = os.fork()
    if child == 0:
        try:
            found = cache.lookup(f"{ASKED} please")
            os._exit(0 if found and found.answer == "parent's" else 1)
        finally:
            os._exit(2)
    assert cache.lookup(ASKED)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.lookup(f"{ASKED} please")
    cache.close()
