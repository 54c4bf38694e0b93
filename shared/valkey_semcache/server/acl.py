"""The least rights with which a cache works, as rules of `ACL SETUSER`.

Rule of this file: data. Each rule stands with what it is for; tests show that nothing a cache
does is refused to a user with these rules, that each rule is needed, and that the README says
the same. The language is https://valkey.io/topics/acl.
"""

from __future__ import annotations

from collections.abc import Mapping

from valkey_semcache.index.contract import IndexKind

CONNECTING = ("+client|setinfo", "+info")
"""valkey-py names itself to the server; `cluster="auto"` asks whether it is one of a cluster.

Both may be refused and the cache still works, but each refusal is noted in the server's ACL LOG.
`AUTH` and `HELLO` need no right. A URL with `client_name=` needs `+client|setname`, one that
names a database other than 0 `+select`, as does a client of your own with either.
"""

ENTRIES = (
    *("+hmget", "+unlink"),  # an exact look-up; delete(), and entries that cannot be read
    "+scan",  # clear(); SCAN shows names of all keys, whatever keys a user may open
    *("+evalsha", "+eval"),  # each store is one script, and what is in it must be allowed too:
    *("+type", "+hset", "+hdel", "+persist", "+pexpire"),  # an entry
    "+exists",  # a promoted wording
    "+hsetnx",  # the cache's meta hash
    *("+hincrby", "+hgetall"),  # the figures of the fleet, and who looks at them
)
"""Entries, which are alike under both kinds of index."""

FLAT = ("+zrange", "+zadd", "+pttl", "+time", "+zscore", "+zrem")
"""The flat index's log of each scope. A server that has the module valkey-search nevertheless
needs a release's `SEARCH` as well: `clear()` asks it to drop an index, in case there is one."""

QUOTA = ("+zrange", "+zadd", "+pttl", "+zrem")
"""With `max_entries_per_namespace=`, in addition; the flat index has them anyway."""

VERIFIED = ("+xadd", "+xrange")
"""With `policy=Verified(…)`, in addition: the log of what was compared."""

IF_ALLOWED = ("+memory|usage",)
"""Asked by `semcache stats` for the bytes that entries take; if refused, they are not known."""

SEARCH: Mapping[str, tuple[str, ...]] = {
    "1.0": ("+@search",),
    "1.2": ("+ft.info", "+ft.create", "+ft.search", "+ft.dropindex"),
}
"""The module valkey-search, by the release from which on it takes these rules.

Release 1.0.2 refuses FT.CREATE to who has single commands and not the category; 1.2.1 takes
them. Both also want the keys under the index's prefix, which `~NAME:*` has (measured on both,
and `src/acl.cc` of valkey-search).
"""


CLUSTER = ("+cluster|slots", "+command")
"""In a cluster, in addition: how valkey-py's cluster clients learn where each key lies. Users are
made on every node."""


def rules(index: IndexKind, name: str = "semcache", release: str = "1.0") -> tuple[str, ...]:
    """The least rules for one cache, for a user that has none yet.

    Args:
        index: The kind of index that the cache uses.
        name: The cache's name; the user may open no other keys.
        release: Of valkey-search, one of `SEARCH`; of no matter for the flat index.

    Returns:
        What follows user and password in `ACL SETUSER`.
    """
    commands = FLAT if index == "flat" else SEARCH[release]
    keys = ("resetkeys", f"~{name}:*", "resetchannels")
    return (*keys, "-@all", *CONNECTING, *ENTRIES, *commands)


def setuser(index: IndexKind, name: str = "semcache", release: str = "1.0") -> str:
    """The whole command, with `PASSWORD` where the password goes. The user is called as the cache.

    Args:
        index: As for `rules`.
        name: As for `rules`.
        release: As for `rules`.
    """
    return " ".join(("ACL SETUSER", name, "on", ">PASSWORD", *rules(index, name, release)))
