"""Prompts that are read faster than others are read alike: those seen before, and new questions
after the same earlier messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_valkey_semcache import prompt as reading
from langchain_valkey_semcache.prompt import UnreadablePromptError, read_prompt
from valkey_semcache import Question
from valkey_semcache.recent import Recent

_OPENING = dumps([HumanMessage("?")])[1:].partition('"?"')[0]
CALL: Any = {"name": "add", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}
EARLIER: list[list[BaseMessage]] = [
    [],
    [SystemMessage("Be brief.")],
    [SystemMessage("Be brief."), HumanMessage("Hello?"), AIMessage("Hello.", id="run-1")],
    [HumanMessage("1 + 1?"), AIMessage("", tool_calls=[CALL]), ToolMessage("2", tool_call_id="x")],
    [HumanMessage([{"type": "text", "text": "see"}], name="bob")],
    [SystemMessage(_OPENING + '"who?", "type": "human"}}]')],
]
TEXTS = st.text(max_size=40) | st.sampled_from(
    [
        *("", " ", "who won?", 'say "hi"', "a\\", "\ud800", "two\nlines", '", "type": "human"}}]'),
        *("Context: Paris.\nQuestion: where?", "<question>why?</question>", "Human: a\nAI:"),
        *(_OPENING, f'{_OPENING}"x", "type": "human"}}}}]', '{"lc": 1}', "not_implemented"),
    ]
)


def alone(prompt: str, **how: Any) -> Question | type[Exception]:
    """What is read where nothing was read before."""
    reading.forget()
    return read(prompt, **how)


def read(prompt: str, **how: Any) -> Question | type[Exception]:
    try:
        return read_prompt(prompt, "llm", **how)
    except UnreadablePromptError as error:
        return type(error)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EARLIER), TEXTS, TEXTS, st.sampled_from(["conversation", "system"]))
@example(EARLIER[1], "one", "Context: Paris.\nQuestion: where?", "conversation")
def test_what_was_read_before_changes_nothing(
    earlier: list[BaseMessage], before: str, asked: str, context: Any
) -> None:
    first, second = (dumps([*earlier, HumanMessage(text)]) for text in (before, asked))
    expected = alone(second, context=context)
    reading.forget()
    read(first, context=context)
    assert read(second, context=context) == expected
    assert read(second, context=context) == expected


SYSTEM = dumps([SystemMessage("Be brief.")])[1:-1]
ODD = [
    # Each begins as one that is read first, and is not what it looks like.
    f'[{SYSTEM}, {_OPENING}"a", "name": "bob", "type": "human"}}}}]',
    f'[{SYSTEM}, {_OPENING}["a"], "type": "human"}}}}]',
    f'[{SYSTEM}, {_OPENING}{"[" * 100_000}, "type": "human"}}}}]',
    f'[{SYSTEM}, {_OPENING}5, "type": "human"}}}}]',
    f'[{SYSTEM}, {_OPENING}, "type": "human"}}}}]',
    f'[{SYSTEM}, {_OPENING[:-20]}, "type": "human"}}}}]',
    f'[{SYSTEM}; {_OPENING}"a", "type": "human"}}}}]',
    f'[{{"lc": 1, "id": [{_OPENING}"a", "type": "human"}}}}]',
    f'["{_OPENING}"a", "type": "human"}}}}]',
    f'{_OPENING}"a", "type": "human"}}}}]',
    f'[{{"lc": 1, "type": "not_implemented", "id": []}}, {_OPENING}"a", "type": "human"}}}}]',
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_a_prompt_that_only_looks_like_one_is_not_read_as_one(number: int) -> None:
    odd = ODD[number]
    twin = odd.replace('"a"', '"b"')
    for context in "conversation", "system":
        expected = alone(odd, context=context), alone(twin, context=context)
        reading.forget()
        read(dumps([SystemMessage("Be brief."), HumanMessage("who?")]), context=context)
        assert (read(odd, context=context), read(twin, context=context)) == expected


def test_another_question_after_the_same_messages_has_the_same_context() -> None:
    reading.forget()
    one, other = (
        read_prompt(dumps([SystemMessage("Be brief."), HumanMessage(text)]), "llm")
        for text in ("who won?", "who lost?")
    )
    assert one.context is other.context
    assert (one.text, other.text) == ("who won?", "who lost?")
    assert json.loads(one.context)[0]["content"] == "Be brief."


def test_each_tenant_model_and_context_has_its_own() -> None:
    reading.forget()
    prompt = dumps([HumanMessage("who won?")])
    seen = [
        read_prompt(prompt, llm, context=context, namespace=tenant)  # type: ignore[arg-type]
        for llm in ("a", "b")
        for context in ("conversation", "system")
        for tenant in (None, "", "acme")
        for _ in range(2)
    ]
    assert [q.namespace for q in seen[::2]] == [None, "", "acme"] * 4
    assert all(one is again for one, again in zip(seen[::2], seen[1::2], strict=True))
    assert len(set(seen)) == 12


def test_memory_is_bounded_and_what_is_used_stays() -> None:
    recent: Recent[str, int] = Recent(10_000)
    recent.put("used", -1, 10)
    for number in range(5_000):
        recent.put(f"{number:010}", number, 10)
        assert recent.get("used") == -1
        assert len(recent) <= 2_000 + 2
    assert recent.get(f"{4_999:010}") == 4_999
    assert recent.get(f"{0:010}") is None
    recent.put("large", 1, 101)
    assert recent.get("large") is None, "one of a hundredth of the bound would push out others"
    recent.clear()
    assert recent.get("used") is None


def test_however_long_all_tools_schemas_are_they_are_kept_once() -> None:
    """LangChain writes a model and its tools anew for each call."""
    tools = json.dumps({"tools": ["x" * 100_000]})
    asked = [
        read_prompt(dumps([HumanMessage(f"who won {word}?")]), f"{tools}---{len(tools)}")
        for word in ("first", "second", "third")
    ]
    assert len({id(question.identity) for question in asked}) == 1
