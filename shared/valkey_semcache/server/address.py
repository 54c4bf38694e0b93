"""Where the server is: a URL, or the environment's variables, as keyword arguments.

Rule of this file: text in, arguments out, no I/O. Passwords never enter a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from valkey.asyncio.connection import parse_url as parse_async_url
from valkey.connection import parse_url

from valkey_semcache.errors import ConfigurationError

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
    (`?ssl_cert_reqs=none`, `?ssl_check_hostname=false`).

    Raises:
        ConfigurationError: The URL cannot be read.
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
    if kind in ("valkeys", "rediss") and arguments.get("ssl_cert_reqs") != "none":
        arguments.setdefault("ssl_check_hostname", True)
    if kind != "unix":
        arguments.setdefault("host", "localhost")
    return arguments


def embedded_path(url: str) -> str | None:
    """The data directory of an `embedded:` URL, or None for one that keeps nothing.

    Raises:
        ConfigurationError: It has a host or options, which an embedded server has not.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            "The embedded: URL has a host or options. Write embedded:// for a server that keeps "
            "nothing, or embedded:///absolute/path for one that keeps its data there."
        )
    path = unquote(parts.path)
    return path if path not in ("", "/") else None


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
