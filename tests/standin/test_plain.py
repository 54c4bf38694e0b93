"""A plain Valkey of the test's own: it comes back as it was told, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.standin import PlainValkey
from tests.standin.client import RawClient, waits_for

ROOT = Path(__file__).parents[2]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_restart_keeps_the_port_and_loses_what_was_not_saved() -> None:
    with PlainValkey() as plain:
        port = plain.port
        with RawClient(port) as client:
            client("SET", "k", "v")
        plain.kill()
        assert not plain.running
        plain.restart()
        with RawClient(port) as client:
            assert client("GET", "k") is None


def test_a_restart_keeps_what_was_saved() -> None:
    with PlainValkey(["--appendonly", "yes", "--appendfsync", "always"]) as plain:
        with RawClient(plain.port) as client:
            client("SET", "k", "v")
        plain.kill()
        plain.restart()
        with RawClient(plain.port) as client:
            assert client("GET", "k") == b"v"


def test_nothing_is_left_behind() -> None:
    with PlainValkey() as plain:
        pid, folder = plain.pid, plain.data_dir
    assert not is_alive(pid)
    assert not folder.exists()


def test_the_server_ends_with_the_process_that_started_it() -> None:
    started = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import time; from tests.standin import PlainValkey; p = PlainValkey().start(); "
            "print(p.pid, p.data_dir, flush=True); time.sleep(3600)",
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert started.stdout is not None
    with started.stdout as told:
        pid, folder = told.readline().split()
    assert is_alive(int(pid))
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert waits_for(lambda: not is_alive(int(pid)))
    assert waits_for(lambda: not Path(folder.decode()).exists())
