"""The statistics behind `Verified`: the limits hold as often as they say, and what is learned from
labels keeps the bound under error curves that are known."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valkey_semcache.precision.bounds import Change, anytime_limit, clopper_pearson, logistic
from valkey_semcache.precision.learning import LEAST_LABELS, LOWEST, Evidence, Label, Learned
from valkey_semcache.stored.labels import packed, unpacked
from valkey_semcache.stored.sealing import Seal

counts = st.integers(0, 60).flatmap(lambda k: st.tuples(st.just(k), st.integers(max(k, 1), 200)))


@pytest.mark.parametrize(
    ("errors", "trials", "limit"),
    # One-sided 95% limits, as in C. Clopper and E. Pearson's charts and `binom.test` of R.
    [(0, 10, 0.2589), (1, 10, 0.3942), (3, 50, 0.1478), (10, 10, 1.0), (0, 0, 1.0)],
)
def test_limits_that_are_known(errors: int, trials: int, limit: float) -> None:
    assert clopper_pearson(errors, trials, 0.05) == pytest.approx(limit, abs=2e-4)


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0.001, 0.4))
def test_limits_move_with_what_was_seen(case: tuple[int, int], alpha: float) -> None:
    errors, trials = case
    limit = clopper_pearson(errors, trials, alpha)
    assert errors / trials <= limit <= 1
    assert clopper_pearson(errors, trials + 20, alpha) <= limit, "more trials"
    assert clopper_pearson(errors + 1, trials + 1, alpha) >= limit, "one more error"
    assert clopper_pearson(errors, trials, alpha / 2) >= limit, "more confidence"
    expected = anytime_limit(errors, alpha)
    assert errors < expected < anytime_limit(errors + 1, alpha)
    assert anytime_limit(errors, alpha / 2) > expected
    # Looking once, and a Poisson count: never wider than what holds at all times.
    assert expected > _once(errors, alpha)


def _once(events: int, alpha: float) -> float:
    """Garwood's exact limit of a Poisson mean (1936)."""
    low, high = float(events), 20.0 + 4 * events
    for _ in range(50):
        mean = (low + high) / 2
        terms = (k * math.log(mean) - math.lgamma(k + 1) - mean for k in range(events + 1))
        low, high = (mean, high) if sum(map(math.exp, terms)) > alpha else (low, mean)
    return high


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.floats(0.001, 0.6), st.sampled_from([0.01, 0.05, 0.2]))
def test_clopper_pearson_covers_whatever_the_rate(trials: int, rate: float, alpha: float) -> None:
    missed = sum(
        math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k)
        for k in range(trials + 1)
        if clopper_pearson(k, trials, alpha) < rate
    )
    assert missed <= alpha + 1e-9


def test_the_anytime_limit_holds_at_all_times_where_one_look_s_does_not() -> None:
    """Who looks after every request must not use limits that were made for one look."""
    alpha, rate, runs, steps = 0.05, 0.05, 500, 2_000
    events = (np.random.default_rng(0).random((runs, steps)) < rate).cumsum(axis=1)
    expected = rate * np.arange(1, steps + 1)
    most = int(events.max()) + 1
    always = np.array([anytime_limit(k, alpha) for k in range(most)])
    once = np.array([_once(k, alpha) for k in range(most)])
    ever = {
        name: float((limits[events] < expected).any(axis=1).mean())
        for name, limits in (("always", always), ("once", once))
    }
    assert ever["always"] <= alpha
    assert ever["once"] > 2 * alpha, "the correction is needed"


def test_the_model_finds_the_curve_that_made_the_labels() -> None:
    chance = np.random.default_rng(1)
    rows = np.c_[np.ones(4_000), chance.uniform(0.5, 1, 4_000)]
    truth = np.array([-9.0, 13.0])
    right = (chance.random(4_000) < 1 / (1 + np.exp(-rows @ truth))).astype(float)
    found = logistic(rows, right, np.zeros(2), np.full(2, 0.01))
    assert found == pytest.approx(truth, abs=1.5)
    prior = np.array([-7.0, 10.0])
    assert logistic(rows[:0], right[:0], prior, np.ones(2)) == pytest.approx(prior)


