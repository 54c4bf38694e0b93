"""What a user sees who prints an outcome, or leaves it as a notebook cell's last line."""

from __future__ import annotations

from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import Hit, Miss, Neighbour, SemanticCache

HIT = Hit("semantic", 0.95, "a <b> question", "an answer", 3.21, "gpt-4o", {}, "key")
MISS = Miss("below_threshold", "similarity 0.8 < 0.9", Neighbour("near & far", 0.8, "x", "key"))


def test_a_hit_and_a_miss_are_true_and_false() -> None:
    assert HIT
    assert not MISS


def test_printed() -> None:
    assert str(HIT).splitlines() == [
        "hit         semantic",
        "similarity  0.9500",
        "question    a <b> question",
        "answer      an answer",
        "age         3.2 s",
        "model       gpt-4o",
    ]
    assert "nearest     near & far" in str(MISS)
    assert (
        repr(HIT) == "Hit(tier='semantic', similarity=0.9500, question='a <b> question', age=3.2)"
    )
    assert "nearest=0.8000 'near & far'" in repr(MISS)


def test_in_a_notebook_everything_is_escaped() -> None:
    assert "a &lt;b&gt; question" in HIT._repr_html_()
    assert "near &amp; far" in MISS._repr_html_()
    assert "<b>" not in HIT._repr_html_()


def test_a_long_answer_is_cut_for_showing_only() -> None:
    hit = Hit("exact", 1.0, None, "x" * 10_000, 0.0, "", {}, "key")
    assert len(str(hit)) < 500
    assert "(not kept)" in str(hit)
    assert len(hit.answer) == 10_000


def test_stats(plain: Served) -> None:
    with SemanticCache(HashingEmbedder(), **plain.options) as cache:
        cache.lookup("a")
        cache.store("a", "x")
        cache.lookup("a")
        stats = cache.stats()
    lines = [" ".join(line.split()) for line in str(stats).splitlines()]
    for line in ("look-ups 2", "hit rate 50.0%", "hits exact 1", "misses no_neighbour 1"):
        assert line in lines
    assert "index flat" in lines
    assert "<td" in stats._repr_html_()
