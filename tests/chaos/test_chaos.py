"""All faults, one after another in a random order, while sixteen workers ask and store.

No exception reaches a worker, no answer is wrong, every call ends in time, and after each fault
there are hits by meaning again. `make soak` runs the same for longer and writes down the figures.
"""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.faults import FAULTS, Site
from tests.chaos.fleet import ByWords, Fleet, right_answer
from tests.chaos.proxy import Proxy
from tests.conftest import Way
from tests.servers import Served
from tests.waiting import await_until, wait_until
from valkey_semcache import Question, SemanticCache
from valkey_semcache.stored.keys import entry_pattern

ENTRY = entry_pattern("semcache")
BROKEN_SECONDS = 0.2
DEADLINE = 5.0
"""Far above what a call may take (each wait is bounded by 0.5 s), for machines that are busy."""

ALWAYS_ERRORS = {
    *("killed_and_back_with_its_data", "killed_and_back_without_its_data", "paused"),
    *("replies_late", "no_replies", "replies_cut", "replies_garbage", "memory_full"),
    *("read_only_replica", "embedder_raises", "embedder_hangs", "embedder_gives_nan"),
    *("embedder_gives_infinities", "embedder_gives_zeros", "embedder_gives_another_dimension"),
    *("embedder_gives_an_empty_vector", "embedder_gives_none", "embedder_gives_two"),
}


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("index", ["flat", "search"])
def test_no_fault_is_noticed_but_by_misses(index: str, way: str) -> None:
    dice = random.Random(f"{index} {way}")
    order = sorted(FAULTS)
    dice.shuffle(order)
    with Site(index, seed=1) as site, site.cache() as cache:
        fleet = Fleet(cache, way, DEADLINE, seed=1)
        with fleet.at_work():
            fleet.until_hit_by_meaning(10)
            for name in order:
                before = cache.stats().errors
                mend = FAULTS[name](site)
                try:
                    time.sleep(BROKEN_SECONDS)
                    if name in ALWAYS_ERRORS:  # and it is counted
                        wait_until(lambda b=before: cache.stats().errors != b)
                finally:
                    mend()
                fleet.until_hit_by_meaning(10)
                assert not fleet.wrong, (name, [w.replace("x", "") for w in fleet.wrong[:3]])
                assert not fleet.raised, (name, fleet.raised[:3])
                assert not fleet.slow, (name, fleet.slow[:3])
        assert fleet.seen["exact"] > 50
        assert fleet.seen["semantic"] > 50
        assert cache.stats().breaker == "closed"
        keys = [key for key in site.admin.scan_iter("semcache:*") if ENTRY.fullmatch(key)]
        assert keys
        assert all(site.admin.pttl(key) != -1 for key in keys), "one without its TTL"


async def test_a_reply_that_drips_in_is_not_waited_for(either_index: Served, way: Way) -> None:
    question = Question("which colour have the apples", context="one")
    port = int(either_index.url.rpartition(":")[2].partition("?")[0])
    options = either_index.options | {"timeout": 0.3}
    with Proxy(port) as proxy:
        async with SemanticCache(ByWords(), **options | {"url": proxy.url}) as cache:
            await way(cache.store, question, right_answer("apples", "one"))
            assert (await way(cache.lookup, question)).tier == "exact"
            proxy.seconds, proxy.manner = 0.01, "drip"
            began = time.monotonic()
            assert (await way(cache.lookup, question)).reason == "error"
            # Byte by byte the reply takes more than three seconds, none of them 0.3 by itself.
            assert time.monotonic() - began < 1.5
            proxy.manner = "well"
            proxy.hang_up()
            await await_until(lambda: cache.lookup(question))
