"""Which model a LlamaIndex LLM is, with which parameters, as text.

Rule of this file: equal in two processes for one model, different for any other; no secret and
no address in memory enters. What cannot be named faithfully is an error, never a guess.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool
from pydantic import BaseModel, SecretBytes, SecretStr

from llama_index_valkey_semcache.private import private_data

# What a field's name says of things that do not change an answer, or are secret.
_LEFT_OUT = re.compile(
    r"api_?key|secret|password|credential|(?:^|_)token$|^auth(?:orization|entication)?$"
    r"|(?:^|_)key(?:_id)?$|headers?$|(?:^|_)a?client(?:$|_)|timeout|retries|callback_manager"
    r"|rate_limiter|num_workers|session|verbose",
    re.IGNORECASE,
)
# What a model keeps of its own calls: no parameter, and different after each of them.
_COUNTED = re.compile(
    r"_*(?:(?:n|num|number_of|total|llm|model|chat|complete|completion|stream|api)_)?"
    r"(?:calls?|requests?|counts?|counters?)(?:_(?:counts?|counter|made|seen|log|history))?"
    r"|_*last_(?:chat_)?(?:messages?|prompts?|requests?|responses?|called_.*)",
    re.IGNORECASE,
)
# What `predict` writes into the prompt or reads out of the answer, where all can see it.
_SEEN_IN_THE_PROMPT = frozenset(("output_parser", "query_wrapper_prompt"))
_BASE_URL = re.compile(r"base|url|endpoint|host", re.IGNORECASE)


_encoded = json.JSONEncoder(sort_keys=True).encode  # made once: `json.dumps` makes one each time


class UnnamableError(ValueError):
    """A parameter of the model cannot be named so that another process would name it alike."""


def model_identity(
    llm: LLM | str, call: Mapping[str, Any], metadata: LLMMetadata | None = None
) -> str:
    """Class, name and parameters of a model, with the arguments of one call.

    Args:
        llm: The model, or the name that the user has given it with all its parameters.
        call: The call's arguments beside the prompt.
        metadata: The model's own, if they are at hand.

    Raises:
        UnnamableError: A parameter or an argument has no faithful name.
    """
    model = llm if isinstance(llm, str) else parameters(llm, metadata)
    return _encoded([model, _settings(call, "")])


def parameters(llm: LLM, metadata: LLMMetadata | None = None) -> dict[str, Any]:
    """A model's class, name and parameters, each named.

    Args:
        llm: The model.
        metadata: Its own, if they are at hand.

    Raises:
        UnnamableError: One has no faithful name.
    """
    named = {name: _named(getattr(llm, name), name) for name in _counted(type(llm))}
    # Models written by hand keep parameters in private attributes.
    for name, value in private_data(llm):
        if counts(name):
            with nullcontext() if isinstance(value, LLM) else suppress(UnnamableError):
                name_it = _settings if isinstance(value, dict) else _named
                named[name] = name_it(value, name)
    metadata = metadata or llm.metadata
    named["class"] = [type(llm).__name__, llm.class_name(), metadata.model_name]
    named["metadata"] = [metadata.is_chat_model, metadata.is_function_calling_model]
    return named


@lru_cache(maxsize=4096)
def counts(name: str) -> bool:
    """Whether a field of this name is a parameter."""
    return not (name in _SEEN_IN_THE_PROMPT or _LEFT_OUT.search(name) or _COUNTED.fullmatch(name))


@lru_cache(maxsize=256)
def _counted(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a class that are parameters."""
    return tuple(name for name in kind.model_fields if counts(name))


def _settings(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Parameters in a mapping: what its own names leave out does not count."""
    if not all(isinstance(name, str) for name in values):
        raise UnnamableError(f"{path} has keys that are no strings")
    return {
        name: _named(value, f"{path}.{name}" if path else name)
        for name, value in values.items()
        if not _LEFT_OUT.search(name)
    }


@lru_cache(maxsize=4096)
def _is_address(path: str) -> bool:
    return bool(_BASE_URL.search(path))


def _named(value: Any, path: str) -> Any:
    """`value` as JSON."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        # A private address is nobody else's business, not even as an index's tag.
        return hashlib.sha256(value.encode()).hexdigest() if _is_address(path) else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, enum.Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, SecretStr | SecretBytes):
        return "secret"
    if isinstance(value, Mapping):
        # Words in a schema are no secrets: only the parameter's own names are looked at.
        if path.endswith("kwargs"):
            return _settings(value, path)
        if not all(isinstance(key, str) for key in value):
            raise UnnamableError(f"{path} has keys that are no strings")
        return {key: _named(part, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_named(part, f"{path}[{place}]") for place, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_named(part, path), sort_keys=True) for part in value)]
    return _object(value, path)


def _object(value: Any, path: str) -> Any:
    if isinstance(value, type) and issubclass(value, BaseModel):
        return [value.__qualname__, value.model_json_schema()]
    if isinstance(value, FunctionType):
        return named_function(value, path)
    if isinstance(value, BaseTool):
        about = value.metadata
        return [about.name, about.description, about.get_parameters_dict()]
    if isinstance(value, LLM):  # a model that asks others
        return parameters(value)
    if isinstance(value, BaseModel):
        fields = {n: getattr(value, n) for n in type(value).model_fields}
        return [type(value).__name__, _settings(fields, path)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [type(value).__name__, _settings(fields, path)]
    raise UnnamableError(f"{path} is a {type(value).__name__}")


def named_function(function: FunctionType, path: str) -> Any:
    """A function by its name; those of a script by their code as well, since each has a main."""
    if "<" in function.__qualname__ or function.__closure__:
        raise UnnamableError(f"{path} is a function without a name of its own")
    name = f"{function.__module__}.{function.__qualname__}"
    return [name, _code(function.__code__)] if function.__module__ == "__main__" else name


def _code(code: CodeType) -> str:
    constants = [
        _code(constant) if isinstance(constant, CodeType) else repr(constant)
        for constant in code.co_consts
        if not isinstance(constant, frozenset)  # in another order in another process
    ]
    parts = repr((code.co_code, code.co_names, code.co_varnames, constants))
    return hashlib.sha256(parts.encode()).hexdigest()
