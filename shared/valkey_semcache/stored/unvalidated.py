"""A framework's objects, made as pydantic copies one: without validation.

Rule of this file: validation takes a third of an exact hit's time. What it would change or refuse
must have been ruled out by whoever calls this, and defaults that can be changed must be new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

_Model = TypeVar("_Model")
_set = object.__setattr__
_NOTHING: dict[str, Any] = {}


def built(like: _Model, known: Mapping[str, Any], defaults: Mapping[str, Any] = _NOTHING) -> _Model:
    """A new model with these values.

    Args:
        like: Another one, whose values it has where there are no others.
        known: Values by name, as its maker would be given them.
        defaults: Values in place of those of `like`, which the maker would not be given.
    """
    model: Any = like
    made = model.__new__(type(model))
    _set(made, "__dict__", {**vars(model), **defaults, **known})
    _set(made, "__pydantic_fields_set__", set(known))
    _set(made, "__pydantic_extra__", None if model.__pydantic_extra__ is None else {})
    _set(made, "__pydantic_private__", None)
    new: _Model = made
    return new
