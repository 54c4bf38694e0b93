"""How the flat index reads a long log: in pieces, within its bound, whatever happens meanwhile."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import SemanticCache
from valkey_semcache.index import flat
from valkey_semcache.index import log as logs
from valkey_semcache.index.log import Piece, read_piece


def cache_on(served: Served, **options: Any) -> SemanticCache:
    given = {"on_error": "raise", "similarity_threshold": 0.8, "guards": ()}
    return SemanticCache(HashingEmbedder(), **(served.options | given | options))


def asked(number: int) -> str:
    return f"red cat {word(number)} blue {word(7 * number + 1)}"


def stored(cache: SemanticCache, *numbers: int) -> None:
    assert all(cache.store_many([(asked(number), str(number)) for number in numbers]))


async def found(way: Way, cache: SemanticCache, number: int) -> bool:
    outcome = await way(cache.lookup, f"{asked(number)} ?")
    return bool(outcome) and outcome.answer == str(number)


def log_of(served: Served) -> str:
    (log,) = served.admin.scan_iter(f"{served.name}:log:*")
    return log.decode() if isinstance(log, bytes) else log


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each piece of a log had that was read; there are ten at most."""
    read: list[int] = []
    monkeypatch.setattr(logs, "PIECE", 10)
    monkeypatch.setattr(flat, "_BATCH", 4)
    watched(monkeypatch, lambda number, piece: read.append(len(piece)))
    return read


def watched(monkeypatch: pytest.MonkeyPatch, after: Callable[[int, Piece], object]) -> None:
    """Have something done after each piece that is read, before it is taken over."""
    counted = iter(range(10**6))

    def reading(log: str, version: int) -> Any:
        piece = yield from read_piece(log, version)
        after(next(counted), piece)
        return piece

    monkeypatch.setattr(flat, "read_piece", reading)


@pytest.mark.parametrize("count", [8, 9, 10, 11, 18, 19, 57])
async def test_a_log_of_any_length_is_read_whole_in_pieces(
    plain: Served, way: Way, pieces: list[int], count: int
) -> None:
    async with cache_on(plain) as writer, cache_on(plain) as reader:
        stored(writer, *range(count))
        pieces.clear()
        assert all([await found(way, reader, number) for number in range(count)])
        assert max(pieces) <= 10
        view = reader._flows.index._views.get(reader._address("x").scope)  # type: ignore[union-attr]
        assert view.size == count
        # One that has fallen far behind reads on, from where it was.
        stored(writer, *range(100, 100 + count))
        pieces.clear()
        assert await found(way, reader, 100)
        assert sum(pieces) <= 1.3 * count + 15
        assert all([await found(way, reader, n) for n in (0, count - 1, 99 + count)])
        pieces.clear()
        assert await found(way, reader, 100)
        assert pieces == [2], "a piece is the log's end again"


