"""The round that a diagnosis makes: connect, then one check after another.

Rule of this file: the order. What a check looks at is in the other files.
"""

from __future__ import annotations

import statistics
import time

from valkey.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ResponseError,
    ValkeyClusterException,
    ValkeyError,
)

from valkey_semcache.diagnosis.cache import cache_checks
from valkey_semcache.diagnosis.findings import Ask, Check, Diagnosis
from valkey_semcache.diagnosis.rights import rights
from valkey_semcache.diagnosis.server import module, server_checks
from valkey_semcache.errors import ServerError
from valkey_semcache.options import checked_name, checked_seconds
from valkey_semcache.server import Server
from valkey_semcache.server.address import scheme

_PINGS = 9
_SLOW_MS = 50.0  # a tenth of what a cache waits by default

_CLUSTER = (
    "The cache has to learn where each key lies: give the rights that README's 'Access rights' "
    "names for clusters, on every node, and look at CLUSTER NODES."
)


def diagnose(
    url: str | None = None,
    *,
    name: str = "semcache",
    timeout: float = 2.0,
    connect_timeout: float = 2.0,
) -> Diagnosis:
    """Look at a server and at the cache of a name on it. Writes nothing on the server.

    Args:
        url: The server's URL as a cache takes it; None for the environment's.
        name: The cache's name.
        timeout: Seconds to wait for each answer.
        connect_timeout: Seconds to wait for a connection.

    Returns:
        The checks. A server that cannot be reached is a failed check, no error.

    Raises:
        ConfigurationError: No server is given, or the URL or the name cannot be read.
    """
    name = checked_name(name)
    timeout = checked_seconds(timeout, "timeout")
    connect_timeout = checked_seconds(connect_timeout, "connect_timeout")
    # Of a cluster, the node that the URL names is asked about itself, and all about the cache.
    server = Server(url, None, None, timeout, connect_timeout, in_cluster=False)
    alone = url is not None and scheme(url) in ("embedded", "unix")
    whole = Server(url, None, None, timeout, connect_timeout, in_cluster=not alone)
    checks: list[Check] = []
    try:
        _round(server, whole, name, checks)
    except (ValkeyError, ServerError, OSError) as error:
        checks.append(_unreachable(error, "again" if checks else ""))
    finally:
        server.close()
        whole.close()
    return Diagnosis(server.where, name, tuple(checks))


def _round(server: Server, whole: Server, name: str, checks: list[Check]) -> None:
    ask = Ask(server.line().client)
    checks.append(_reachable(ask))
    checks += server_checks(ask)
    searches, check = module(ask, name)
    checks.append(check)
    if (ask.info("cluster") or {}).get("cluster_enabled"):
        try:
            ask = Ask(whole.line().client)  # keys lie on every node
        except (ResponseError, ValkeyClusterException) as error:
            checks.append(Check("cluster", "fail", f"cannot be entered: {error}", _CLUSTER))
            return
    found = cache_checks(ask, name, searches)
    checks += found.checks
    flat = found.kind == "flat" or not searches
    checks.append(rights(ask, name, flat=flat, searches=searches, learned=found.learned))


def _reachable(ask: Ask) -> Check:
    """An error reply is an answer too: who may not PING is still measured."""
    took = []
    for _ in range(_PINGS):
        begun = time.perf_counter()
        ask("PING")
        took.append((time.perf_counter() - begun) * 1000)
    middle = statistics.median(took[1:])  # the first one connects
    found = f"answers in {middle:.2f} ms (median of {_PINGS - 1})"
    if middle < _SLOW_MS:
        return Check("reachable", "pass", found)
    return Check(
        *("reachable", "warn", found),
        "A look-up takes two or three such round trips. Move the app and the server closer, or "
        "give the cache a longer timeout=.",
    )


def _unreachable(error: Exception, when: str) -> Check:
    words = str(error)
    lower = words.lower()
    if isinstance(error, AuthenticationError):
        advice = "Give user and password in the URL or the environment, or check those given."
    elif isinstance(error, BusyLoadingError):
        advice = "The server is still loading its data. Wait until it has."
    elif "certificate" in lower or "ssl" in lower:
        advice = (
            "Name the authority that issued the server's certificate (?ssl_ca_certs=PATH), use "
            "the host name that is in it, and show a certificate if the server wants one."
        )
    else:
        advice = (
            "Is it running, and may this process reach it? Check host, port and firewall, and "
            "the scheme: valkeys:// for a server with TLS, valkey:// for one without."
        )
    name = f"reachable {when}".strip()
    return Check(name, "fail", f"no answer: {type(error).__name__}: {words}", advice)
