"""Stand-ins in front of a cluster's nodes are one valkey-search with `--use-coordinator`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.cluster import Cluster
from tests.standin.client import CREATE, RawClient, keys_of, search, waits_for
from tests.standin.release import RELEASES, ReleaseName
from tests.standin.resp import Failure, Simple


@pytest.fixture(scope="module", params=sorted(RELEASES))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    release: ReleaseName = request.param
    with Cluster(release, node_timeout=500) as cluster:
        yield cluster


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[list[RawClient]]:
    """One of each node, without data or indexes."""
    made = [RawClient(standin.port) for standin in cluster.standins]
    yield made
    try:
        for client in made:
            client("FLUSHALL")
        assert waits_for(lambda: all(map(has_no_index, made)))
    finally:
        for client in made:
            client.close()


def has_no_index(client: RawClient) -> bool:
    """Whether a node knows of none. One that was away may still tell the others of its own, so
    what it knows of is dropped."""
    known = client("FT._LIST")
    for name in known:
        client("FT.DROPINDEX", name)
    return not known


def fill(cluster: Cluster, count: int) -> None:
    """Documents `c:0`, `c:1` … on all nodes, each farther from X than the one before."""
    for number in range(count):
        key, vector = f"c:{number}", np.array([1, number / 10], "<f4").tobytes()
        with RawClient(
            cluster.standins[cluster.nodes.index(cluster.owner_of(key.encode()))].port
        ) as c:
            assert c("HSET", key, "s", "aa", "v", vector) == 2


def test_whoever_is_asked_finds_what_lies_anywhere(
    cluster: Cluster, clients: list[RawClient]
) -> None:
    clients[0](*CREATE)
    assert waits_for(lambda: all(client("FT._LIST") == ["idx"] for client in clients))
    fill(cluster, 12)
    nearest = [b"c:%d" % number for number in range(5)]
    if cluster.release == "1.0.2":
        nearest.reverse()  # worst first
    for client in clients:
        assert keys_of(client(*search("aa", k=5))) == nearest
        assert client("DBSIZE") < 12


def test_when_the_others_know_of_an_index(cluster: Cluster, clients: list[RawClient]) -> None:
    """1.2.1 answers when all know. 1.0.2 does not wait, and another node may make it again."""
    assert cluster.coordinator is not None
    before, cluster.coordinator.spread_seconds = cluster.coordinator.spread_seconds, (0.2, 0.2)
    try:
        clients[0](*CREATE)
        known, made_again = clients[1]("FT._LIST"), clients[2](*CREATE)
    finally:
        cluster.coordinator.spread_seconds = before
    if cluster.release == "1.0.2":
        assert (known, made_again) == ([], Simple("OK"))
    else:
        assert known == ["idx"]
        assert "already exists" in made_again.text
    assert waits_for(lambda: all(client("FT._LIST") == ["idx"] for client in clients))


def test_an_index_of_a_cluster_outlives_a_flush(cluster: Cluster, clients: list[RawClient]) -> None:
    clients[0](*CREATE)
    assert waits_for(lambda: all(client("FT._LIST") == ["idx"] for client in clients))
    fill(cluster, 6)
    for client in clients:
        client("FLUSHALL")
    assert all(client(*search("aa")) == [0] for client in clients)
    fill(cluster, 3)
    assert sorted(keys_of(clients[1](*search("aa")))) == [b"c:0", b"c:1", b"c:2"]


def test_a_document_that_moves_is_found_once(cluster: Cluster, clients: list[RawClient]) -> None:
    clients[0](*CREATE)
    assert waits_for(lambda: all(client("FT._LIST") == ["idx"] for client in clients))
    fill(cluster, 3)
    source = cluster.owner_of(b"c:1")
    target = next(node for node in cluster.nodes if node is not source)
    for there, back in ((source, target), (target, source)):
        cluster.move_slot(cluster.slot_of(b"c:1"), there, back)
        for client in clients:
            assert sorted(keys_of(client(*search("aa")))) == [b"c:0", b"c:1", b"c:2"]


def test_a_dead_node_s_documents_are_not_found_and_the_others_are(
    cluster: Cluster, clients: list[RawClient]
) -> None:
    clients[0](*CREATE)
    assert waits_for(lambda: all(client("FT._LIST") == ["idx"] for client in clients))
    fill(cluster, 12)
    dead = cluster.nodes[2]
    lost = set(cluster.on(dead, "KEYS", "*"))
    cluster.kill(dead)
    try:
        found = set(keys_of(clients[0](*search("aa", k=12), "LIMIT", 0, 12)))
        assert found == {b"c:%d" % number for number in range(12)} - lost
        assert cluster.coordinator is not None
        cluster.coordinator.unreachable_seconds = 0.1
        made = clients[1]("FT.CREATE", "other", *CREATE[2:])
        told = {"1.0.2": Simple("OK"), "1.2.1": Failure("Unable to contact all cluster members")}
        assert made == told[cluster.release or ""]
        clients[1]("FT.DROPINDEX", "other")
    finally:
        cluster.restart(dead)
        clients[2].close()
        clients[2] = RawClient(cluster.standins[2].port)
    # It was started anew, and is told of the indexes again only after a while.
    assert waits_for(cluster.is_whole)
    assert "not found" in clients[2](*search("aa")).text
    clients[2](*CREATE)
