"""Responses that are text alone are built without validation: nobody can tell them from others."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock

from llama_index_valkey_semcache.codec import ChatCodec, _is_plain
from valkey_semcache.errors import UnreadableError

PLAIN: list[dict[str, Any]] = [
    {"role": "assistant", "blocks": [["text", "Paris"]], "extra": {}, "response": {}},
    {"role": "user", "blocks": [["text", "a"], ["text", ""]], "extra": {"a": [1]}, "response": {}},
    {"role": "tool", "blocks": [["text", "x\ny"]], "extra": {}, "response": {"deep": {"a": None}}},
]
OTHERS: list[dict[str, Any]] = [
    {"blocks": []},
    {"blocks": [["thinking", "hm", 3, {}], ["text", "Paris"]]},
    {"calls": [["add", {"a": 1}]]},
    {"logprobs": [[["Paris", -0.5, [80]]]]},
    {"extra": {"images": []}},
]


def stored(fields: dict[str, Any]) -> bytes:
    return json.dumps({"calls": [], "logprobs": None, **fields}).encode()


def validated(fields: dict[str, Any]) -> ChatResponse:
    fields = copy.deepcopy(fields)
    message = ChatMessage(
        role=MessageRole(fields["role"]),
        blocks=[TextBlock(text=text) for _, text in fields["blocks"]],
        additional_kwargs=fields["extra"],
    )
    return ChatResponse(message=message, additional_kwargs=fields["response"], logprobs=None)


@pytest.mark.parametrize("fields", PLAIN)
def test_they_are_what_validation_would_have_made(fields: dict[str, Any]) -> None:
    assert _is_plain(json.loads(stored(fields)))
    made, expected = ChatCodec().decode(stored(fields)), validated(fields)
    assert made == expected
    pairs: list[tuple[Any, Any]] = [(made, expected), (made.message, expected.message)]
    pairs += zip(made.message.blocks, expected.message.blocks, strict=True)
    for mine, theirs in pairs:
        assert type(mine) is type(theirs)
        assert list(vars(mine)) == list(vars(theirs))
        assert mine.model_fields_set == theirs.model_fields_set
        assert mine.model_extra == theirs.model_extra
        assert mine.__pydantic_private__ == theirs.__pydantic_private__
        assert mine.model_dump() == theirs.model_dump()
        assert mine.model_dump(exclude_unset=True) == theirs.model_dump(exclude_unset=True)
        assert repr(mine) == repr(theirs)
    assert made.message.content == expected.message.content
    assert pickle.loads(pickle.dumps(made)) == expected
    assert copy.deepcopy(made) == expected


@pytest.mark.parametrize("fields", PLAIN)
def test_two_of_them_share_nothing_that_can_be_changed(fields: dict[str, Any]) -> None:
    data = stored(fields)
    one, other = ChatCodec().decode(data), ChatCodec().decode(data)
    one.additional_kwargs["mine"] = one.message.additional_kwargs["mine"] = True
    one.message.blocks.append(TextBlock(text="more"))
    assert other == validated(fields) == ChatCodec().decode(data)


@pytest.mark.parametrize("fields", OTHERS)
def test_whatever_else_it_holds_is_validated(fields: dict[str, Any]) -> None:
    whole = json.loads(stored(PLAIN[0] | fields))
    assert not _is_plain(whole)
    assert isinstance(ChatCodec().decode(json.dumps(whole).encode()), ChatResponse)


@pytest.mark.parametrize(
    "fields", [{"blocks": [["text", 1]]}, {"blocks": [["text"]]}, {"blocks": ["text"]}]
)
def test_what_validation_would_refuse_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError):
        ChatCodec().decode(stored(PLAIN[0] | fields))
