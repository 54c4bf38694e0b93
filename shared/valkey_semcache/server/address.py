"""Where the server is: a URL, or the environment's variables, as keyword arguments.

Rule of this file: text in, arguments out, no I/O. Passwords never enter a message.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from valkey import asyncio as valkey_async
from valkey import connection
from valkey.asyncio.connection import parse_url as parse_async_url
from valkey.connection import parse_url

from valkey_semcache.errors import ConfigurationError
from valkey_semcache.server.memory import MemoryLimit, memory_limit

SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix", "embedded")

_CHOICES = (
    "url='valkey://host:6379' (schemes: " + ", ".join(SCHEMES) + "), url='embedded://' for a "
    "server inside this process, client= or async_client= of your own, or one of the "
    "environment variables VALKEY_URL, VALKEY_HOST, REDIS_URL, REDIS_HOST"
)


def scheme(url: str) -> str:
    """The URL's scheme.

    Raises:
        ConfigurationError: It is none of `SCHEMES`; the URL itself is not repeated, since it
            may hold a password.
    """
    name, separator, _ = url.partition(":")
    if not separator or name.lower() not in SCHEMES:
        raise ConfigurationError(
            "The server's URL must begin with one of "
            + ", ".join(f"{known}:" for known in SCHEMES)
            + ", for example valkey://localhost:6379."
        )
    return name.lower()


def from_environment(environ: Mapping[str, str] | None = None) -> str:
    """The server's URL by the environment.

    `VALKEY_URL`; else `VALKEY_HOST` with `VALKEY_PORT`, `VALKEY_USERNAME`, `VALKEY_PASSWORD`
    and `VALKEY_SSL`; else the same names with `REDIS_`. An empty variable is as none.

    Raises:
        ConfigurationError: None is set (every choice is named), or one cannot be read.
    """
    environ = os.environ if environ is None else environ
    for prefix in ("VALKEY_", "REDIS_"):
        if url := environ.get(prefix + "URL"):
            return url
        if host := environ.get(prefix + "HOST"):
            return _url(prefix, host, environ)
    raise ConfigurationError(f"No Valkey server was given. Pass one of: {_CHOICES}.")


def _url(prefix: str, host: str, environ: Mapping[str, str]) -> str:
    port = environ.get(prefix + "PORT") or "6379"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"{prefix}PORT={port!r} is no port: give a number up to 65535.")
    username = quote(environ.get(prefix + "USERNAME", ""), safe="")
    password = quote(environ.get(prefix + "PASSWORD", ""), safe="")
    login = f"{username}:{password}@" if username or password else ""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'valkeys' if _truth(prefix, environ) else 'valkey'}://{login}{host}:{port}"


def _truth(prefix: str, environ: Mapping[str, str]) -> bool:
    value = (environ.get(prefix + "SSL") or "false").strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise ConfigurationError(f"{prefix}SSL={value!r} is neither true nor false.")


def pool_arguments(url: str, *, for_async: bool) -> dict[str, Any]:
    """Keyword arguments of a valkey-py connection pool for `url` (not `embedded:`).

    Over TLS the server's certificate and host name are checked unless the URL says otherwise
    (`?ssl_cert_reqs=none`, `?ssl_check_hostname=false`). Options are those of valkey-py's
    connections (`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `protocol`, …).

    Raises:
        ConfigurationError: The URL cannot be read, or has an option that connections of this
            kind do not know (the async ones know fewer).
    """
    kind = scheme(url)
    try:
        arguments: dict[str, Any] = dict((parse_async_url if for_async else parse_url)(url))
    except ValueError:
        # Not `from` it: its text repeats a piece of the URL.
        raise ConfigurationError(
            f"The server's URL ({shown(url)}) cannot be read. Expected for example "
            "valkey://user:password@host:6379/0, with special characters percent-encoded."
        ) from None
    if kind == "unix" and "path" not in arguments:
        raise ConfigurationError("A unix: URL needs a path, for example unix:///run/valkey.sock.")
    _check_options(arguments, for_async=for_async)
    if kind in ("valkeys", "rediss"):
        if arguments.get("ssl_cert_reqs") != "none":
            arguments.setdefault("ssl_check_hostname", True)
        use_whole_certificate(arguments)
    if kind != "unix":
        arguments.setdefault("host", "localhost")
    return arguments


def use_whole_certificate(arguments: dict[str, Any]) -> None:
    """Where only `ssl_certfile` is given, it holds the key too.

    valkey-py's sync connections read it so; its async ones would leave both out in silence
    (valkey 6.2, `ValkeySSLContext.get`).
    """
    if arguments.get("ssl_certfile") and not arguments.get("ssl_keyfile"):
        arguments["ssl_keyfile"] = arguments["ssl_certfile"]


def _check_options(arguments: Mapping[str, Any], *, for_async: bool) -> None:
    """Refuse what connections do not take; valkey-py would fail at each connecting instead."""
    kind = arguments.get("connection_class")
    given = {name for name in arguments if name != "connection_class" or isinstance(kind, str)}
    if unknown := given - {"max_connections"} - _taken(for_async):
        # Of a password with an unescaped `?` in it, a piece would look like an option.
        shown = ", ".join(sorted(unknown & _taken(not for_async))) or "its name is not repeated"
        raise ConfigurationError(
            f"The server's URL has an option that {'async' if for_async else 'sync'} connections "
            f"of valkey-py do not know ({shown}). Options are for example protocol, client_name, "
            "ssl_ca_certs, ssl_certfile, ssl_keyfile; signs like ? and & in a password must be "
            f"percent-encoded. Or pass {'async_client' if for_async else 'client'}= of your own."
        )
    reqs = arguments.get("ssl_cert_reqs", "required")
    if reqs not in ("required", "optional", "none"):
        raise ConfigurationError("ssl_cert_reqs in the server's URL is required, optional or none.")
    if "ssl_min_version" in arguments:
        raise ConfigurationError(
            "ssl_min_version cannot be given in a URL (it is no text). TLS 1.2 is the least "
            "already; for more pass client= and async_client= of your own."
        )
    tls = "SSL" in getattr(kind, "__name__", "")
    if not tls and any(name.startswith("ssl_") for name in arguments):
        raise ConfigurationError(
            "The server's URL has TLS options (ssl_…) but a scheme without TLS, so nothing would "
            "be encrypted. Write valkeys:// or rediss://, or leave the options out."
        )


@cache
def _taken(for_async: bool) -> frozenset[str]:
    """The arguments that connections of one kind take, over TCP, TLS and Unix sockets."""
    module: Any = valkey_async.connection if for_async else connection
    kinds = (module.SSLConnection, module.UnixDomainSocketConnection)
    classes = {c for kind in kinds for c in kind.__mro__ if c is not object}
    return frozenset(name for c in classes for name in inspect.signature(c).parameters)


def embedded_server(url: str) -> tuple[str | None, MemoryLimit | None]:
    """What an `embedded:` URL asks for.

    Returns:
        The data directory, or None for a server that keeps nothing; and how much memory it may
        take, or None for as much as there is.

    Raises:
        ConfigurationError: It has a host, which an embedded server has not, options that cannot
            be read, or not the two slashes.
    """
    parts = urlsplit(url)
    if not url.partition(":")[2].startswith("//"):
        raise ConfigurationError(
            "The embedded: URL has not two slashes after its colon. Write embedded:// for a server "
            "that keeps nothing, or embedded:///absolute/path (three slashes) for one that keeps "
            "its data there."
        )
    if parts.netloc or parts.fragment:
        raise ConfigurationError(
            "The embedded: URL has a host. Write embedded:// for a server that keeps nothing, or "
            "embedded:///absolute/path for one that keeps its data there; either with a limit, as "
            "in embedded://?maxmemory=4gb."
        )
    path = unquote(parts.path)
    return path if path not in ("", "/") else None, memory_limit(parts.query)


def shown(url: str) -> str:
    """`url` with user, password and options left out, for messages and reprs."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"{url.partition(':')[0]}://…"
    if "@" in url.replace(f"{parts.netloc}", "", 1):
        # Something of a login stands where none belongs, as with an unescaped slash in it.
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{host}{port}{parts.path}"
