"""The flat index's screen leaves out no row that was asked for, whatever the rows are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valkey_semcache.index import blocks, view
from valkey_semcache.index.blocks import Blocks
from valkey_semcache.index.screen import Screen
from valkey_semcache.index.view import View


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype("<f4")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screens from the first row on, and blocks of few rows."""
    monkeypatch.setattr(view, "WORTH", 0)
    monkeypatch.setattr(blocks, "_BYTES", 2**14)


def rows_like(rng: np.random.Generator, kind: str, count: int, dimension: int) -> Any:
    rows = rng.standard_normal((count, dimension))
    if kind == "decaying":
        rows *= 0.9 ** np.arange(dimension)
    elif kind == "few directions":
        rows[:, 3:] *= 1e-4
    elif kind == "clusters":
        rows = rows[rng.integers(0, 5, count)] + 0.2 * rows
    elif kind == "twins":
        rows = rows[rng.integers(0, 1 + count // 4, count)]
    return unit(rows @ np.linalg.qr(rng.standard_normal((dimension, dimension)))[0])


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["random", "decaying", "few directions", "clusters", "twins"]),
    size=st.integers(1, 700),
    dimension=st.sampled_from([5, 16, 64, 200]),
    near=st.floats(0.0, 1.0),
    least=st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.8, 0.9, 0.95, 1.0])),
)
def test_the_best_above_the_threshold_are_those_of_the_plain_product(
    small: None, seed: int, kind: str, size: int, dimension: int, near: float, least: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_like(rng, kind, size + 30, dimension)
    here = {str(n): row for n, row in enumerate(rows[:size])}
    copy = View(dimension, 10_000)
    copy.apply(b"~t", 0, 1, here)
    for turn in range(3):
        asked = unit(
            near * rows[rng.integers(size)] + (1 - near) * unit(rng.standard_normal(dimension))
        )
        names = list(here)
        products = dict(zip(names, (np.array(list(here.values())) @ asked).tolist(), strict=True))
        best = sorted(products.values(), reverse=True)
        for count in 1, 3, 40:
            found = copy.best(asked, count, least)
            assert [products[name] for name, _ in found] == pytest.approx(
                [similarity for _, similarity in found], abs=1e-5
            )
            owed = [product for product in best[:count] if product >= least + 1e-5]
            if best[0] < least - 1e-5:
                owed = best[:count]
            assert [s for _, s in found][: len(owed)] == pytest.approx(owed, abs=1e-5)
        # Without the plain product behind it, which finds what the screen alone would miss.
        if (screen := copy._screen) is not None:
            wanted = max(0.01, best[0] - 0.1 * rng.uniform())
            left = screen.near(copy._rows, copy.size, asked, wanted)
            owed = [row for row, name in enumerate(copy.digests()) if products[name] >= wanted]
            assert left is None or set(owed) <= set(left.tolist())
        # Some come, some are replaced, some go.
        changed = {str(size + turn): rows[size + turn], names[0]: rows[size + 10 + turn]}
        copy.apply(b"~t", 1, 2, changed)
        here |= changed
        for gone in rng.choice(list(here), min(3, len(here) - 1), replace=False):
            copy.discard(str(gone))
            del here[str(gone)]


def test_what_is_left_of_a_row_counts_however_little_it_is(small: None) -> None:
    """Float32's squares do not tell 3e-4 of a unit vector from nothing."""
    rng = np.random.default_rng(1)
    within = unit(rng.standard_normal((600, 3)))
    held = Blocks(64, 1_000)
    held.reserve(600)
    for little in np.linspace(1e-4, 9e-4, 60):
        axes = np.linalg.qr(rng.standard_normal((64, 64)))[0]
        for place, row in enumerate(within @ axes[:3]):
            held[place] = row
        for along in 0.05, 0.5, 0.95:
            held[7] = unit(axes[0] + little * axes[9])
            asked = (along * axes[0] + (1 - along**2) ** 0.5 * axes[9]).astype("<f4")
            product = float(held[7] @ asked)
            left = Screen(held, 600, 0.9).near(held, 600, asked, product)
            assert left is None or 7 in left, (little, along)


def test_most_rows_are_left_out_at_the_usual_thresholds() -> None:
    rng = np.random.default_rng(2)
    for kind, share in ("random", 0.05), ("decaying", 0.1):
        rows = rows_like(rng, kind, 4_000, 384)
        held = Blocks(384, 4_000)
        held.reserve(4_000)
        for place, row in enumerate(rows):
            held[place] = row
        screen = Screen(held, 4_000, 0.9)
        assert screen.nbytes < 0.21 * held.nbytes
        left = [screen.near(held, 4_000, rows[place], 0.9) for place in range(0, 4_000, 100)]
        assert all(place * 100 in rows_left for place, rows_left in enumerate(left))  # type: ignore[operator]
        assert np.mean([len(rows_left) for rows_left in left]) < share * 4_000  # type: ignore[arg-type]


def test_rows_keep_their_numbers_over_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BYTES", 40 * 4 * 16)
    rows = unit(np.random.default_rng(3).standard_normal((205, 16)))
    held = Blocks(16, 205)
    for place, row in enumerate(rows):
        held.reserve(place + 1)
        held[place] = row
    assert held.nbytes == rows.nbytes, "no more room than there may ever be rows"
    assert held.products(205, rows[7]) == pytest.approx(rows @ rows[7], abs=1e-6)
    some = np.array([0, 39, 40, 41, 119, 120, 204])
    assert (held.taken(some) == rows[some]).all()
    spans = list(held.spans(205, 50))
    assert [start for start, _ in spans] == [50, 80, 120, 160, 200]
    assert (np.concatenate([part for _, part in spans]) == rows[50:]).all()
    held.clear()
    assert held.nbytes == 0
