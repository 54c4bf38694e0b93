"""The lines of the speed report: one method for each, the cache beside the bare client.

Rule of this file: what a line allows beyond the bare client stands in `speed.py`; here is what
is called and what it is held against. The cache is used as LangChain or LlamaIndex use it.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Self

import numpy as np
import valkey
from langchain_core.outputs import ChatGeneration
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import CustomLLM, LLMMetadata
from rich.progress import track

from benchmarks.speed_setting import (
    LLM_STRING,
    Hearing,
    Prepared,
    answer,
    answer_text,
    asked,
    forget,
    messages,
    number_of,
    prompt,
    reworded,
    side_by_side,
)
from langchain_valkey_semcache import ValkeySemanticCache
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaCache
from valkey_semcache import LocalTier

IN_FLIGHT = 64
SECONDS = 30.0
# The bare client waits as long as the cache's own, and no longer.
LIMITS: Any = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
Row = dict[str, Any]


class Filled:
    """A LangChain cache filled with questions, and the bare client beside it.

    Args:
        url: The server.
        index: `search` or `flat`.
        embeddings: Knows all questions.
        count: Entries.
        scopes: That they are spread over.
        times: Calls of each line.
    """

    def __init__(
        self, url: str, index: str, embeddings: Prepared, count: int, scopes: int, times: int
    ) -> None:
        self.url, self.count, self.scopes, self.times = url, count, scopes, times
        self.index, self.embeddings = index, embeddings
        self.name = f"speed-{uuid.uuid4().hex[:8]}"
        self.bare = valkey.Valkey.from_url(url, **LIMITS)
        self.hearing = Hearing.from_url(url)
        self.cache, self.heard = (
            self.made(url=url),
            self.made(client=self.hearing, fleet_stats=False),
        )
        for number in track(range(count), description=f"filling {count:,}, {index}"):
            self.cache.update(prompt(number, asked(number), scopes), LLM_STRING, answer(number))
        assert self.cache.stats().stored == count
        for cache in self.cache, self.heard:  # opens the index, reads the flat one's vectors
            for number in range(scopes):
                assert cache.lookup(prompt(number, reworded(number), scopes), LLM_STRING)

    def made(self, **options: Any) -> ValkeySemanticCache:
        """A cache of this name."""
        return ValkeySemanticCache(
            self.embeddings,
            name=self.name,
            index=self.index,  # type: ignore[arg-type]
            **{"timeout": SECONDS, "on_error": "raise"} | options,
        )

    def of(self, times: int) -> Self:
        """The same with another number of calls."""
        same = copy.copy(self)
        same.times = times
        return same

    def using(self, **options: Any) -> Self:
        """The same entries through a cache with other options."""
        same = copy.copy(self)
        same.cache = self.made(url=self.url, **options)
        for number in range(self.scopes):  # connects, opens the index
            assert same.cache.lookup(self.asked(number, reworded), LLM_STRING)
        return same

    def exact(self) -> Row:
        """An exact hit beside its HMGET."""
        return self.hits(asked, "exact")

    def semantic(self) -> Row:
        """A semantic hit beside its commands, and on the flat index beside its arithmetic."""
        return self.hits(reworded, "semantic")

    def hits(self, wording: Callable[[int], str], tier: str) -> Row:
        """Look-ups that find an answer, beside what they send."""
        commands = [
            self.hearing.hear(lambda n=n: self.heard.lookup(self.asked(n, wording), LLM_STRING))
            for n in range(self.times)
        ]
        replay = self.replay(commands)
        if tier == "semantic" and self.index == "flat":
            replay = self.searched(commands)
        before, embedded = self.cache.stats(), self.embeddings.calls
        forget(self.cache.core)
        row = side_by_side(
            self.times, replay, self.looked_up, lambda number: self.asked(number, wording)
        )
        gained = self.cache.stats().hits[tier] - before.hits.get(tier, 0)
        assert gained == self.times, f"{gained} of {self.times} were {tier} hits"
        return row | self.sent(commands, self.embeddings.calls - embedded)

    def searched(self, commands: list[list[tuple[Any, ...]]]) -> Callable[[int], Any]:
        """The flat index's semantic hit by hand: HMGET, the log's end, `V @ q`, HMGET."""
        rows = self.embeddings.matrix(range(self.count))
        asked_for = [
            np.asarray(self.embeddings.rows[reworded(n)], np.float32) for n in range(self.times)
        ]

        def bare(number: int) -> None:
            exact, log, read = commands[number]
            self.bare.execute_command(*exact)
            self.bare.execute_command(*log)
            (rows @ asked_for[number]).argmax()
            self.bare.execute_command(*read)

        return bare

    def stored(self) -> Row:
        """A store that follows no look-up's parsing: prompt in, script out."""
        return self.stores(looked_up=False)

    def missed_and_stored(self) -> Row:
        """A miss and the store after it."""
        return self.stores(looked_up=True)

    def stores(self, *, looked_up: bool) -> Row:
        """New questions stored, after a look-up or after one that is not measured.

        They are stored in a cache that holds the others too; afterwards they are removed.
        """
        first = self.count + (2 * self.times if looked_up else 0)  # new ones for each line
        self.hearing.withholds = True
        commands = []
        for number in range(first + self.times, first + 2 * self.times):
            given = self.given(number, looked_up=not looked_up, cache=self.heard)
            commands.append(
                self.hearing.hear(
                    lambda g=given: self.asked_and_stored(self.heard, *g, looked_up=looked_up)
                )
            )
        self.hearing.withholds = False
        replayed = commands if looked_up else [sent[-1:] for sent in commands]
        embedded = self.embeddings.calls
        forget(self.cache.core)
        row = side_by_side(
            self.times,
            self.replay(replayed),
            lambda given: self.asked_and_stored(self.cache, *given, looked_up=looked_up),
            lambda place: self.given(first + place, looked_up=not looked_up),
        )
        embedded = self.embeddings.calls - embedded
        for number in range(first, first + 2 * self.times):
            self.cache.delete(self.asked(number, asked), LLM_STRING)
        return row | self.sent(commands, embedded)

    def given(
        self, number: int, *, looked_up: bool, cache: ValkeySemanticCache | None = None
    ) -> tuple[str, list[ChatGeneration]]:
        """What a store is given; its look-up is made here, unless it is measured with it."""
        told = self.asked(number, asked)
        if looked_up:
            (cache or self.cache).lookup(told, LLM_STRING)
        return told, answer(number)

    def asked_and_stored(
        self,
        cache: ValkeySemanticCache,
        given: str,
        answered: list[ChatGeneration],
        *,
        looked_up: bool,
    ) -> None:
        if looked_up:
            assert cache.lookup(given, LLM_STRING) is None
        cache.update(given, LLM_STRING, answered)

    def local(self) -> Row:
        """A hit of the local tier, beside nothing. Its prompts were asked in this process before:
        there is no other way into the local tier than by asking or storing."""
        with self.made(url=self.url, local=LocalTier(ttl=3600)) as cache:
            for number in range(self.times):
                cache.lookup(self.asked(number, asked), LLM_STRING)
            row = side_by_side(
                self.times,
                lambda number: None,
                lambda given: cache.lookup(given, LLM_STRING),
                lambda number: self.asked(number, asked),
            )
            assert cache.stats().hits["local"] == self.times
        return row | {"commands": "", "embeddings": 0}

    def in_flight(self, wording: Callable[[int], str], rounds: int) -> Row:
        """Throughput with 64 look-ups in flight, in turns with the bare async client's."""
        prompts = [self.asked(number, wording) for number in range(self.times)]
        commands = [
            self.hearing.hear(lambda p=given: self.heard.lookup(p, LLM_STRING)) for given in prompts
        ]

        async def run() -> Row:
            async with self.made(url=self.url) as cache:
                bare = valkey.asyncio.Valkey.from_url(self.url, **LIMITS)

                async def replay(number: int) -> None:
                    for command in commands[number]:
                        await bare.execute_command(*command)

                async def ours(number: int) -> None:
                    found = await cache.alookup(prompts[number], LLM_STRING)
                    assert found is not None

                gc.collect()
                gc.freeze()  # as in `side_by_side`
                spent: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
                for number in range(rounds + 1):
                    forget(cache.core)
                    for name, call in (("bare", replay), ("ours", ours)):
                        took = await crowd(call, self.times, IN_FLIGHT)
                        if number:  # the first one connects
                            spent[name].append(took)
                await bare.aclose()
                return throughput(spent, self.times)

        return asyncio.run(run()) | self.sent(commands, None)

    def asked(self, number: int, wording: Callable[[int], str]) -> str:
        return prompt(number, wording(number), self.scopes)

    def looked_up(self, given: str) -> Any:
        return self.cache.lookup(given, LLM_STRING)

    def replay(self, commands: list[list[tuple[Any, ...]]]) -> Callable[[int], Any]:
        """Sends what was heard."""
        send = self.bare.execute_command

        def bare(number: int) -> None:
            for command in commands[number]:
                send(*command)

        return bare

    def sent(self, commands: list[list[tuple[Any, ...]]], embeddings: int | None) -> Row:
        """What each call sent, and how many texts it had embedded."""
        common = Counter(" ".join(str(command[0]) for command in sent) for sent in commands)
        ((names, _),) = common.most_common(1)
        told: Row = {"commands": names}
        return told if embeddings is None else told | {"embeddings": embeddings / self.times}

    def close(self) -> None:
        self.heard.close()
        self.cache.clear()
        self.cache.close()
        self.bare.close()
        self.hearing.close()