async def test_of_a_log_longer_than_the_bound_only_the_end_is_read(
    plain: Served, way: Way, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache_on(plain) as writer, cache_on(plain) as reader:
        stored(writer, *range(80))
        await way(reader.lookup, "opens the index")
        reader._flows.index._views.max_rows = 25  # type: ignore[union-attr]
        reader._flows.index.forget()  # type: ignore[union-attr]
        pieces.clear()
        assert await found(way, reader, 79)
        assert sum(pieces) < 45
        assert await found(way, reader, 55)
        assert not await found(way, reader, 54)
        assert (await way(reader.lookup, asked(54))).tier == "exact"
        # More than it may hold has come: what lies between need not be read.
        stored(writer, *range(200, 280))
        pieces.clear()
        assert await found(way, reader, 279)
        assert sum(pieces) < 45
        assert not await found(way, reader, 254)


async def test_what_is_written_between_two_pieces_is_found(
    plain: Served, way: Way, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache_on(plain) as writer, cache_on(plain) as reader:
        stored(writer, *range(40))

        def go_on(number: int, piece: Piece) -> None:
            if number == 2:
                stored(writer, 0, 20, *range(40, 60))  # two of them again
                writer.delete(asked(3))
                writer.delete(asked(30))

        watched(monkeypatch, go_on)
        for number in (59, 40, 0, 20, 39):
            assert await found(way, reader, number)
        for number in (3, 30):
            assert not await found(way, reader, number)


async def test_a_log_begun_anew_between_two_pieces_is_read_anew(
    plain: Served, way: Way, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for gone_after in range(1, 5):
        async with cache_on(plain) as writer, cache_on(plain) as reader:
            writer.clear()
            stored(writer, *range(40))

            def go_on(
                number: int, piece: Piece, writer: SemanticCache = writer, at: int = gone_after
            ) -> None:
                if number == at:
                    writer.clear()
                    stored(writer, *range(100, 125))

            watched(monkeypatch, go_on)
            assert await found(way, reader, 124), f"cleared after piece {gone_after}"
            scope = reader._address("x").scope
            assert reader._flows.index._views.get(scope).size == 25  # type: ignore[union-attr]
            assert await found(way, reader, 100)
            assert not await found(way, reader, 39)


async def test_a_log_that_lost_its_end_between_two_pieces_is_read_on(
    plain: Served, way: Way, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a replica serves that takes over without the last writes, and then goes on."""
    async with cache_on(plain) as writer, cache_on(plain) as reader:
        stored(writer, *range(25))
        replicated = plain.admin.dump(log_of(plain))
        stored(writer, *range(25, 45))

        def fail_over(number: int, piece: Piece) -> None:
            if number == 4:
                for lost in range(25, 45):
                    writer.delete(asked(lost))
                plain.admin.restore(log_of(plain), 0, replicated, replace=True)
                stored(writer, *range(50, 60))

        watched(monkeypatch, fail_over)
        assert await found(way, reader, 59)
        for number in (0, 24, 50):
            assert await found(way, reader, number)
        for number in (25, 44):
            assert not await found(way, reader, number)


async def test_a_reading_that_failed_goes_on_where_it_was(
    plain: Served, way: Way, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache_on(plain) as writer, cache_on(plain) as reader:
        stored(writer, *range(50))

        def fail(number: int, piece: Piece) -> None:
            if number == 4:
                raise ConnectionError("lost")

        watched(monkeypatch, fail)
        with pytest.raises(ConnectionError):
            await way(reader.lookup, f"{asked(49)} ?")
        pieces.clear()
        watched(monkeypatch, lambda number, piece: pieces.append(len(piece)))
        assert await found(way, reader, 49)
        assert sum(pieces) < 50
        assert await found(way, reader, 0)


async def test_a_forged_log_without_end_is_left(plain: Served, way: Way, pieces: list[int]) -> None:
    async with cache_on(plain) as cache:
        stored(cache, 1)
        log = log_of(plain)
        for members in (
            {f"{n:032x}": 5 for n in range(30)},
            {f"{n:032x}": 5 for n in range(30)} | {"~x": 5},
            {f"{n:032x}": n for n in range(30)},
            {f"~{n}": n for n in range(30)},
            {b"\xff%d" % n: n for n in range(30)},
        ):
            plain.admin.unlink(log)
            plain.admin.zadd(log, members)
            pieces.clear()
            assert not await way(cache.lookup, "red cat ?")
            assert len(pieces) < 20
        stored(cache, 2)
        assert await found(way, cache, 2)


async def test_entries_just_read_are_not_asked_for_once_more(
    searching: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valkey_semcache.index.view._CHECK_AT", 20)
    assert searching.standin is not None
    async with (
        cache_on(searching, index="flat") as writer,
        cache_on(searching, index="flat") as reader,
    ):
        stored(writer, *range(60))
        with searching.standin.counting() as seen:
            assert await found(way, reader, 59)
        assert not any(command.name == "EXISTS" for command in seen)


async def test_a_reading_takes_no_more_memory_than_the_bound(plain: Served, way: Way) -> None:
    bound = 4 * 2**20
    async with cache_on(plain) as writer, cache_on(plain, flat_max_bytes=bound) as reader:
        stored(writer, *range(9_000))
        await way(reader.lookup, "opens the connections")
        reader._flows.index.forget()  # type: ignore[union-attr]
        tracemalloc.start()
        try:
            assert await found(way, reader, 8_999)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= bound
        assert reader._flows.index._views.nbytes > bound / 2  # type: ignore[union-attr]
