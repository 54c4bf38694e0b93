"""The choice between two indexes, walked with made-up times and no server.

The times are those of a server with 100,000 entries of 384 dimensions, by entries in the scope,
with the noise of a busy machine.
"""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import median

import pytest

from valkey_semcache.index.chooser import SLOW, Chooser, Plan

PATIENCE = 0.4
MS = {  # entries in the scope: FLAT, HNSW
    50: (0.34, 0.28),
    200: (0.46, 123.0),
    1_000: (0.92, 43.0),
    5_000: (5.5, 12.6),
    20_000: (35.0, 6.0),
    100_000: (232.0, 1.1),
}


class Server:
    """Takes its time, with a long tail and a hiccup now and then; keeps to its time limit."""

    def __init__(self, seed: int, milliseconds: tuple[float, float]) -> None:
        self.random = random.Random(seed)
        self.times = dict(zip(("FLAT", "HNSW"), milliseconds, strict=True))
        self.spent: list[float] = []
        self.asked: list[str] = []

    def look_up(self, chooser: Chooser, scope: str) -> None:
        plan = chooser.plan(scope, both=True)
        spent = self.search(chooser, scope, plan)
        self.spent.append(spent)

    def search(self, chooser: Chooser, scope: str, plan: Plan) -> float:
        self.asked.append(plan.algorithm)
        noise = self.random.lognormvariate(0, 0.2) + (self.random.random() < 0.01) * 20
        seconds = (0.1 + self.times[plan.algorithm] * noise) / 1000
        limit = PATIENCE if plan.seconds is None else min(plan.seconds, PATIENCE)
        if seconds < limit or plan.otherwise is None:
            chooser.saw(scope, plan.algorithm, seconds)
            return min(seconds, limit)
        chooser.ran_out(scope, plan.algorithm, limit)
        return limit + self.search(chooser, scope, Plan(plan.otherwise))


@pytest.mark.parametrize("entries", MS)
@pytest.mark.parametrize("seed", range(5))
def test_the_median_is_within_twice_the_better_one(entries: int, seed: int) -> None:
    chooser = Chooser(PATIENCE)
    chooser.arrived(0.0002)
    server = Server(seed, MS[entries])
    for _ in range(1000):
        server.look_up(chooser, "scope")
    better = (0.1 + min(MS[entries])) / 1000
    assert median(server.spent) < 2 * better
    # What is spent on trying the other one is bounded, too.
    assert sum(server.spent) < 1000 * 2 * better + 3 * PATIENCE
    assert max(server.spent) < 2 * PATIENCE


@pytest.mark.parametrize("entries", MS)
def test_of_scopes_of_all_sizes_at_once_each_gets_its_own(entries: int) -> None:
    chooser = Chooser(PATIENCE)
    servers = {str(n): Server(n, times) for n, times in MS.items()}
    for _ in range(800):
        for scope, server in servers.items():
            server.look_up(chooser, scope)
    server = servers[str(entries)]
    better = "FLAT" if MS[entries][0] <= MS[entries][1] or entries < 5000 else "HNSW"
    assert server.asked[-300:].count(better) >= 290
    assert chooser.served() == 2


def test_a_scope_that_changes_its_size_changes_over() -> None:
    chooser = Chooser(PATIENCE)
    chooser.arrived(0.0002)
    server = Server(1, MS[1_000])
    for entries in (1_000, 100_000, 20_000, 5_000, 200):
        server.times = dict(zip(("FLAT", "HNSW"), MS[entries], strict=True))
        for _ in range(1500):
            server.look_up(chooser, "scope")
        better = min(server.times, key=lambda name: server.times[name])
        assert server.asked[-200:].count(better) >= 180, entries


def test_two_that_are_alike_do_not_change_places_all_the_time() -> None:
    chooser = Chooser(PATIENCE)
    chooser.arrived(0.0002)
    server = Server(2, (10.0, 9.0))
    served = []
    for _ in range(3000):
        server.look_up(chooser, "scope")
        served.append(chooser.served())
    changes = sum(a != b for a, b in pairwise(served))
    assert changes <= 3


def test_quick_scopes_leave_nothing_behind_and_slow_ones_a_bounded_number() -> None:
    chooser = Chooser(PATIENCE)
    for number in range(5000):
        chooser.saw(f"quick {number}", "FLAT", 0.0003)
    assert chooser.remembered == 0
    for number in range(5000):
        chooser.saw(f"slow {number}", "FLAT", 0.0003 + 2 * SLOW)
    assert 0 < chooser.remembered <= 1024


def test_a_scope_that_was_counted_as_small_is_left_in_peace_for_a_while() -> None:
    chooser = Chooser(PATIENCE)
    chooser.arrived(0.0002)
    for _ in range(5):
        assert not chooser.to_count("scope")
        chooser.saw("scope", "FLAT", 0.02)
    assert chooser.to_count("scope")
    chooser.counted("scope", large=False)
    for _ in range(1000):
        assert not chooser.to_count("scope")
        assert chooser.plan("scope", both=True).algorithm == "FLAT"
        chooser.saw("scope", "FLAT", 0.02)
    for _ in range(2000):
        chooser.saw("scope", "FLAT", 0.02)
    assert chooser.to_count("scope"), "it may have grown"


def test_without_an_hnsw_index_there_is_nothing_to_choose() -> None:
    chooser = Chooser(PATIENCE)
    for _ in range(10):
        chooser.saw("scope", "FLAT", 0.2)
        assert chooser.plan("scope", both=False) == Plan("FLAT")
