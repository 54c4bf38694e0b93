"""Checks of one embedding model's indexes in valkey-search.

Rule of this file: what FT.INFO tells, held against what the cache has written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from valkey_semcache.diagnosis.findings import Ask, Check, number, pairs, refused, text
from valkey_semcache.index.generations import DEAD
from valkey_semcache.index.search import graph_name, index_name


@dataclass(frozen=True, slots=True)
class Written:
    """What the meta hash says of one embedding model's index; None for what it does not say.

    Args:
        dimension: Of its vectors.
        generation: Of the HNSW index that serves; 0 for none.
        building: The generation that is being built.
        written: Vectors that the HNSW index has taken in, as far as they were counted.
        model: The embedding model's name.
    """

    dimension: int | None
    generation: int | None
    building: int | None
    written: int | None
    model: str | None


def index_checks(
    ask: Ask, name: str, model: str, written: Written, entries: int, listed: Sequence[str]
) -> list[Check]:
    """One check for each index of an embedding model, there or missing.

    Args:
        ask: Asks the server.
        name: The cache's name.
        model: Digest of the embedding model's name.
        written: What the cache has written down about it.
        entries: How many entries it has.
        listed: All indexes in the server, as far as they may be listed.
    """
    prefix = f"{name}:{model}:"
    flat = index_name(prefix)
    graphs = {g: graph_name(prefix, g) for g in (written.generation, written.building) if g}
    there = [index for index in listed if index.startswith(prefix)]
    names = sorted({*there, *graphs.values()})
    if not graphs or flat in there or not there:
        names = sorted({*names, flat})
    return [_check(ask, index, prefix, written, entries, graphs) for index in names]


def _check(
    ask: Ask, index: str, prefix: str, written: Written, entries: int, graphs: dict[int, str]
) -> Check:
    name = "index " + ":".join(part[:8] for part in index.split(":")[1:])
    reply = ask("FT.INFO", index)
    if refused(reply):
        return Check(name, "fail", str(reply), "Give the rights of README's 'Access rights'.")
    if not isinstance(reply, list | dict):
        if index == index_name(prefix) and graphs:
            return Check(name, "pass", "not in the server: HNSW serves alone")
        advice = "The next look-up or store creates it, and it is filled in the background."
        return Check(name, "warn" if entries else "pass", "not in the server", advice)
    info = pairs(reply)
    vector = _vector(info.get("attributes", []))
    stored = int(vector.get("dimensions", 0))
    failures = int(info.get("hash_indexing_failures", 0))
    kind = pairs(vector.get("algorithm"))
    options = [f"{o} {text(kind[o])}" for o in ("m", "ef_construction", "ef_runtime") if o in kind]
    parts = [text(kind.get("name", "of unknown kind")), *options, f"{stored} dimensions"]
    parts += [f"model {written.model}"] if written.model else []
    parts += [number(int(info.get("num_docs", 0)), "document", "documents")]
    parts += [number(failures, "indexing failure", "indexing failures")]
    share = _dead_share(index, vector, written, graphs)
    parts += [f"{share:.0%} dead"] if share is not None else []
    found = f"{', '.join(parts)}; {_role(index, prefix, written, graphs)}"
    if written.dimension is not None and written.dimension != stored:
        advice = f"The cache's entries have {written.dimension} dimensions: clear() it."
        return Check(name, "fail", found, advice)
    if text(info.get("backfill_in_progress", "0")) != "0":
        done = float(text(info.get("backfill_complete_percent", "0")))
        found += f", filling up ({done:.0%})"
        return Check(name, "warn", found, "Look-ups may miss older entries until it is full.")
    if failures:
        advice = "Entries with a vector of another size are not found by meaning: clear() them."
        return Check(name, "warn", found, advice)
    if index not in (index_name(prefix), *graphs.values()):
        return Check(name, "warn", found, f"FT.DROPINDEX {index} gives its memory back.")
    if share is not None and share > 2 * DEAD / (1 + DEAD):
        advice = "The next generation is built while the cache is used; without use it stays so."
        return Check(name, "warn", found, advice)
    return Check(name, "pass", found)


def _role(index: str, prefix: str, written: Written, graphs: dict[int, str]) -> str:
    """Which scopes an index serves."""
    if index == index_name(prefix):
        if not written.generation:
            return "serves all scopes"
        return "serves the scopes that it answers quickly"
    if written.generation and index == graphs.get(written.generation):
        return f"generation {written.generation}, serves scopes that have outgrown FLAT"
    if written.building and index == graphs.get(written.building):
        return f"generation {written.building}, being built"
    return "left behind, serves nothing"


def _dead_share(
    index: str, vector: dict[str, Any], written: Written, graphs: dict[int, str]
) -> float | None:
    """Share of the dead among the vectors that the serving HNSW index has taken in."""
    if not (written.generation and written.written and index == graphs.get(written.generation)):
        return None
    living = int(vector.get("size", 0))
    return max(0.0, 1 - living / written.written)


def _vector(attributes: Iterable[Any]) -> dict[str, Any]:
    """What FT.INFO says of the vector attribute, in both releases."""
    for attribute in map(pairs, attributes):
        if text(attribute.get("type")) == "VECTOR":
            return pairs(attribute.get("index"))
    return {}
