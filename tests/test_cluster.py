"""On a real cluster of three plain Valkeys: the same cache, spread over all slots."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import valkey.asyncio.cluster
import valkey.cluster

from tests.cluster import Cluster
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Servers
from tests.standin.client import RawClient
from tests.standin.topology import slot_of
from tests.waiting import PATIENT, wait_until
from tests.words import word
from valkey_semcache import ConfigurationError, Question, SemanticCache
from valkey_semcache.flow.operations import Source
from valkey_semcache.index import scripts

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"

Make = Callable[..., SemanticCache]


@pytest.fixture(params=[None, "1.0.2", "1.2.1"], ids=["flat", "search-1.0.2", "search-1.2.1"])
def cluster(request: pytest.FixtureRequest, servers: Servers) -> Cluster:
    """Three primaries, for each index."""
    return servers.cluster(request.param)


@pytest.fixture
async def make(cluster: Cluster) -> AsyncIterator[Make]:
    caches: list[SemanticCache] = []

    def make(**options: Any) -> SemanticCache:
        options = {"url": cluster.url, "on_error": "raise", **PATIENT} | options
        caches.append(SemanticCache(HashingEmbedder(), **options))
        return caches[-1]

    yield make
    for cache in caches:
        await cache.aclose()
    for node in cluster.nodes:
        cluster.on(node, "FLUSHALL")


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
    assert cache.stats().index == ("search" if cluster.release else "flat")


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
    port = int(cluster.url.rpartition(":")[2])
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


def test_a_database_number_is_refused(make: Make, cluster: Cluster) -> None:
    with pytest.raises(ConfigurationError, match="database other than 0"):
        make(url=f"{cluster.url}/3", cluster=True)


async def test_entries_of_one_node_copied_to_a_cluster_are_found(
    make: Make, way: Way, cluster: Cluster, servers: Servers
) -> None:
    """As `valkey-cli --cluster import` copies them: key by key, each with its TTL."""
    served = servers.served(f"search-{cluster.release}" if cluster.release else "flat")
    questions = [Question(spelled(number), context=str(number % 3)) for number in range(12)]
    async with SemanticCache(HashingEmbedder(), **served.options, on_error="raise") as alone:
        for question in questions:
            await way(alone.store, question, question.text, ttl=900)
        target = valkey.cluster.ValkeyCluster.from_url(cluster.url)
        for key in served.admin.scan_iter(f"{served.name}:*"):
            left = max(served.admin.pttl(key), 0)
            target.restore(key, left, served.admin.dump(key))
        await way(alone.clear)
    served.admin.close()
    target.close()
    cache = make(name=served.name, similarity_threshold=0.8)
    for question in questions:
        worded = Question(f"{question.text} please", question.context)
        while not (hit := await way(cache.lookup, worded)):
            continue  # the index still reads what was there before it
        assert hit.answer == question.text
        assert (await way(cache.lookup, question)).answer == question.text
    assert await way(cache.clear) == 12


async def test_many_tasks_at_once(make: Make) -> None:
    cache = make()

    async def work(number: int) -> bool:
        question = Question(ASKED, context=str(number))
        await cache.astore(question, str(number))
        found = await cache.alookup(Question(REWORDED, context=str(number)))
        return bool(found) and found.answer == str(number)

    assert all(await asyncio.gather(*(work(number) for number in range(60))))


@pytest.fixture(scope="module", params=[None, "1.0.2", "1.2.1"], ids=["flat", "1.0.2", "1.2.1"])
def mortal(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of this module's own, whose nodes may be killed, for each index."""
    with Cluster(request.param, node_timeout=500) as cluster:
        yield cluster


