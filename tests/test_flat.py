"""The flat index by itself: right across processes, bounded in memory, tidy."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder, hashed
from tests.servers import Served
from tests.waiting import wait_until
from tests.words import word
from valkey_semcache import Question, SemanticCache
from valkey_semcache.index import flat
from valkey_semcache.index import view as views
from valkey_semcache.index.view import View, Views

WORDS = [
    *("red", "green", "blue", "small", "large", "old", "new", "fast", "slow"),
    *("cat", "dog", "bird", "fish", "tree", "house"),
]


def cache_on(served: Served, **options: Any) -> SemanticCache:
    # The oracle goes by similarity alone.
    given = {"on_error": "raise", "similarity_threshold": 0.0, "guards": ()}
    return SemanticCache(HashingEmbedder(), **(served.options | given | options))


def similarity(one: str, other: str) -> float:
    a, b = (np.array(hashed(text)) for text in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class Oracle:
    """What is stored, in a dictionary, and what is nearest in it."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    def nearest(self, asked: str) -> tuple[set[str], float]:
        """The answers of the nearest texts, more than one where they are equally near."""
        scored = [(similarity(asked, text), answer) for text, answer in self.answers.items()]
        best = max(scored)[0]
        return {answer for score, answer in scored if score > best - 1e-5}, best


async def test_it_agrees_with_an_oracle_over_stores_deletes_expiries_and_clears(
    plain: Served, way: Way
) -> None:
    rng = random.Random(7)
    oracle = Oracle()
    async with cache_on(plain) as one, cache_on(plain) as other:
        for step in range(400):
            writer, reader = rng.sample([one, other], 2)
            text = " ".join(sorted(rng.sample(WORDS, 4)))
            action = rng.random()
            if action < 0.55 or not oracle.answers:
                oracle.answers[text] = str(step)
                await way(writer.store, text, str(step))
            elif action < 0.75:
                gone = rng.choice(sorted(oracle.answers))
                del oracle.answers[gone]
                assert await way(writer.delete, gone)
            elif action < 0.95:
                gone = rng.choice(sorted(oracle.answers))
                del oracle.answers[gone]
                await way(writer.store, gone, "x", ttl=0.001)
                await expired(plain, key_of(writer, gone))
            elif action < 0.97:
                oracle.answers.clear()
                await way(writer.clear)
            asked = " ".join(rng.sample(WORDS, 4))
            outcome = await way(reader.lookup, asked)
            if not oracle.answers:
                assert not outcome
                continue
            answers, best = oracle.nearest(asked)
            if best >= 0 and asked not in oracle.answers:
                assert outcome.answer in answers
                assert outcome.similarity == pytest.approx(best, abs=1e-5)


async def expired(served: Served, key: str) -> None:
    wait_until(lambda: not served.admin.exists(key))


def key_of(cache: SemanticCache, text: str) -> str:
    return cache._address(text).key


WORKER = """
import sys
from tests.embedders import HashingEmbedder
from tests.waiting import wait_until
from tests.words import word
from valkey_semcache import SemanticCache
url, name, worker = sys.argv[1:]
with SemanticCache(HashingEmbedder(), url, name=name, index="flat", on_error="raise") as cache:
    for number in range(60):
        cache.store(f"{word(int(worker))} {word(100 + number)} ab", f"{worker}-{number}")
        other = (int(worker) + number) % 4
        cache.lookup(f"{word(other)} {word(100 + number)} ab please")
"""


def test_ten_processes_leave_what_an_eleventh_finds(plain: Served) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, plain.url, plain.name, str(worker)])
        for worker in range(10)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 10
    with cache_on(plain) as cache:
        for worker in range(10):
            for number in range(0, 60, 7):
                text = f"{word(worker)} {word(100 + number)} ab ?"
                assert cache.lookup(text).answer == f"{worker}-{number}"  # type: ignore[union-attr]


