"""The least rights: nothing that a cache does is refused, and each of them is needed.

The criterion is the server's own ACL LOG: it notes every refusal, also those inside scripts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import valkey
from valkey.exceptions import NoPermissionError, ResponseError

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served, Servers
from tests.standin.release import ACL_CATEGORIES
from tests.waiting import PATIENT
from valkey_semcache import Question, SemanticCache
from valkey_semcache.errors import SemcacheError
from valkey_semcache.server import acl

ASKED = "how do i reset the password of my account"
OTHER_WORDS = f"{ASKED} please"


class Limited(NamedTuple):
    """A user with few rights, whose name is the cache's."""

    name: str
    url: str
    admin: Any

    def refusals(self) -> set[str]:
        """What was refused to the user, of commands and keys."""
        log = self.admin.acl_log()
        return {entry["object"] for entry in log if entry["username"] == self.name}

    def client(self) -> Any:
        return valkey.Valkey.from_url(self.url)


def limited(served: Served, rules: tuple[str, ...]) -> Iterator[Limited]:
    admin: Any = served.admin
    admin.execute_command("ACL", "SETUSER", served.name, "on", ">pw", *rules)
    admin.acl_log_reset()
    where = served.url.removeprefix("valkey://")
    yield Limited(served.name, f"valkey://{served.name}:pw@{where}", admin)
    admin.execute_command("ACL", "DELUSER", served.name)


@pytest.fixture
def user(plain: Served) -> Iterator[Limited]:
    """A user with the least rights for the flat index."""
    yield from limited(plain, acl.rules("flat", plain.name))


class Searcher(NamedTuple):
    """A user with the least rights for one release of valkey-search."""

    release: str
    user: Limited
    served: Served

    def set_user(self, *rules: str) -> None:
        self.user.admin.execute_command("ACL", "SETUSER", self.user.name, *rules)

    def refusals(self) -> set[str]:
        """What was refused to the user, by the server or its module."""
        return self.served.refusals()


@pytest.fixture
def searcher(servers: Servers, release: str) -> Iterator[Searcher]:
    """Behind a stand-in that knows rights on FT.* as the release does."""
    served = servers.served({"1.0": "search-1.0.2", "1.2": "search-1.2.1"}[release])
    served.user = served.name
    for user in limited(served, acl.rules("search", served.name, release)):
        yield Searcher(release, user, served)
    for name in served.admin.execute_command("FT._LIST"):
        served.admin.execute_command("FT.DROPINDEX", name)
    served.admin.close()


