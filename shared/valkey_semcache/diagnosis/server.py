"""Checks of the server: what it is, its module, memory, persistence, and its place among others.

Rule of this file: what would be the same if no cache were there.
"""

from __future__ import annotations

from valkey_semcache.diagnosis.findings import Ask, Check, Reply, pairs, refused, size, text

_OLDEST = (7, 2)
_FULL = 0.9


def server_checks(ask: Ask) -> list[Check]:
    """Version, memory, persistence, replication and cluster."""
    return [_version(ask), _memory(ask), _persistence(ask), _role(ask)]


def _version(ask: Ask) -> Check:
    info = ask.info("server")
    if info is None:  # HELLO needs no right, but tells an older name and version on some
        hello = pairs(ask("HELLO", _protocol(ask)))
        found = f"{text(hello.get('server', 'unknown'))} {text(hello.get('version', ''))}".strip()
        advice = "INFO is refused to this user, so this is what HELLO says."
        valkey = found.startswith("valkey")
        return Check("server", "pass" if valkey else "warn", found, advice)
    version = info.get("valkey_version")
    if version is None:
        return Check(
            *("server", "fail", f"Redis {info.get('redis_version', 'of unknown version')}"),
            f"The cache is made for Valkey {_OLDEST[0]}.{_OLDEST[1]} or later: use such a server.",
        )
    numbers = tuple(int(part) for part in str(version).split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        return Check("server", "fail", f"Valkey {version}", "Update it to 7.2 or later.")
    return Check("server", "pass", f"Valkey {version}")


def _protocol(ask: Ask) -> int:
    """HELLO sets the protocol, so it must name the one in use."""
    return int(ask.client.connection_pool.connection_kwargs.get("protocol") or 2)


def _memory(ask: Ask) -> Check:
    info = ask.info("memory")
    if info is None or "maxmemory" not in info:
        return _not_told("memory", "INFO", "how full the server is, and what it does then")
    used, most = int(info["used_memory"]), int(info["maxmemory"])
    policy = info.get("maxmemory_policy", "unknown")
    if most == 0:
        return Check("memory", "pass", f"{size(used)} used, no limit is set (policy {policy})")
    found = f"{size(used)} of {size(most)} used ({used / most:.0%}), policy {policy}"
    if policy != "noeviction":
        return Check("memory", "pass", found)
    advice = (
        "A full server with noeviction refuses look-ups by meaning as well as stores. For a server "
        "that only caches: CONFIG SET maxmemory-policy allkeys-lru; else volatile-lru or more "
        "memory."
    )
    return Check("memory", "fail" if used >= most else "warn", found, advice)


def _persistence(ask: Ask) -> Check:
    info = ask.info("persistence")
    if info is None:
        return _not_told("persistence", "INFO", "whether entries outlive a restart")
    saves = pairs(ask("CONFIG", "GET", "save")).get("save")
    told = "not known (CONFIG is refused)" if saves is None else "on" if saves else "off"
    log = "on" if info.get("aof_enabled") else "off"
    found = f"append-only file {log}, snapshots {told}"
    if log == "off" and not saves and saves is not None:
        found += ": entries end with the server"
    return Check("persistence", "pass", found)


def _role(ask: Ask) -> Check:
    replication, cluster = ask.info("replication"), ask.info("cluster")
    if replication is None or cluster is None:
        return _not_told("role", "INFO", "whether it is a replica, or one of a cluster")
    if replication.get("role") == "slave":
        return Check(
            *("role", "fail", "a replica: it takes no stores"),
            "Give the URL of its primary.",
        )
    if not cluster.get("cluster_enabled"):
        return Check("role", "pass", "a primary, not in a cluster")
    lines = text(ask("CLUSTER", "INFO")).splitlines()
    told = dict(line.split(":", 1) for line in lines if line.startswith("cluster_"))
    health = told.get("cluster_state", "not known")
    found = f"one of a cluster of {told.get('cluster_known_nodes', '?')} nodes, state {health}"
    if health == "fail":
        return Check("role", "fail", found, "Part of the slots is not served: see CLUSTER NODES.")
    advice = "Version, memory, persistence and rights are of this node: ask the others too."
    return Check("role", "warn", found, advice)


def module(ask: Ask, name: str) -> tuple[bool, Check]:
    """Whether the server can search, and with what.

    Args:
        ask: Asks the server.
        name: The cache's name. FT.INFO of an index that nobody has tells the modules apart.
    """
    probe = ask("FT.INFO", f"{name}:doctor")
    said = str(probe).lower()
    if said.startswith("unknown command"):
        found = "none: the flat index searches in the client (exact, up to 100,000 entries a scope)"
        return False, Check("module", "pass", found)
    release, note = _release(ask)
    if "unknown index" in said or "no such index" in said:
        return False, Check(
            *("module", "fail", f"Redis's own search module ({release})"),
            "It is another module than valkey-search. Use a Valkey server, or index='flat'.",
        )
    if refused(probe):
        return True, Check(
            *("module", "fail", f"valkey-search {release}, but FT.INFO is refused to this user"),
            "Give the rights of README's 'Access rights', or open the cache with index='flat'.",
        )
    return True, Check("module", "pass", f"valkey-search {release}", note)


def _release(ask: Ask) -> tuple[str, str]:
    """The release in words, and what hindered to find it."""
    listed: Reply = ask("MODULE", "LIST")
    modules = listed if isinstance(listed, list) else []
    # HELLO names modules too, and needs no right.
    for entry in map(pairs, [*modules, *pairs(ask("HELLO", _protocol(ask))).get("modules", [])]):
        if text(entry.get("name")) == "search":
            return release_of(int(entry.get("ver", 0))), ""
    if refused(listed):
        return "of unknown release", "MODULE LIST is refused to this user."
    return "of unknown release", "MODULE LIST does not name it."


def release_of(number: int) -> str:
    """The release by the number in MODULE LIST: 66049 is 1.2.1.

    10000 is 1.0.2 (measured); later ones are `major << 16 | minor << 8 | patch`.
    """
    if number == 10_000:
        return "1.0.2"
    if number < 1 << 16:
        return f"of unknown release (number {number})"
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


def _not_told(name: str, command: str, what: str) -> Check:
    return Check(
        *(name, "warn", f"not known: {command} is refused to this user"),
        f"Allow it (+{command.lower()}) to learn {what}.",
    )
