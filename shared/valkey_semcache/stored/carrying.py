"""Entries out of a cache as plain values, and into another one.

Rule of this file: what goes out is what a look-up would have been given, never a secret. What comes
in is data: each value is checked, and the entry is written as a store would write it.
"""

from __future__ import annotations

import base64
import math
import re
import time
from typing import Any

import numpy as np

from valkey_semcache.digest import FORMAT
from valkey_semcache.embedding import Vector
from valkey_semcache.errors import ConfigurationError, EmbeddingError, ServerReplyError
from valkey_semcache.flow.entries import milliseconds
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.operations import Argument, Command, Embed, Flow, Script, replies_to
from valkey_semcache.index.scripts import STORE
from valkey_semcache.stored.answer import ALIAS_CODEC, Envelope, place_of
from valkey_semcache.stored.keys import Pages, entry_pattern
from valkey_semcache.vectors import FLOAT32, unit

_READ = ("p", "s", "b", "m", "n", "i", "x", "v")
_DIGESTS = ("s", "b", "m", "n", "i")
_DIGEST = re.compile(r"[0-9a-f]{32}")


class Carrying:
    """The flows that take entries out and bring entries in.

    Args:
        flows: The cache's.
        prefix: `NAME:EMB:`, before its entries' keys.
    """

    def __init__(self, flows: Flows, prefix: str) -> None:
        self._flows = flows
        self._prefix = prefix
        self._name, self._embedding, _ = prefix.split(":")

    def pages(self) -> Pages:
        """The cache's keys."""
        return Pages(self._name)

    def page(self, pages: Pages, *, vectors: bool) -> Flow[list[dict[str, Any]] | None]:
        """The next entries, perhaps none; None after the last."""
        keys = yield from pages.next()
        if keys is None:
            return None
        own = entry_pattern(self._name, self._embedding)
        wanted = [key.decode() for key in keys if own.fullmatch(key)]
        fields = _READ if vectors or self._flows.entries.are_signed else _READ[:-1]
        replies = yield from replies_to([Command("HMGET", key, *fields) for key in wanted])
        left = yield from self._left(wanted)
        found = []
        for key, reply in zip(wanted, replies, strict=True):
            values = [] if isinstance(reply, ServerReplyError) else reply
            stored = {n: v for n, v in zip(fields, values, strict=False) if v is not None}
            if "p" not in stored:
                continue
            envelope = yield from self._flows.entries.envelope(key, stored["p"])
            if envelope is None or envelope.codec == ALIAS_CODEC:
                continue
            vector = stored.get("v")
            entries = self._flows.entries
            if vector and entries.are_signed and not entries.is_vector_of(envelope, vector):
                continue
            line = _out(key, envelope, stored, vectors=vectors)
            found.append(line | ({"ends": left[key]} if key in left else {}))
        return found

    def _left(self, keys: list[str]) -> Flow[dict[str, float]]:
        """When entries end whose lives hits have extended, seconds since 1970; not of those of
        which the server does not say so."""
        if not self._flows.sliding:
            return {}
        now = time.time()
        replies = yield from replies_to([Command("PTTL", key) for key in keys])
        return {
            key: now + left / 1000
            for key, left in zip(keys, replies, strict=True)
            if isinstance(left, int) and left > 0
        }

    def bring(self, entry: dict[str, Any], *, same_model: bool) -> Flow[bool]:
        """Write one entry; False for one that has expired meanwhile.

        Args:
            entry: As `page` gave it.
            same_model: Whether its vector is one of this cache's embedding model.

        Raises:
            ConfigurationError: It is no such entry.
        """
        key, envelope, digests = _in(self._prefix, entry)
        left = _left(envelope, entry.get("ends"))
        if left is not None and left <= 0:
            return False
        ttl_ms = milliseconds(left)
        vector: Vector | None = _vector(entry.get("vector")) if same_model else None
        if vector is None and "s" in digests and envelope.question is not None:
            vector = yield Embed(envelope.question)
        fields: list[Argument] = [part for pair in digests.items() for part in pair]
        if vector is None:
            fields = [part for n in digests if n not in "sb" for part in (n, digests[n])]
        packed = self._flows.entries.packed(key, envelope, vector)
        index = None
        if vector is not None:
            index = yield from self._flows.index_for(len(vector))
            fields += ("v", vector.tobytes())
        yield Script(STORE, key, ttl_ms, int(vector is not None), *fields, "p", packed)
        if index is not None and vector is not None:
            scope, text = key.split(":")[2:]
            yield from index.added(scope, text, vector, ttl_ms)
        return True


