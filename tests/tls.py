"""What the tests of TLS have in common: certificates, listeners, and what a cache makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trustme
from cryptography.hazmat.primitives import serialization

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.tls_proxy import TlsProxy
from valkey_semcache import SemanticCache

ASKED = "how do i reset the password of my account"
OTHER_WORDS = f"{ASKED} please"

Options = dict[str, Any]
Listener = Callable[..., TlsProxy]


@dataclass
class Papers:
    """An authority, a client's certificate of it, and a stranger's, as files."""

    folder: Path
    ca: trustme.CA
    stranger: trustme.CA

    @classmethod
    def issued(cls, folder: Path) -> Self:
        """Papers of this test run, kept in `folder`."""
        papers = cls(folder, trustme.CA(), trustme.CA())
        client = papers.ca.issue_cert("client@example.org")
        papers.ca.cert_pem.write_to_path(papers.ca_file)
        papers.stranger.cert_pem.write_to_path(papers.stranger_file)
        client.cert_chain_pems[0].write_to_path(papers.client_cert)
        client.private_key_pem.write_to_path(papers.client_key)
        client.private_key_and_cert_chain_pem.write_to_path(papers.client_both)
        return papers

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def stranger_file(self) -> str:
        return str(self.folder / "stranger.pem")

    @property
    def client_cert(self) -> str:
        return str(self.folder / "client.pem")

    @property
    def client_key(self) -> str:
        return str(self.folder / "client.key")

    @property
    def client_both(self) -> str:
        return str(self.folder / "both.pem")

    @property
    def client_options(self) -> Options:
        """What shows the client's certificate, as keyword arguments."""
        return {"ssl_certfile": self.client_cert, "ssl_keyfile": self.client_key}

    @property
    def url_options(self) -> str:
        """The same as options of a URL."""
        return f"ssl_certfile={self.client_cert}&ssl_keyfile={self.client_key}"

    def locked_key(self, password: str) -> str:
        """A file with the client's key, encrypted."""
        key = serialization.load_pem_private_key(Path(self.client_key).read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(password.encode())
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        locked = self.folder / "locked.key"
        locked.write_bytes(key.private_bytes(*formats, encryption))
        return str(locked)


def port_of(served: Served) -> int:
    return int(served.admin.connection_pool.connection_kwargs["port"])


def listening(served: Served, papers: Papers) -> Iterator[Listener]:
    """For a fixture: `listener("name in its certificate")` listens in front of `served`."""
    with ExitStack() as stack:

        def listen(name: str = "127.0.0.1", **options: Any) -> TlsProxy:
            proxy = TlsProxy(port_of(served), papers.ca.issue_cert(name), **options)
            return stack.enter_context(proxy)

        yield listen


async def is_served(way: Way, name: str, **options: Any) -> None:
    """Both tiers answer, and the cache can be cleared."""
    limits: Options = {"timeout": 20.0, "connect_timeout": 20.0, "on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), name=name, **options, **limits) as cache:
        assert await way(cache.store, ASKED, "x")
        assert (await way(cache.lookup, ASKED)).tier == "exact"
        assert (await way(cache.lookup, OTHER_WORDS)).tier == "semantic"
        assert await way(cache.clear) == 1


async def refusal(way: Way, proxy: TlsProxy, name: str, **options: Any) -> str:
    """Why a look-up got no answer; the call itself goes on without."""
    limits: Options = {"timeout": 20.0, "connect_timeout": 20.0}
    async with SemanticCache(HashingEmbedder(), name=name, **options, **limits) as cache:
        assert await way(cache.store, ASKED, "x") is False
        miss = await way(cache.lookup, ASKED)
        assert not miss
        assert miss.reason == "error"
        assert sum(cache.stats().errors.values()) == 2
    assert proxy.connections == 0, "a handshake went well that should not have"
    return str(miss.detail).lower()
