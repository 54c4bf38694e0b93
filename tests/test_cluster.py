"""On a real cluster of three plain Valkeys: the same cache, spread over all slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import valkey.asyncio.cluster
import valkey.cluster

from tests.cluster import Cluster
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.waiting import wait_until
from tests.words import word
from valkey_semcache import ConfigurationError, Question, SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"

Make = Callable[..., SemanticCache]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def make(cluster: Cluster) -> AsyncIterator[Make]:
    caches: list[SemanticCache] = []

    def make(**options: Any) -> SemanticCache:
        options = {"url": cluster.url, "on_error": "raise", "timeout": 20.0} | options
        caches.append(SemanticCache(HashingEmbedder(), **options))
        return caches[-1]

    yield make
    for cache in caches:
        await cache.aclose()
    for node in cluster.nodes:
        with cluster.client(node) as client:
            client.flushall()


def spelled(number: int) -> str:
    """A question that shares no word with another number's."""
    return " ".join(word(number + 100 * place) for place in range(6))


def per_node(cluster: Cluster, pattern: str) -> list[int]:
    counts = []
    for node in cluster.nodes:
        with cluster.client(node) as client:
            counts.append(sum(1 for _ in client.scan_iter(pattern)))
    return counts


async def test_the_same_cache_over_all_slots(make: Make, way: Way, cluster: Cluster) -> None:
    cache, other = (make(promote=True, similarity_threshold=0.8), make(similarity_threshold=0.8))
    for number in range(40):
        question = Question(spelled(number), context=str(number % 4))
        assert not await way(cache.lookup, question)
        await way(cache.store, question, str(number))
    for number in range(40):
        question = Question(spelled(number), context=str(number % 4))
        reworded = Question(f"{spelled(number)} please", context=str(number % 4))
        for reader in (cache, other):
            assert (await way(reader.lookup, question)).answer == str(number)
            assert (await way(reader.lookup, reworded)).answer == str(number)
    assert min(per_node(cluster, "semcache:*")) > 10, "spread over all nodes"
    for node in cluster.nodes:
        with cluster.client(node) as client:
            for key in client.scan_iter("semcache:*"):
                assert client.ttl(key) > 0 or key == b"semcache:meta"
    assert cache.stats().errors == {}
    assert cache.stats().index == "flat"


async def test_deleting_and_clearing(make: Make, way: Way, cluster: Cluster) -> None:
    cache = make()
    for number in range(30):
        question = Question(ASKED, context=str(number), namespace=f"tenant {number % 3}")
        await way(cache.store, question, "x")
    assert await way(cache.delete, Question(ASKED, context="0", namespace="tenant 0"))
    assert await way(cache.clear, namespace="tenant 1") == 10
    assert not await way(cache.lookup, Question(ASKED, context="1", namespace="tenant 1"))
    assert await way(cache.lookup, Question(REWORDED, context="2", namespace="tenant 2"))
    assert await way(cache.clear) == 19
    assert cluster.keys("semcache:*") == []


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoding"])
async def test_clients_of_the_users_own(
    make: Make, way: Way, cluster: Cluster, decode: bool
) -> None:
    port = cluster.nodes[0].port
    options: Any = {"host": "127.0.0.1", "port": port, "decode_responses": decode}
    client = valkey.cluster.ValkeyCluster(**options)
    async_client = valkey.asyncio.cluster.ValkeyCluster(**options)
    cache = make(url=None, client=client, async_client=async_client)
    for number in range(10):
        await way(cache.store, Question(ASKED, context=str(number)), str(number))
        found = await way(cache.lookup, Question(REWORDED, context=str(number)))
        assert found.answer == str(number)
    assert await way(cache.clear) == 10
    client.close()
    await async_client.aclose()


async def test_one_cluster_client_alone_says_that_the_other_is_missing(cluster: Cluster) -> None:
    client = valkey.cluster.ValkeyCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    cache = SemanticCache(HashingEmbedder(), client=client, on_error="raise")
    with pytest.raises(ConfigurationError, match="pass async_client= too"):
        await cache.alookup(ASKED)
    client.close()


