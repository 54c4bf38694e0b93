"""How FT.SEARCH comes to its reply: the documents found, what they hold, what is shown.

The rule of this file: one index, one query, one node; how several nodes put together what each
has found is known in `coordinator.py`.
"""

from __future__ import annotations

from typing import Any

from tests.standin.index import Found, Index
from tests.standin.mirror import Mirror
from tests.standin.query import Query, Returned
from tests.standin.release import Release
from tests.standin.resp import Failure
from tests.standin.wire import Command

# 1.2 looks up the content of half as many hits again as it was asked for, in case some are gone.
SPARE_HITS = 1.5

Hit = tuple[Found, dict[bytes, bytes]]
"""A document with what it holds."""


def find(index: Index, query: Query) -> list[Found]:
    """The documents that a query finds."""
    if query.knn is not None:
        return index.nearest(query.knn, query.where)
    assert query.where is not None
    return index.matching(query.where)


def is_count_alone(query: Query) -> bool:
    """Whether the reply is only how many were found."""
    return query.count == 0 or (query.knn is not None and query.first >= query.knn.k)


async def search(mirror: Mirror, release: Release, index: Index, query: Query) -> Any:
    """The reply of a server that asks no other."""
    found = find(index, query)
    total = len(found)
    if is_count_alone(query):
        return [total]
    window = slice(query.first, query.first + query.count)
    if query.no_content:
        return [total, *(x.key for x in found[window])]
    if not release.needs_vector and query.sort_by is None:
        # 1.2 cuts first and looks up the content of what is left.
        spare = int(min(query.count, total) * SPARE_HITS)
        found, window = found[query.first :][:spare], slice(0, query.count)
    hits = await contents(mirror, index, query, found)
    return reply_of(index, query, total - (len(found) - len(hits)), hits, window)


def reply_of(index: Index, query: Query, total: int, hits: list[Hit], window: slice) -> list[Any]:
    """The reply that shows these hits."""
    if query.sort_by is not None:
        _sort(index, query, hits)
    reply: list[Any] = [total]
    for hit, values in hits[window]:
        reply.append(hit.key)
        if query.with_sort_keys and query.knn is None:
            reply.append(b"#" + (values.get(query.sort_by or b"") or b""))
        reply.append(_shown(query, hit, values))
    return reply


async def contents(mirror: Mirror, index: Index, query: Query, found: list[Found]) -> list[Hit]:
    """What the hits hold now. Those that went or changed meanwhile are left out."""
    fields = index.schema.fields.values()
    filtered = [x.identifier for x in fields if x.alias not in index.vectors]
    returned = [x.identifier for x in query.returned]
    names = list(dict.fromkeys([*filtered, *returned]))
    commands: list[Command] = []
    for hit in found:
        commands.append(["HMGET", hit.key, *names] if query.returned else ["HGETALL", hit.key])
        if query.knn is None:
            commands.append(["EXISTS", hit.key])
        else:
            commands.append(["HEXISTS", hit.key, query.knn.field.identifier])
    replies = await mirror.read(commands) if commands else []
    hits: list[Hit] = []
    for hit, content, there in zip(found, replies[::2], replies[1::2], strict=True):
        if there != 1 or isinstance(content, Failure):
            continue
        if query.returned:
            pairs = zip(names, content, strict=True)
            content = {name: value for name, value in pairs if value is not None}
        if query.where is None or query.where.accepts(index.parse(content)):
            hits.append((hit, content))
    return hits


def _sort(index: Index, query: Query, hits: list[Hit]) -> None:
    by = query.sort_by or b""
    field = index.schema.fields[by].identifier

    def key(hit: Hit) -> Any:
        text = hit[1][field]
        try:
            return float(text) if by in index.numbers else text
        except ValueError:
            return 0.0

    have = [x for x in hits if field in x[1]]
    lack = [x for x in hits if field not in x[1]]
    hits[:] = sorted(have, key=key, reverse=query.descending) + lack


def _shown(query: Query, hit: Found, values: dict[bytes, bytes]) -> list[bytes]:
    score: list[bytes] = []
    if query.knn is not None:
        score = [query.knn.score_as, b"%.12g" % hit.distance]
    if not query.returned:
        return score + [x for pair in values.items() for x in pair]
    shown: list[bytes] = []
    for field in query.returned:
        shown += score if _is_score(query, field) else _pair(field, values)
    return shown


def _is_score(query: Query, field: Returned) -> bool:
    return query.knn is not None and query.knn.score_as == field.identifier


def _pair(field: Returned, values: dict[bytes, bytes]) -> list[bytes]:
    value = values.get(field.identifier)
    return [] if value is None else [field.shown_as, value]