async def test_a_log_that_is_gone_or_begun_anew_is_read_again(plain: Served, way: Way) -> None:
    async with cache_on(plain) as one, cache_on(plain) as other:
        for number in range(5):
            await way(one.store, f"red cat {word(number)}", str(number))
        assert await way(other.lookup, f"red cat {word(3)} now")
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        plain.admin.unlink(log)
        for cache in (one, other):
            miss = await way(cache.lookup, f"red cat {word(3)} today")
            assert miss.reason == "no_neighbour", "only the exact tier finds them"
            assert (await way(cache.lookup, f"red cat {word(3)}")).answer == "3"
        for number in range(7, 9):
            await way(one.store, f"blue dog {word(number)}", str(number))
        for cache in (one, other):
            assert (await way(cache.lookup, f"blue dog {word(8)} now")).answer == "8"


async def test_a_log_that_lost_its_end_in_a_failover_is_read_on(plain: Served, way: Way) -> None:
    async with cache_on(plain) as reader, cache_on(plain) as writer:
        await way(writer.store, "an early question", "1")
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        replicated = plain.admin.dump(log)
        await way(writer.store, "a lost question", "2")
        assert (await way(reader.lookup, "the a lost question")).answer == "2"
        # What a replica serves that takes over without the last write, and then goes on.
        await way(writer.delete, "a lost question")
        plain.admin.restore(log, 0, replicated, replace=True)
        await way(writer.store, "another new question", "3")
        assert (await way(reader.lookup, "the another new question")).answer == "3"
        assert (await way(reader.lookup, "the a lost question")).answer != "2"


async def test_a_key_of_another_type_among_the_entries_is_passed_over(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain) as writer:
        for text in ("red cat", "red dog", "red bird"):
            await way(writer.store, text, text)
        plain.admin.unlink(key_of(writer, "red dog"))
        plain.admin.set(key_of(writer, "red dog"), "not an entry")
        for cache in (writer, cache_on(plain)):
            assert (await way(cache.lookup, "red dog bird")).answer == "red bird"
            await cache.aclose()


async def test_many_dead_neighbours_do_not_hide_one_alive(plain: Served, way: Way) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, "red cat", "alive")
        for number in range(60):
            await way(cache.store, f"red cat blue {word(number)}", "dead")
        assert (await way(cache.lookup, "red cat blue")).answer == "dead"
        for number in range(60):
            plain.admin.unlink(key_of(cache, f"red cat blue {word(number)}"))
        assert (await way(cache.lookup, "red cat blue")).answer == "alive"


async def test_a_foreign_value_in_place_of_the_log_gives_way(plain: Served, way: Way) -> None:
    async with cache_on(plain, on_error="miss") as cache:
        await way(cache.store, "red cat", "x")
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        plain.admin.unlink(log)
        plain.admin.set(log, "not a log")
        assert (await way(cache.lookup, "red cat now")).reason == "no_neighbour"
        assert (await way(cache.lookup, "red cat")).answer == "x"
        await way(cache.store, "red dog", "y")
        assert (await way(cache.lookup, "red dog now")).answer == "y"


async def test_vectors_spoilt_in_valkey_never_hit(plain: Served, way: Way) -> None:
    spoilt = [b"", b"\x00" * 256, b"\xff" * 256, np.full(64, np.nan, "<f4").tobytes(), b"x" * 64]
    async with cache_on(plain) as writer:
        for vector in spoilt:
            await way(writer.store, "red cat", "x")
            plain.admin.hset(key_of(writer, "red cat"), "v", vector)
            async with cache_on(plain) as reader:
                assert not await way(reader.lookup, "red cat now")


async def test_meta_comes_back_after_another_process_has_cleared(plain: Served, way: Way) -> None:
    async with cache_on(plain) as one, cache_on(plain) as other:
        for cache in (one, other):
            await way(cache.store, "red cat", "x")
            assert await way(cache.lookup, "red cat now")
        await way(one.clear)
        await way(other.lookup, "red cat today")
        assert plain.admin.hget(f"{plain.name}:meta", "index") == b"flat"