class Answers(CustomLLM):
    """A LlamaIndex model that answers each of our questions at once."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="gpt-4o-mini", is_chat_model=True)

    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        text = answer_text(number_of(messages[-1].content))
        return ChatResponse(message=ChatMessage(role="assistant", content=text))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


def llama_chat(filled: Filled) -> Row:
    """Exact hits of `SemanticCacheLLM.chat`, in turns with LangChain's `lookup`."""
    times, scopes = filled.times, filled.scopes
    told = [
        [
            ChatMessage(role="system", content=first.content),
            ChatMessage(role="user", content=last.content),
        ]
        for first, last in (messages(n, asked(n), scopes) for n in range(times))
    ]
    name = f"{filled.name}-llama"
    with LlamaCache(
        filled.embeddings, filled.url, name=name, index=filled.index, timeout=SECONDS
    ) as cache:
        llm = SemanticCacheLLM(Answers(), cache)
        for asked_for in told:
            llm.chat(asked_for)
        prompts = [filled.asked(number, asked) for number in range(times)]
        forget(filled.cache.core, cache)
        row = side_by_side(
            times,
            lambda number: filled.cache.lookup(prompts[number], LLM_STRING),
            llm.chat,
            lambda number: [ChatMessage(role=m.role, content=m.content) for m in told[number]],
        )
        assert cache.stats().hits == {"exact": times}
        cache.clear()
    row["ratio"] = {n: row["ours"][n] / row["bare"][n] for n in ("wall_p50", "cpu_p50")}
    return row | {"commands": "HMGET", "embeddings": 0}


async def crowd(
    call: Callable[[int], Awaitable[None]], count: int, in_flight: int
) -> tuple[float, float]:
    """Seconds by the clock and of processor time for so many calls, so many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return time.perf_counter() - wall, time.process_time() - cpu


def throughput(spent: dict[str, list[tuple[float, float]]], count: int) -> Row:
    """Calls a second, by the clock and by processor time, and ours as a share of the bare."""
    told: Row = {
        name: {
            "wall": count / median(wall for wall, _ in rounds),
            "cpu": count / median(cpu for _, cpu in rounds),
        }
        for name, rounds in spent.items()
    }
    told["share"] = {kind: told["ours"][kind] / told["bare"][kind] for kind in ("wall", "cpu")}
    return told
