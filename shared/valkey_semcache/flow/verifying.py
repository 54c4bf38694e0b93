"""What `policy=Verified(…)` does in a look-up and in the store that follows, step by step.

Rule of this file: decisions, no I/O. A candidate that is not sure is a miss; comparing its answer
with the fresh one comes after the store, and what fails there is counted and costs a label, never
an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from valkey_semcache.errors import JudgeError, SemcacheError, UnreadableError
from valkey_semcache.flow.entries import Entries, milliseconds
from valkey_semcache.flow.operations import (
    Command,
    EmbedMany,
    Flow,
    Judge,
    Script,
    unless_wrong_type,
)
from valkey_semcache.index.contract import Candidate
from valkey_semcache.index.scripts import LEARN
from valkey_semcache.outcome import Hit, MissReason
from valkey_semcache.precision.learning import LOWEST, OTHERS, Evidence, Label
from valkey_semcache.precision.verified import Verified
from valkey_semcache.question import Address, normalised
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope
from valkey_semcache.stored.codec import Codec, text_of
from valkey_semcache.stored.labels import packed, unpacked
from valkey_semcache.stored.sealing import Seal

_PAGE = 1000  # labels of one reply

Refusal: TypeAlias = tuple[MissReason, str]


@dataclass(frozen=True, slots=True)
class Check:
    """What a store is to compare its answer with.

    Args:
        key: The candidate's.
        created: When it was stored; one that was written anew meanwhile is another.
        evidence: What was known of it.
        sure: Whether it would have been served but for exploring.
        risk: That was predicted of it.
    """

    key: str
    created: float
    evidence: Evidence
    sure: bool
    risk: float


class Weighing:
    """What the policy says in one look-up.

    Args:
        verifying: The policy's flows.
        codec: Who is to read the answers.
    """

    def __init__(self, verifying: Verifying, codec: Codec) -> None:
        self._verifying = verifying
        self._codec = codec
        self.check: Check | None = None

    def refusal(
        self,
        address: Address,
        candidate: Candidate,
        envelope: Envelope,
        others: Sequence[Candidate],
    ) -> Flow[Refusal | None]:
        """Why a candidate is let through; None if it may be served, or nobody here can read it.

        Args:
            address: The asked question's.
            candidate: That nothing else has refused.
            envelope: Its.
            others: Those that follow it.
        """
        if envelope.codec != self._codec.name:
            return None
        policy, key = self._verifying.policy, log_of(address)
        yield from self._verifying.read(key)
        near = [(_digest(each.key), each.similarity) for each in others[:OTHERS]]
        evidence, risk, sure, served = policy.weigh(
            key, _digest(candidate.key), candidate.similarity, near
        )
        if served:
            return None
        self.check = Check(candidate.key, envelope.created, evidence, sure, risk)
        if sure:
            return "unverified", "let through to compare the answers (explore)"
        told = "nothing is learned yet" if risk != risk else f"wrong with probability {risk:.1%}"
        return "unverified", f"similarity {candidate.similarity:.4f}; {told}"


class Verifying:
    """Reads and writes labels, and compares answers.

    Args:
        policy: The policy.
        entries: Reads candidates.
        counters: Where labels and errors are counted.
        seal: Signs labels, if they are to be signed.
    """

    def __init__(
        self, policy: Verified, entries: Entries, counters: Counters, seal: Seal | None
    ) -> None:
        self.policy = policy
        self._entries = entries
        self._counters = counters
        self._seal = seal
        self._judging = policy.judging(self._judge_failed)

    def weighing(self, codec: Codec) -> Weighing:
        """For one look-up."""
        return Weighing(self, codec)

    def read(self, key: str) -> Flow[None]:
        """Read the labels that are new since a while ago; what fails is as if there were none."""
        last = self.policy.to_read(key)
        if last is None:
            return
        try:
            yield from self._read_on(key, last)
        except SemcacheError as error:
            self._counters.failed("reading what was verified", error)

    def _read_on(self, key: str, last: bytes) -> Flow[None]:
        while True:
            page = Command("XRANGE", key, _after(last), "+", "COUNT", _PAGE)
            rows = (yield from unless_wrong_type(page)) or []
            last = self._taken(key, rows) or last
            if len(rows) < _PAGE:
                return

    def _taken(self, key: str, rows: Sequence[Any]) -> bytes | None:
        """Take in what was read; the id of the last one."""
        labels: list[tuple[bytes, Label]] = []
        for row in rows:
            data = _data_of(row)
            label = None if data is None else unpacked(key, data, self._seal)
            if data is None or label is None:
                self._counters.count("compared", "unreadable")
            else:
                labels.append((data[1:9], label))
        if not rows:
            return None
        last: bytes = rows[-1][0]
        self.policy.take(key, last, labels)
        return last

    # After a store

    def compare(self, address: Address, codec: Codec, content: bytes, check: Check) -> Flow[None]:
        """Compare a fresh answer with the candidate's, and note whether they are the same.

        Args:
            address: The asked question's, under which the fresh answer was stored.
            codec: Who reads both.
            content: The fresh answer.
            check: What the look-up left.
        """
        try:
            same = yield from self._same(address, codec, content, check)
            if same is None:
                self._counters.count("compared", "unknown")
                return
            self._counters.count("compared", "same" if same else "other")
            key = log_of(address)
            weight, requests = self.policy.account(key, check.sure)
            entry, asked = _digest(check.key), _digest(address.key)
            label = Label(check.evidence, entry, asked, same, weight, requests, check.risk)
            yield from self._note(key, label)
        except SemcacheError as error:
            self._counters.failed("verifying an answer", error)

    def rejected(self, hit: Hit) -> Flow[None]:
        """Note that an answer was rejected for another wording: it was wrong."""
        try:
            values = yield from unless_wrong_type(Command("HMGET", hit.key, "b"))
            if not values or values[0] is None:
                return
            name, embedding = hit.key.split(":")[:2]
            key = f"{name}:learned:{embedding}:{values[0].decode()}"
            yield from self.read(key)
            entry = _digest(hit.key)
            counts = self.policy.right_and_wrong(key, entry)
            evidence = Evidence(max(hit.similarity, LOWEST), 0.0, *counts, 0)
            self._counters.count("compared", "rejected")
            yield from self._note(key, Label(evidence, entry, _digest(hit.asked), False, 1.0, 0.0))
        except (SemcacheError, ValueError) as error:
            self._counters.failed("noting a rejection", error)

    def _note(self, key: str, label: Label) -> Flow[None]:
        last, ttl_ms = self.policy.last(key), milliseconds(self.policy.ttl)
        row = packed(key, label, self._seal)
        rows = yield Script(LEARN, key, ttl_ms, self.policy.window, row, _after(last), _PAGE)
        last = self._taken(key, rows) or last
        if len(rows) >= _PAGE:
            yield from self._read_on(key, last)

    def _same(
        self, address: Address, codec: Codec, content: bytes, check: Check
    ) -> Flow[bool | None]:
        """Whether both answers are the same; None if that cannot be told."""
        if not address.semantic:
            return False  # the fresh answer is for these very words only, such as a tool call
        data = yield from self._entries.read(check.key)
        stored = None if data is None else (yield from self._entries.envelope(check.key, data))
        if stored is None or stored.created != check.created or stored.codec != codec.name:
            return None
        if stored.content == content:
            return True
        try:
            served, fresh = text_of(codec, stored.content), text_of(codec, content)
        except UnreadableError:
            return None
        texts = [normalised(served), normalised(fresh)]
        if texts[0] == texts[1]:
            return bool(texts[0])  # without text they differ in what is no text
        if self._judging is not None:
            return (yield from self._judged(address.text, served, fresh))
        if self.policy.bar is None or not all(texts):
            return False
        self._counters.count("embeddings", "", 2)
        first, second = yield EmbedMany(texts)
        for each in (first, second):
            if isinstance(each, SemcacheError):
                raise each
        return float(first @ second) >= self.policy.bar

    def _judged(self, asked: str, served: str, fresh: str) -> Flow[bool | None]:
        assert self._judging is not None  # noqa: S101 - asked only where there is one
        try:
            verdict: bool | None = yield Judge(self._judging, asked, served, fresh)
        except JudgeError as error:
            self._judging.failed(error)
            return None
        return verdict

    def _judge_failed(self, error: Exception) -> None:
        self._counters.failed("comparing answers", error)


def log_of(address: Address) -> str:
    """Key of the labels of a question's family, `NAME:learned:EMB:FAMILY`."""
    name, embedding = address.key.split(":")[:2]
    return f"{name}:learned:{embedding}:{address.family}"


def _digest(key: str) -> bytes:
    """The first 8 bytes of an entry's text digest."""
    return bytes.fromhex(key[key.rindex(":") + 1 :][:16])


def _after(last: bytes) -> bytes:
    return b"(" + last if last else b"-"


def _data_of(row: Any) -> bytes | None:
    """A label's bytes off a stream's entry: pairs as valkey-py reads XRANGE, or flat as scripts
    give them."""
    fields = row[1]
    if isinstance(fields, dict):
        data = fields.get(b"l")
    else:
        data = fields[1] if fields and fields[0] == b"l" else None
    return data if isinstance(data, bytes) else None
