"""Which model a LlamaIndex LLM is, with which parameters, as text.

Rule of this file: equal in two processes for one model, different for any other; no secret and
no address in memory enters. What cannot be named faithfully is an error, never a guess.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from llama_index.core.llms.llm import LLM
from pydantic import BaseModel

# What a field's name says of things that do not change an answer, or are secret.
_LEFT_OUT = re.compile(
    r"api_?key|secret|password|credential|(?:^|_)token$|^auth(?:orization|entication)?$"
    r"|headers?$|(?:^|_)a?client(?:$|_)|timeout|retries|callback_manager|rate_limiter"
    r"|num_workers|session|verbose",
    re.IGNORECASE,
)
_BASE_URL = re.compile(r"base|url|endpoint|host", re.IGNORECASE)


class UnnamableError(ValueError):
    """A parameter of the model cannot be named so that another process would name it alike."""


def model_identity(llm: LLM | str, call: Mapping[str, Any]) -> str:
    """Class, name and parameters of a model, with the arguments of one call.

    Args:
        llm: The model, or the name that the user has given it with all its parameters.
        call: The call's arguments beside the prompt.

    Raises:
        UnnamableError: A parameter or an argument has no faithful name.
    """
    arguments = {name: _named(value, name) for name, value in call.items()}
    if isinstance(llm, str):
        return json.dumps([llm, arguments], sort_keys=True)
    fields = {
        name: _named(getattr(llm, name), name)
        for name in type(llm).model_fields
        if not _LEFT_OUT.search(name)
    }
    # Models written by hand keep parameters in private attributes; plain values count.
    private = {
        name: value
        for name, value in {**vars(llm), **(llm.__pydantic_private__ or {})}.items()
        if name not in fields
        and not _LEFT_OUT.search(name)
        and isinstance(value, str | int | float | bool)
    }
    about = [getattr(llm, "class_name", lambda: "")(), llm.metadata.model_dump(mode="json")]
    return json.dumps([type(llm).__name__, about, fields, private, arguments], sort_keys=True)


def _named(value: Any, path: str) -> Any:
    """`value` as JSON."""
    if isinstance(value, enum.Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, str):
        # A private address is nobody else's business, not even as an index's tag.
        return hashlib.sha256(value.encode()).hexdigest() if _BASE_URL.search(path) else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise UnnamableError(f"{path} has keys that are no strings")
        return {key: _named(part, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_named(part, f"{path}[{place}]") for place, part in enumerate(value)]
    if isinstance(value, type) and issubclass(value, BaseModel):
        return [value.__qualname__, value.model_json_schema()]
    if isinstance(value, FunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, BaseModel):
        fields = {n: _named(getattr(value, n), f"{path}.{n}") for n in type(value).model_fields}
        return [type(value).__name__, fields]
    raise UnnamableError(f"{path} is a {type(value).__name__}")