async def test_the_first_store_of_a_scope_brings_meta_back_too(
    plain: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache_on(plain) as cache:
        await way(cache.store, "red cat", "x")
        plain.admin.unlink(f"{plain.name}:meta")
        await way(cache.store, Question("red cat", context="soon"), "x")
        assert not plain.admin.exists(f"{plain.name}:meta"), "not at every store"
        monkeypatch.setattr(flat, "_REMIND_SECONDS", 0.0)
        await way(cache.store, Question("red cat", context="later"), "x")
        assert plain.admin.hget(f"{plain.name}:meta", "index") == b"flat"


async def test_logs_lose_their_dead(plain: Served, way: Way) -> None:
    """What expired or was deleted leaves the log once it is much, and the copy with it."""
    async with cache_on(plain) as cache:
        for number in range(100):
            cache.store(word(number), "x", ttl=60 if number < 20 else 0.001)
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        assert plain.admin.zcard(log) == 101
        wait_until(lambda: len(plain.entries()) == 20)
        async with cache_on(plain) as fresh:
            assert await way(fresh.lookup, f"{word(10)} ?")
        assert plain.admin.zcard(log) == 21


async def test_a_long_running_process_lets_its_dead_go(
    plain: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_CHECK_AT", 50)
    async with cache_on(plain) as cache:
        for number in range(400):
            await way(cache.store, word(number), "x")
            if number >= 20:
                await way(cache.delete, word(number - 20))
            if number % 10 == 0:
                await way(cache.lookup, f"other {word(number)}")
        index = cache._flows.index
        view = index._views.get(cache._address("text").scope)  # type: ignore[union-attr]
        assert view.size <= 130
        (log,) = plain.admin.scan_iter(f"{plain.name}:log:*")
        assert plain.admin.zcard(log) <= 131
        assert (await way(cache.lookup, f"{word(399)} ?")).answer == "x"


async def test_memory_stays_within_its_bound(plain: Served, way: Way) -> None:
    bound = 2**20
    async with cache_on(plain, flat_max_bytes=bound) as cache:
        for number in range(1_300):
            question = Question("red cat", context=str(number))
            await way(cache.lookup, question)
            cache.store(question, "x")
        held = cache._flows.index._views  # type: ignore[union-attr]
        assert held.nbytes <= bound
        assert sum(v._rows.nbytes for v in held._views.values()) <= bound
        for number in range(2_500):
            cache.store(word(number), "x")
        assert await way(cache.lookup, f"{word(2499)} ?")
        held = cache._flows.index._views  # type: ignore[union-attr]
        assert held.nbytes <= bound * 1.1
        # The oldest of a scope too large are out of the copy, not out of the cache.
        assert (await way(cache.lookup, word(0))).tier == "exact"


# Copies by themselves


def unit(rng: np.random.Generator, rows: int, dimension: int = 16) -> Any:
    matrix = rng.standard_normal((rows, dimension))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype("<f4")


def test_a_copy_finds_what_a_plain_product_finds() -> None:
    rng = np.random.default_rng(3)
    view, rows = View(16, 10_000), unit(rng, 500)
    view.apply(b"~t", 0, 500, {str(n): row for n, row in enumerate(rows)})
    for gone in rng.choice(500, 200, replace=False):
        view.discard(str(gone))
    alive = [int(d) for d in view.digests()]
    for query in unit(rng, 50):
        for count in (1, 3, 16, 17, 40, 400):
            expected = sorted(alive, key=lambda n: -float(rows[n] @ query))[:count]
            found = view.best(query, count)
            assert [int(digest) for digest, _ in found] == expected
            similarities = [float(rows[n] @ query) for n in expected]
            assert [s for _, s in found] == pytest.approx(similarities, abs=1e-6)


def test_a_large_copy_finds_through_a_screen_what_a_plain_product_finds() -> None:
    rng = np.random.default_rng(7)
    # Questions have subjects: around each some are alike, and others less so.
    towards = unit(rng, 40, 256)[rng.integers(0, 40, 8_000)]
    rows = towards + rng.uniform(0.1, 1.2, (8_000, 1)).astype("<f4") * unit(rng, 8_000, 256)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    here = {str(n): row for n, row in enumerate(rows[:6_000])}
    view = View(256, 20_000)
    view.apply(b"~t", 0, 6_000, here)
    screened = 0
    for n in range(6_000, 6_030):
        # Between look-ups entries come, go and are replaced.
        changed = {str(n): rows[n], str(n - 3_000): rows[n + 1_000]}
        view.apply(b"~t", n, n + 1, changed)
        here |= changed
        for gone in rng.choice(list(here), 3, replace=False):
            view.discard(gone)
            del here[gone]
        asked = rows[n] if n % 2 else rows[n - 6_000]
        products = {digest: float(row @ asked) for digest, row in here.items()}
        order = sorted(products, key=lambda digest: -products[digest])
        for count, least in (1, 0.9), (3, 0.8), (20, 0.95), (3, 0.9999):
            expected = [one for one in order[:count] if products[one] >= least]
            found = [digest for digest, _ in view.best(asked, count, least)]
            assert found == (expected or order[:count]) or found == order[:count]
            screened += len(found) < count
    assert screened > 20, "nothing was found through the screen"


def test_applying_the_same_piece_of_a_log_twice_changes_nothing() -> None:
    rows = unit(np.random.default_rng(4), 10)
    piece = {str(n): row for n, row in enumerate(rows)}
    view = View(16, 100)
    assert view.apply(b"~t", 0, 10, piece)
    assert view.apply(b"~t", 3, 8, dict(list(piece.items())[3:8]))
    assert (view.size, view.state()) == (10, (b"~t", 10))
    assert view.apply(b"~other", 0, 2, dict(list(piece.items())[:2]))
    assert (view.size, view.state()) == (2, (b"~other", 2))
    assert not view.apply(b"~t", 10, 12, piece), "read for a copy that was begun anew since"
    assert not view.apply(b"~other", 5, 12, piece), "a gap"
    assert (view.size, view.state()) == (2, (b"~other", 2))


def test_an_entry_of_ones_own_is_taken_over_only_without_a_gap() -> None:
    rows = unit(np.random.default_rng(5), 4)
    view = View(16, 100)
    view.extend(20, 30, None, "late", rows[0])
    assert view.size == 0
    view.extend(0, 10, b"~x", "first", rows[1])
    view.extend(10, 20, None, "second", rows[2])
    view.extend(30, 40, None, "gap", rows[3])
    assert (set(view.digests()), view.state()) == ({"first", "second"}, (b"~x", 20))
    view.extend(0, 10, b"~x", "first", rows[1])
    assert view.size == 2, "the report of one's own first entry may come late"


def test_threads_on_one_copy() -> None:
    rows = unit(np.random.default_rng(6), 2_000)
    view, failed = View(16, 10_000), []

    def work(worker: int) -> None:
        for n in range(worker, 2_000, 8):
            view.apply(b"~t", 0, n + 1, {str(n): rows[n]})
            ((digest, best), *_) = view.best(rows[n], 1)
            if digest != str(n) or best < 0.999:
                failed.append(n)
            if n % 3 == 0:
                view.discard(str(n))

    threads = [threading.Thread(target=work, args=[worker]) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert view.size == sum(n % 3 != 0 for n in range(2_000))


def test_the_scopes_asked_for_longest_ago_go_first() -> None:
    rows = unit(np.random.default_rng(8), 50)
    held = Views(16, 40_000)
    for scope in "abcdefghij":
        held.get(scope).apply(b"~t", 0, 50, {str(n): row for n, row in enumerate(rows)})
        held.settle(scope)
    assert held.nbytes <= 40_000
    assert held.get("j").size == 50
    assert held.get("a").size == 0
