"""An app's own objects, by `module:object`.

Rule of this file: the module is imported as the app would import it, from the working directory.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from valkey_semcache.errors import ConfigurationError


def loaded(name: str, option: str) -> Any:
    """The object that `module:object` names; if it is a function, what it returns.

    Raises:
        ConfigurationError: There is no such module or object.
    """
    module, separator, path = name.partition(":")
    if not (module and separator and path):
        raise ConfigurationError(
            f"{option} {name} is not allowed: it takes module:object, such as app.main:cache."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{option} {name} was not found ({error}). It is looked for from the working "
            f"directory, {os.getcwd()}."
        ) from error
    if callable(found) and not isinstance(found, type) and not hasattr(found, "invoke"):
        return found()
    return found