def test_a_change_is_seen_soon_and_steadiness_is_none() -> None:
    chance = random.Random(2)
    change = Change()
    for _ in range(5_000):
        risk = chance.uniform(0.01, 0.4)
        assert change.sees(risk, chance.random() < risk) is None
    number, since = 0, None
    while since is None and number < 150:
        number, risk = number + 1, chance.uniform(0.01, 0.4)
        since = change.sees(risk, chance.random() < 0.3 + 0.5 * risk)
    assert since is not None
    assert 4_900 <= since <= 5_000 + number, "the labels of the new world"


# What is learned


def curve(similarity: float) -> float:
    """Probability of an error in a made-up world: one half at 0.62, 1% at 0.95."""
    return 1 / (1 + math.exp(14 * (similarity - 0.62)))


def lived(
    learned: Learned, requests: int, seed: int, explore: float = 0.05, world: Any = curve
) -> tuple[float, float]:
    """Shares of requests that were served and that were answered wrongly."""
    chance = random.Random(seed)
    served = wrong = since = asked = 0
    for number in range(requests):
        asked += 1
        similarity = chance.uniform(0.5, 1.0)
        is_wrong = chance.random() < world(similarity)
        entry = number.to_bytes(8, "big")
        evidence = learned.evidence(entry, similarity, ())
        sure = learned.is_sure(evidence)
        if sure and chance.random() >= explore:
            served, wrong, since = served + 1, wrong + is_wrong, since + 1
            continue
        weight = 1.0 + since if sure else 1.0
        since = 0 if sure else since
        risk = learned.risk(evidence)
        learned.add([Label(evidence, entry, entry[::-1], not is_wrong, weight, asked, risk)])
        asked = 0
    return served / requests, wrong / requests


@pytest.mark.parametrize("bound", [0.01, 0.05])
def test_the_bound_is_kept_in_19_of_20_runs_and_much_is_served(bound: float) -> None:
    # What a threshold chosen with full knowledge of the world would serve.
    grid = np.linspace(0.5, 1, 2_000)
    errors = np.cumsum([curve(s) for s in grid[::-1]]) / len(grid)
    best = np.searchsorted(errors, bound) / len(grid)
    kept, shares = 0, []
    for seed in range(20):
        served, wrong = lived(Learned(bound, 0.05, 10_000), 2_500, seed)
        kept += wrong <= bound
        shares.append(served)
    assert kept >= 19
    assert float(np.mean(shares)) > 0.55 * best


def test_nothing_is_served_before_there_are_labels_and_all_of_a_hopeless_world_is_refused() -> None:
    learned = Learned(0.05, 0.05, 10_000)
    assert lived(learned, LEAST_LABELS, 0) == (0, 0)
    hopeless = Learned(0.05, 0.05, 10_000)
    served, wrong = lived(hopeless, 1_500, 0, world=lambda similarity: 0.5)
    assert wrong <= 0.05
    assert served < 0.1


def test_a_looser_bound_serves_at_least_as_far_down() -> None:
    strict = Learned(0.01, 0.05, 10_000)
    lived(strict, 1_500, 3)
    boundaries = []
    for bound in (0.005, 0.01, 0.02, 0.05, 0.1):
        other = Learned(bound, 0.05, 10_000)
        other.add(strict.labels)
        other.fit()
        boundaries.append(other.boundary)
        assert all(step.bound <= other.allowed <= 2 * bound for step in other.table if step.held)
    assert boundaries == sorted(boundaries, reverse=True)
    assert boundaries[0] > boundaries[-1]


def test_processes_with_the_same_labels_come_to_the_same() -> None:
    one = Learned(0.05, 0.05, 10_000)
    lived(one, 800, 4)
    other = Learned(0.05, 0.05, 10_000)
    other.add(one.labels)
    one.fit()
    other.fit()
    assert other.boundary == pytest.approx(one.boundary)
    assert other.weights == pytest.approx(one.weights)


