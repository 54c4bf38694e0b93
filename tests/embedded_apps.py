"""Apps for the tests of embedded servers, and what they ask of processes.

Rule of this file: real processes and real signals. A test waits for facts (a process is gone,
a line was printed), never for time to pass.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from valkey_semcache.server import embedded, joining

APP = """
import os, signal, subprocess, sys
import valkey
from valkey_semcache.server import embedded, joining

# Who runs the tests in the background of a shell has them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
path = sys.argv[1] or None
joining.LINGER = float(sys.argv[2])

def tell(*words):
    print(*words, flush=True)

def pid():
    with valkey.Valkey(unix_socket_path=embedded.socket_for(path)) as client:
        return client.info("server")["process_id"]

def heed():
    return sys.stdin.readline()
"""


def until(fact: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.005)
    return value


def shown(column: str, pid: int) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def gone(pid: int) -> bool:
    """Whether a process has ended, if only as a zombie that its parent has not yet reaped."""
    return shown("stat", pid)[:1] in ("", "Z")


def ask(address: str, *command: str | int) -> Any:
    with valkey.Valkey(unix_socket_path=address, decode_responses=True) as client:
        return client.execute_command(*command)


def server_pid(address: str) -> int:
    with valkey.Valkey(unix_socket_path=address) as client:
        return int(client.info("server")["process_id"])


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder for the servers of one test, which they leave empty."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(embedded, "_holds", {})
    monkeypatch.setattr(joining, "LINGER", 0.1)
    yield folder
    embedded.stop_all()
    until(lambda: not os.listdir(folder), "sockets' folders are removed")
    folder.rmdir()


App = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def app(temp: Path) -> Iterator[App]:
    """Starts apps: Python processes that run `code` with `path` and can be talked to.

    A server with a path that such an app starts outlives its last user by `linger` seconds.
    """
    started = []

    def start(
        code: str, path: Path | str = "", linger: float = 0.1, **options: Any
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", APP + code]
        command += [str(path), str(linger)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, text=True, **pipes, **options))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    assert line, f"the app said nothing, but: {process.stderr.read() if process.stderr else ''}"
    return line.strip()


def tell(process: subprocess.Popen[str], line: str = "go") -> None:
    assert process.stdin is not None
    print(line, file=process.stdin, flush=True)


def stored_file(path: Path) -> Path:
    """Store 2,000 keys under `path`, stop, and return the file that holds them."""
    many = "for n = 1, 2000 do server.call('SET', 'key' .. n, n) end"
    ask(embedded.socket_for(str(path)), "EVAL", many, 0)
    embedded.stop_all()
    (file,) = (path / "appendonlydir").glob("*.incr.aof")
    return file
