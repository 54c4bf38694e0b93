"""Labels as they lie in Valkey: numbers and digests, signed where entries are.

Rule of this file: bytes out of Valkey are data. A label that cannot be read, or that nobody with a
key has signed, is none.

Layout, big-endian: version; a number drawn at random, 8 bytes, by which a copy is told; digests of
the candidate's question and of the asked one, 8 bytes each; similarity and margin, floats; right
and wrong, 2 bytes each; agreeing and same, 1 byte each; weight, requests and risk, floats; where
entries are signed, an HMAC-SHA-256 over the log's key and all of that.
"""

from __future__ import annotations

import math
import os
import struct

from valkey_semcache.precision.learning import Evidence, Label
from valkey_semcache.stored.sealing import Seal

_VERSION = 1
_ROW = struct.Struct(">B8s8s8sffHHBBfff")
_MOST = 65535  # what two bytes hold


def packed(key: str, label: Label, seal: Seal | None) -> bytes:
    """A label as bytes.

    Args:
        key: Of the log that it is for.
        label: The label.
        seal: Signs it, if it is to be signed.
    """
    seen = label.evidence
    row = _ROW.pack(
        *(_VERSION, os.urandom(8), label.entry, label.asked, seen.similarity, seen.margin),
        *(min(seen.right, _MOST), min(seen.wrong, _MOST), seen.agreeing, label.same),
        *(label.weight, label.requests, label.risk),
    )
    return row if seal is None else row + seal.signature(key, row)


def unpacked(key: str, data: bytes, seal: Seal | None) -> Label | None:
    """A label off its bytes; None if it is none, is not signed as it must be, or is a newer
    release's.

    Args:
        key: Of the log that it came from.
        data: What `packed` gave.
        seal: Whose signature is asked for; None for nobody's.
    """
    row, signature = data[: _ROW.size], data[_ROW.size :]
    if seal is not None and seal.signs and not seal.has_signed(key, row, signature):
        return None
    try:
        version, _, entry, asked, similarity, margin, *rest = _ROW.unpack(row)
    except struct.error:
        return None
    right, wrong, agreeing, same, weight, requests, risk = rest
    numbers = similarity, margin, weight, requests
    sound = all(map(math.isfinite, numbers)) and min(weight, requests) >= 0 and abs(margin) <= 2
    if version != _VERSION or same > 1 or not sound or abs(similarity) > 1.001:
        return None
    if not (math.isnan(risk) or 0 <= risk <= 1):
        return None
    evidence = Evidence(similarity, margin, right, wrong, agreeing)
    return Label(evidence, entry, asked, bool(same), weight, requests, risk)
