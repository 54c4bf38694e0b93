"""Templates over a cached LLM: the question is compared, everything else must be the same."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import ChatPromptTemplate, PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import RichPromptTemplate, SelectorPromptTemplate
from llama_index.core.types import BaseOutputParser

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import EchoLLM

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
OTHER = "which wine goes with fish"

TEMPLATES: dict[str, Any] = {
    "plain": PromptTemplate("Use {context_str}.\n\nQuery: {query_str}\nAnswer: "),
    "question": PromptTemplate("Use {context_str}. {question}"),
    "chat": ChatPromptTemplate.from_messages(
        [("system", "Use {context_str}."), ("user", "Say: {query_str}")]
    ),
    "rich": RichPromptTemplate(
        "{% chat role='system' %}Use {{context_str}}{% endchat %}"
        "{% chat role='user' %}{{query_str}}{% endchat %}"
    ),
    "selected": SelectorPromptTemplate(
        PromptTemplate("Never sent. {query_str} {context_str}"),
        [(lambda llm: isinstance(llm, EchoLLM), PromptTemplate("{context_str} {query_str}"))],
    ),
    "mapped": PromptTemplate(
        "Use {passages}. {asked}",
        template_var_mappings={"query_str": "asked", "context_str": "passages"},
    ),
    "in the system's message": ChatPromptTemplate.from_messages(
        [("system", "{query_str}"), ("user", "Answer the above with {context_str}")]
    ),
}


@pytest.mark.parametrize("chatting", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("name", TEMPLATES)
async def test_kinds_of_templates(
    cache: ValkeySemanticCache, way: Way, name: str, chatting: bool
) -> None:
    template = TEMPLATES[name]
    variable = "question" if name == "question" else "query_str"
    bare, inner = EchoLLM(chatting), EchoLLM(chatting)
    llm = SemanticCacheLLM(inner, cache)

    async def ask(model: Any, question: str, passages: str) -> str:
        given = {variable: question, "context_str": passages}
        answer: str = await way(model.predict, template, **given)
        return answer

    first = await ask(bare, ASKED, "first\n\npassages")
    for asked in (ASKED, ASKED, REWORDED):
        assert await ask(llm, asked, "first\n\npassages") == first
    assert inner.asked == bare.asked, "sent what it would have been sent, once"
    assert await ask(llm, OTHER, "first\n\npassages") == await ask(bare, OTHER, "first\n\npassages")
    assert await ask(llm, ASKED, "others") == await ask(bare, ASKED, "others")
    assert inner.asked == bare.asked


async def test_the_models_own_formatting_counts(cache: ValkeySemanticCache, way: Way) -> None:
    template = PromptTemplate("Question: {query_str}")
    settings: list[dict[str, Any]] = [
        {},
        {"system_prompt": "Be brief."},
        {"system_prompt": "Be rude."},
        {"query_wrapper_prompt": PromptTemplate("<|user|>{query_str}<|end|>")},
        {"output_parser": Shouting()},
        {"completion_to_prompt": wrapped},
    ]
    for chatting in (True, False):
        for number, setting in enumerate(settings):
            bare, inner = EchoLLM(chatting), EchoLLM(chatting)
            for model in (bare, inner):
                for name, value in setting.items():
                    setattr(model, name, value)
            llm = SemanticCacheLLM(inner, cache, namespace=str(number))
            first = await way(bare.predict, template, query_str=ASKED)
            for asked in (ASKED, REWORDED):
                assert await way(llm.predict, template, query_str=asked) == first
            assert inner.asked == bare.asked


class Shouting(BaseOutputParser):
    """Asks for an answer in words, and shouts it."""

    def parse(self, output: str) -> Any:
        if "unparsable" in output:
            raise ValueError(output)
        return output.upper()

    def format(self, query: str) -> str:
        return f"{query}\nIn words, please."


def wrapped(prompt: str) -> str:
    return f"[{prompt}]"


async def test_an_answer_that_cannot_be_parsed_is_not_kept(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    inner.output_parser = Shouting()
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("Question: {query_str}")
    for number in (1, 2):
        with pytest.raises(ValueError, match="unparsable"):
            await way(llm.predict, template, query_str="unparsable")
        assert inner.calls == number


async def test_templates_without_a_question_are_exact_only(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("Write a poem about {topic}.")
    for number, topic in enumerate((ASKED, REWORDED), 1):
        for _ in range(2):
            await way(llm.predict, template, topic=topic)
        assert inner.calls == number
    for _ in range(2):
        await way(llm.predict, PromptTemplate(f"No variable: {ASKED}"))
    assert inner.calls == 3
    assert cache.stats().embeddings == 0


async def test_question_vars_are_the_users(cache: ValkeySemanticCache, way: Way) -> None:
    template = PromptTemplate("Write about {topic}. {query_str}")
    for names, calls in (((), 2), (("topic",), 1), (("query_str", "topic"), 2)):
        inner = EchoLLM()
        llm = SemanticCacheLLM(inner, cache, question_vars=names, namespace=str(names))
        for topic in (ASKED, REWORDED):
            await way(llm.predict, template, topic=topic, query_str="briefly")
        assert inner.calls == calls


async def test_a_template_that_does_more_with_the_question_is_exact_only(
    cache: ValkeySemanticCache, way: Way
) -> None:
    templates: list[Any] = [
        PromptTemplate(
            "{passages} {query_str}",
            function_mappings={"passages": lambda **given: given["query_str"].upper()},
        ),
        RichPromptTemplate("{{ query_str|upper }}"),
        RichPromptTemplate("{% if query_str|length > 44 %}long{% endif %} {{ query_str }}"),
        PromptTemplate("Without the question: {context_str}"),
    ]
    for template in templates:
        bare, inner = EchoLLM(), EchoLLM()
        llm = SemanticCacheLLM(inner, cache)
        given = {"context_str": "passages"}
        for asked in (ASKED, REWORDED):
            uncached = await way(bare.predict, template, query_str=asked, **given)
            for _ in range(2):
                assert await way(llm.predict, template, query_str=asked, **given) == uncached
        assert inner.calls == len(set(bare.asked))
    assert cache.stats().embeddings == 1, "of the one question that its template only holds"


async def test_a_question_that_is_a_prompt_of_its_own_is_not_compared_whole(
    cache: ValkeySemanticCache, way: Way
) -> None:
    inner = EchoLLM()
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("{query_str}")
    for number, material in enumerate(("Rome is old.", "Rome is very old."), 1):
        await way(llm.predict, template, query_str=f"Context: {material}\n\nWhat of it?")
        assert inner.calls == number
    assert cache.stats().embeddings == 0


@pytest.mark.parametrize("name", ["predict", "stream"])
async def test_a_model_with_a_predict_of_its_own_is_left_to_it(
    cache: ValkeySemanticCache, way: Way, name: str
) -> None:
    class Own(EchoLLM):
        def predict(self, prompt: Any, **given: Any) -> str:
            self._asked.append("predict")
            return "by itself, in words"

        async def apredict(self, prompt: Any, **given: Any) -> str:
            return self.predict(prompt, **given)

        def stream(self, prompt: Any, **given: Any) -> Any:
            self._asked.append("stream")
            return iter(("by itself, ", "in words"))  # which cannot be closed

        async def astream(self, prompt: Any, **given: Any) -> Any:
            return Tokens(self.stream(prompt, **given))

    class Tokens:
        def __init__(self, tokens: Any) -> None:
            self.tokens = tokens

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            try:
                return next(self.tokens)
            except StopIteration:
                raise StopAsyncIteration from None

    inner = Own()
    llm = SemanticCacheLLM(inner, cache)
    template = PromptTemplate("Question: {query_str}")
    for asked in (ASKED, ASKED, REWORDED):
        answer = await way(getattr(llm, name), template, query_str=asked)
        if name == "stream":
            tokens = list(answer) if way.name == "sync" else [token async for token in answer]
            answer = "".join(tokens)
        assert answer == "by itself, in words"
    assert inner.asked == [name]


async def test_a_template_that_cannot_be_filled_fails_as_before(
    cache: ValkeySemanticCache, way: Way
) -> None:
    llm = SemanticCacheLLM(EchoLLM(), cache)
    template = ChatPromptTemplate(message_templates=[ChatMessage(content="{query_str} {other}")])

    def boom(**given: Any) -> str:
        raise LookupError("no passages")

    template.function_mappings = {"other": boom}
    with pytest.raises(LookupError, match="no passages"):
        await way(llm.predict, template, query_str=ASKED)
    assert cache.stats().misses == {"not_cacheable": 1}
