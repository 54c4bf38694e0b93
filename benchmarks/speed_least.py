"""The least that a semantic hit and a store take in Python, written straight down for one case.

Rule of this file: the same commands by the bare client, and what no cache can do without: reading
the prompt, naming the entry, the embedding in a thread that may be left behind, opening the answer
and building it; and for a store, writing it down and making it smaller. No tenants, options,
guards, counts or errors: what those cost is the difference.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import numpy as np

from benchmarks.speed_lines import Filled, Row
from benchmarks.speed_setting import LLM_STRING, answer, asked, reworded, side_by_side
from langchain_valkey_semcache.codec import GenerationCodec
from valkey_semcache.stored.answer import Envelope, unpack

_SECONDS = 5.0


class Thread:
    """Another thread that calls the embedding model, and a limit for how long that may take."""

    def __init__(self, embed: Any) -> None:
        self._embed = embed
        self._begin, self._done = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._done.acquire()
        threading.Thread(target=self._work, daemon=True).start()

    def embed(self, texts: list[str]) -> Any:
        self._texts = texts
        self._begin.release()
        if not self._done.acquire(timeout=_SECONDS):
            raise TimeoutError
        return self._vectors

    def _work(self) -> None:
        while True:
            self._begin.acquire()
            self._vectors = self._embed(self._texts)
            self._done.release()


def least(filled: Filled) -> Row:
    """Semantic hits in the least way, in turns with the bare client's commands."""
    commands = [
        filled.hearing.hear(lambda n=n: filled.heard.lookup(filled.asked(n, reworded), LLM_STRING))
        for n in range(filled.times)
    ]
    send, codec = filled.bare.execute_command, GenerationCodec()
    embed = Thread(filled.embeddings.embed_documents).embed

    def hit(asked_for: tuple[int, str]) -> Any:
        number, prompt = asked_for
        *earlier, last = json.loads(prompt)
        text = last["kwargs"]["content"]
        for part in (json.dumps(earlier), LLM_STRING, text):
            hashlib.sha256(part.encode()).hexdigest()
        exact, search, *_ = commands[number]
        send(*exact)
        vector = np.asarray(embed([text])[0], np.float64)
        vector = (vector / np.sqrt(vector @ vector)).astype(np.float32)
        place = search.index("q") + 1
        reply = send(*search[:place], vector.tobytes(), *search[place + 1 :])
        fields = min(reply[2::2], key=lambda each: float(each[each.index(b"d") + 1]))
        return codec.decode(unpack(fields[fields.index(b"p") + 1]).content)

    row = side_by_side(
        filled.times,
        filled.replay(commands),
        hit,
        lambda number: (number, filled.asked(number, reworded)),
    )
    return row | filled.sent(commands, None)


def least_stored(filled: Filled) -> Row:
    """Stores in the least way, of entries that are there, in turns with the bare scripts.

    Each follows a look-up that searches and is not measured, as in the line of the cache.
    """
    filled.hearing.withholds = True
    scripts = [
        filled.hearing.hear(
            lambda n=n: filled.heard.update(filled.asked(n, asked), LLM_STRING, answer(n))
        )[-1]
        for n in range(filled.times)
    ]
    filled.hearing.withholds = False
    send, codec = filled.bare.execute_command, GenerationCodec()

    def store(number: int) -> None:
        script = scripts[number]
        place = script.index("p") + 1
        content = codec.encode(answers[number])
        packed = Envelope(bytes(32), codec.name, content, 0.0, question=asked(number)).pack(1024)
        send(*script[:place], packed, *script[place + 1 :])

    answers: dict[int, Any] = {}

    def prepare(number: int) -> int:
        filled.cache.lookup(filled.asked(number, reworded), LLM_STRING)
        answers[number] = answer(number)
        return number

    row = side_by_side(filled.times, lambda number: send(*scripts[number]), store, prepare)
    for number in range(filled.times):  # as they were
        send(*scripts[number])
    return row | {"commands": "EVALSHA"}
