"""What the measurements of speed share: servers, what is asked, the bare client, side by side.

Rule of this file: the bare client does what the cache does, command for command, and no more:
what it sends was heard from the cache itself. The two take turns, each call on another question,
with the work of making a prompt in between, as in an app: loops on one key flatter both.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import valkey
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

from benchmarks.setting import RandomEmbedder, p50, p95
from langchain_valkey_semcache import prompt as prompt_reader
from valkey_semcache import SemanticCache
from valkey_semcache.text.features import exact_features

LLM_STRING = (
    '{"id": ["langchain", "chat_models", "openai", "ChatOpenAI"], "kwargs": {"max_retries": 2, '
    '"model_name": "gpt-4o-mini", "openai_api_key": {"id": ["OPENAI_API_KEY"], "lc": 1, "type": '
    '"secret"}, "output_version": null, "temperature": 0.2}, "lc": 1, "name": "ChatOpenAI", '
    '"type": "constructor"}---[(\'stop\', None)]'
)
_SYSTEMS = [
    f"You are the assistant of the department of {name}. Answer briefly and politely, in plain "
    "words, and say so when you do not know. Never promise what the contract does not say."
    for name in ("loans", "cards", "insurance", "travel")
]
_HEADS = ("how do i", "where can i", "why can't i", "when may i", "who helps me to")
_VERBS = (
    *("cancel", "renew", "open", "transfer", "insure", "check", "report", "return", "order"),
    *("activate", "replace", "extend", "sign", "print", "block", "share", "merge", "pay"),
)
_THINGS = (
    *("card", "account", "policy", "ticket", "contract", "statement", "refund", "mortgage"),
    *("passport", "deposit", "invoice", "receipt", "voucher", "claim", "booking", "licence"),
)
_PLACES = (
    *("in the app", "at the branch", "from abroad", "on the phone", "by mail", "on a sunday"),
    *("without a password", "for my daughter", "after the deadline", "with another name"),
)
_ASKED = [
    f"{head} {verb} the {thing} {place}"
    for verb, head, place, thing in product(_VERBS, _HEADS, _PLACES, _THINGS)
]
_NUMBERS = {text: number for number, text in enumerate(_ASKED)}
_SENTENCES = (
    "You find this in the menu under your own name, third line from above. ",
    "Our colleagues at the counter will gladly go through the form with you. ",
    "Please keep the letter, since the number on it is asked for later on. ",
    "It usually takes two working days, and you are told by message once it is done. ",
    "Nothing is charged for it unless the contract says otherwise. ",
)


def asked(number: int) -> str:
    """One of 14,400 questions, without digits: those would be an exact feature."""
    return _ASKED[number]


def number_of(text: str) -> int:
    """Which question it is."""
    return _NUMBERS[text]


def reworded(number: int) -> str:
    """The same question in other words."""
    return f"please tell me, {asked(number)}"


def messages(number: int, text: str, scopes: int) -> list[Any]:
    """What a chat model is asked; the system prompt makes the scope."""
    return [SystemMessage(_SYSTEMS[number % scopes]), HumanMessage(text)]


def prompt(number: int, text: str, scopes: int) -> str:
    """The same as LangChain hands it to a cache, made anew."""
    return dumps(messages(number, text, scopes))


def answer_text(number: int) -> str:
    """1,000 characters."""
    turned = [_SENTENCES[(number + place) % len(_SENTENCES)] for place in range(20)]
    return f"{asked(number)}: {''.join(turned)}"[:1000]


def answer(number: int) -> list[ChatGeneration]:
    """A chat model's answer of 1 kB, with the counts and names that come with one."""
    tokens = {"input_tokens": 61, "output_tokens": 214, "total_tokens": 275}
    metadata = {"model_name": "gpt-4o-mini-2024-07-18", "finish_reason": "stop"}
    message = AIMessage(
        answer_text(number), response_metadata=metadata, usage_metadata=tokens, id=f"run-{number}"
    )
    return [ChatGeneration(message=message)]


def forget(*caches: SemanticCache) -> None:
    """Make every prompt and text new to this process: only the local tier's line may know one."""
    prompt_reader.forget()
    exact_features.cache_clear()
    for cache in caches:
        cache._addressing.forget()
        cache._flows.notes._begin()


class Prepared(Embeddings):
    """Ready-made vectors: random directions, a rewording near its question (0.95).

    It gives lists of floats, as LangChain's embedding models do.

    Args:
        count: Questions that it knows.
    """

    model = "prepared-384"

    def __init__(self, count: int) -> None:
        source = RandomEmbedder()
        self.rows: dict[str, Any] = {}
        for number in range(count):
            name = asked(number)
            self.rows[name] = source.vector(name)
            self.rows[reworded(number)] = source.vector(f"{name}~")
        self.calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return [self.rows[text].tolist() for text in texts]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        return list(self.rows[text].tolist())

    def embed(self, texts: list[str]) -> list[list[float]]:
        """For LlamaIndex's cache, which takes such an object as it is."""
        return self.embed_documents(texts)

    def matrix(self, numbers: Sequence[int]) -> Any:
        """The questions' vectors as rows, float32."""
        return np.asarray([self.rows[asked(number)] for number in numbers], dtype=np.float32)


