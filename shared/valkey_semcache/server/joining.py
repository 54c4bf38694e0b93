"""One server for all processes that use a directory: who starts it, and who joins.

Rule of this file: the lock in the directory says whether a server runs there. Whoever gets it
may start one, and shell and server keep it until they are down. Everybody else joins: finds
the server's folder by the record, shows a sign of life there (a shared lock), takes hold of
the leash, and is in once the shell has answered its word. Nobody uses a server that has not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator

from valkey_semcache.errors import ServerUnreachableError
from valkey_semcache.server import launch
from valkey_semcache.server.hold import Hold, ended
from valkey_semcache.server.memory import MemoryLimit

LOCK_FILE = "valkey-semcache.lock"
RECORD_FILE = "valkey-semcache.server"
LINGER = 2.0  # seconds for which a server waits for new users when the last has gone
_FREE_WITHIN = 12.0  # seconds; a server that ends is down, or killed, after ten
_STEP = 0.005  # seconds between two looks


class Membership(Hold):
    """A hold on a server that others may use as well, in other processes.

    Args:
        folder: The server's temporary folder.
        leash: See `Hold`.
        life: See `Hold`.
        users: The file `users` in that folder, with a shared lock on it.
    """

    def __init__(self, folder: str, leash: int, life: int, users: int) -> None:
        super().__init__(folder, leash, life, users)
        self.users = users

    @contextlib.contextmanager
    def sole(self) -> Iterator[bool]:
        """Whether nobody else uses the server; while this lasts, nobody can join it."""
        # By an opening of its own: what forked children inherited is one and the same lock.
        self.close(self.users)
        with contextlib.ExitStack() as closing:
            try:
                users = os.open(os.path.join(self.folder, "users"), os.O_RDWR)
                closing.callback(os.close, users)
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sole = True
            except OSError:
                sole = False
            yield sole


class _NotJoined(Exception):  # noqa: N818 - no failure, but the reason to look again
    """Why the server that has the lock cannot be joined at this moment."""


def join_or_start(home: str, binary: str, memory: MemoryLimit | None = None) -> Hold:
    """Join the server for the directory `home`; start it if there is none.

    Waits for a server that starts, and for one that ends, to start the next.

    Raises:
        ConfigurationError: The directory cannot be used.
        ServerUnreachableError: The server did not start, or cannot be joined.
    """
    until = time.monotonic() + _FREE_WITHIN
    while True:
        with contextlib.ExitStack() as passed_on:
            try:
                lock = _claim(home, passed_on)
            except (OSError, ValueError) as error:
                raise launch.unusable(home, error) from error
            if lock is not None:
                return _start(home, binary, lock, memory)
        try:
            return _join(home, until)
        except _NotJoined as reason:
            if time.monotonic() > until:
                raise ServerUnreachableError(
                    f"{home} is in use by the embedded Valkey that process number "
                    f"{_starter(home)} has started, and it cannot be joined: {reason}. Give this "
                    "process another path, end those that use this one, or run one Valkey for "
                    "all of them and pass its URL (valkey://host:6379)."
                ) from None
        time.sleep(_STEP)


def _claim(home: str, passed_on: contextlib.ExitStack) -> int | None:
    """Take the directory's lock, which shell and server inherit; None if others have it."""
    os.makedirs(home, mode=0o700, exist_ok=True)
    opened = os.open(os.path.join(home, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o600)
    passed_on.callback(os.close, opened)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)  # the shell has use for 0 to 9
    passed_on.callback(os.close, lock)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _starter(home: str) -> str:
    with contextlib.suppress(OSError), open(os.path.join(home, LOCK_FILE), "rb") as file:
        return file.read(20).decode(errors="replace") or "?"
    return "?"


def _start(home: str, binary: str, lock: int, memory: MemoryLimit | None) -> Hold:
    def hold(folder: str, leash: int, life: int) -> Membership:
        users = os.open(os.path.join(folder, "users"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            _record(home, folder)
            return Membership(folder, leash, life, users)
        except BaseException:
            os.close(users)
            raise

    return launch.start(binary, home, (lock,), f"{LINGER:g}", hold, memory)


def _record(home: str, folder: str) -> None:
    """Say where the server is, at once or not at all; whoever does has the lock."""
    name = os.path.join(home, RECORD_FILE)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name + ".new")
    written = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(written, "wb") as file:
        file.write(os.fsencode(folder))
    os.replace(name + ".new", name)


def _recorded(home: str) -> str:
    """The server's folder, if this user has written it down and it is this user's alone."""
    try:
        opened = os.open(os.path.join(home, RECORD_FILE), os.O_RDONLY | os.O_NOFOLLOW)
        with open(opened, "rb") as file:
            _check_owner(os.fstat(opened), f"the file {RECORD_FILE}")
            folder = os.fsdecode(file.read(4096))
        found = os.lstat(folder)
    except (OSError, ValueError) as error:
        raise _NotJoined(
            f"it is not on this machine or in this container, or just starts or ends ({error})"
        ) from error
    _check_owner(found, folder)
    if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        raise _NotJoined(f"{folder} is not a folder for its user alone")
    return folder


def _check_owner(found: os.stat_result, what: str) -> None:
    if found.st_uid != os.geteuid():
        raise _NotJoined(f"{what} belongs to another user (number {found.st_uid})")


def _join(home: str, until: float) -> Membership:
    folder = _recorded(home)
    with contextlib.ExitStack() as opened:

        def take(name: str, flags: int) -> int:
            number = os.open(os.path.join(folder, name), flags | os.O_NONBLOCK)
            opened.callback(os.close, number)
            return number

        try:
            log = opened.enter_context(open(os.path.join(folder, "log"), "rb"))
            users = take("users", os.O_RDWR)
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the last user may be ending it
            life = take("life", os.O_RDONLY)
            leash = take("leash", os.O_WRONLY)
            _ask(folder, leash, life, until)
        except OSError as error:
            raise _NotJoined(f"it just starts or ends ({error})") from error
        member = Membership(folder, leash, life, users)
        try:
            launch.wait_for_answer(member, home, log)
        except ServerUnreachableError:
            if ended(life, 0):
                raise _NotJoined("it has just ended") from None
            raise
        opened.pop_all()
        log.close()
    return member


def _ask(folder: str, leash: int, life: int, until: float) -> None:
    """Wait until the shell has heard of us: a server that is ending hears of nobody."""
    word = secrets.token_hex(8)
    answer = os.path.join(folder, f"in-{word}")
    end = os.path.join(folder, "leash")
    # A reader of our own for a moment: writing into a pipe without one may be the death of us.
    guard = os.open(end, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.write(leash, f"{word}\n".encode())
    finally:
        os.close(guard)
    while not os.path.exists(answer):
        os.close(os.open(end, os.O_WRONLY | os.O_NONBLOCK))  # fails when the shell has gone
        if ended(life, 0.001):
            raise _NotJoined("it is just ending")
        if time.monotonic() > until:
            raise _NotJoined("it is ending, or hangs")
    os.unlink(answer)
