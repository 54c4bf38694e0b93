"""TLS: who is trusted, and who is let in.

Behind the TLS listener (tests/tls_proxy.py) is a real Valkey. What is refused is a miss that
says why, and nothing was said over the connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.tls import ASKED, Listener, Options, Papers, is_served, listening, port_of, refusal
from tests.tls_proxy import TlsProxy
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.server.address import pool_arguments


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.issued(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def listener(plain: Served, papers: Papers) -> Iterator[Listener]:
    yield from listening(plain, papers)


# The server's certificate.


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_private_authority_is_named_in_the_url(
    plain: Served, papers: Papers, listener: Listener, way: Way, scheme: str, name: str
) -> None:
    proxy = listener(name)
    url = f"{scheme}://{name}:{proxy.port}?ssl_ca_certs={papers.ca_file}"
    await is_served(way, plain.name, url=url)
    assert proxy.connections >= 1


async def test_the_search_index_is_reached_over_tls(
    either_index: Served, papers: Papers, way: Way
) -> None:
    port = port_of(either_index)
    with TlsProxy(port, papers.ca.issue_cert("127.0.0.1")) as proxy:
        url = f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.ca_file}&protocol=3"
        await is_served(way, either_index.name, url=url, index=either_index.index)


async def test_an_unknown_authority_is_refused(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener()
    for url in (
        f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.stranger_file}",
        f"valkeys://127.0.0.1:{proxy.port}",
    ):
        assert "certificate verify failed" in await refusal(way, proxy, plain.name, url=url)


async def test_a_certificate_for_another_name_is_refused_unless_told_otherwise(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener("valkey.example.org")
    url = f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.ca_file}"
    assert "not valid for '127.0.0.1'" in await refusal(way, proxy, plain.name, url=url)
    await is_served(way, plain.name, url=f"{url}&ssl_check_hostname=false")


async def test_without_the_check_of_names_the_authority_is_checked_all_the_same(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener("valkey.example.org")
    url = f"valkeys://127.0.0.1:{proxy.port}?ssl_check_hostname=false"
    url += f"&ssl_ca_certs={papers.stranger_file}"
    assert "certificate verify failed" in await refusal(way, proxy, plain.name, url=url)


async def test_a_server_without_tls_is_refused(plain: Served, papers: Papers, way: Way) -> None:
    port = port_of(plain)
    url = f"valkeys://127.0.0.1:{port}?ssl_ca_certs={papers.ca_file}"
    # Such a server waits for the end of a line: the client's limits end the handshake.
    limits: Options = {"timeout": 0.1, "connect_timeout": 0.1}
    async with SemanticCache(HashingEmbedder(), url, name=plain.name, **limits) as cache:
        assert (await way(cache.lookup, ASKED)).reason == "error"
    assert plain.entries() == []


# The client's certificate.


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_certificate_gets_it(
    plain: Served, papers: Papers, listener: Listener, way: Way, newest: ssl.TLSVersion
) -> None:
    proxy = listener(clients=papers.ca, newest=newest)
    url = f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.ca_file}"
    # In TLS 1.3 the client learns of the refusal only after its own side of the handshake,
    # from an alert or from the end of the connection.
    await refusal(way, proxy, plain.name, url=url)
    await is_served(way, plain.name, url=f"{url}&{papers.url_options}")


async def test_one_file_may_hold_certificate_and_key(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener(clients=papers.ca)
    url = f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.ca_file}"
    await is_served(way, plain.name, url=f"{url}&ssl_certfile={papers.client_both}")


async def test_a_certificate_of_another_authority_is_refused(
    plain: Served, papers: Papers, listener: Listener, way: Way
) -> None:
    proxy = listener(clients=papers.stranger)
    url = f"valkeys://127.0.0.1:{proxy.port}?ssl_ca_certs={papers.ca_file}&{papers.url_options}"
    await refusal(way, proxy, plain.name, url=url)


# What is wrong with a URL is said at once.


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("valkey://h?ssl_ca_certs=/ca.pem", "nothing would be encrypted"),
        ("unix:///run/v.sock?ssl_ca_certs=/ca.pem", "nothing would be encrypted"),
        ("valkeys://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("valkeys://h?ssl_min_version=TLSv1_3", "cannot be given in a URL"),
        ("valkeys://h?ssl_ca_cert=/ca.pem", "do not know"),
        ("valkey://h?connection_class=x", "do not know"),
    ],
)
def test_an_option_that_would_do_nothing_or_fail_later_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SemanticCache(HashingEmbedder(), url)


def test_an_option_of_one_kind_of_connection_is_refused_by_the_other() -> None:
    url = "valkeys://h?ssl_ca_path=/etc/ssl/certs"
    assert pool_arguments(url, for_async=False)["ssl_ca_path"] == "/etc/ssl/certs"
    with pytest.raises(ConfigurationError, match="ssl_ca_path"):
        pool_arguments(url, for_async=True)


def test_a_piece_of_a_password_is_not_repeated_as_an_option() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SemanticCache(HashingEmbedder(), "valkey://h:6379?hunter2=x&y@host")
    assert "hunter2" not in str(caught.value)
