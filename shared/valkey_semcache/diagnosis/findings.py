"""The values of a diagnosis, and how the server is asked for it.

Rule of this file: plain values and one way to ask; no check.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from valkey.exceptions import NoPermissionError, ResponseError, ValkeyClusterException

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What was looked at, in a word or two.
        verdict: `"pass"`; `"warn"`: the cache works, but not as well as it could, or perhaps not
            for long; `"fail"`: it does not work.
        found: What was found, without secrets.
        advice: What to do about it; empty where nothing is to be done.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks of a server and a cache.

    Args:
        server: The server's address, without secrets.
        cache: The cache's name.
        checks: In the order in which they were made.
    """

    server: str
    cache: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; there may be warnings."""
        return all(check.verdict != "fail" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The same as values for JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"server": self.server, "cache": self.cache, "ok": self.ok, "checks": checks}


Reply: TypeAlias = Any
"""A reply, or the error in its place."""


class Ask:
    """Asks a server; an error reply is a value, a broken connection is raised.

    Args:
        client: A sync client that leaves replies undecoded.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def __call__(self, *command: Any) -> Reply:
        """The reply to a command.

        Raises:
            ValkeyError: No answer came.
        """
        try:
            return self.client.execute_command(*command)
        except (ResponseError, ValkeyClusterException) as error:
            return error

    def info(self, section: str) -> dict[str, Any] | None:
        """A section of INFO, or None if it may not be asked for."""
        reply = self("INFO", section)
        return reply if isinstance(reply, dict) else None


def refused(reply: Reply) -> bool:
    """Whether the user may not ask this."""
    return isinstance(reply, NoPermissionError)


def text(value: Any) -> str:
    """A reply's bytes as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def pairs(flat: Any) -> dict[str, Any]:
    """`[name, value, name, value, …]` as a dict; RESP3 gives one in some places."""
    if isinstance(flat, dict):
        return {text(name): value for name, value in flat.items()}
    if not isinstance(flat, list):
        return {}
    return {text(name): value for name, value in zip(flat[::2], flat[1::2], strict=False)}


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many}"
