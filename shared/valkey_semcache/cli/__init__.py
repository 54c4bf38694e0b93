"""The command `semcache`.

Rule of this folder: a command reads arguments, asks the library and shows the outcome; what it
finds out, a program could have found out through the library. One file a command.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run `semcache`; errors of the package end it with a message and exit code 1."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit("semcache needs typer and rich: pip install 'valkey-semcache[cli]'")
    from valkey_semcache.cli.app import app
    from valkey_semcache.errors import SemcacheError

    try:
        app()
    except SemcacheError as error:
        sys.exit(f"semcache: {error}")
