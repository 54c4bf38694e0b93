"""Optional packages: whether they are installed, and where.

Rule of this file: nothing is imported. Who is constructed learns here, at once, that a package is
missing; what the package holds is loaded when it is first used.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

from valkey_semcache.errors import MissingPackageError


def folders(needed_by: str, install: str, modules: Iterable[str]) -> list[str]:
    """The folders in which packages lie.

    Args:
        needed_by: What needs them, as the user calls it.
        install: The command that installs them.
        modules: Their top-level modules, as they are imported.

    Raises:
        MissingPackageError: One of them is not installed; the message has the command.
    """
    found = []
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise MissingPackageError(
                f"{needed_by} needs the package {module.replace('_', '-')}, which is not "
                f"installed. Install it with:\n  {install}"
            )
        found.append(os.path.dirname(spec.origin))
    return found
