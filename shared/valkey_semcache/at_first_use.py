"""Modules that are loaded when they are first used, so that a cache is quickly there.

A process that starts pays for what it needs. numpy is not needed before the first vector, nor what
explains a look-up before somebody asks. Whoever uses such a module names it so, at the top of the
file, and then uses it as any other; type checkers see the plain import:

    if TYPE_CHECKING:
        from valkey_semcache.flow import explaining
    else:
        explaining = at_first_use("valkey_semcache.flow.explaining")

A package gives its own names in the same way, by `names_at_first_use`.

Rule of this file: a name that was used once is an attribute like any other, and costs no more. The
modules and names are used inside functions only, never while a module is being loaded: then no
thread that loads one can wait for another that waits for it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

# Not a `ForkLock`: a fork waits for it. Forked in the middle of an import, a child would wait for
# ever for the thread that imports, which is not in it.
_loading = threading.RLock()
os.register_at_fork(
    before=_loading.acquire,
    after_in_parent=_loading.release,
    after_in_child=_loading.release,
)


class _AtFirstUse(ModuleType):
    """Stands for a module. What is asked for is kept here, where the next use finds it."""

    def __getattr__(self, name: str) -> Any:
        with _loading:
            value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def at_first_use(module: str) -> ModuleType:
    """What stands for a module until it is used, and after.

    Args:
        module: Its full name.
    """
    return _AtFirstUse(module)


def load(*modules: str) -> None:
    """Load modules before they are used, for those who must not wait for it when they are.

    Args:
        modules: Their full names.
    """
    with _loading:
        for module in modules:
            import_module(module)


def names_at_first_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package, for names whose modules are loaded at first use.

    Args:
        package: Its name.
        modules: The module of each name.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes one
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _loading:
            value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
