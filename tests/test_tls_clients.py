"""TLS with the user's own valkey-py client, from which one of the other kind is made."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import valkey
import valkey.asyncio

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.tls import ASKED, Listener, Options, Papers, is_served, listening, refusal
from tests.tls_proxy import TlsProxy
from valkey_semcache import ConfigurationError, SemanticCache


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.issued(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def listener(plain: Served, papers: Papers) -> Iterator[Listener]:
    yield from listening(plain, papers)


def own_client(proxy: TlsProxy, papers: Papers, **options: Any) -> valkey.Valkey:
    tls: Options = {"ssl_ca_certs": papers.ca_file, "ssl_check_hostname": True}
    return valkey.Valkey("127.0.0.1", proxy.port, ssl=True, **(tls | options))


def own_async_client(proxy: TlsProxy, papers: Papers, **options: Any) -> valkey.asyncio.Valkey:
    tls: Options = {"ssl_ca_certs": papers.ca_file, "ssl_check_hostname": True}
    return valkey.asyncio.Valkey(host="127.0.0.1", port=proxy.port, ssl=True, **(tls | options))


async def test_a_client_of_the_users_own_serves_the_async_calls_too(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener(clients=papers.ca)
    with own_client(proxy, papers, **papers.client_options) as client:
        await is_served(way, plain.name, client=client)


async def test_an_async_client_of_the_users_own_serves_the_sync_calls_too(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener(clients=papers.ca)
    async with own_async_client(proxy, papers, **papers.client_options) as client:
        await is_served(way, plain.name, async_client=client)


@pytest.mark.parametrize("mine", ["client", "async_client"])
async def test_what_is_made_from_a_client_trusts_nobody_else(
    plain: Served, papers: Papers, listener: Listener, way: Way, mine: str
) -> None:
    make = own_client if mine == "client" else own_async_client
    proxy = listener("valkey.example.org")
    refused: list[tuple[Options, str]] = [
        ({"ssl_ca_certs": papers.stranger_file}, "certificate verify failed"),
        ({"ssl_ca_certs": None}, "certificate verify failed"),
        ({}, "not valid for '127.0.0.1'"),
    ]
    for options, reason in refused:
        client: Any = make(proxy, papers, **options)
        assert reason in await refusal(way, proxy, plain.name, **{mine: client})
    client = make(proxy, papers, ssl_check_hostname=False)
    await is_served(way, plain.name, **{mine: client})
    await client.aclose() if mine == "async_client" else client.close()


@pytest.mark.parametrize("required", [ssl.CERT_REQUIRED, "required", ssl.CERT_NONE, None])
async def test_what_a_client_requires_may_be_told_in_each_of_valkey_pys_ways(
    plain: Served, papers: Papers, listener: Listener, way: Way, required: Any
) -> None:
    lax = required in (ssl.CERT_NONE, None)
    proxy = listener()
    trust: Options = {"ssl_ca_certs": None, "ssl_check_hostname": False} if lax else {}
    with own_client(proxy, papers, ssl_cert_reqs=required, **trust) as client:
        await is_served(way, plain.name, client=client)


async def test_an_encrypted_key_opens_for_sync_calls_and_is_named_to_async_ones(
    plain: Served, papers: Papers, listener: Listener
) -> None:
    """Async connections of valkey-py take no `ssl_password`: they would ask at the terminal."""
    proxy = listener(clients=papers.ca)
    shown = papers.client_options | {"ssl_keyfile": papers.locked_key("hunter2")}
    with own_client(proxy, papers, ssl_password="hunter2", **shown) as client:
        cache = SemanticCache(HashingEmbedder(), client=client, name=plain.name, timeout=20.0)
        assert cache.store(ASKED, "x")
        assert cache.lookup(ASKED)
        miss: Any = await cache.alookup(ASKED)
    assert not miss
    assert "ssl_password" in miss.detail
    assert "pass async_client= too" in miss.detail
    assert "hunter2" not in miss.detail


@pytest.mark.parametrize("check", ["ssl_validate_ocsp", "ssl_validate_ocsp_stapled"])
async def test_a_check_that_async_connections_cannot_make_is_not_left_out_in_silence(
    plain: Served, papers: Papers, listener: Listener, check: str
) -> None:
    options: Options = {check: True}
    client = own_client(listener(), papers, **options)
    cache = SemanticCache(HashingEmbedder(), client=client, name=plain.name, on_error="raise")
    with pytest.raises(ConfigurationError, match=check):
        await cache.alookup(ASKED)


async def test_one_file_may_hold_certificate_and_key(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener(clients=papers.ca)
    with own_client(proxy, papers, ssl_certfile=papers.client_both) as client:
        await is_served(way, plain.name, client=client)
