"""What an object keeps in private attributes: settings of its own, or what it remembers.

Rule of this file: data counts, machinery (clients, locks, functions, loaded weights) does not. A
list, mapping or set that grows is a record of calls, and counts as it was when first seen.
"""

from __future__ import annotations

import dataclasses
import enum
import weakref
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel

_Held = list[Any] | dict[Any, Any] | set[Any]

# Of each object its containers as they were first seen, by name.
_first_seen: dict[int, tuple[weakref.ref[Any], dict[str, _Held]]] = {}


def private_data(owner: BaseModel) -> Iterator[tuple[str, Any]]:
    """The data in attributes that are no fields, by name.

    Args:
        owner: The object.

    Yields:
        Names and values: plain ones, containers, dataclasses and pydantic models. What is in
        them is not looked at.
    """
    fields = type(owner).model_fields
    for name, value in {**vars(owner), **(owner.__pydantic_private__ or {})}.items():
        if name in fields:
            continue
        if isinstance(value, list | dict | set):
            yield name, _steady(owner, name, value)
        elif isinstance(value, str | int | float | enum.Enum | tuple | frozenset | BaseModel) or (
            dataclasses.is_dataclass(value) and not isinstance(value, type)
        ):
            yield name, value


def remember_as(copy: BaseModel, original: BaseModel) -> None:
    """Let a copy's containers be known as those of what it was copied from."""
    held = _first_seen.get(id(original))
    if held is not None:
        _known(copy).update(held[1])


def _steady(owner: BaseModel, name: str, value: _Held) -> _Held:
    """A container without what it has gained since it was first seen."""
    known = _known(owner)
    first = known.get(name)
    if first is None:
        known[name] = value.copy()
        return value
    return first if _has_grown(first, value) else value


def _has_grown(first: _Held, value: _Held) -> bool:
    if type(first) is not type(value) or len(value) <= len(first):
        return False
    try:
        if isinstance(first, set):
            return first <= value  # type: ignore[operator]
        if isinstance(first, dict):
            return first == dict(islice(value.items(), len(first)))  # type: ignore[union-attr]
        return first == value[: len(first)]  # type: ignore[index]
    except Exception:  # noqa: BLE001 - what cannot be compared, such as arrays
        return False


def _known(owner: BaseModel) -> dict[str, _Held]:
    found = _first_seen.get(id(owner))
    if found is not None and found[0]() is owner:
        return found[1]
    place = id(owner)
    gone = weakref.ref(owner, lambda _: _first_seen.pop(place, None))
    known: dict[str, _Held] = {}
    _first_seen[place] = gone, known
    return known
