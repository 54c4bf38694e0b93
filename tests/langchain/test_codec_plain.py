"""Answers that are text alone are built without validation: nobody can tell them from others."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from langchain_valkey_semcache.codec import _MESSAGE_FIELDS, GenerationCodec, _is_plain
from valkey_semcache.errors import UnreadableError

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
PLAIN: list[dict[str, Any]] = [
    {"content": "Paris"},
    {"content": "", "name": "guide"},
    {"content": "two\nlines", "usage_metadata": USAGE, "response_metadata": {"a": [1, {}]}},
    {"content": "Paris", "additional_kwargs": {"refusal": None, "deep": {"a": 1}}},
]


def stored(fields: dict[str, Any], info: Any = None) -> bytes:
    return json.dumps([{"message": fields, "info": info}]).encode()


def validated(fields: dict[str, Any], info: Any = None) -> ChatGeneration:
    return ChatGeneration(message=AIMessage(**copy.deepcopy(fields)), generation_info=info)


@pytest.mark.parametrize("fields", PLAIN)
@pytest.mark.parametrize("info", [None, {"finish_reason": "stop"}])
def test_they_are_what_validation_would_have_made(fields: dict[str, Any], info: Any) -> None:
    assert _is_plain(fields)
    [made] = GenerationCodec().decode(stored(fields, info))
    expected = validated(fields, info)
    assert made == expected
    assert isinstance(made, ChatGeneration)
    for mine, theirs in (made, expected), (made.message, expected.message):
        assert type(mine) is type(theirs)
        assert list(vars(mine)) == list(vars(theirs))
        assert mine.model_fields_set == theirs.model_fields_set
        assert mine.model_extra == theirs.model_extra
        assert mine.__pydantic_private__ == theirs.__pydantic_private__
        assert mine.model_dump() == theirs.model_dump()
        assert mine.model_dump(exclude_unset=True) == theirs.model_dump(exclude_unset=True)
        assert repr(mine) == repr(theirs)
    assert isinstance(made.text, type(expected.text))  # of older releases a plain string
    assert made.text == expected.text
    assert dumps(made) == dumps(expected)
    assert pickle.loads(pickle.dumps(made)) == expected
    assert copy.deepcopy(made) == expected


@pytest.mark.parametrize("fields", PLAIN)
def test_two_of_them_share_nothing_that_can_be_changed(fields: dict[str, Any]) -> None:
    content = stored(fields, {"a": {}})
    [one], [other] = GenerationCodec().decode(content), GenerationCodec().decode(content)
    assert isinstance(one, ChatGeneration)
    for value in [*vars(one).values(), *vars(one.message).values(), one.message.model_extra]:
        if isinstance(value, dict):
            value["changed"] = True
        elif isinstance(value, list):
            value.append("changed")
    one.message.name = "changed"
    assert other == validated(fields, {"a": {}})
    assert GenerationCodec().decode(content) == [validated(fields, {"a": {}})]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": ["Paris", {"type": "text", "text": "!"}]},
        {"content": "", "tool_calls": [{"name": "f", "args": {}, "id": "1", "type": "tool_call"}]},
        {"content": "", "additional_kwargs": {"tool_calls": []}},
        {"content": "a", "usage_metadata": USAGE | {"input_token_details": {"cache_read": 1}}},
    ],
)
def test_what_is_more_than_text_is_validated(fields: dict[str, Any]) -> None:
    assert not _is_plain(fields)
    assert GenerationCodec().decode(stored(fields)) == [validated(fields)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": 1},
        {"content": None},
        {"content": {"a": 1}},
        {"content": "a", "name": 5},
        {"content": "a", "response_metadata": []},
        {"content": "a", "additional_kwargs": "x"},
        {"content": "a", "usage_metadata": {"input_tokens": "1"}},
        {"content": "a", "usage_metadata": USAGE | {"total_tokens": "three"}},
        {"content": "a", "usage_metadata": ["input_tokens"]},
    ],
)
def test_what_validation_refuses_is_refused(wrong: dict[str, Any]) -> None:
    assert set(wrong) <= set(_MESSAGE_FIELDS)
    with pytest.raises((ValueError, AttributeError)):
        validated(wrong)
    with pytest.raises(UnreadableError):
        GenerationCodec().decode(stored(wrong))


def test_what_stands_behind_the_answer_is_damage() -> None:
    whole = stored({"content": "Paris"})
    assert GenerationCodec().decode(whole)
    with pytest.raises(UnreadableError):
        GenerationCodec().decode(whole + b"[]")