async def test_a_dead_node_among_three(mortal: Cluster, way: Way) -> None:
    """Look-ups go on where the node is alive and miss where it is not; nothing raises."""
    cluster = mortal
    name = f"t-{way.name}"
    async with SemanticCache(HashingEmbedder(), cluster.url, name=name, timeout=3.0) as cache:
        questions = [Question(ASKED, context=str(number)) for number in range(30)]
        for question in questions:
            assert await way(cache.store, question, question.context)
        dead = {key.decode() for key in cluster.keys_on(cluster.nodes[2], f"{name}:*")}
        cluster.kill(cluster.nodes[2])
        for asked in (ASKED, REWORDED):
            hits = 0
            for question in questions:
                worded = Question(asked, context=question.context)
                outcome = await way(cache.lookup, worded)
                assert outcome or outcome.reason in ("error", "no_neighbour")
                if outcome:
                    assert outcome.answer == question.context
                    assert cache._address(question).key not in dead
                hits += bool(outcome)
            assert 0 < hits < len(questions)
        cluster.restart(cluster.nodes[2])
        wait_until(cluster.is_whole)
        assert await way(cache.store, questions[0], "again")
        assert (await way(cache.lookup, questions[0])).answer == "again"


@pytest.mark.parametrize("cluster", ["1.0.2", "1.2.1"], indirect=True)
async def test_what_a_script_wrote_is_found_whichever_node_is_asked(
    make: Make, way: Way, cluster: Cluster
) -> None:
    """The module puts it off until its own node is asked, or until as many come as it has cores."""
    cache, other = make(), make()
    rows = [(Question(ASKED, context=str(number)), str(number)) for number in range(20)]
    for question, answer in rows[:10]:
        assert await way(cache.store, question, answer)
        found = await way(other.lookup, Question(REWORDED, context=question.context))
        assert found.answer == answer
    await way(cache.store_many, rows[10:])
    for question, answer in rows[10:]:
        found = await way(other.lookup, Question(REWORDED, context=question.context))
        assert found.answer == answer


@pytest.mark.parametrize("cluster", ["1.0.2", "1.2.1"], indirect=True)
@pytest.mark.parametrize("index", ["flat", "search"])
async def test_no_command_names_keys_of_two_slots(
    make: Make, way: Way, cluster: Cluster, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that a cache does, as it came over the wire."""
    monkeypatch.setattr("valkey_semcache.index.flat._TIDY_AT", 2)
    monkeypatch.setattr("valkey_semcache.index.view._CHECK_AT", 4)
    with ExitStack() as stack:
        seen = [stack.enter_context(standin.counting()) for standin in cluster.standins]
        options: dict[str, Any] = {"index": index, "similarity_threshold": 0.8, "promote": True}
        cache, other = make(**options), make(**options)
        questions = [Question(spelled(number), context=str(number % 2)) for number in range(12)]
        for question in questions:
            await way(cache.store, question, "x", ttl=900)
        for _ in range(2):
            for question in questions:
                assert await way(
                    cache.lookup, Question(f"{question.text} please", question.context)
                )
        for question in questions[:8]:
            await way(cache.delete, question)
        assert not await way(other.lookup, Question(spelled(20), context="0"))
        await way(cache.clear, namespace="")
        await way(cache.clear)
    commands = [command for each in seen for command in each]
    names = {command.name for command in commands}
    assert {"HMGET", "EVALSHA", "UNLINK", "SCAN"} <= names
    assert ("FT.SEARCH" if index == "search" else "ZRANGE") in names
    with RawClient(cluster.nodes[0].port) as client:
        for command in commands:
            if command.name not in KEYLESS and not command.name.startswith("FT."):
                keys = client("COMMAND", "GETKEYS", command.name, *command.args)
                assert len({slot_of(key) for key in keys}) == 1, (command.name, keys)


KEYLESS = {"SCAN", "CLUSTER", "COMMAND", "INFO"}


def test_a_script_opens_no_key_but_the_one_it_is_given() -> None:
    sources = [x.text for x in vars(scripts).values() if isinstance(x, Source)]
    assert len(sources) > 3
    for source in sources:
        calls = re.findall(r"redis\.p?call\('\w+',\s*([^,)]+)", source)
        assert calls
        assert set(calls) == {"KEYS[1]"}, source
