"""How `--help` looks: paragraphs that fill the lines, and flags without a type.

Rule of this file: looks only. What is said of a command stands in its docstring and its arguments.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command of `semcache`. Takes what `TyperCommand` takes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _filled(self.help)

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, and `--help`."""
        return _without_type(super().get_params(ctx))


class Group(TyperGroup):
    """`semcache` itself. Takes what `TyperGroup` takes."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, and `--help`."""
        return _without_type(super().get_params(ctx))


def _filled(text: str | None) -> str | None:
    """Paragraphs of one line each: typer keeps line ends, and a terminal breaks lines once more."""
    if text is None:
        return None
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _without_type(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""  # typer would show `<bool>`, as if a value had to follow
    return params
