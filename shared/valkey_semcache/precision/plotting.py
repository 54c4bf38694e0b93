"""Plots by matplotlib, which is imported when one is made.

Rule of this file: a plot shows itself in a notebook without a line of set-up, and needs no display
to be written into a file.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from valkey_semcache.errors import MissingPackageError

if TYPE_CHECKING:
    from valkey_semcache.precision.tuning import AtThreshold, Share, Tuning

_CURVES = {
    "precision": ("C0", "precision: right, of all served"),
    "recall": ("C2", "recall: served and right, of all that could be"),
    "wrong": ("C3", "wrong answers, of all asked"),
}


def figure(**options: Any) -> Any:
    """A matplotlib figure that a notebook shows, whether or not pyplot was imported there.

    Args:
        options: As for `matplotlib.figure.Figure`.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            "Plots need matplotlib: pip install 'valkey-semcache[plots]'"
        ) from error

    class Inline(Figure):
        def _repr_png_(self) -> bytes:
            return png(self)

    return Inline(**options)


def png(drawn: Any) -> bytes:
    """A figure as a PNG file."""
    data = io.BytesIO()
    drawn.savefig(data, format="png", dpi=110)
    return data.getvalue()


def tuning_figure(tuning: Tuning) -> Any:
    """Precision, recall and wrong answers by threshold, with their intervals.

    Args:
        tuning: What is shown.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    drawn = figure(figsize=(8, 4.5), layout="constrained")
    axes = drawn.subplots()
    rows = changing(tuning.rows)
    for name, (colour, label) in _CURVES.items():
        told = [row for row in rows if getattr(row, name).of]
        at = [row.threshold for row in told]
        shares: list[Share] = [getattr(row, name) for row in told]
        axes.plot(at, [share.value for share in shares], colour, label=label)
        low, high = [share.low for share in shares], [share.high for share in shares]
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    if tuning.threshold is not None:
        label = f"the cache's threshold, {tuning.threshold:g}"
        axes.axvline(tuning.threshold, color="grey", linestyle=":", label=label)
    axes.set_xlabel("similarity_threshold")
    axes.set_ylabel(f"share, with {tuning.confidence:.0%} intervals")
    axes.yaxis.set_major_formatter(lambda share, place: f"{share:.0%}")
    axes.set_ylim(0, 1.02)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.set_title(f"{tuning.pairs:,} labelled pairs", fontsize=10)
    drawn.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return drawn


def changing(rows: tuple[AtThreshold, ...]) -> tuple[AtThreshold, ...]:
    """Rows without those at the low end that are all alike, but for the last of them."""
    shares = [(row.precision, row.recall, row.wrong) for row in rows]
    alike = next((n for n, each in enumerate(shares) if each != shares[0]), len(rows))
    return rows[max(0, alike - 1) :]
