"""The five FT commands, as the module answers them.

It speaks of databases, arguments and replies; clients and their connections are not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.standin.args import Arguments, CommandError, show
from tests.standin.coordinator import Coordinator, Entry, Partial
from tests.standin.index import Index
from tests.standin.info import describe
from tests.standin.mirror import Followed, Mirror, RefusedError
from tests.standin.query import Query, read_query
from tests.standin.release import REFUSED_WHEN_FULL, Release
from tests.standin.resp import Failure, Simple
from tests.standin.rights import READ, WRITE, Rights, User
from tests.standin.schema import Schema, read_schema
from tests.standin.searching import contents, find, is_count_alone, reply_of, search
from tests.standin.wire import Address


class SearchModule:
    """valkey-search, of one release, over every database of the server behind.

    With a coordinator it is one node of a cluster.
    """

    def __init__(
        self, release: Release, address: Address, coordinator: Coordinator | None = None
    ) -> None:
        self.release = release
        self.entries: dict[bytes, Entry] = {}
        """In a cluster, what this node knows of the cluster's indexes."""
        self.rights = Rights()
        self._users: dict[str, User] = {}
        self._coordinator = coordinator
        self.backfill_delay = 0.0
        self.mirrors: dict[int, Mirror] = {}
        self._address = address
        self._commands: dict[str, Callable[[Mirror, list[bytes], User | None], Awaitable[Any]]] = {
            "FT.CREATE": self._create,
            "FT.SEARCH": self._search,
            "FT.INFO": self._info,
            "FT._LIST": self._list,
            "FT.DROPINDEX": self._drop,
        }

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._commands)

    async def run(self, db: int, name: str, args: Sequence[bytes], user: User | None = None) -> Any:
        """The reply to one command, which a user may send; None is nobody, who may do all.

        Raises:
            ServerGoneError: the server behind cannot be reached.
        """
        mirror = self._mirror(db)
        if user is not None and not user.may(name):
            self.rights.refused.append((user.name, name.lower()))
            return Failure(
                f"NOPERM User {user.name} has no permissions to run the '{name.lower()}' command"
            )
        mirror.deferred.clear()
        try:
            full = await mirror.sync()
            await self._follow_primary(mirror)
            if full is not None and name in REFUSED_WHEN_FULL:
                return full
            if mirror.topology.is_replica and "write" in self.release.command_flags[name]:
                return Failure("READONLY You can't write against a read only replica.")
            return await self._commands[name](mirror, list(args), user)
        except RefusedError as error:
            return error.failure
        except CommandError as error:
            return Failure(str(error))

    def scripted(self, db: int, keys: Sequence[bytes]) -> None:
        """A client's script may write to these keys."""
        self._mirror(db).deferred.update(keys)

    async def user(self, name: str) -> User:
        """The user of this name, as it is now."""
        if name not in self._users:
            self._users[name] = self.rights.read(name, await self._mirror(0).user(name))
        return self._users[name]

    def users_changed(self) -> None:
        """Somebody has sent an ACL command."""
        self._users.clear()

    async def close(self) -> None:
        for mirror in self.mirrors.values():
            await mirror.close()

    def flushing(self, db: int, step: int = 1) -> None:
        """A client flushes (`step=-1`: failed to flush) this database and no other."""
        for mirror in self.mirrors.values():
            if mirror.db != db:
                mirror.foreign_flushes += step

    def _mirror(self, db: int) -> Mirror:
        if db not in self.mirrors:
            started_anew = self._forget if self._coordinator is not None else None
            self.mirrors[db] = Mirror(self._address, db, self.release, started_anew)
        return self.mirrors[db]

    # Indexes.

    async def _create(self, mirror: Mirror, items: list[bytes], user: User | None) -> Any:
        schema = read_schema(self.release, items)
        self._check_user(user, "FT.CREATE", schema, WRITE)
        if schema.name in mirror.followed:
            text = self.release.index_exists.format(name=show(schema.name), db=mirror.db)
            raise CommandError(text)
        await self._change(mirror, schema.name, schema, items)
        return Simple("OK")

    async def _change(
        self, mirror: Mirror, name: bytes, schema: Schema | None, items: list[bytes]
    ) -> None:
        """Makes an index, or drops it where there is no schema; in a cluster, on all nodes."""
        if self._coordinator is not None:
            known = self.entries.get(name)
            made = tuple(items) if schema is not None else None
            self.entries[name] = Entry(known.version + 1 if known else 0, made)
        await self._apply(mirror, name, schema)
        if self._coordinator is not None:
            await self._coordinator.spread(self, mirror.topology, name)

    async def _apply(self, mirror: Mirror, name: bytes, schema: Schema | None) -> None:
        mirror.followed.pop(name, None)
        if schema is not None:
            await mirror.add(schema, self.backfill_delay)

    async def take(self, name: bytes, entry: Entry) -> None:
        """Hears from another node of the cluster what has become of a name."""
        if entry.outdates(self.entries.get(name)):
            mirror = self._mirror(0)
            await mirror.sync()
            self.entries[name] = entry
            items = None if entry.items is None else list(entry.items)
            await self._apply(mirror, name, items and read_schema(self.release, items))

    async def _follow_primary(self, mirror: Mirror) -> None:
        """A replica gets the indexes along with its primary's data."""
        if self._coordinator is not None and mirror.topology.is_replica and not self.entries:
            for name, entry in self._coordinator.known_to_primary(mirror.topology):
                await self.take(name, entry)
            await mirror.sync()

    def _forget(self) -> None:
        """The process behind is another one, which was told of no index yet."""
        self.entries.clear()
        assert self._coordinator is not None
        self._coordinator.remind_later(self)

    async def _drop(self, mirror: Mirror, items: list[bytes], user: User | None) -> Any:
        if len(items) != 1:
            raise self._wrong_arity("FT.DROPINDEX")
        schema = self._known(mirror, items[0]).index.schema
        self._check_user(user, "FT.DROPINDEX", schema, WRITE)
        await self._change(mirror, items[0], None, items)
        return Simple("OK")

    async def _list(self, mirror: Mirror, items: list[bytes], _: User | None) -> Any:
        if items:
            raise self._wrong_arity("FT._LIST")
        return [Simple(show(x)) for x in mirror.followed]

    async def _info(self, mirror: Mirror, items: list[bytes], user: User | None) -> Any:
        if not items:
            raise self._wrong_arity("FT.INFO")
        followed = self._known(mirror, items[0])
        if self.release.info_scopes_refused:
            self._check_scope(Arguments(items[1:]))
        self._check_user(user, "FT.INFO", followed.index.schema, READ)
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

    def _check_user(self, user: User | None, command: str, schema: Schema, access: str) -> None:
        if user is not None:
            user.check_prefixes(self.release, command, schema.prefixes, access)

    def _wrong_arity(self, name: str) -> CommandError:
        return CommandError(self.release.wrong_arity.format(command=name))

    # Searching.

    async def _search(self, mirror: Mirror, items: list[bytes], user: User | None) -> Any:
        index, query = self._query(mirror, items)
        self._check_user(user, "FT.SEARCH", index.schema, READ)
        if self._coordinator is None:
            return await search(mirror, self.release, index, query)
        partial = await self._coordinator.search(self, mirror.topology, items, query)
        if is_count_alone(query):
            return [partial.total]
        window = slice(query.first, query.first + query.count)
        if query.no_content:
            return [partial.total, *(hit.key for hit, _ in partial.hits[window])]
        return reply_of(index, query, partial.total, partial.hits, window)

    async def partial(self, items: list[bytes]) -> Partial:
        """What this node of a cluster finds."""
        mirror = self._mirror(0)
        await mirror.sync()
        await self._follow_primary(mirror)
        index, query = self._query(mirror, items)
        found = find(index, query)
        if query.no_content or is_count_alone(query):
            return Partial(len(found), [(x, {}) for x in found])
        hits = await contents(mirror, index, query, found)
        return Partial(len(hits), hits)

    def _query(self, mirror: Mirror, items: list[bytes]) -> tuple[Index, Query]:
        args = Arguments(items)
        index = self._known(mirror, args.take()).index
        return index, read_query(self.release, index.schema, args.items[args.at :])


def _ignore(_: Arguments) -> None:
    """A word that says nothing to a single node."""
