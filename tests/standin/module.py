"""The five FT commands, as the module answers them.

It speaks of databases, arguments and replies; clients and their connections are not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.standin.args import Arguments, CommandError, show
from tests.standin.index import Found, Index
from tests.standin.info import describe
from tests.standin.mirror import Followed, Mirror, RefusedError
from tests.standin.query import Query, Returned, read_query
from tests.standin.release import REFUSED_WHEN_FULL, Release
from tests.standin.resp import Failure, Simple
from tests.standin.schema import read_schema
from tests.standin.wire import Address, Command

# 1.2 looks up the content of half as many hits again as it was asked for, in case some are gone.
SPARE_HITS = 1.5


class SearchModule:
    """valkey-search, of one release, over every database of the server behind."""

    def __init__(self, release: Release, address: Address) -> None:
        self.release = release
        self.backfill_delay = 0.0
        self.mirrors: dict[int, Mirror] = {}
        self._address = address
        self._commands: dict[str, Callable[[Mirror, list[bytes]], Awaitable[Any]]] = {
            "FT.CREATE": self._create,
            "FT.SEARCH": self._search,
            "FT.INFO": self._info,
            "FT._LIST": self._list,
            "FT.DROPINDEX": self._drop,
        }

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._commands)

    async def run(self, db: int, name: str, args: Sequence[bytes]) -> Any:
        """The reply to one command.

        Raises:
            ServerGoneError: the server behind cannot be reached.
        """
        mirror = self.mirrors.get(db)
        if mirror is None:
            mirror = self.mirrors[db] = Mirror(self._address, db, self.release)
        try:
            full = await mirror.sync()
            if full is not None and name in REFUSED_WHEN_FULL:
                return full
            return await self._commands[name](mirror, list(args))
        except RefusedError as error:
            return error.failure
        except CommandError as error:
            return Failure(str(error))

    async def close(self) -> None:
        for mirror in self.mirrors.values():
            await mirror.close()

    def flushing(self, db: int, step: int = 1) -> None:
        """A client flushes (`step=-1`: failed to flush) this database and no other."""
        for mirror in self.mirrors.values():
            if mirror.db != db:
                mirror.foreign_flushes += step

    # Indexes.

    async def _create(self, mirror: Mirror, items: list[bytes]) -> Any:
        schema = read_schema(self.release, items)
        if schema.name in mirror.followed:
            text = self.release.index_exists.format(name=show(schema.name), db=mirror.db)
            raise CommandError(text)
        await mirror.add(schema, self.backfill_delay)
        return Simple("OK")

    async def _drop(self, mirror: Mirror, items: list[bytes]) -> Any:
        if len(items) != 1:
            raise self._wrong_arity("FT.DROPINDEX")
        self._known(mirror, items[0])
        del mirror.followed[items[0]]
        return Simple("OK")

    async def _list(self, mirror: Mirror, items: list[bytes]) -> Any:
        if items:
            raise self._wrong_arity("FT._LIST")
        return [Simple(show(x)) for x in mirror.followed]

    async def _info(self, mirror: Mirror, items: list[bytes]) -> Any:
        if not items:
            raise self._wrong_arity("FT.INFO")
        followed = self._known(mirror, items[0])
        if self.release.info_scopes_refused:
            self._check_scope(Arguments(items[1:]))
        return describe(followed.index, backfilling=followed.scan_at is not None)

    def _check_scope(self, args: Arguments) -> None:
        flags = ("LOCAL", "ALLSHARDS", "SOMESHARDS", "CONSISTENT", "INCONSISTENT")
        scopes: list[str] = []
        options: dict[bytes, Callable[[Arguments], None]] = {x.encode(): _ignore for x in flags}
        options[b"PRIMARY"] = lambda _: scopes.append("PRIMARY")
        options[b"CLUSTER"] = lambda _: scopes.append("CLUSTER")
        args.take_options(options)
        if scopes:
            text = f"ERR {scopes[-1]} option is not valid in this configuration"
            raise CommandError(text)

    def _known(self, mirror: Mirror, name: bytes) -> Followed:
        if name not in mirror.followed:
            text = self.release.index_missing.format(name=show(name), db=mirror.db)
            raise CommandError(text)
        return mirror.followed[name]

    def _wrong_arity(self, name: str) -> CommandError:
        return CommandError(self.release.wrong_arity.format(command=name))

    # Searching.

    async def _search(self, mirror: Mirror, items: list[bytes]) -> Any:
        args = Arguments(items)
        index = self._known(mirror, args.take()).index
        query = read_query(self.release, index.schema, args.items[args.at :])
        if query.knn is not None:
            found = index.nearest(query.knn, query.where)
        else:
            assert query.where is not None
            found = index.matching(query.where)
        total = len(found)
        beyond_k = query.knn is not None and query.first >= query.knn.k
        if query.count == 0 or beyond_k:
            return [total]
        window = slice(query.first, query.first + query.count)
        if query.no_content:
            return [total, *(x.key for x in found[window])]
        if not self.release.needs_vector and query.sort_by is None:
            # 1.2 cuts first and looks up the content of what is left.
            spare = int(min(query.count, total) * SPARE_HITS)
            found, window = found[query.first :][:spare], slice(0, query.count)
        hits = await self._contents(mirror, index, query, found)
        total -= len(found) - len(hits)
        if query.sort_by is not None:
            _sort(index, query, hits)
        reply: list[Any] = [total]
        for hit, values in hits[window]:
            reply.append(hit.key)
            if query.with_sort_keys and query.knn is None:
                reply.append(b"#" + (values.get(query.sort_by or b"") or b""))
            reply.append(_shown(query, hit, values))
        return reply

    async def _contents(
        self, mirror: Mirror, index: Index, query: Query, found: list[Found]
    ) -> list[tuple[Found, dict[bytes, bytes]]]:
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
        hits: list[tuple[Found, dict[bytes, bytes]]] = []
        for hit, content, there in zip(found, replies[::2], replies[1::2], strict=True):
            if there != 1 or isinstance(content, Failure):
                continue
            if query.returned:
                pairs = zip(names, content, strict=True)
                content = {name: value for name, value in pairs if value is not None}
            if query.where is None or query.where.accepts(index.parse(content)):
                hits.append((hit, content))
        return hits


def _sort(index: Index, query: Query, hits: list[tuple[Found, dict[bytes, bytes]]]) -> None:
    by = query.sort_by or b""
    field = index.schema.fields[by].identifier

    def key(hit: tuple[Found, dict[bytes, bytes]]) -> Any:
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


def _ignore(_: Arguments) -> None:
    """A word that says nothing to a single node."""
