"""Connections of all kinds, and servers that fail: on demand, for good, or for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import valkey
from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import TimeoutError as LateError

from tests.standin import PlainValkey, StandIn
from tests.standin.client import CREATE, RawClient, X, Y, keys_of, search, waits_for
from tests.standin.release import RELEASES, ReleaseName
from tests.standin.resp import Failure

# Connections.


def test_what_is_not_of_the_module_is_the_real_server_s(stand_in: StandIn) -> None:
    with valkey.Valkey.from_url(stand_in.url, protocol=3) as connection:
        with connection.pubsub() as listening:
            listening.subscribe("news")
            assert listening.get_message(timeout=5)["type"] == "subscribe"
            connection.publish("news", "of the day")
            assert listening.get_message(timeout=5)["data"] == b"of the day"
        connection.rpush("list", "first")
        assert connection.blpop(["list"], timeout=1) == [b"list", b"first"]


def test_pushes_reach_the_client_that_asked_for_them(stand_in: StandIn) -> None:
    with RawClient(stand_in.port, 3) as watching, RawClient(stand_in.port) as writing:
        watching("CLIENT", "TRACKING", "ON", "BCAST")
        writing("SET", "k", 1)
        assert watching.read() == [b"invalidate", [b"k"]]
        assert watching("GET", "k") == b"1"


def test_counting_leaves_out_what_sets_up_connections(stand_in: StandIn) -> None:
    with (
        stand_in.counting() as seen,
        valkey.Valkey.from_url(f"{stand_in.url}/0", protocol=3, client_name="me") as connection,
    ):
        connection.ping()
        connection.hset("c:1", "s", "aa")
        connection.hmget("c:1", ["s"])
    assert [(x.name, x.args) for x in seen] == [
        ("HSET", (b"c:1", b"s", b"aa")),
        ("HMGET", (b"c:1", b"s")),
    ]
    assert {"HELLO", "CLIENT", "PING"} <= {x.name for x in stand_in.setup_commands}
    assert stand_in.commands[-2:] == seen


# Faults.


def test_the_next_command_fails_as_told(stand_in: StandIn, client: RawClient) -> None:
    stand_in.fail_next("evalsha", "LOADING not yet", times=2)
    replies = client.pipeline([("EVALSHA", "0", 0), ("GET", "k"), ("EVALSHA", "0", 0)])
    assert replies == [Failure("LOADING not yet"), None, Failure("LOADING not yet")]
    assert client("EVALSHA", "0", 0).text.startswith("NOSCRIPT")


def test_the_next_command_is_late_as_told(stand_in: StandIn) -> None:
    stand_in.delay_next("GET", 3600)
    with valkey.Valkey.from_url(stand_in.url, socket_timeout=0.1, retry=None) as connection:
        with pytest.raises(LateError):
            connection.get("k")
        assert connection.get("k") is None


def test_an_operator_drops_the_index(stand_in: StandIn, client: RawClient) -> None:
    client(*CREATE)
    stand_in.drop_index("idx")
    assert "not found" in client(*search()).text
    with pytest.raises(KeyError):
        stand_in.drop_index("idx")


@pytest.fixture(params=sorted(RELEASES))
def fragile(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    release: ReleaseName = request.param
    with StandIn(release) as stand_in, RawClient(stand_in.port) as client:
        client.pipeline([CREATE, ("HSET", "c:1", "s", "aa", "v", X), search()])
        yield stand_in


def test_a_killed_stand_in_comes_back_on_its_port(fragile: StandIn) -> None:
    with valkey.Valkey.from_url(fragile.url) as connection:
        connection.ping()
        fragile.kill()
        with pytest.raises(LostConnectionError):
            connection.ping()
        fragile.restart()
        assert keys_of(connection.execute_command(*search())) == [b"c:1"]


def test_indexes_end_with_the_process_of_the_server(fragile: StandIn) -> None:
    fragile.backing.kill()
    with pytest.raises(ConnectionError), RawClient(fragile.port) as client:
        client(*search())
    fragile.backing.restart()
    with RawClient(fragile.port) as client:
        assert "not found" in client(*search()).text


def test_an_index_outlives_the_connections_of_everyone(fragile: StandIn) -> None:
    with RawClient(fragile.backing.port) as direct:
        direct("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        direct("HSET", "c:1", "s", "bb")
        direct("HSET", "c:2", "s", "aa", "v", Y)
    with RawClient(fragile.port) as client:
        assert keys_of(client(*search("aa"))) == [b"c:2"]
        assert keys_of(client(*search("bb"))) == [b"c:1"]


def test_nobody_searches_without_the_password() -> None:
    with (
        PlainValkey(["--requirepass", "secret"]) as backing,
        StandIn(backing=backing, password="secret") as stand_in,
        RawClient(stand_in.port) as client,
    ):
        assert client(*CREATE).text.startswith("NOAUTH")
        client("AUTH", "secret")
        assert client(*CREATE) == "OK"
    assert not backing.running


def test_a_server_busy_with_a_script_refuses_and_forgets_nothing(fragile: StandIn) -> None:
    with (
        RawClient(fragile.backing.port) as hog,
        RawClient(fragile.backing.port) as direct,
        RawClient(fragile.port) as client,
    ):
        client("CONFIG", "SET", "busy-reply-threshold", 1)
        direct("HSET", "c:1", "s", "bb")
        hog.send(("EVAL", "while true do end", 0))
        assert waits_for(lambda: isinstance(direct("GET", "k"), Failure))
        assert client(*search("bb")).text.startswith("BUSY")
        direct("SCRIPT", "KILL")
        hog.read()
        assert keys_of(client(*search("bb"))) == [b"c:1"]


def test_it_stops_while_there_is_much_to_read() -> None:
    with StandIn() as stand_in, RawClient(stand_in.port) as client:
        client(*CREATE)
        client.pipeline([("HSET", f"c:{x}", "s", "aa", "v", X) for x in range(3_000)])
