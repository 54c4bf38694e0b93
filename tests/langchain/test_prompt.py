"""How LangChain's prompts are split: what is compared by meaning, and what to the letter."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI

from langchain_valkey_semcache.prompt import UnreadablePromptError, model_name, read_prompt
from valkey_semcache import Question


def read(*messages: BaseMessage) -> Question:
    return read_prompt(dumps(list(messages)), "llm")


ASKED = HumanMessage("What is Valkey?")


def test_the_last_human_message_is_the_text_and_the_rest_is_context() -> None:
    question = read(SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello"), ASKED)
    assert question.text == "What is Valkey?"
    assert "What is Valkey?" not in question.context
    for part in ("Be brief.", "Hi", "Hello"):
        assert part in question.context
    assert not question.exact_only
    assert question.identity == "llm"


def test_the_wording_of_the_question_does_not_enter_the_context() -> None:
    system = SystemMessage("Be brief.")
    assert read(system, ASKED).context == read(system, HumanMessage("Tell me of Valkey")).context


VOLATILE = [
    (HumanMessage("Hi"), HumanMessage("Hi", id="run-1")),
    (AIMessage("Hi"), AIMessage("Hi", id="run-1", response_metadata={"id": "chatcmpl-1"})),
    (
        AIMessage("Hi"),
        AIMessage("Hi", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}),
    ),
    (
        AIMessage([{"type": "text", "text": "Hi", "id": "msg_1"}]),
        AIMessage([{"type": "text", "text": "Hi", "id": "msg_2"}]),
    ),
    (
        AIMessage([{"type": "text", "text": "Hi", "annotations": [], "id": "msg_1"}]),
        AIMessage([{"type": "text", "text": "Hi", "index": 0}]),
    ),
    (AIMessage("Hi"), AIMessageChunk("Hi", id="run-1", chunk_position="last")),
    (AIMessage("Hi"), AIMessage("Hi", additional_kwargs={"refusal": None})),
    (HumanMessage("Hi"), HumanMessageChunk("Hi")),
    (
        AIMessage("Hi"),
        AIMessage("Hi", additional_kwargs={"__openai_function_call_ids__": {"call_1": "fc_1"}}),
    ),
    (
        AIMessage("Hi", additional_kwargs={"reasoning": {"id": "rs_1", "summary": ["Hm."]}}),
        AIMessage("Hi", additional_kwargs={"reasoning": {"id": "rs_2", "summary": ["Hm."]}}),
    ),
    (
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c", "type": "tool_call"}]),
        AIMessageChunk(
            "",
            tool_call_chunks=[
                {
                    "name": "f",
                    "args": '{"a": 1}',
                    "id": "d",
                    "index": 0,
                    "type": "tool_call_chunk",
                }
            ],
        ),
    ),
    (
        AIMessage("", additional_kwargs={"a": 1, "b": 2}),
        AIMessage("", additional_kwargs={"b": 2, "a": 1}),
    ),
]


@pytest.mark.parametrize(("one", "other"), VOLATILE)
def test_volatile_parts_do_not_enter(one: BaseMessage, other: BaseMessage) -> None:
    assert read(one, ASKED) == read(other, ASKED)


def tool_turn(*ids: str, result: str = "3", tool: str = "add") -> list[BaseMessage]:
    calls: Any = [
        {"name": tool, "args": {"n": n, "id": "an argument"}, "id": id_, "type": "tool_call"}
        for n, id_ in enumerate(ids)
    ]
    return [
        AIMessage("", tool_calls=calls),
        *(ToolMessage(result, tool_call_id=id_) for id_ in ids),
    ]


def test_tool_call_ids_count_by_position() -> None:
    first = read(*tool_turn("call_a", "call_b"), ASKED)
    assert first == read(*tool_turn("call_x", "call_y"), ASKED)
    swapped = tool_turn("call_a", "call_b")
    swapped[1], swapped[2] = swapped[2], swapped[1]
    assert first.context != read(*swapped, ASKED).context


MATTERS: list[list[BaseMessage]] = [
    [],
    [SystemMessage("Be brief.")],
    [SystemMessage("Be rude.")],
    [HumanMessage("Be brief.")],
    [AIMessage("Be brief.")],
    [ChatMessage("Be brief.", role="system")],
    [ChatMessage("Be brief.", role="critic")],
    [SystemMessage("Be brief.", name="boss")],
    [SystemMessage("Be brief.", additional_kwargs={"cache_control": "x"})],
    [SystemMessage("Be"), SystemMessage(" brief.")],
    [SystemMessage("Be brief."), SystemMessage("Be brief.")],
    [SystemMessage([{"type": "text", "text": "Be brief."}])],
    tool_turn("call_a"),
    tool_turn("call_a", result="4"),
    tool_turn("call_a", tool="subtract"),
    tool_turn("call_a", "call_b"),
]


def test_everything_else_keeps_questions_apart() -> None:
    contexts = [read(*before, ASKED).context for before in MATTERS]
    assert len(set(contexts)) == len(MATTERS)


def image(data: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_an_image_beside_the_question_must_be_the_same() -> None:
    def ask(text: str, picture: str) -> Question:
        return read(HumanMessage([{"type": "text", "text": text}, image(picture)]))

    assert ask("What is this?", "AAAA").text == "What is this?"
    assert ask("What is this?", "AAAA").context == ask("What can be seen?", "AAAA").context
    assert ask("What is this?", "AAAA").context != ask("What is this?", "BBBB").context
    only = read(HumanMessage([image("AAAA")]))
    assert only.text == ""


def test_a_question_that_comes_as_a_chunk_is_a_question() -> None:
    assert read(HumanMessageChunk("What is Valkey?")).text == "What is Valkey?"


def test_an_id_that_is_the_content_counts() -> None:
    def made(id_: str) -> Question:
        return read(AIMessage([{"type": "image_generation_call", "id": id_}]), ASKED)

    assert made("ig_cat").context != made("ig_house").context


def test_several_texts_around_images_are_exact_only() -> None:
    def ask(one: str, other: str) -> Question:
        blocks = [{"type": "text", "text": one}, image("AAAA")]
        blocks += [{"type": "text", "text": other}, image("BBBB")]
        return read(HumanMessage(blocks))

    assert ask("the dog:", "the cat:").exact_only
    assert ask("the dog:", "the cat:").context != ask("the cat:", "the dog:").context


def test_empty_content_is_content() -> None:
    call: Any = [{"name": "f", "args": {}, "id": "c", "type": "tool_call"}]
    assert read(AIMessage([], tool_calls=call), ToolMessage("3", tool_call_id="c"), ASKED).text


@pytest.mark.parametrize(
    "last",
    [
        AIMessage("and"),
        SystemMessage("Go"),
        ToolMessage("3", tool_call_id="x"),
        ChatMessage("a", role="user"),
    ],
)
def test_a_last_message_that_is_not_the_users_is_exact_only(last: BaseMessage) -> None:
    question = read(ASKED, last)
    assert question.exact_only
    assert "What is Valkey?" in question.context
    assert str(last.content) in question.context


def test_plain_text_of_completion_models_is_all_question() -> None:
    assert read_prompt("What is Valkey?", "llm").text == "What is Valkey?"
    for text in ("[1, 2]", "[not json", '[{"a": 1}]', "[]", "{}", ""):
        assert read_prompt(text, "llm").text == text.strip() or text == "[]"


def test_plain_text_and_a_chat_of_the_same_words_stay_apart() -> None:
    assert read_prompt("What is Valkey?", "llm").context != read(ASKED).context


class Odd:
    """Something that LangChain cannot serialize."""


def test_what_cannot_be_serialized_is_not_guessed_at() -> None:
    odd = HumanMessage("Hi", additional_kwargs={"odd": Odd()})
    with pytest.raises(UnreadablePromptError):
        read(odd, ASKED)
    with pytest.raises(UnreadablePromptError):
        read_prompt('[{"lc": 1, "type": "constructor", "id": ["x"], "kwargs": {}}]', "llm")


# Prompts built around a question

RAG = ChatPromptTemplate.from_template(
    "Answer from the context only.\n\nContext: {context}\n\nQuestion: {question}\nAnswer:"
)


def rag(context: str, question: str) -> Question:
    return read(*RAG.invoke({"context": context, "question": question}).to_messages())


def test_a_labelled_question_is_cut_out_of_its_passages() -> None:
    one = rag("Valkey is a server.\n\nIt is fast.", "What is Valkey?")
    assert one.text == "What is Valkey?"
    assert not one.exact_only
    assert one.context == rag("Valkey is a server.\n\nIt is fast.", "And what is it?").context
    assert one.context != rag("Valkey is a client.\n\nIt is fast.", "What is Valkey?").context


@pytest.mark.parametrize(
    "prompt",
    [
        "Use the context.\nContext: Valkey is a server.\nWhat is Valkey?",
        "Question: 1+1\nThought: add\nAction: add\nObservation: 2",
        "Alice beat Bob.\n\nWho won?",
        "Human: Hi\nAI: Hello\nHuman: Who won?\nAI: Bob",
        "System: Be kind.\n",
        "Human: one\n\ntwo\nAI:",
        "Question:\nContext: Alice beat Bob.",
    ],
    ids=["unlabelled", "observation", "paragraphs", "ai last", "no human", "two", "no question"],
)
def test_prompts_that_cannot_be_split_are_exact_only(prompt: str) -> None:
    assert read(HumanMessage(prompt)).exact_only
    assert read_prompt(prompt, "llm").exact_only
    assert read(HumanMessage(prompt)).text == prompt


def test_a_labelled_question_ends_where_a_line_is_empty() -> None:
    one = read(HumanMessage("Question: who won the final?\n\nAlice beat Bob"))
    other = read(HumanMessage("Question: who won the final?\n\nBob beat Alice"))
    assert one.text == other.text == "who won the final?"
    assert one.context != other.context


def test_a_conversation_written_out_is_split_at_its_last_turn() -> None:
    def ask(turns: str) -> Question:
        return read_prompt(turns, "llm")

    one = ask("System: Be kind.\nHuman: Hi\nAI: Hello\nHuman: Who won?\nAI:")
    assert one.text == "Who won?"
    assert not one.exact_only
    assert one.context == ask("System: Be kind.\nHuman: Hi\nAI: Hello\nHuman: And?\nAI:").context
    assert one.context != ask("System: Be kind.\nHuman: Hi\nAI: Bye\nHuman: Who won?\nAI:").context


# The model's name


def test_the_models_name_is_read_from_both_forms_of_llm_string() -> None:
    chat = ChatOpenAI(model="gpt-4o-mini", api_key="sk-x", base_url="http://127.0.0.1:1/v1")
    assert model_name(chat._get_llm_string()) == "gpt-4o-mini"
    plain = OpenAI(model="gpt-3.5-turbo-instruct", api_key="sk-x", base_url="http://127.0.0.1:1")
    pairs = str(sorted([*plain._identifying_params.items(), ("stop", None)]))
    assert model_name(pairs) == "gpt-3.5-turbo-instruct"
    for unknown in ("", "what", "{", '{"kwargs": []}', "[('stop', None)]"):
        assert model_name(unknown) == ""
