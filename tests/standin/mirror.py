"""How the indexes of one database follow the data of the server behind.

Whatever way a key changes (a command, a script, expiry, eviction, another client), the server
announces it to a connection of ours that tracks every key, and it does so before it confirms a
later command on that connection. So a search first makes one round trip there, reads anew what
was announced, and then knows every write that was confirmed to any client before it began.

No command of a client is known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.standin.index import Index
from tests.standin.release import Release
from tests.standin.resp import Failure, Push
from tests.standin.schema import Schema
from tests.standin.topology import Topology, key_of, read_topology
from tests.standin.wire import Address, Command, ServerGoneError, Wire

PROBE_KEY = b"stand-in probe"
# What a node of a cluster says of a key that is not, or no longer, on it; and a replica of a write.
ELSEWHERE = ("MOVED ", "ASK ", "TRYAGAIN ", "READONLY ")
SCAN_COUNT = 5_000
KEYS_AT_ONCE = 2_000
# So many changed keys are read without waiting for a search, which would have to wait for them.
TOO_MANY = 100
# Of the module, one for each core.
WRITER_THREADS = 16


class RefusedError(Exception):
    """The server behind answers, but only with this error: it loads, or runs a long script."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass
class Followed:
    """An index and what it has yet to read."""

    index: Index
    changed: dict[bytes, None] = field(default_factory=dict)
    """Keys to read, in the order in which they changed."""
    scan_at: float | None = None
    """When to index the keys that were there before it (event loop's time); None: done."""

    def note(self, keys: Iterable[bytes]) -> None:
        self.changed |= dict.fromkeys(x for x in keys if self.index.covers(x))


