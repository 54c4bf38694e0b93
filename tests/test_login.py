"""Who logs in: a user by URL or environment, and tokens that change (IAM) by a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import valkey
import valkey.asyncio
from valkey.credentials import CredentialProvider

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.tls import ASKED, Papers, is_served, port_of
from tests.tls_proxy import TlsProxy
from tests.waiting import PATIENT
from valkey_semcache import SemanticCache, ServerUnreachableError

FIRST, SECOND = "token-of-the-morning", "token/of the:evening"


class Tokens(CredentialProvider):
    """As one for IAM does: gives the token of the hour, whenever a connection is made."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.token = FIRST
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        return self.user, self.token


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.issued(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def user(plain: Served) -> Iterator[str]:
    """A user of the plain Valkey, whose token is `FIRST`."""
    admin: Any = plain.admin
    admin.execute_command("ACL", "SETUSER", plain.name, "on", f">{FIRST}", "~*", "+@all")
    yield plain.name
    admin.execute_command("ACL", "DELUSER", plain.name)


async def rotate(served: Served, user: str) -> None:
    """The first token is no longer valid, and who came in by it is thrown out.

    In a thread, so that the event loop meanwhile sees the end of its connections; a loop that
    had no turn yet would learn of it only from the next command, which is then a miss.
    """
    admin: Any = served.admin
    await asyncio.to_thread(
        admin.execute_command, "ACL", "SETUSER", user, "resetpass", f">{SECOND}"
    )
    assert await asyncio.to_thread(admin.execute_command, "CLIENT", "KILL", "USER", user) >= 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_user_and_password_by_url(plain: Served, user: str, way: Way, protocol: int) -> None:
    where = plain.url.removeprefix("valkey://")
    await is_served(way, plain.name, url=f"valkey://{user}:{FIRST}@{where}?protocol={protocol}")


async def test_user_and_password_by_environment_over_tls(
    plain: Served, user: str, way: Way, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` is OpenSSL's own way to name a private authority."""
    host, _, port = plain.url.removeprefix("valkey://").partition(":")
    with TlsProxy(int(port), papers.ca.issue_cert(host)) as proxy:
        environ = {"HOST": host, "PORT": str(proxy.port), "SSL": "true"}
        environ |= {"USERNAME": user, "PASSWORD": FIRST}
        for name, value in environ.items():
            monkeypatch.setenv(f"VALKEY_{name}", value)
        monkeypatch.setenv("SSL_CERT_FILE", papers.ca_file)
        await is_served(way, plain.name)
        assert proxy.connections >= 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_wrong_password_is_a_miss_that_does_not_repeat_it(
    plain: Served, user: str, way: Way, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    where = plain.url.removeprefix("valkey://")
    url = f"valkey://{user}:hunter2@{where}?protocol={protocol}"
    async with SemanticCache(HashingEmbedder(), url, name=plain.name, **PATIENT) as cache:
        assert await way(cache.store, ASKED, "x") is False
        miss = await way(cache.lookup, ASKED)
    assert miss.reason == "error"
    assert "username-password pair" in miss.detail
    assert "hunter2" not in miss.detail + caplog.text + repr(cache)


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize("login", ["", "{user}:hunter2@"])
async def test_a_refused_login_is_told_from_a_server_that_does_not_answer(
    plain: Served, user: str, way: Way, login: str, cluster: bool
) -> None:
    plain.admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">hunter3")
    try:
        url = plain.url.replace("valkey://", f"valkey://{login.format(user=user)}")
        options: dict[str, Any] = {"cluster": cluster, "name": plain.name, "on_error": "raise"}
        async with SemanticCache(HashingEmbedder(), url, **options, **PATIENT) as cache:
            with pytest.raises(ServerUnreachableError) as caught:
                await way(cache.lookup, ASKED)
            said = str(caught.value)
            assert "answers, but refuses the login (AuthenticationError" in said
            assert "Give user and password in the URL (valkey://user:password@host:6379)" in said
            assert "Is it running" not in said
            assert "hunter2" not in said
    finally:
        plain.admin.execute_command("ACL", "SETUSER", "default", "nopass")


def own_client(plain: Served, kind: str, **options: Any) -> Any:
    host, _, port = plain.url.removeprefix("valkey://").partition(":")
    make: Any = valkey.Valkey if kind == "client" else valkey.asyncio.Valkey
    return make(host=host, port=int(port), **options)


async def close(client: Any) -> None:
    await client.aclose() if hasattr(client, "aclose") else client.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("mine", ["client", "async_client"])
async def test_a_token_is_asked_for_again_at_each_reconnect(
    plain: Served, user: str, way: Way, mine: str, protocol: int
) -> None:
    """Whichever of the two clients the user gave, and whichever of them is used."""
    tokens = Tokens(user)
    client: Any = own_client(plain, mine, credential_provider=tokens, protocol=protocol)
    cache = SemanticCache(
        HashingEmbedder(), name=plain.name, **PATIENT, on_error="raise", **{mine: client}
    )
    await way(cache.store, ASKED, "x")
    asked = tokens.asked
    assert asked >= 1
    assert await way(cache.lookup, ASKED)
    assert tokens.asked == asked, "a connection that stands needs no new token"
    tokens.token = SECOND
    await rotate(plain, user)
    assert await way(cache.lookup, ASKED)
    assert tokens.asked > asked
    await cache.aclose()
    await close(client)


async def test_an_outdated_token_is_a_miss_until_the_provider_has_a_new_one(
    plain: Served, user: str, way: Way
) -> None:
    tokens = Tokens(user)
    client: Any = own_client(plain, "client", credential_provider=tokens)
    async with SemanticCache(HashingEmbedder(), client=client, name=plain.name) as cache:
        assert await way(cache.store, ASKED, "x")
        await rotate(plain, user)
        miss = await way(cache.lookup, ASKED)
        assert miss.reason == "error"
        assert FIRST not in miss.detail
        tokens.token = SECOND
        assert await way(cache.lookup, ASKED)
    client.close()


async def test_a_provider_that_fails_is_a_miss(plain: Served, user: str, way: Way) -> None:
    class Broken(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise RuntimeError("the token service does not answer")

    client: Any = own_client(plain, "client", credential_provider=Broken())
    async with SemanticCache(HashingEmbedder(), client=client, name=plain.name) as cache:
        miss = await way(cache.lookup, ASKED)
    assert miss.reason == "error"
    assert "token service" in miss.detail
    client.close()


async def test_a_token_over_tls(plain: Served, user: str, way: Way, papers: Papers) -> None:
    """As a managed service wants it: TLS, a name that fits, and a token instead of a password."""
    with TlsProxy(port_of(plain), papers.ca.issue_cert("localhost")) as proxy:
        client: Any = valkey.Valkey(
            *("localhost", proxy.port),
            ssl=True,
            ssl_ca_certs=papers.ca_file,
            ssl_check_hostname=True,
            credential_provider=Tokens(user),
        )
        await is_served(way, plain.name, client=client)
        client.close()
