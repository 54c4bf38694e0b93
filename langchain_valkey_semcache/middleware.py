"""`SemanticCacheMiddleware`: an agent's model calls, cached.

Rule of this file: a model call is known by its request alone (messages, tools, response format,
settings, the model itself). What cannot be written down in one canonical way is not cached.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_valkey_semcache.cache import ValkeySemanticCache
from langchain_valkey_semcache.cached import model_cache
from langchain_valkey_semcache.calls import CallCache
from langchain_valkey_semcache.model import llm_string_of
from valkey_semcache.errors import MissingPackageError

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain.agents.structured_output import ProviderStrategy, ProviderStrategyBinding
    from langgraph.config import get_config
except ImportError as error:
    raise MissingPackageError(
        "SemanticCacheMiddleware needs LangChain 1.0 or later, which is not installed: "
        "pip install 'valkey-semcache[agents]'"
    ) from error


class SemanticCacheMiddleware(AgentMiddleware[Any, Any]):
    """Caches an agent's model calls: `create_agent(…, middleware=[SemanticCacheMiddleware(…)])`.

    The last human message's text is compared by meaning; system prompt, earlier messages, tools,
    response format, settings and model must be the same. After a tool's result only the very same
    messages hit. Answers that call tools are not stored, and neither are those that end with a
    `Command` or in several messages.

    Args:
        cache: The cache.
        namespace_from: Gives the tenant of a call by the agent's `runtime.context`. When it gives
            None or raises, the call is not cached. By default the cache decides.
        coalesce: Whether calls that ask the same at the same time, in one process, wait for the
            first of them. If it fails, each calls for itself.
        coalesce_timeout: Seconds that a call waits for another at most.

    Raises:
        ConfigurationError: The cache is no `ValkeySemanticCache`, or an option is out of range.
    """

    def __init__(
        self,
        cache: ValkeySemanticCache,
        *,
        namespace_from: Callable[[Any], str | None] | None = None,
        coalesce: bool = True,
        coalesce_timeout: float = 30.0,
    ) -> None:
        super().__init__()
        self._shared = model_cache(cache, namespace_from, coalesce, coalesce_timeout)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """The stored response to this request or one that means the same, or the model's."""
        if (asked := self._asked(request)) is None:
            return handler(request)
        with CallCache(self._shared, None, _context(request)) as call:
            found = _response(request, call.lookup(*asked))
            if found is not None:
                return found
            response = handler(request)
            answer, reason = _to_store(request, response)
            if answer is not None:
                call.update(*asked, answer)
            else:
                call.skip(reason)
            return response

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """The same as `wrap_model_call`, without blocking the event loop."""
        if (asked := self._asked(request)) is None:
            return await handler(request)
        with CallCache(self._shared, None, _context(request)) as call:
            found = _response(request, await call.alookup(*asked))
            if found is not None:
                return found
            response = await handler(request)
            answer, reason = _to_store(request, response)
            if answer is not None:
                await call.aupdate(*asked, answer)
            else:
                call.skip(reason)
            return response

    def _asked(self, request: ModelRequest[Any]) -> tuple[str, str] | None:
        """Messages and identity, as a LangChain cache takes them."""
        try:
            return _prompt(request), _identity(request)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            self._shared.cache.core.missed(f"unreadable request: {type(error).__name__}")
            return None


def _context(request: ModelRequest[Any]) -> Any:
    return getattr(request.runtime, "context", None)


def _prompt(request: ModelRequest[Any]) -> str:
    messages: list[BaseMessage] = list(request.messages)
    if request.system_message is not None:
        messages.insert(0, request.system_message)
    return dumps([message.model_copy(update={"id": None}) for message in messages])


def _identity(request: ModelRequest[Any]) -> str:
    """The model with all that is set for this request."""
    settings = {
        "tools": [convert_to_openai_tool(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "response_format": _described(request.response_format),
        "settings": request.model_settings,
    }
    return f"{llm_string_of(request.model)}---{json.dumps(settings, sort_keys=True)}"


def _described(response_format: Any) -> Any:
    """A response format as JSON: the kind of strategy, and the schemas by name and content."""
    if response_format is None or isinstance(response_format, dict):
        return response_format
    schema = getattr(response_format, "schema", response_format)
    specs = getattr(response_format, "schema_specs", None) or [ProviderStrategy(schema).schema_spec]
    return [
        type(response_format).__name__,
        *([spec.schema_kind, spec.name, spec.description, spec.json_schema] for spec in specs),
        getattr(getattr(response_format, "schema_spec", None), "strict", None),
    ]


def _response(request: ModelRequest[Any], found: Any) -> ModelResponse[Any] | None:
    """A hit as the handler would give it, or None if it does not fit the request."""
    if found is None:
        return None
    message = found[0].message
    message.name = _agent_name()
    if request.response_format is None:
        return ModelResponse(result=[message])
    schema: Any = getattr(request.response_format, "schema", request.response_format)
    try:
        spec = ProviderStrategy(schema).schema_spec
        structured = ProviderStrategyBinding.from_schema_spec(spec).parse(message)
    except ValueError:
        return None
    return ModelResponse(result=[message], structured_response=structured)


def _to_store(request: ModelRequest[Any], response: Any) -> tuple[list[ChatGeneration] | None, str]:
    """The message of a plain response, or why it is not stored.

    A structured response to be stored is one that can be read from the message again.
    """
    if not isinstance(response, ModelResponse) or len(response.result) != 1:
        return None, "several messages"
    (message,) = response.result
    if not isinstance(message, AIMessage):
        return None, "no answer"
    if message.tool_calls or message.invalid_tool_calls:
        return None, "tool calls"
    if (response.structured_response is None) != (request.response_format is None):
        return None, "no structured response"
    return [ChatGeneration(message=message.model_copy(update={"name": None}))], ""


def _agent_name() -> str | None:
    """The running agent's name, which it gives to its messages."""
    try:
        name = get_config().get("metadata", {}).get("lc_agent_name")
    except RuntimeError:  # outside of a graph
        return None
    return name if isinstance(name, str) else None