def header(embedding: str, check: str, *, vectors: bool) -> dict[str, Any]:
    """The first line of an export.

    Args:
        embedding: The embedding model's name.
        check: The same for caches whose digests agree.
        vectors: Whether vectors follow.
    """
    return {"semcache": FORMAT, "embedding": embedding, "check": check, "vectors": vectors}


def check_header(line: Any, check: str) -> None:
    """Refuse what is no export, or one whose entries would not be found.

    Raises:
        ConfigurationError: It is.
    """
    if not isinstance(line, dict) or not isinstance(line.get("semcache"), int):
        raise ConfigurationError("This is no file of semcache export: its first line says nothing.")
    if line["semcache"] != FORMAT:
        raise ConfigurationError(
            f"The file has format {line['semcache']}, this release reads {FORMAT}."
        )
    if line.get("check") != check:
        raise ConfigurationError(
            "The file comes from a cache with another digest_key= (or encryption_key=), so its "
            "entries would never be found here. Give this cache the same key."
        )


def _out(
    key: str, envelope: Envelope, stored: dict[str, bytes], *, vectors: bool
) -> dict[str, Any]:
    _, _, scope, text = key.split(":")
    line: dict[str, Any] = {
        "scope": scope,
        "text": text,
        "question": envelope.question,
        "content": base64.b64encode(envelope.content).decode(),
        "codec": envelope.codec,
        "model": envelope.model,
        "usage": dict(envelope.usage or {}),
        "created": envelope.created,
        "expires": envelope.expires,
        "digests": {n: stored[n].decode() for n in _DIGESTS if n in stored},
        "rejected": stored.get("x", b"").decode(),
    }
    if vectors and "v" in stored:
        line["vector"] = base64.b64encode(stored["v"]).decode()
    return line


def _in(prefix: str, line: dict[str, Any]) -> tuple[str, Envelope, dict[str, Argument]]:
    """Key, envelope and fields of an exported entry."""
    try:
        digests: dict[str, Argument] = {n: line["digests"][n] for n in line["digests"]}
        rejected = line["rejected"].split()
        every = [line["scope"], line["text"], *digests.values(), *rejected]
        if not all(_DIGEST.fullmatch(digest) for digest in every) or set(digests) - set(_DIGESTS):
            raise ValueError("digests")
        key = f"{prefix}{line['scope']}:{line['text']}"
        envelope = Envelope(
            place=place_of(key),
            codec=line["codec"],
            content=base64.b64decode(line["content"], validate=True),
            created=float(line["created"]),
            expires=None if line["expires"] is None else float(line["expires"]),
            model=line["model"],
            question=line["question"],
            usage={str(name): int(count) for name, count in line["usage"].items()},
        )
        if not isinstance(envelope.model, str) or not isinstance(envelope.question, str | None):
            raise ValueError("texts")
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", envelope.codec):
            raise ValueError("codec")
        if digests.get("s", line["scope"]) != line["scope"]:
            raise ValueError("scope")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigurationError(f"The line is no exported entry: {error!r}.") from error
    if rejected:
        digests["x"] = " ".join(rejected)
    return key, envelope, digests


def _left(envelope: Envelope, ends: Any) -> float | None:
    """Seconds that an entry has left; None for ever."""
    if envelope.expires is None:
        return None
    extended = isinstance(ends, int | float) and math.isfinite(ends)
    return (max(ends, envelope.expires) if extended else envelope.expires) - time.time()


def _vector(value: Any) -> Vector | None:
    if not isinstance(value, str):
        return None
    try:
        data = np.frombuffer(base64.b64decode(value, validate=True), FLOAT32)
        return unit(data.astype(np.float64), "The exported vector")
    except (ValueError, EmbeddingError) as error:
        raise ConfigurationError(f"The line's vector is none: {error}.") from error
