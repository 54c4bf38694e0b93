"""The class of a cached model: its model's own, with all ways to the model led past the cache.

LangChain runs each call, with its callbacks, ids and conversions, but on a view of the model: a
shallow copy whose field `cache` knows this one call and whose streams go through the cache. What
a call changes in a model (a counter, a client made at first use) must stay in the model, so a
view hands `_generate`, `_stream` and their twins on to it.

Rule of this file: nothing that LangChain does in a call is done here again, and the model itself
is not changed by a call.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, cast
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.utils.utils import LC_ID_PREFIX

from langchain_valkey_semcache.calls import CallCache, ModelCache
from langchain_valkey_semcache.replay import replayed
from langchain_valkey_semcache.streaming import astream, stream
from valkey_semcache.locks import ForkLock

if TYPE_CHECKING:
    _Model = BaseChatModel
else:
    # A mix-in before a pydantic model must not be one itself: its fields would hide the model's.
    _Model = object


class CachedModel(_Model):
    """What every cached model is, beside being its model's class."""

    __slots__ = ()

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        """As the model does, through the cache."""
        return super(CachedModel, self._seeing(config)).invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        """As the model does, through the cache."""
        return await super(CachedModel, self._seeing(config)).ainvoke(input, config, **kwargs)

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """As the model does, through the cache."""
        return super(CachedModel, self._streaming(config)).stream(input, config, **kwargs)

    def astream(
        self,
        input: Any,  # noqa: A002
        config: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """As the model does, through the cache."""
        return super(CachedModel, self._streaming(config)).astream(input, config, **kwargs)

    def _chat_model_stream_v3(
        self,
        input: Any,  # noqa: A002
        config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`stream_events(version="v3")`."""
        view = self._streaming(config)
        return super(CachedModel, view)._chat_model_stream_v3(input, config, **kwargs)

    def _achat_model_stream_v3(
        self,
        input: Any,  # noqa: A002
        config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`astream_events(version="v3")`."""
        view = self._streaming(config)
        return super(CachedModel, view)._achat_model_stream_v3(input, config, **kwargs)

    def _generate_with_cache(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        shared, config = _seen(self.cache)
        if shared is None:
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)
        model = _own(self)
        if config is None:
            config = ensure_config(_config_of(run_manager))
        with CallCache(shared, model, config) as call:
            call.run_manager = run_manager
            ask = super(CachedModel, _view(model, call))._generate_with_cache
            result: ChatResult = ask(messages, stop, run_manager, **kwargs)
        if call.hit and model._is_heard(False, run_manager, kwargs):
            for chunk in _as_from_this_run(result, run_manager):
                run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result

    async def _agenerate_with_cache(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        shared, config = _seen(self.cache)
        if shared is None:
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)
        model = _own(self)
        if config is None:
            config = ensure_config(_config_of(run_manager))
        with CallCache(shared, model, config) as call:
            call.run_manager = run_manager
            ask = super(CachedModel, _view(model, call))._agenerate_with_cache
            result: ChatResult = await ask(messages, stop, run_manager, **kwargs)
        if call.hit and model._is_heard(True, run_manager, kwargs):
            for chunk in _as_from_this_run(result, run_manager):
                await run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"A cached {type(self).__name__} cannot be pickled: its cache holds connections. "
            "Pickle the model itself, and call cached(model, cache) where it is unpickled."
        )

    def _seeing(self, config: RunnableConfig | None) -> Any:
        """The model for an `invoke`: with its config, where a namespace is taken from it."""
        model, shared = _own(self), _seen(self.cache)[0]
        if shared is None or shared.namespace_from is None:
            return model
        return _view(model, CallCache(shared, model, ensure_config(config)))

    def _streaming(self, config: RunnableConfig | None) -> Any:
        """The model for a `stream`."""
        model, shared = _own(self), _seen(self.cache)[0]
        if shared is None:
            return model
        view = _view(model, CallCache(shared, model, ensure_config(config), streams=True))
        # It is spent in the stream, and not on hits.
        view.__dict__["rate_limiter"] = None
        if hasattr(type(view), "_stream"):
            # A model's own events would go past the cache; LangChain makes them from its chunks.
            view.__dict__["_stream_chat_model_events"] = None
            view.__dict__["_astream_chat_model_events"] = None
        return view

    def _is_heard(self, is_async: bool, run_manager: Any, kwargs: dict[str, Any]) -> bool:
        """Whether an `invoke` that is not answered by the cache would stream to its callbacks."""
        if run_manager is None:
            return False
        by_events = getattr(self, "_should_use_protocol_streaming", None)  # newer releases have it
        if by_events and by_events(async_api=is_async, run_manager=run_manager, **kwargs):
            return False  # LangChain replays these itself
        return self._should_stream(async_api=is_async, run_manager=run_manager, **kwargs)


def _seen(cache: Any) -> tuple[ModelCache | None, RunnableConfig | None]:
    """A model's cache as `cached` set it, and the call's config if this is the view for a call.

    A user may have set the field to something else since; LangChain then does with it as ever.
    """
    if isinstance(cache, CallCache):
        return cache.shared, cache.config
    return cache if isinstance(cache, ModelCache) else None, None


def _own(model: Any) -> Any:
    """The model that a view is of, or the model itself."""
    return model.cache.model if isinstance(model.cache, CallCache) else model


def _view(model: Any, call: CallCache) -> Any:
    """A shallow copy for one call. LangChain's memo of the `llm_string` is left behind, since it
    does not notice that a model was changed."""
    view = cached_copy(model, type(model))
    view.__dict__.pop("_serialized", None)
    view.__dict__["cache"] = call
    return view


def llm_string_of(model: BaseChatModel, **bound: Any) -> str:
    """A model's `llm_string` as it is now, with the arguments that are bound to it."""
    copy = model.__copy__()
    copy.__dict__.pop("_serialized", None)
    return copy._get_llm_string(**bound)


def _config_of(run_manager: Any) -> RunnableConfig:
    """As much of a config as `generate` is given; there is no more."""
    if run_manager is None:
        return {}
    return {"tags": run_manager.tags, "metadata": run_manager.metadata}


def _as_from_this_run(result: ChatResult, run_manager: Any) -> Iterator[ChatGenerationChunk]:
    """The chunks of a hit, of which message and chunks have the id that this run would give."""
    generation = result.generations[0]
    generation.message.id = f"{LC_ID_PREFIX}-{run_manager.run_id}"
    return replayed(generation, generation.message.id)


def cached_copy(model: BaseChatModel, kind: type[Any]) -> Any:
    """A shallow copy as an instance of `kind`, which has the model's fields."""
    plain = model.__copy__()
    if type(plain) is kind:
        return plain
    copy = object.__new__(kind)
    for name in ("__dict__", *_PYDANTIC):
        object.__setattr__(copy, name, getattr(plain, name))
    return copy


_PYDANTIC = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")

_classes: WeakValueDictionary[type[BaseChatModel], type[Any]] = WeakValueDictionary()
_classes_lock = ForkLock()


def cached_class(base: type[BaseChatModel]) -> type[Any]:
    """The subclass of a model's class that is cached. Name and module are the same.

    LangChain writes both into the `llm_string`, by which entries are found.
    """
    if issubclass(base, CachedModel):
        return base
    with _classes_lock:
        found = _classes.get(base)
        if found is None:
            own = {"__module__": base.__module__, "__qualname__": base.__qualname__}
            body = own | {"__doc__": base.__doc__} | _handed_on(base)
            metaclass: Any = type(base)
            found = _classes[base] = metaclass(base.__name__, (CachedModel, base), body)
        return found


def _handed_on(base: type[Any]) -> dict[str, Any]:
    """The methods that call the model, for its class. LangChain reads from their presence and
    their arguments what a model can do, so they are as the model has them."""
    methods: dict[str, Any] = {}
    for name in ("_generate", "_agenerate"):
        methods[name] = _on_model(getattr(base, name))
    streams = base._stream is not BaseChatModel._stream
    if streams:
        methods["_stream"] = _sync_stream(base)
    if streams or base._astream is not BaseChatModel._astream:
        methods["_astream"] = _async_stream(base)
    return methods


def _on_model(method: Any) -> Any:
    @functools.wraps(method)
    def handed_on(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(_own(self), *args, **kwargs)

    return handed_on


def _sync_stream(base: type[Any]) -> Any:
    @functools.wraps(base._stream)
    def _stream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        told = {} if run_manager is None else {"run_manager": run_manager}
        source = base._stream(_own(self), messages, stop=stop, **told, **kwargs)
        if not _goes_through_the_cache(self, kwargs):
            return cast(Iterator[ChatGenerationChunk], source)
        llm_string = self._get_llm_string(stop=stop, **kwargs)
        return stream(self.cache, _own(self), dumped(messages), llm_string, source, run_manager)

    return _stream


def _async_stream(base: type[Any]) -> Any:
    @functools.wraps(base._astream)
    def _astream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        told = {} if run_manager is None else {"run_manager": run_manager}
        source = base._astream(_own(self), messages, stop=stop, **told, **kwargs)
        if not _goes_through_the_cache(self, kwargs):
            return cast(AsyncIterator[ChatGenerationChunk], source)
        llm_string = self._get_llm_string(stop=stop, **kwargs)
        return astream(self.cache, _own(self), dumped(messages), llm_string, source, run_manager)

    return _astream


def _goes_through_the_cache(view: Any, kwargs: dict[str, Any]) -> bool:
    call = view.cache
    if not isinstance(call, CallCache) or not call.streams:
        return False
    if (kwargs.get("n") or getattr(view, "n", None) or 1) == 1:
        return True
    call.shared.cache.core.missed("a stream of several answers")
    return False


def dumped(messages: list[BaseMessage]) -> str:
    """The messages as LangChain hands them to a cache."""
    return dumps([m.model_copy(update={"id": None}) if m.id is not None else m for m in messages])
