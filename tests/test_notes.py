"""What a process remembers between a look-up and the store that follows: bounded, for a while."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from valkey_semcache.digest import Digests
from valkey_semcache.flow import notes as module
from valkey_semcache.flow.notes import Note, Notes
from valkey_semcache.question import Address, Addressing, Question

ADDRESSING = Addressing("cache:emb:", Digests(), 1000)


def address(text: str, context: str = "", namespace: str = "a") -> Address:
    return ADDRESSING.address(Question(text, context), namespace)


def note(number: int = 0) -> Note:
    return Note(np.array([number], np.float32))


def test_a_note_is_taken_once_by_the_same_question_only() -> None:
    notes, left = Notes(), note()
    notes.leave(address("asked"), left)
    assert notes.take(address("asked", context="another")) is None
    assert notes.take(address("asked", namespace="b")) is None
    assert notes.take(address("asked")) is left
    assert notes.take(address("asked")) is None


def test_a_note_is_forgotten_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    notes = Notes(seconds=600)
    for number in range(3):
        now = float(number)
        notes.leave(address(f"asked {number}"), note(number))
    now = 600.5
    assert notes.take(address("asked 0")) is None
    assert notes.take(address("asked 1")) is not None
    notes.leave(address("asked 3"), note(3))
    now = 1000.0
    notes.leave(address("asked 4"), note(4))
    assert len(notes._notes) == 2, "what has expired holds no memory, though nobody took it"


def test_the_oldest_notes_and_vectors_go_first() -> None:
    notes = Notes(notes=3, vectors=2)
    for number in range(4):
        notes.leave(address(f"asked {number}"), note(number))
    notes.leave(address("asked 1"), note(7))  # the newest now
    notes.leave(address("asked 4"), note(4))
    kept = [notes.take(address(f"asked {number}")) for number in range(5)]
    assert [None if left is None else int(left.vector[0]) for left in kept] == [  # type: ignore[index]
        *(None, 7, None, 3, 4)
    ]
    for number in range(2):
        notes.keep(address(f"asked {number}"), np.array([number], np.float32))
    assert notes.vector(address("asked 0", context="another")) is not None
    notes.keep(address("asked 2"), np.array([2], np.float32))
    found = [notes.vector(address(f"asked {number}")) is not None for number in range(3)]
    assert found == [True, False, True], "what was asked for lately stays"


def test_where_a_text_was_stored_last_is_known_by_tenant() -> None:
    notes = Notes()
    assert not notes.elsewhere(address("asked"))
    notes.stored(address("asked", context="monday"))
    assert notes.elsewhere(address("asked", context="tuesday"))
    assert not notes.elsewhere(address("asked", context="monday"))
    assert not notes.elsewhere(address("asked", context="tuesday", namespace="b"))
    notes.clear()
    assert not notes.elsewhere(address("asked", context="tuesday"))


def test_threads_that_meet_take_each_note_once() -> None:
    notes = Notes(notes=50)
    addresses = [address(f"asked {number}") for number in range(50)]
    numbers = itertools.count()

    def turn(number: int) -> list[int]:
        taken = []
        for asked in addresses:
            if number % 2:
                notes.leave(asked, note(next(numbers)))
            elif (left := notes.take(asked)) is not None and left.vector is not None:
                taken.append(int(left.vector[0]))
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [each for some in threads.map(turn, range(200)) for each in some]
    assert taken
    assert len(taken) == len(set(taken))
    assert len(notes._notes) <= 50