class Hearing(valkey.Valkey):
    """A client that notes what it is told to send.

    While `withholds`, scripts are noted but not sent: what stores would do can be heard without
    anything being stored. A script's reply is then 1.
    """

    heard: list[tuple[Any, ...]] | None = None
    withholds = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, and note it where somebody listens."""
        if self.heard is not None:
            self.heard.append(args)
            if self.withholds and args[0] == "EVALSHA":
                return 1
        return super().execute_command(*args, **options)

    def hear(self, call: Callable[[], Any]) -> list[tuple[Any, ...]]:
        """The commands that a call sends."""
        self.heard = heard = []
        try:
            call()
        finally:
            self.heard = None
        return heard


@dataclass
class Spent:
    """Microseconds of each call: by the clock, and of this process's processor time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call, and note what it took. All threads count: an embedding model may have its own."""
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        outcome = call(*arguments)
        self.wall.append((time.perf_counter_ns() - wall) / 1000)
        self.cpu.append((time.process_time_ns() - cpu) / 1000)
        return outcome

    def told(self) -> dict[str, float]:
        """Medians and 95th percentiles."""
        return {
            "wall_p50": p50(self.wall),
            "wall_p95": p95(self.wall),
            "cpu_p50": p50(self.cpu),
            "cpu_p95": p95(self.cpu),
        }


def side_by_side(
    count: int,
    bare: Callable[[int], Any],
    ours: Callable[[Any], Any],
    prepare: Callable[[int], Any],
) -> dict[str, Any]:
    """Let the two take turns.

    Args:
        count: Calls of each.
        bare: Sends what question `number` needs.
        ours: The call to be measured.
        prepare: Makes its argument, which is not measured.
    """
    of_bare, of_ours = Spent(), Spent()
    # Each turn's two questions are of different scopes, of which there are four: the server would
    # have the first one's vectors in its caches for the second.
    apart = count // 8 * 4 + 2
    gc.collect()
    gc.freeze()  # what the benchmark holds is none of an app's garbage
    for number in range(count):
        prepare(number)
        of_bare.time(bare, (number + apart) % count)
        argument = prepare(number)
        of_ours.time(ours, argument)
    told = {"calls": count, "bare": of_bare.told(), "ours": of_ours.told()}
    told["over"] = {name: told["ours"][name] - told["bare"][name] for name in told["ours"]}
    return told


@contextmanager
def servers() -> Iterator[tuple[str, str, str]]:
    """URLs of a server with valkey-search and of one for the flat index, and what they are."""
    url = os.environ.get("SEMCACHE_TEST_URL")
    if url:
        yield url, url, ""
        return
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    child.start()
    try:
        search, plain = ours.recv()
        yield search, plain, "the tests' stand-in for valkey-search 1.2.1, and a plain Valkey"
    finally:
        ours.send(None)
        child.join(10)


@contextmanager
def awake(*, wanted: bool) -> Iterator[str]:
    """Keep the machine's processors from falling asleep, as other work does in an app.

    A virtual machine that waits for a reply and has nothing else to do gives its processor away,
    and gets it back late and cold: a bare HMGET then takes two to three times as long. Either idle
    processors poll for a while (`haltpoll`, which root may set; it is put back at the end), or
    loops of the lowest priority (`SCHED_IDLE`), which give way to all else, keep them busy.

    Args:
        wanted: Whether to.

    Yields:
        How: `polling`, `loops`, or `asleep` where neither is to be had, or wanted.
    """
    if not wanted or not hasattr(os, "SCHED_IDLE"):
        yield "asleep"
        return
    before = _polling(_POLLING)
    if before:
        try:
            yield "polling"
        finally:
            _polling(before)
        return
    spawn = multiprocessing.get_context("spawn")
    loops = [spawn.Process(target=_idle, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    try:
        yield "loops"
    finally:
        for loop in loops:
            loop.terminate()


_HALTPOLL = Path("/sys/module/haltpoll/parameters")
_GOVERNOR = Path("/sys/devices/system/cpu/cpuidle/current_governor")
_POLLING = {  # nanoseconds, from the first time on
    "guest_halt_poll_allow_shrink": "N",
    "guest_halt_poll_grow_start": "20000000",
    "guest_halt_poll_ns": "20000000",
}


def _polling(wanted: dict[str, str]) -> dict[str, str]:
    """Set what idle processors do before they sleep, and return how it was; {} if one may not."""
    try:
        if _GOVERNOR.read_text().strip() != "haltpoll":
            return {}
        before = {name: (_HALTPOLL / name).read_text().strip() for name in wanted}
        for name, value in wanted.items():
            (_HALTPOLL / name).write_text(value)
    except OSError:
        return {}
    return before


def _idle() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


def _serve(pipe: Any) -> None:
    """In a process of its own, for the stand-in is Python too."""
    from tests.standin import PlainValkey, StandIn

    with StandIn("1.2.1") as search, PlainValkey() as plain:
        pipe.send((search.url, plain.url))
        pipe.recv()