def test_when_the_world_changes_what_came_before_is_forgotten_and_it_recovers() -> None:
    learned = Learned(0.05, 0.05, 10_000)
    assert lived(learned, 2_500, 5)[0] > 0.2
    _, wrong = lived(learned, 400, 6, world=lambda s: 0.7 if s > 0.8 else 0.9)
    assert learned.changes == 1
    assert wrong < 0.2, "it takes some wrong answers to see it"
    assert len(learned) < 600
    lived(learned, 400, 7, world=lambda s: 0.7 if s > 0.8 else 0.9)
    assert lived(learned, 400, 8, world=lambda s: 0.7)[0] < 0.05
    again = lived(learned, 3_000, 9)
    assert again[0] > 0.2
    assert again[1] <= 0.05


def test_only_the_newest_labels_count() -> None:
    learned = Learned(0.05, 0.05, 100)
    for number in range(500):
        evidence = Evidence(0.9, 0.1, 0, 0, 0)
        learned.add([Label(evidence, b"entry", number.to_bytes(8, "big"), True)])
    assert 100 <= len(learned) <= 110
    assert learned.evidence(b"entry", 0.9, ()).right == len(learned)
    assert learned.labels[-1].asked == (499).to_bytes(8, "big")


def test_entries_that_were_found_to_hold_one_answer_speak_for_each_other() -> None:
    learned = Learned(0.05, 0.05, 1_000)
    nothing = learned.evidence(b"a", 0.9, [(b"b", 0.85), (b"c", 0.8)])
    assert nothing == Evidence(0.9, pytest.approx(0.05), 0, 0, 0)
    learned.add([Label(nothing, b"a", b"b", True), Label(nothing, b"b", b"c", True)])
    agreed = learned.evidence(b"a", 0.9, [(b"b", 0.85), (b"c", 0.8)])
    assert agreed == Evidence(0.9, pytest.approx(0.1), 1, 0, 2)
    learned.add([Label(nothing, b"a", b"d", False)])
    rival = learned.evidence(b"a", 0.9, [(b"b", 0.85), (b"d", 0.8)])
    assert rival == Evidence(0.9, pytest.approx(0.1), 1, 1, 1)
    alone = learned.evidence(b"a", 0.9, [(b"d", LOWEST - 0.1)])
    assert alone.margin == pytest.approx(0.9 - LOWEST)


def test_an_entry_that_was_caught_out_is_trusted_less_and_one_that_was_right_more() -> None:
    learned = Learned(0.05, 0.05, 10_000)
    lived(learned, 1_500, 10)
    risks = [learned.risk(Evidence(0.8, 0.1, *counts, 0)) for counts in ((4, 0), (0, 0), (0, 4))]
    assert risks == sorted(risks)
    assert risks[0] < risks[-1]


# As they are stored

labels = st.builds(
    Label,
    st.builds(
        Evidence,
        st.floats(-1, 1, width=32),
        st.floats(-2, 2, width=32),
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.integers(0, 2),
    ),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.booleans(),
    st.floats(0, 1e6, width=32),
    st.floats(0, 1e6, width=32),
    st.floats(0, 1, width=32),
)
SEAL = Seal([b"a key of sixteen bytes or more"])


@settings(max_examples=50, deadline=None)
@given(labels)
def test_a_label_comes_back_as_it_was(label: Label) -> None:
    assert unpacked("k", packed("k", label, None), None) == label
    signed = packed("k", label, SEAL)
    assert unpacked("k", signed, SEAL) == label
    assert unpacked("k", signed, Seal([b"another key of sixteen bytes", *[]])) is None
    assert unpacked("of another family", signed, SEAL) is None
    assert unpacked("k", packed("k", label, None), SEAL) is None, "not signed at all"
    assert unpacked("k", signed, None) == label, "who asks for no signature reads it all the same"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120) | st.binary(min_size=48, max_size=52).map(lambda b: b"\x01" + b))
def test_what_is_no_label_is_none_or_a_sound_one(data: bytes) -> None:
    label = unpacked("k", data, None)
    if label is not None:
        numbers = (label.evidence.similarity, label.evidence.margin, label.weight, label.requests)
        assert all(map(math.isfinite, numbers))
        assert math.isnan(label.risk) or 0 <= label.risk <= 1
    assert unpacked("k", data, SEAL) is None
