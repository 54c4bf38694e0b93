"""A client for the stand-in's own tests, and the commands that most of them send.

It takes replies as they come off the wire; what they mean is the tests' business.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from tests.standin.resp import decode, encode_command
from tests.standin.wire import Command

X = np.array([1, 0], "<f4").tobytes()
Y = np.array([0, 1], "<f4").tobytes()
SCHEMA = ("SCHEMA", "s", "TAG", "v", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", 2)
METRIC = ("DISTANCE_METRIC", "COSINE")
CREATE = ("FT.CREATE", "idx", "PREFIX", 1, "c:", *SCHEMA, *METRIC)


class RawClient:
    """A socket that speaks RESP and nothing else: replies come back as they were decoded."""

    def __init__(self, port: int, protocol: int = 2) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._unread = b""
        if protocol == 3:
            self("HELLO", "3")

    def __call__(self, *args: bytes | str | int) -> Any:
        return self.pipeline([args])[0]

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Sends all commands at once and reads all replies."""
        self.send(*commands)
        return [self.read() for _ in commands]

    def send(self, *commands: Command) -> None:
        """Sends commands and leaves the replies to `read`."""
        self._socket.sendall(b"".join(encode_command(x) for x in commands))

    def read(self) -> Any:
        while (found := decode(self._unread)) is None:
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError("the server closed the connection")
            self._unread += more
        value, end = found
        self._unread = self._unread[end:]
        return value

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def search(scope: str = "*", *, k: int = 3, query: bytes = X) -> Command:
    """FT.SEARCH for the nearest in a scope, or in all."""
    where = scope if scope == "*" else f"(@s:{{{scope}}})"
    text = f"{where}=>[KNN {k} @v $q AS d]"
    return ("FT.SEARCH", "idx", text, "PARAMS", 2, "q", query, "RETURN", 2, "s", "d", "DIALECT", 2)


def keys_of(reply: Any) -> list[bytes]:
    found: list[bytes] = reply[1::2]
    return found


def waits_for(fact: Callable[[], bool]) -> bool:
    """Whether something becomes true before long."""
    deadline = time.monotonic() + 20
    while not (found := fact()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found
