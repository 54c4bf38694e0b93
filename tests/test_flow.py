"""Flows by themselves: a dialogue of operations and outcomes, with no server and no loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from valkey_semcache import Question
from valkey_semcache.digest import Digests
from valkey_semcache.errors import ServerReplyError, ServerUnreachableError
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.notes import Notes
from valkey_semcache.flow.operations import Command, Embed, Flow, Script, Settle
from valkey_semcache.flow.policy import Policy
from valkey_semcache.index.settings import IndexSettings
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.question import Address, Addressing
from valkey_semcache.stats import Counters
from valkey_semcache.stored.answer import Envelope, place_of
from valkey_semcache.stored.codec import TextCodec

EMBEDDING = "e" * 32
OTHER = f"other:{EMBEDDING}:{'0' * 32}:{'a' * 32}"
INFO = [
    *(b"index_name", b"x", b"attributes"),
    [[b"type", b"VECTOR", b"index", [b"dimensions", 2, b"algorithm", [b"name", b"FLAT"]]]],
]
VECTOR = np.array([0.6, 0.8], dtype="<f4")


def flows(wanted: Any = "search", **options: Any) -> Flows:
    settings = IndexSettings(wanted, "n", EMBEDDING, "model", 0.5, 2**20)
    return Flows(settings, Notes(), Counters(), Policy(**options))


def address(text: str, **parts: Any) -> Address:
    return Addressing(f"n:{EMBEDDING}:", Digests(), 1000).address(Question(text, **parts), "")


def envelope(key: str | bytes, answer: str) -> bytes:
    key = key if isinstance(key, str) else key.decode()
    return Envelope(place_of(key), "text/1", answer.encode(), 0.0, question="asked").pack()


class Dialogue:
    """Walks a flow: each step names the operation it expects, and what comes of it."""

    def __init__(self, flow: Flow[Any]) -> None:
        self._flow = flow
        self._operation = next(flow)
        self.settles: Settle | None = None
        self.value: Any = None

    def step(self, expected: type, first: str | None, outcome: Any) -> Any:
        operation = self._operation
        assert isinstance(operation, expected)
        if isinstance(operation, Command):
            assert operation.arguments[0] == first
        try:
            if isinstance(outcome, Exception):
                self._operation = self._flow.throw(outcome)
            else:
                self._operation = self._flow.send(outcome)
            if isinstance(self._operation, Settle):
                self.settles = self._operation
                self._operation = self._flow.send(None)
        except StopIteration as stop:
            self.value = stop.value
        return operation


def test_an_exact_hit_is_one_command() -> None:
    where = address("asked")
    dialogue = Dialogue(flows().lookup(where, TextCodec(), 0.9))
    dialogue.step(Command, "HMGET", [envelope(where.key, "answer")])
    assert isinstance(dialogue.value, Hit)
    assert (dialogue.value.tier, dialogue.value.answer) == ("exact", "answer")


def test_the_first_semantic_look_up_opens_the_index() -> None:
    where = address("asked")
    dialogue = Dialogue(flows().lookup(where, TextCodec(), 0.9))
    dialogue.step(Command, "HMGET", [None])
    assert dialogue.step(Embed, None, VECTOR).text == "asked"
    dialogue.step(Command, "HMGET", [b"1", None, None, None])
    lost = ServerReplyError(f"Index with name 'n:{EMBEDDING}:flat' not found in database 0")
    dialogue.step(Command, "FT.INFO", lost)
    created = ServerReplyError(f"Index n:{EMBEDDING}:flat already exists.")
    dialogue.step(Command, "FT.CREATE", created)
    assert dialogue.settles is not None
    assert dialogue.settles.prefix == f"n:{EMBEDDING}:"
    assert not dialogue.settles.everywhere
    dialogue.step(Script, None, 1)
    near = where.key.replace(where.text_digest, "a" * 32).encode()
    far = where.key.replace(where.text_digest, "b" * 32).encode()
    reply: list[Any] = [2, far, [b"d", b"0.5", b"p", envelope(far, "far")]]
    reply += [near, [b"p", envelope(near, "near"), b"d", b"0.04"]]
    dialogue.step(Command, "FT.SEARCH", reply)
    assert (dialogue.value.answer, dialogue.value.similarity) == ("near", pytest.approx(0.96))


@pytest.mark.parametrize(
    "reply",
    [
        [0],
        [1, b"n:" + b"e" * 32 + b":" + b"0" * 32 + b":" + b"a" * 32, [b"d", b"0", b"p", b"?"]],
        [1, OTHER.encode(), [b"d", b"0", b"p", envelope(OTHER, "crossed")]],
    ],
    ids=["nothing", "another scope", "another cache"],
)
def test_what_a_server_returns_from_outside_the_scope_is_not_served(reply: Any) -> None:
    """The tag filters, and the returned key is checked again."""
    dialogue = opened(flows(), address("asked"))
    dialogue.step(Command, "FT.SEARCH", reply)
    assert isinstance(dialogue.value, Miss)
    assert dialogue.value.reason == "no_neighbour"


def opened(cache: Flows, where: Address) -> Dialogue:
    dialogue = Dialogue(cache.lookup(where, TextCodec(), 0.9))
    dialogue.step(Command, "HMGET", [None])
    dialogue.step(Embed, None, VECTOR)
    dialogue.step(Command, "HMGET", [b"1", b"search", b"2", b"0"])
    dialogue.step(Command, "FT.INFO", INFO)
    return dialogue


@pytest.mark.parametrize(("count", "old"), [(b"3", True), (3, False)])
def test_a_release_before_1_2_is_told_by_its_counting_in_text(count: Any, old: bool) -> None:
    """Of a single server it alone needs a search after each script."""
    dialogue = Dialogue(flows().lookup(address("asked"), TextCodec(), 0.9))
    dialogue.step(Command, "HMGET", [None])
    dialogue.step(Embed, None, VECTOR)
    dialogue.step(Command, "HMGET", [b"1", b"search", b"2", b"0"])
    dialogue.step(Command, "FT.INFO", [*INFO, b"num_docs", count])
    assert dialogue.settles is not None
    assert dialogue.settles.everywhere is old


def test_a_hit_that_lacks_a_field_is_passed_over() -> None:
    where = address("asked")
    dialogue = opened(flows(), where)
    keys = [where.key.replace(where.text_digest, c * 32).encode() for c in "abc"]
    reply = [3, keys[0], [b"p", envelope(keys[0], "x")], keys[1], [b"d", b"0"], keys[2], []]
    dialogue.step(Command, "FT.SEARCH", reply)
    assert not dialogue.value


@pytest.mark.parametrize("distance", [b"nan", b"-4e-07", b"2", b"2.0000002"])
def test_odd_distances(distance: bytes) -> None:
    where = address("asked")
    dialogue = opened(flows(), where)
    key = where.key.replace(where.text_digest, "a" * 32).encode()
    dialogue.step(Command, "FT.SEARCH", [1, key, [b"d", distance, b"p", envelope(key, "x")]])
    if distance == b"-4e-07":
        assert dialogue.value.similarity == 1.0
    else:
        assert not dialogue.value


def test_an_error_reaches_whoever_runs_the_flow() -> None:
    flow = flows().lookup(address("asked"), TextCodec(), 0.9)
    next(flow)
    with pytest.raises(ServerUnreachableError):
        flow.throw(ServerUnreachableError("gone"))


def test_the_store_after_a_miss_needs_no_embedding() -> None:
    cache, where = flows(), address("asked")
    opened(cache, where).step(Command, "FT.SEARCH", [0])
    dialogue = Dialogue(cache.store(where, TextCodec(), b"answer", 1.5, None))
    script = dialogue.step(Script, None, 1)
    assert script.key == where.key
    assert script.arguments[:2] == (1500, 1)
    fields = dict(zip(script.arguments[2::2], script.arguments[3::2], strict=True))
    assert set(fields) == {"s", "b", "m", "n", "i", "v", "p"}
    assert np.frombuffer(fields["v"], "<f4").tolist() == VECTOR.tolist()


def test_an_envelope_from_another_key_is_not_served_and_removed() -> None:
    """As when a connection gave one command another one's reply, or entries were swapped."""
    where = address("asked")
    dialogue = Dialogue(flows().lookup(where, TextCodec(), 0.9))
    dialogue.step(Command, "HMGET", [envelope(address("other").key, "another's")])
    removal = dialogue.step(Command, "UNLINK", 1)
    assert removal.arguments == ("UNLINK", where.key)
    dialogue.step(Embed, None, VECTOR)
    assert dialogue.value is None
