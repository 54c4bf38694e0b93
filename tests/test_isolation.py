"""A machine that stores, asks, deletes, clears and lets expire, beside a dictionary that is right.

Three caches look at one server as three processes would. Whatever is asked of whichever, the
answer is one that the dictionary allows, and what it must find it finds.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.servers import Served
from valkey_semcache import Hit, Question, SemanticCache

MEANINGS = ("apples", "boats", "clocks", "drums", "eagles")
WORDINGS = ("", " please", " kindly", " if you can", " or not")
# What injects, if anything does: separators, wildcards, braces, quotes, NUL, long, empty.
NAMES = ("", "acme", "acme:x", "a*", "{a}", "a|b", "a,b", "@s:{*}", "\\", "\x00", "a\nb", "é" * 200)

namespaces = st.sampled_from(NAMES[:6])
identities = st.sampled_from(NAMES)
models = st.sampled_from(("", "gpt-4o", "gpt-4o*", "{m}"))
contexts = st.sampled_from(NAMES)
texts = st.tuples(st.sampled_from(MEANINGS), st.sampled_from(WORDINGS)).map("".join)
ways = st.sampled_from(("sync", "async"))
who = st.integers(0, 2)

STEPS = int(os.environ.get("SEMCACHE_SOAK_STEPS", "1500"))
PER_RUN = 60


class ByMeaning:
    """One direction a meaning; how it is worded makes no difference."""

    model = "by meaning"

    def embed(self, texts: Any) -> Any:
        vectors = []
        for text in texts:
            vector = [0.0] * 16
            vector[next(n for n, m in enumerate(MEANINGS) if text.startswith(m))] = 1.0
            vectors.append(vector)
        return vectors

    async def aembed(self, texts: Any) -> Any:
        return self.embed(texts)


class Machine(RuleBasedStateMachine):
    """The dictionary's keys are whole questions; its values are answers and when they expire."""

    served: Served
    loop: asyncio.AbstractEventLoop
    numbers = itertools.count()
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.right: dict[tuple[str, str, str, str], tuple[str, str]] = {}
        name = f"{self.served.name}-{next(self.numbers)}"
        options = self.served.options | {"name": name, "on_error": "raise", "ttl": None}
        self.caches = [SemanticCache(ByMeaning(), **options) for _ in range(3)]

    def teardown(self) -> None:
        self.caches[0].clear()
        for cache in self.caches:
            self.loop.run_until_complete(cache.aclose())

    def call(self, way: str, method: Any, *args: Any, **kwargs: Any) -> Any:
        if way == "sync":
            return method(*args, **kwargs)
        twin = getattr(method.__self__, f"a{method.__name__}")
        return self.loop.run_until_complete(twin(*args, **kwargs))

    @rule(who=who, way=ways, n=namespaces, i=identities, m=models, c=contexts, text=texts)
    def store(self, who: int, way: str, n: str, i: str, m: str, c: str, text: str) -> None:
        answer = f"answer {next(self.numbers)}"
        question = Question(text, context=c, identity=i, model=m, namespace=n)
        assert self.call(way, self.caches[who].store, question, answer)
        self.right[n, i, c, text] = (answer, m)

    @rule(who=who, way=ways, n=namespaces, i=identities, c=contexts, text=texts)
    def look_up(self, who: int, way: str, n: str, i: str, c: str, text: str) -> None:
        self.check(who, way, n, i, c, text)

    @rule(who=who, way=ways, data=st.data(), wording=st.sampled_from(WORDINGS))
    def look_up_what_is_there(self, who: int, way: str, data: Any, wording: str) -> None:
        if self.right:
            n, i, c, text = data.draw(st.sampled_from(sorted(self.right)))
            self.check(who, way, n, i, c, text.split(" ")[0] + wording)

    def check(self, who: int, way: str, n: str, i: str, c: str, text: str) -> None:
        question = Question(text, context=c, identity=i, namespace=n)
        outcome = self.call(way, self.caches[who].lookup, question)
        exact = self.right.get((n, i, c, text))
        meaning = text.split(" ")[0]
        alike = {
            answer
            for (n2, i2, c2, text2), (answer, _) in self.right.items()
            if (n2, i2, c2) == (n, i, c) and text2.split(" ")[0] == meaning
        }
        if exact:
            assert isinstance(outcome, Hit)
            assert (outcome.tier, outcome.answer) == ("exact", exact[0])
        elif alike:
            assert isinstance(outcome, Hit)
            assert outcome.tier == "semantic"
            assert outcome.answer in alike
        else:
            assert not outcome

    @rule(who=who, way=ways, data=st.data())
    def delete(self, who: int, way: str, data: Any) -> None:
        if self.right:
            n, i, c, text = data.draw(st.sampled_from(sorted(self.right)))
            question = Question(text, context=c, identity=i, namespace=n)
            assert self.call(way, self.caches[who].delete, question)
            del self.right[n, i, c, text]

    @rule(who=who, way=ways, data=st.data())
    def expire(self, who: int, way: str, data: Any) -> None:
        if self.right:
            key = data.draw(st.sampled_from(sorted(self.right)))
            n, i, c, text = key
            question = Question(text, context=c, identity=i, model=self.right[key][1], namespace=n)
            assert self.call(way, self.caches[who].store, question, "short-lived", ttl=0.003)
            time.sleep(0.004)
            del self.right[key]

    @rule(who=who, way=ways, n=namespaces)
    def clear_a_namespace(self, who: int, way: str, n: str) -> None:
        gone = {key for key in self.right if key[0] == n}
        assert self.call(way, self.caches[who].clear, namespace=n) == len(gone)
        self.right = {key: value for key, value in self.right.items() if key not in gone}

    @rule(who=who, way=ways, i=identities, m=models)
    def clear_a_model(self, who: int, way: str, i: str, m: str) -> None:
        gone = {k for k, (_, model) in self.right.items() if k[1] == i and model == m}
        assert self.call(way, self.caches[who].clear, identity=i, model=m) == len(gone)
        self.right = {key: value for key, value in self.right.items() if key not in gone}

    @rule(who=who, way=ways)
    def clear_all(self, who: int, way: str) -> None:
        assert self.call(way, self.caches[who].clear) == len(self.right)
        self.right = {}

    @invariant()
    def count(self) -> None:
        type(self).steps += 1


def test_no_disagreement_with_a_dictionary(either_index: Served) -> None:
    class Here(Machine):
        served = either_index
        loop = asyncio.new_event_loop()
        steps = 0

    try:
        run_state_machine_as_test(
            hypothesis.seed(1)(Here),
            settings=settings(
                max_examples=max(1, STEPS // PER_RUN),
                stateful_step_count=PER_RUN,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Here.loop.close()
    assert Here.steps > STEPS // 3
