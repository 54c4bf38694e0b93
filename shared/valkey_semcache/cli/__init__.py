"""The command `semcache`.

Rule of this folder: a command reads arguments, asks the library and shows the outcome; what it
finds out, a program could have found out through the library. One file a command.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run `semcache`; errors of the package end it with a message, and a code by their kind."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit("semcache needs typer and rich: pip install 'valkey-semcache[cli]'")
    from valkey_semcache.cli.app import app
    from valkey_semcache.cli.arguments import NO_SERVER, NOT_ALL, WRONG_USE
    from valkey_semcache.errors import ConfigurationError, SemcacheError, ServerError

    try:
        app()
    except SemcacheError as error:
        print(f"semcache: {error}", file=sys.stderr)  # noqa: T201
        codes = {ConfigurationError: WRONG_USE, ServerError: NO_SERVER}
        sys.exit(next((codes[kind] for kind in codes if isinstance(error, kind)), NOT_ALL))