class Mirror:
    """The indexes of one database.

    Args:
        address: of the server behind.
        db: the number of the database.
        release: which release of the module to be.
        started_anew: in a cluster: called when the process behind is another one than before.
    """

    def __init__(
        self,
        address: Address,
        db: int,
        release: Release,
        started_anew: Callable[[], None] | None = None,
    ) -> None:
        self.db = db
        self.topology = Topology()
        """In a cluster, how the server behind saw it at the last `sync`."""
        self.deferred: set[bytes] = set()
        """Keys that scripts wrote, which the module reads only when this node itself is asked,
        or when they are many."""
        self._started_anew = started_anew
        self.followed: dict[bytes, Followed] = {}
        self.foreign_flushes = 0
        """FLUSHDBs of other databases under way; the server announces them to us as well."""
        self._address, self._release = address, release
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._run_id: bytes | None = None
        self._running: asyncio.Task[Failure | None] | None = None
        self._queued: asyncio.Task[Failure | None] | None = None

    async def close(self) -> None:
        rounds = [x for x in (self._running, self._queued) if x is not None]
        for each in rounds:
            each.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
        if self._wire is not None:
            self._wire.close()

    async def sync(self) -> Failure | None:
        """Brings every index up to date.

        Returns:
            The error with which the server refuses commands for want of memory, if it does.

        Raises:
            ServerGoneError: the server behind cannot be reached.
            RefusedError: it refuses every command.
        """
        # Whoever comes while a round is under way needs one that begins later, and shares it.
        return await asyncio.shield(self._next_round())

    def _next_round(self) -> asyncio.Task[Failure | None]:
        if self._queued is None:
            self._queued = asyncio.ensure_future(self._round(self._running))
            self._queued.add_done_callback(_forget)
        return self._queued

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands, read as one step; in a cluster, one by one."""
        wire = await self._connected()
        if self._in_cluster:
            return await self._ask(wire, commands)
        replies = await wire.request(["MULTI"], *commands, ["EXEC"])
        if isinstance(replies[-1], Failure):
            raise RefusedError(replies[-1])
        found: list[Any] = replies[-1]
        return found

    async def user(self, name: str) -> Any:
        """The reply of ACL GETUSER."""
        [reply] = await (await self._connected()).request(["ACL", "GETUSER", name])
        return reply

    async def add(self, schema: Schema, backfill_delay: float) -> None:
        """A new index; what is there already is indexed at once or after `backfill_delay`."""
        made = Followed(Index(self._release, schema))
        self.followed[schema.name] = made
        if schema.skip_initial_scan:
            return
        made.scan_at = asyncio.get_running_loop().time() + backfill_delay
        if backfill_delay <= 0:
            await self.sync()

    async def _round(self, before: asyncio.Task[Failure | None] | None) -> Failure | None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._running, self._queued = self._queued, None
        wire = await self._connected()
        full = await self._probe(wire)
        await self._backfill(wire)
        await self._refresh(wire)
        return full

    async def _probe(self, wire: Wire) -> Failure | None:
        """Whether the server is over its `maxmemory`, by a command without effect that it then
        refuses, as it refuses FT.SEARCH."""
        questions: list[Command] = [["SETRANGE", PROBE_KEY, 0, ""]]
        if self._in_cluster:
            key = key_of(self.topology.myself, PROBE_KEY)
            questions = [["SETRANGE", key, 0, ""] if key else ["PING"], ["CLUSTER", "NODES"]]
        answer, *others = await wire.request(*questions)
        if isinstance(answer, Failure):
            if answer.text.startswith("OOM"):
                return answer
            if not answer.text.startswith(ELSEWHERE):
                raise RefusedError(answer)
        for reply in others:
            if isinstance(reply, Failure):
                raise RefusedError(reply)
            self._look_around(read_topology(reply))
        return None

    def _look_around(self, topology: Topology) -> None:
        """Slots that come are not announced key by key."""
        if topology.served != self.topology.served:
            self._rescan()
        self.topology = topology

    def _rescan(self) -> None:
        now = asyncio.get_running_loop().time()
        for followed in self.followed.values():
            followed.note(followed.index.rows)
            followed.scan_at = followed.scan_at or now

    @property
    def _in_cluster(self) -> bool:
        return self._started_anew is not None

    async def _ask(self, wire: Wire, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands on one key each, also where its slot is just arriving."""
        asking: list[Command] = [x for command in commands for x in (["ASKING"], command)]
        return (await wire.request(*asking))[1::2]

    async def _connected(self) -> Wire:
        async with self._connecting:
            if self._wire is None or self._wire.lost:
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> Wire:
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_unix_connection(
                lambda: Wire(self._heard), self._address.unix_path
            )
        except OSError as error:
            raise ServerGoneError from error
        hello: list[str] = ["HELLO", "3"]
        if self._address.password is not None:
            hello += ["AUTH", "default", self._address.password]
        replies = await wire.request(
            hello,
            ["SELECT", self.db],
            ["CLIENT", "NO-EVICT", "ON"],
            ["CLIENT", "TRACKING", "ON", "BCAST"],
            ["INFO", "server"],
        )
        if isinstance(replies[-1], Failure):
            wire.close()
            raise ServerGoneError(replies[-1].text)
        [run_id] = [x for x in replies[-1].split(b"\r\n") if x.startswith(b"run_id:")]
        if run_id != self._run_id:
            # Another process: what the module had in memory ended with the one before.
            self.followed.clear()
            if self._started_anew is not None and self._run_id is not None:
                self._started_anew()
        if self._in_cluster:
            await wire.request(["READONLY"])
        self._rescan()
        self._run_id, self.foreign_flushes = run_id, 0
        return wire

    def _heard(self, push: Push) -> None:
        if not push or push[0] != b"invalidate":
            return
        keys: list[bytes] | None = push[1]
        if keys is None:
            self._flushed()
            return
        for followed in self.followed.values():
            followed.note(keys)
            if len(followed.changed) >= TOO_MANY:
                self._next_round()

    def _flushed(self) -> None:
        """FLUSHALL and FLUSHDB take the indexes with them; those of a cluster stay, empty.

        A replica that is filled anew says the same before it reads what its primary has sent.
        """
        if self.foreign_flushes:
            self.foreign_flushes -= 1
        elif self._in_cluster:
            now = asyncio.get_running_loop().time()
            for name, followed in self.followed.items():
                emptied = Index(self._release, followed.index.schema)
                self.followed[name] = Followed(emptied, scan_at=now)
        else:
            self.followed.clear()

    async def _backfill(self, wire: Wire) -> None:
        now = asyncio.get_running_loop().time()
        due = [x for x in self.followed.values() if x.scan_at is not None and x.scan_at <= now]
        if not due:
            return
        for followed in due:
            followed.scan_at = None
        cursor: bytes | int = 0
        while True:
            [[cursor, keys]] = await wire.request(
                ["SCAN", cursor, "COUNT", SCAN_COUNT, "TYPE", "hash"]
            )
            for followed in due:
                followed.note(keys)
            if cursor == b"0":
                return

    async def _refresh(self, wire: Wire) -> None:
        # Indexes over the same fields of a key share one reading of it.
        wanted: dict[tuple[bytes, ...], dict[bytes, list[Index]]] = {}
        if len(self.deferred) >= WRITER_THREADS:
            self.deferred.clear()
        for followed in self.followed.values():
            by_key = wanted.setdefault(tuple(followed.index.identifiers), {})
            left = {key: None for key in followed.changed if key in self.deferred}
            for key in followed.changed.keys() - left.keys():
                by_key.setdefault(key, []).append(followed.index)
            followed.changed = left
        for identifiers, by_key in wanted.items():
            keys = list(by_key)
            try:
                for start in range(0, len(keys), KEYS_AT_ONCE):
                    some = keys[start : start + KEYS_AT_ONCE]
                    await self._reread(wire, identifiers, {x: by_key[x] for x in some})
            except (RefusedError, ServerGoneError):
                for followed in self.followed.values():
                    followed.note(keys)
                raise

    async def _reread(
        self, wire: Wire, identifiers: tuple[bytes, ...], by_key: dict[bytes, list[Index]]
    ) -> None:
        reads: list[Command] = [["HMGET", x, *identifiers] for x in by_key]
        ask = self._ask if self._in_cluster else _request
        documents = dict(zip(by_key, await ask(wire, reads), strict=True))
        # HMGET does not tell a hash without these fields from no hash at all.
        bare = [x for x, values in documents.items() if _is_bare(values)]
        lengths: list[Command] = [["HLEN", x] for x in bare]
        counted = await ask(wire, lengths)
        gone = {x for x, n in zip(bare, counted, strict=True) if isinstance(n, Failure) or not n}
        for key, values in documents.items():
            for index in by_key[key]:
                if key in gone or isinstance(values, Failure):
                    index.drop(key)
                else:
                    index.put(key, values)


def _forget(task: asyncio.Task[Failure | None]) -> None:
    """Whoever waits for a round hears of its failure; a round of its own accord fails unheard."""
    if not task.cancelled():
        task.exception()


async def _request(wire: Wire, commands: Sequence[Command]) -> list[Any]:
    return await wire.request(*commands)


def _is_bare(values: Any) -> bool:
    if not isinstance(values, Failure):
        return all(x is None for x in values)
    # A key of another type is no document, nor is one on another node; any other error says
    # nothing of the key.
    if not values.text.startswith(("WRONGTYPE", *ELSEWHERE)):
        raise RefusedError(values)
    return False