@pytest.fixture(autouse=True)
def _tidy_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flat index cleans its logs after a few entries, not after a thousand."""
    monkeypatch.setattr("valkey_semcache.index.flat._TIDY_AT", 2)
    monkeypatch.setattr("valkey_semcache.index.view._CHECK_AT", 4)


Step = Callable[[], Awaitable[Any]]


async def use(way: Way, limited: Limited, step: Callable[[Step], Awaitable[Any]]) -> None:
    """Everything that a cache does, each step through `step`."""
    limited.admin.script_flush()
    options: dict[str, Any] = {"name": limited.name, "url": limited.url, **PATIENT}
    options |= {"promote": True, "on_error": "raise"}
    texts = [f"{ASKED} {'x' * number}" for number in range(6)]
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        for text in texts:
            await step(lambda text=text: way(cache.store, text, "x", ttl=900))  # type: ignore[misc]
        await step(lambda: way(cache.store, ASKED, "x", ttl=None))
        await step(lambda: way(cache.store, Question("9" * 2000), "exact only"))
        await step(lambda: way(cache.lookup, ASKED))
        await step(lambda: way(cache.lookup, OTHER_WORDS))
        await step(lambda: way(cache.lookup, OTHER_WORDS))  # by the alias of the one before
        for text in texts[:4]:
            await step(lambda text=text: way(cache.delete, text))  # type: ignore[misc]
        # One that holds no copy yet finds the dead in the log, and tidies it.
        async with SemanticCache(HashingEmbedder(), **options) as other:
            await step(lambda: way(other.lookup, f"{ASKED} in the evening"))
        spoil(limited)
        await step(lambda: way(cache.lookup, ASKED))
        await step(lambda: way(cache.store, ASKED, "x"))
        await step(lambda: way(cache.fleet_stats))  # its figures are written when it is closed
        await step(lambda: way(cache.clear, namespace=""))
        await step(lambda: way(cache.clear))


def spoil(limited: Limited) -> None:
    """Make every entry unreadable, which the cache takes away."""
    for key in limited.admin.scan_iter(f"{limited.name}:*:*:*", count=1000):
        if b":log:" not in key:
            limited.admin.hset(key, "p", "no envelope")


async def succeeding(step: Step) -> None:
    await step()


async def whatever_comes(step: Step) -> None:
    with suppress(SemcacheError):
        await step()


# Nothing more is needed, and nothing less.


@pytest.mark.parametrize("protocol", [2, 3])
async def test_nothing_is_refused_to_a_flat_cache(user: Limited, way: Way, protocol: int) -> None:
    await use(way, user._replace(url=f"{user.url}?protocol={protocol}"), succeeding)
    assert user.refusals() == set()


@pytest.mark.parametrize("release", acl.SEARCH)
async def test_nothing_is_refused_to_a_searching_cache(searcher: Searcher, way: Way) -> None:
    await use(way, searcher.user, succeeding)
    assert searcher.refusals() == set()


@pytest.mark.parametrize(
    ("release", "rule"), [(r, rule) for r, rules in acl.SEARCH.items() for rule in rules]
)
def test_each_rule_for_searching_is_needed(searcher: Searcher, rule: str) -> None:
    searcher.set_user(rule.replace("+", "-"))
    asyncio.run(use(Way("sync"), searcher.user, whatever_comes))
    names = {name.lower() for name, groups in ACL_CATEGORIES.items() if rule[1:] in groups}
    refused = searcher.refusals()
    assert refused
    assert refused <= (names or {rule[1:]})


@pytest.mark.parametrize("release", acl.SEARCH)
def test_single_commands_are_enough_from_1_2_on(searcher: Searcher) -> None:
    """1.0 looks at the rules itself, and at the category alone."""
    searcher.set_user("-@search", *acl.SEARCH["1.2"])
    create = "FT.CREATE i ON HASH PREFIX 1 {}: SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2"
    words = [*create.format(searcher.user.name).split(), "DISTANCE_METRIC", "COSINE"]
    with searcher.user.client() as client:
        if searcher.release == "1.0":
            with pytest.raises(ResponseError, match="doesn't have a permission to execute"):
                client.execute_command(*words)
        else:
            assert client.execute_command(*words) == b"OK"
            client.execute_command("FT.DROPINDEX", "i")


@pytest.mark.parametrize("release", acl.SEARCH)
def test_an_index_over_other_keys_is_refused(searcher: Searcher) -> None:
    create = "FT.CREATE i ON HASH PREFIX 1 {}: SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2"
    with searcher.user.client() as client:
        for prefix in ("foreign", f"{searcher.user.name}2", "a"):
            words = [*create.format(prefix).split(), "DISTANCE_METRIC", "COSINE"]
            with pytest.raises(ResponseError, match="permission"):
                client.execute_command(*words)


@pytest.mark.parametrize("release", ["1.2"])
@pytest.mark.parametrize("command", ["FT._LIST", "FLUSHALL", "KEYS *", "ACL LIST"])
def test_commands_outside_are_refused_to_a_searching_cache(
    searcher: Searcher, command: str
) -> None:
    """FT._LIST, which shows the indexes of others, is for admins."""
    with searcher.user.client() as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


NEEDED = [*acl.CONNECTING, *acl.ENTRIES, *acl.FLAT]


@pytest.mark.parametrize("rule", NEEDED)
def test_each_command_is_needed(user: Limited, rule: str) -> None:
    user.admin.execute_command("ACL", "SETUSER", user.name, rule.replace("+", "-"))
    asyncio.run(use(Way("sync"), user, whatever_comes))
    assert user.refusals() == {rule.removeprefix("+")}


def test_the_keys_are_needed(user: Limited) -> None:
    user.admin.execute_command("ACL", "SETUSER", user.name, "resetkeys", "~other:*")
    asyncio.run(use(Way("sync"), user, whatever_comes))
    refused = user.refusals()
    assert refused
    assert all(key.startswith(f"{user.name}:") for key in refused)


# What lies outside is refused.


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("RANDOMKEY",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("MONITOR",),
        ("SHUTDOWN", "NOSAVE"),
        ("GET", "{name}:x"),
        ("HVALS", "{name}:x"),
        ("EVAL", "return redis.call('FLUSHALL')", 0),
        ("EVAL", "return redis.call('HVALS', KEYS[1])", 1, "{name}:x"),
        ("PUBLISH", "channel", "x"),
    ],
    ids=lambda command: " ".join(str(part) for part in command[:2]),
)
def test_other_commands_are_refused(user: Limited, command: tuple[Any, ...]) -> None:
    filled = [str(part).replace("{name}", user.name) for part in command]
    with user.client() as client, pytest.raises(ResponseError) as caught:
        client.execute_command(*filled)
    assert isinstance(caught.value, NoPermissionError) or "ACL failure in script" in str(caught)


@pytest.mark.parametrize("key", ["foreign", "{name}", "{name}2:meta", "a{name}:meta"])
def test_other_keys_are_refused(user: Limited, key: str) -> None:
    """Also those of a cache whose name begins alike."""
    key = key.replace("{name}", user.name)
    user.admin.hset(key, "p", "secret")
    tries: list[tuple[Any, ...]] = [
        ("HMGET", key, "p"),
        ("UNLINK", key),
        ("UNLINK", f"{user.name}:x", key),
        ("EVAL", "return redis.call('HMGET', KEYS[1], 'p')", 1, key),
        ("EVAL", f"return redis.call('HMGET', '{key}', 'p')", 0),
        ("EVAL", f"return redis.call('HSET', '{key}', 'p', 'x')", 1, f"{user.name}:x"),
    ]
    with user.client() as client:
        for command in tries:
            with pytest.raises(ResponseError, match=r"(?i)permission|ACL failure"):
                client.execute_command(*command)
    assert user.admin.hget(key, "p") == b"secret"
    user.admin.unlink(key)


async def test_a_right_that_is_missing_is_a_miss_that_names_it(user: Limited, way: Way) -> None:
    user.admin.execute_command("ACL", "SETUSER", user.name, "-hmget")
    async with SemanticCache(HashingEmbedder(), user.url, name=user.name) as cache:
        miss = await way(cache.lookup, ASKED)
    assert miss.reason == "error"
    assert "hmget" in miss.detail
