"""Workers that ask a cache, check each answer, and store what it did not have.

The model behind them gives an answer from which the question can be told, so that every answer
from the cache is known to be right or wrong.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from valkey_semcache import Hit, Question, SemanticCache

WORKERS = 16
MODEL_SECONDS = 0.002  # a model's answer takes longer, but here there is none
RENEWED = 0.05
"""Share of the hits whose answer is stored anew."""
SCOPES = ("", "one", "two", "three")
SUBJECTS = ("apples", "boats", "clocks", "drums", "eagles", "forks", "gates", "hats", "inks")
WORDINGS = ("which colour have the {}", "the {} have which colour", "colour of the {} please")


class ByWords:
    """One direction a subject, so that all wordings of a question are near."""

    model = "by words"

    def embed(self, texts: Any) -> Any:
        return [self.vector(text) for text in texts]

    async def aembed(self, texts: Any) -> Any:
        return self.embed(texts)

    @staticmethod
    def vector(text: str) -> list[float]:
        vector = [0.01 * (len(text) % 7)] + [0.0] * 15
        vector[1 + next(n for n, s in enumerate(SUBJECTS) if s in text)] = 1.0
        return vector


def right_answer(subject: str, scope: str) -> str:
    return f"the colour of {subject} in scope {scope!r}, at length {'x' * 200}"


class Fleet:
    """Sixteen workers, threads or tasks.

    `wrong`, `raised` and `slow` must stay empty; `seen` counts what happened.

    Args:
        cache: What they ask.
        way: `"sync"` or `"async"`.
        deadline: Seconds that a call may take.
        seed: Of the order in which they ask.
    """

    def __init__(self, cache: SemanticCache, way: str, deadline: float, seed: int) -> None:
        self.cache = cache
        self.way = way
        self.deadline = deadline
        self.wrong: list[str] = []
        self.raised: list[str] = []
        self.slow: list[float] = []
        self.slowest = 0.0
        self.seen: Counter[str] = Counter()
        self.last_hit = 0.0
        self._seed = seed
        self._stop = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block they work."""
        if self.way == "sync":
            threads = [threading.Thread(target=self._work, args=(n,)) for n in range(WORKERS)]
        else:
            threads = [threading.Thread(target=lambda: asyncio.run(self._all_tasks()))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads), "a worker hangs"

    def until_hit_by_meaning(self, seconds: float) -> float:
        """Wait for a hit that begins from now on; how long it took."""
        began = time.monotonic()
        while self.last_hit < began:
            assert time.monotonic() - began < seconds, (
                f"no service after {seconds} s: {self.told()}"
            )
            time.sleep(0.002)
        return self.last_hit - began

    def told(self) -> str:
        """What happened, in a line."""
        bad = f"{len(self.wrong)} wrong, {len(self.raised)} raised, {len(self.slow)} slow"
        return f"{dict(self.seen)}; {bad}; {self.cache.stats().errors}"

    def _work(self, number: int) -> None:
        dice = random.Random(self._seed * 1000 + number)
        while not self._stop.is_set():
            question, right = self._drawn(dice)
            outcome = self._timed(lambda q=question: self.cache.lookup(q))
            if self._is_miss(outcome, right) or dice.random() < RENEWED:
                time.sleep(MODEL_SECONDS)
                self._timed(lambda q=question, a=right: self.cache.store(q, a))

    async def _all_tasks(self) -> None:
        await asyncio.gather(*(self._awork(number) for number in range(WORKERS)))
        await self.cache.aclose()

    async def _awork(self, number: int) -> None:
        dice = random.Random(self._seed * 1000 + number)
        while not self._stop.is_set():
            question, right = self._drawn(dice)
            outcome = await self._atimed(self.cache.alookup(question))
            if self._is_miss(outcome, right) or dice.random() < RENEWED:
                await asyncio.sleep(MODEL_SECONDS)
                await self._atimed(self.cache.astore(question, right))
            await asyncio.sleep(0)

    def _drawn(self, dice: random.Random) -> tuple[Question, str]:
        subject, scope = dice.choice(SUBJECTS), dice.choice(SCOPES)
        # Half of the wordings are new, so that embedding never stops.
        more = "".join(dice.choices("abcdefgh", k=6)) if dice.random() < 0.5 else ""
        text = f"{dice.choice(WORDINGS).format(subject)} {more}".strip()
        return Question(text, context=scope), right_answer(subject, scope)

    def _is_miss(self, outcome: Any, right: str) -> bool:
        if not isinstance(outcome, Hit):
            self.seen["miss" if outcome is not None else "raised"] += 1
            return True
        self.seen[outcome.tier] += 1
        if outcome.answer != right:
            self.wrong.append(f"{outcome.question!r}: {outcome.answer!r}, not {right!r}")
        return False

    def _timed(self, call: Any) -> Any:
        began = time.monotonic()
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
            outcome = self._noted(error)
        self._took(began, outcome)
        return outcome

    async def _atimed(self, call: Any) -> Any:
        began = time.monotonic()
        try:
            outcome = await call
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
            outcome = self._noted(error)
        self._took(began, outcome)
        return outcome

    def _noted(self, error: Exception) -> None:
        self.raised.append(f"{type(error).__name__}: {error}")

    def _took(self, began: float, outcome: Any) -> None:
        now = time.monotonic()
        self.slowest = max(self.slowest, now - began)
        if now - began > self.deadline:
            self.slow.append(now - began)
        if isinstance(outcome, Hit) and outcome.tier == "semantic":
            self.last_hit = max(self.last_hit, began)