async def test_auto_asks_once_and_false_does_not(make: Make, way: Way, cluster: Cluster) -> None:
    told = make(cluster=True)
    await way(told.store, ASKED, "x")
    plain = make(cluster=False, on_error="miss")
    errors = 0
    for number in range(20):
        outcome = await way(plain.lookup, Question(ASKED, context=str(number)))
        errors += outcome.reason == "error"
    assert errors > 3, "two of three keys lie elsewhere"
    assert (await way(make().lookup, REWORDED)).answer == "x"


async def test_a_database_number_is_refused(make: Make, way: Way, cluster: Cluster) -> None:
    cache = make(url=f"{cluster.url}/3", cluster=True)
    with pytest.raises(ConfigurationError, match="database other than 0"):
        await way(cache.lookup, ASKED)


async def test_many_tasks_at_once(make: Make) -> None:
    cache = make()

    async def work(number: int) -> bool:
        question = Question(ASKED, context=str(number))
        await cache.astore(question, str(number))
        found = await cache.alookup(Question(REWORDED, context=str(number)))
        return bool(found) and found.answer == str(number)

    assert all(await asyncio.gather(*(work(number) for number in range(60))))


async def test_a_dead_node_among_three(way: Way) -> None:
    """Look-ups go on where the node is alive and miss where it is not; nothing raises."""
    with Cluster() as cluster:
        async with SemanticCache(HashingEmbedder(), cluster.url, timeout=3.0) as cache:
            questions = [Question(ASKED, context=str(number)) for number in range(30)]
            for question in questions:
                assert await way(cache.store, question, question.context)
            cluster.nodes[2].kill()
            hits = 0
            for question in questions:
                outcome = await way(cache.lookup, question)
                assert outcome or outcome.reason == "error"
                hits += bool(outcome) and outcome.answer == question.context
            assert 0 < hits < len(questions)
            cluster.nodes[2].restart()
            wait_until(lambda: complete(cluster))
            await way(cache.store, questions[0], "again")
            assert (await way(cache.lookup, questions[0])).answer == "again"


def complete(cluster: Cluster) -> bool:
    for node in cluster.nodes:
        with cluster.client(node) as client:
            if b"cluster_slots_ok:16384" not in client.execute_command("CLUSTER", "INFO"):
                return False
    return True


async def test_slots_that_move_lose_nothing(way: Way) -> None:
    """Each slot with keys in it moves to another node while the cache goes on."""
    with Cluster() as cluster:
        async with SemanticCache(HashingEmbedder(), cluster.url, timeout=20.0) as cache:
            questions = [Question(ASKED, context=str(number)) for number in range(20)]
            for question in questions:
                assert await way(cache.store, question, question.context)
            source, target = cluster.nodes[0], cluster.nodes[1]
            moved = 0
            with cluster.client(source) as one, cluster.client(target) as other:
                ids = [c.execute_command("CLUSTER", "MYID").decode() for c in (one, other)]
                for key in list(one.scan_iter("*")):
                    slot = one.execute_command("CLUSTER", "KEYSLOT", key)
                    setslot = ("CLUSTER", "SETSLOT", slot)
                    other.execute_command(*setslot, "IMPORTING", ids[0])
                    one.execute_command(*setslot, "MIGRATING", ids[1])
                    for inside in one.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                        where = ("127.0.0.1", target.port, inside, 0, 5000)
                        one.execute_command("MIGRATE", *where)
                    for question in questions:
                        found = await way(cache.lookup, question)
                        assert found.answer == question.context
                    for client in (other, one):
                        client.execute_command(*setslot, "NODE", ids[1])
                    moved += 1
            assert moved > 3
            for question in questions:
                reworded = Question(REWORDED, context=question.context)
                assert (await way(cache.lookup, reworded)).answer == question.context
            assert cache.stats().errors == {}
