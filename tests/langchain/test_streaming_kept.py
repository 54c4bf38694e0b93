"""A cached model is still all that the model was."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import ConfigurableField, Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from langchain_valkey_semcache import ValkeySemanticCache, cached
from tests.conftest import Way
from tests.langchain.embeddings import HashingEmbeddings
from tests.langchain.streams import ANSWER, ASKED, added_up, chat_model, streamed, tier
from tests.openai_server import OpenAIServer
from tests.servers import Served
from valkey_semcache import ConfigurationError


class Answer(BaseModel):
    """An answer with a number."""

    answer: str
    number: int


def test_class_name_module_and_fields_are_the_models(
    openai: OpenAIServer, own: ValkeySemanticCache
) -> None:
    plain = chat_model(openai, temperature=0.5)
    model = cached(plain, own)
    assert isinstance(model, ChatOpenAI)
    assert (type(model).__name__, type(model).__module__) == (
        ChatOpenAI.__name__,
        ChatOpenAI.__module__,
    )
    assert model.model_dump() == plain.model_dump()
    assert (model.lc_id(), model.to_json()) == (plain.lc_id(), plain.to_json())
    assert "sk-planted-secret" not in repr(model)
    assert model.get_lc_namespace() == plain.get_lc_namespace()


def test_the_model_itself_is_not_changed(openai: OpenAIServer, own: ValkeySemanticCache) -> None:
    plain = chat_model(openai)
    model = cached(plain, own)
    assert type(plain) is ChatOpenAI
    assert plain.cache is None
    model.temperature = 0.3
    assert plain.temperature is None


def test_the_llm_string_stays(openai: OpenAIServer, own: ValkeySemanticCache) -> None:
    for options in ({}, {"temperature": 0.2}, {"output_version": "v1"}):
        plain = chat_model(openai, **options)
        wanted = chat_model(openai, **options)._get_llm_string(stop=["x"], n=2)
        assert cached(plain, own)._get_llm_string(stop=["x"], n=2) == wanted
    fake = FakeListChatModel(responses=["an answer"])
    assert cached(fake, own)._get_llm_string() == fake._get_llm_string()


def test_wrapping_twice_changes_nothing(openai: OpenAIServer, own: ValkeySemanticCache) -> None:
    model = cached(chat_model(openai), own)
    assert cached(model, own) is model
    bound = model.bind(stop=["x"])
    assert cached(bound, own) is bound


async def test_wrapping_anew_takes_the_new_cache(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(cached(chat_model(openai), own), own.with_namespace("acme"))
    await streamed(way, model, ASKED)
    assert tier(added_up(await streamed(way, model, ASKED))) == "exact"
    assert own.stats().lookups == 2
    assert tier(await way(cached(model, own).invoke, ASKED)) is None
    assert type(cached(model, own)) is type(model)


@pytest.mark.parametrize(
    "built",
    [
        lambda model: model.bind(stop=["\n"]),
        lambda model: model.with_config(tags=["a"]),
        lambda model: model.with_retry(stop_after_attempt=2),
        lambda model: model.with_fallbacks([FakeListChatModel(responses=["fallback"])]),
        lambda model: model.with_config(tags=["a"]).bind(stop=["\n"]).with_retry(),
        lambda model: model.configurable_alternatives(
            ConfigurableField(id="which"), other=FakeListChatModel(responses=["other"])
        ),
        lambda model: model.model_copy(),
        lambda model: model.model_copy(update={"temperature": 0.1}),
        copy.copy,
    ],
)
async def test_what_is_built_on_it_is_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, built: Any
) -> None:
    model = built(cached(chat_model(openai), own))
    first = added_up(await streamed(way, model, ASKED))
    again = added_up(await streamed(way, model, ASKED))
    assert (tier(first), tier(again), openai.calls) == (None, "exact", 1)
    assert tier(await way(model.invoke, ASKED)) == "exact"


async def test_configurable_fields_are_cached_under_what_they_are_set_to(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    field = ConfigurableField(id="heat")
    model = cached(chat_model(openai), own).configurable_fields(temperature=field)
    for number, heat in enumerate((0.1, 0.2), 1):
        config: Any = {"configurable": {"heat": heat}}
        for _ in range(2):
            answer = added_up(await streamed(way, model, ASKED, config))
        assert answer.content == f"gpt-4o-mini at {heat} on: {ASKED}"
        assert (tier(answer), openai.calls) == ("exact", number)


async def test_a_deep_copy_shares_the_cache(own: ValkeySemanticCache, way: Way) -> None:
    model = cached(FakeListChatModel(responses=["first", "second"]), own)
    await streamed(way, model, ASKED)
    twin = copy.deepcopy(model)
    hit = added_up(await streamed(way, twin, ASKED))
    assert (hit.content, tier(hit)) == ("first", "exact")


async def test_a_models_own_state_is_kept(own: ValkeySemanticCache, way: Way) -> None:
    model = cached(FakeListChatModel(responses=["first", "second", "third"]), own)
    assert added_up(await streamed(way, model, "one question")).content == "first"
    assert (await way(model.invoke, "another thing")).content == "second"
    assert added_up(await streamed(way, model, "something else")).content == "third"


def test_a_pickle_is_refused_in_clear_words(own: ValkeySemanticCache) -> None:
    model = cached(FakeListChatModel(responses=["an answer"]), own)
    with pytest.raises(TypeError, match=r"call cached\(model, cache\) where it is unpickled"):
        pickle.dumps(model)


# A model that is bound already


@pytest.mark.parametrize(
    "bound",
    [
        lambda model: model.bind_tools([Answer]),
        lambda model: model.bind(stop=["\n"]),
        lambda model: model.with_config(tags=["a"]),
        lambda model: model.with_retry(),
        lambda model: model.with_config(tags=["a"]).bind(stop=["\n"]).with_retry(),
    ],
)
async def test_a_bound_model_is_taken(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, bound: Any
) -> None:
    plain = bound(chat_model(openai))
    model = cached(plain, own)
    assert type(model) is type(plain)
    await streamed(way, model, ASKED)
    assert tier(added_up(await streamed(way, model, ASKED))) == "exact"
    assert openai.calls == 1
    await streamed(way, plain, ASKED)
    assert openai.calls == 2


@pytest.mark.parametrize(
    "built",
    [
        lambda model: model.with_structured_output(Answer),
        lambda model: model | str,
        lambda model: model.with_fallbacks([model]),
        lambda model: "gpt-4o-mini",
    ],
)
def test_what_is_built_of_several_is_refused(
    openai: OpenAIServer, own: ValkeySemanticCache, built: Any
) -> None:
    with pytest.raises(ConfigurationError, match="Cache the model first"):
        cached(built(chat_model(openai)), own)


def test_a_cache_of_another_kind_is_refused(openai: OpenAIServer) -> None:
    with pytest.raises(
        ConfigurationError, match=r"must be a langchain_.*Cache, not builtins\.dict\."
    ):
        cached(chat_model(openai), {})  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # by openai's own stream
@pytest.mark.parametrize("api", [False, True], ids=["chat", "responses"])
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(
    openai: OpenAIServer, plain: Served, way: Way, method: Any, api: bool
) -> None:
    async with ValkeySemanticCache(
        HashingEmbeddings(), **plain.options, on_error="raise", cache_tool_calls=True
    ) as cache:
        model: Runnable[Any, Any] = cached(
            chat_model(openai, use_responses_api=api), cache
        ).with_structured_output(Answer, method=method)
        asked = f"{ASKED}, in JSON"
        for _ in range(2):
            (answer,) = await streamed(way, model, asked)
            assert answer == Answer(answer=asked, number=7)
            assert await way(model.invoke, asked) == answer
        assert openai.calls == 1


# A model that is changed after its first call: LangChain's own memo of it would be out of date


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.model_copy(update={"temperature": 0.9}),
        lambda model: setattr(model, "temperature", 0.9),
        lambda model: model.model_kwargs.update(seed=1),
    ],
)
async def test_a_changed_model_is_another_model(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way, change: Any
) -> None:
    model = cached(chat_model(openai, temperature=0.1), own)
    await way(model.invoke, ASKED)
    await streamed(way, model, ASKED)
    assert openai.calls == 1
    model = change(model) or model
    await streamed(way, model, ASKED)
    assert openai.calls == 2
    assert tier(await way(model.invoke, ASKED)) == "exact"
    assert openai.calls == 2


async def test_a_model_that_was_called_before_it_was_cached(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    plain = chat_model(openai, temperature=0.1)
    plain._get_llm_string()  # LangChain notes it here
    plain.temperature = 0.9
    model = cached(plain, own)
    await way(model.invoke, ASKED)
    hit = await way(cached(chat_model(openai, temperature=0.9), own).invoke, ASKED)
    assert tier(hit) == "exact"
    assert hit.content != ANSWER


async def test_a_user_who_sets_the_models_cache_again_has_it_so(
    openai: OpenAIServer, own: ValkeySemanticCache, way: Way
) -> None:
    model = cached(chat_model(openai), own)
    model.cache = False
    for number in (1, 2):
        await streamed(way, model, ASKED)
        await way(model.invoke, ASKED)
        assert openai.calls == 2 * number
    assert own.stats().lookups == 0


class Marked(FakeListChatModel):
    """A model class of an app's own, with a field and a private one."""

    mark: str = Field(default="unmarked")
    _seen: int = 0

    def _call(self, *args: Any, **kwargs: Any) -> str:
        self._seen += 1
        return super()._call(*args, **kwargs)


async def test_private_fields_are_the_models(own: ValkeySemanticCache, way: Way) -> None:
    model = cached(Marked(responses=["an answer"], mark="x"), own)
    for question in (ASKED, ASKED, "another thing"):
        await way(model.invoke, question)
    assert (model.mark, model._seen) == ("x", 2)
