"""The stand-in sees every change of its documents, and its indexes are those of the module."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
import valkey.asyncio

from tests.standin import StandIn
from tests.standin.client import CREATE, METRIC, SCHEMA, RawClient, X, keys_of, search, waits_for
from tests.standin.resp import Failure

# Reading one's writes.


def test_a_pipeline_is_answered_in_order(client: RawClient) -> None:
    replies = client.pipeline(
        [
            CREATE,
            ("HSET", "c:1", "s", "aa", "v", X),
            search("aa"),
            ("DEL", "c:1"),
            search("aa"),
            ("GET", "nothing"),
        ]
    )
    assert replies[1:] == [2, [1, b"c:1", [b"s", b"aa", b"d", b"0"]], 1, [0], None]


def test_a_write_past_the_stand_in_is_searchable_when_it_returns(
    stand_in: StandIn, client: RawClient
) -> None:
    client(*CREATE)
    with RawClient(stand_in.backing.port) as direct:
        for number in range(20):
            direct("HSET", f"c:{number}", "s", f"t{number}", "v", X)
            assert keys_of(client(*search(f"t{number}"))) == [b"c:%d" % number]
        direct("DEL", "c:7")
        assert client(*search("t7")) == [0]


def test_a_script_s_write_is_searchable_when_it_returns(client: RawClient) -> None:
    client(*CREATE)
    write = "return redis.call('HSET', KEYS[1], 's', ARGV[1], 'v', ARGV[2])"
    digest = client("SCRIPT", "LOAD", write)
    assert client("EVALSHA", digest, 1, "c:1", "aa", X) == 2
    assert keys_of(client(*search("aa"))) == [b"c:1"]


async def test_many_clients_at_once_find_each_what_they_wrote(stand_in: StandIn) -> None:
    with RawClient(stand_in.port) as client:
        client(*CREATE)

    async def write_and_search(number: int) -> None:
        connection = valkey.asyncio.Valkey.from_url(stand_in.url, protocol=2 + number % 2)
        for turn in range(3):
            key, scope = f"c:{number}", f"t{number}x{turn}"
            await connection.hset(key, mapping={"s": scope, "v": X})
            reply = await connection.execute_command(*search(scope))
            assert keys_of(reply) == [key.encode()]
        await connection.aclose()

    await asyncio.gather(*(write_and_search(x) for x in range(200)))


def test_a_hit_is_never_of_another_scope_while_documents_change(
    stand_in: StandIn, client: RawClient
) -> None:
    client(*CREATE)
    enough = threading.Event()

    def keep_changing() -> None:
        with RawClient(stand_in.backing.port) as direct:
            while not enough.is_set():
                direct.pipeline([("HSET", "c:1", "s", x, "v", X) for x in ("aa", "bb") * 10])

    changing = threading.Thread(target=keep_changing)
    changing.start()
    try:
        for scope in (b"aa", b"bb") * 150:
            for fields in client(*search(scope.decode()))[2::2]:
                assert fields[:2] == [b"s", scope]
    finally:
        enough.set()
        changing.join()


# Keys that go.


def test_what_a_full_server_evicts_is_not_found(stand_in: StandIn, client: RawClient) -> None:
    client(*CREATE)
    client.pipeline([("HSET", f"c:{x}", "s", "aa", "v", X) for x in range(100)])
    client("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", 1)
    client("GET", "whatever makes it look for room")
    client("CONFIG", "SET", "maxmemory", 0, "maxmemory-policy", "noeviction")
    left = sorted(client("KEYS", "c:*"))
    assert len(left) < 100
    client(*("HSET", "c:last", "s", "aa", "v", X))
    found = client(*search("aa", k=200), "LIMIT", 0, 200)
    assert sorted(keys_of(found)) == sorted([*left, b"c:last"])


def test_a_full_server_that_evicts_nothing_refuses_searches_and_new_indexes(
    client: RawClient,
) -> None:
    client(*CREATE)
    client("CONFIG", "SET", "maxmemory", 1)
    refused = [
        client(*search()),
        client("FT.CREATE", "other", *SCHEMA, *METRIC),
        client("FT._LIST"),
    ]
    client("CONFIG", "SET", "maxmemory", 0)
    assert [getattr(x, "text", "")[:3] for x in refused] == ["OOM", "OOM", ""]
    assert client(*search()) == [0]


@pytest.mark.parametrize("flush", [["FLUSHALL"], ["FLUSHDB"], ["FLUSHALL", "ASYNC"]])
@pytest.mark.parametrize("past", [True, False], ids=["past-the-stand-in", "through-it"])
def test_a_flush_takes_the_index_along_even_if_its_keys_come_back(
    stand_in: StandIn, client: RawClient, flush: list[str], past: bool
) -> None:
    client.pipeline([CREATE, ("HSET", "c:1", "s", "aa", "v", X), search()])
    with RawClient(stand_in.backing.port if past else stand_in.port) as other:
        other(*flush)
        other("HSET", "c:1", "s", "aa", "v", X)
    assert "not found" in client(*search()).text
    assert client("FT._LIST") == []
    client(*CREATE)
    client(*flush)
    assert "not found" in client("FT.INFO", "idx").text


def test_a_flush_of_another_database_leaves_the_index(client: RawClient) -> None:
    client.pipeline([CREATE, ("HSET", "c:1", "s", "aa", "v", X)])
    client.pipeline([("SELECT", 1), ("FLUSHDB",), ("MULTI",), ("FLUSHDB",), ("EXEC",)])
    client.pipeline([("MULTI",), ("FLUSHDB",), ("DISCARD",), ("SELECT", 0)])
    assert keys_of(client(*search())) == [b"c:1"]
    client("FLUSHDB")
    assert client("FT._LIST") == []


def test_each_database_has_its_own_indexes(stand_in: StandIn, client: RawClient) -> None:
    client(*CREATE)
    client("SELECT", 2)
    assert client("FT._LIST") == []
    client.pipeline([CREATE, ("HSET", "c:2", "s", "aa", "v", X)])
    assert keys_of(client(*search())) == [b"c:2"]
    assert (stand_in.indexes(0), stand_in.indexes(2)) == (["idx"], ["idx"])
    client("SELECT", 0)
    assert client(*search()) == [0]


# The index.


def test_an_index_over_existing_keys_may_need_a_while(stand_in: StandIn, client: RawClient) -> None:
    client("HSET", "c:old", "s", "aa", "v", X)
    stand_in.backfill_delay = 0.3
    client(*CREATE)
    client("HSET", "c:new", "s", "aa", "v", X)

    def info() -> dict[bytes, Any]:
        flat = client("FT.INFO", "idx")
        names = [x.encode() for x in flat[::2]]
        return dict(zip(names, flat[1::2], strict=True))

    assert keys_of(client(*search())) == [b"c:new"]
    assert info()[b"backfill_in_progress"] == b"1"
    assert info()[b"state"] == "backfill_in_progress"
    assert waits_for(lambda: info()[b"backfill_in_progress"] == b"0")
    assert sorted(keys_of(client(*search()))) == [b"c:new", b"c:old"]


def test_documents_are_counted_as_the_release_counts_them(
    stand_in: StandIn, client: RawClient
) -> None:
    client(*CREATE)
    client("HSET", "c:1", "s", "aa", "v", X)
    client("HSET", "c:2", "s", "aa", "v", b"too short")
    client("HSET", "c:3", "payload", "nothing that is indexed")
    client("SET", "c:4", "no hash")
    flat = client("FT.INFO", "idx")
    info = dict(zip(flat[::2], flat[1::2], strict=True))
    counted = {"1.0.2": b"2", "1.2.1": 3}
    assert info["num_docs"] == counted[stand_in.release]
    assert int(info["num_records"]) == 3
    assert info["hash_indexing_failures"] == b"1"


def test_only_1_0_compares_a_filtered_query_as_it_was_sent(
    stand_in: StandIn, client: RawClient
) -> None:
    client.pipeline([CREATE, ("HSET", "c:1", "s", "aa", "v", X)])
    twice = np.array([2, 0], "<f4").tobytes()
    shown = {"1.0.2": b"-1", "1.2.1": b"0"}[stand_in.release]
    assert client(*search("aa", query=twice))[2][-1] == shown
    assert client(*search("*", query=twice))[2][-1] == b"0"


def test_a_query_of_tags_alone_needs_1_2(stand_in: StandIn, client: RawClient) -> None:
    client(*CREATE)
    client.pipeline([("HSET", f"c:{x}", "s", x) for x in ("aa", "bb", "cc")])
    client("DEL", "c:bb")
    reply = client("FT.SEARCH", "idx", "-@s:{aa}", "NOCONTENT", "DIALECT", 2)
    if stand_in.release == "1.0.2":
        assert reply == Failure("Invalid filter format. Missing `=>`")
    else:
        assert reply == [1, b"c:cc"]


def test_a_search_in_a_transaction_is_answered_in_its_place(client: RawClient) -> None:
    client(*CREATE)
    replies = client.pipeline(
        [("MULTI",), ("HSET", "c:1", "s", "aa", "v", X), search("aa"), ("PING",), ("EXEC",)]
    )
    assert replies[1:4] == ["QUEUED"] * 3
    assert replies[-1] == [2, [1, b"c:1", [b"s", b"aa", b"d", b"0"]], "PONG"]
    replies = client.pipeline([("MULTI",), search("aa"), ("NO SUCH COMMAND",), ("EXEC",)])
    assert replies[-1].text.startswith("EXECABORT")
    assert keys_of(client(*search("aa"))) == [b"c:1"]
