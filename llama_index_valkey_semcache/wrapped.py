"""`WrappedLLM`: an LLM that is another one in all but what is asked of it.

Rule of this file: settings, names and tools are the inner model's, read there and written
there. Nothing is cached here.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, ClassVar, Self

from llama_index.core.base.llms.types import ChatResponse, LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection

from llama_index_valkey_semcache import tools
from llama_index_valkey_semcache.calls import Calls
from llama_index_valkey_semcache.private import remember_as
from valkey_semcache import ConfigurationError

logger = logging.getLogger("valkey_semcache")


class WrappedLLM(FunctionCallingLLM):
    """What of an LLM with a cache in front is the inner model's.

    Its attributes fall through: those that the inner model has are read and set there.
    """

    _front: Calls = PrivateAttr()

    _mirrored: ClassVar[frozenset[str]] = frozenset(LLM.model_fields)

    def __init__(self, front: Calls) -> None:
        llm = front.llm
        super().__init__(
            messages_to_prompt=llm.messages_to_prompt,
            completion_to_prompt=llm.completion_to_prompt,
        )
        self._front = front
        self._let_through()

    def _let_through(self) -> None:
        """Drop the fields' own values, so that the inner model's are seen."""
        for name in self._mirrored:
            self.__dict__.pop(name, None)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serializes it."""
        return "SemanticCacheLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """The inner model's."""
        return self._front.llm.metadata

    @property
    def inner(self) -> LLM:
        """The model behind the cache."""
        return self._front.llm

    # Attributes fall through

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattr__(name)  # type: ignore[misc]
        return getattr(self._front.llm, name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        own = name in kind.model_fields and name not in self._mirrored  # a subclass's
        if own or name.startswith("_") or isinstance(getattr(kind, name, None), property):
            super().__setattr__(name, value)
        else:
            setattr(self._front.llm, name, value)

    def __repr__(self) -> str:
        llm = self._front.llm
        return f"{type(self).__name__}({type(llm).__name__} {llm.metadata.model_name!r})"

    def __str__(self) -> str:
        return repr(self)

    # Copies, on paper and off

    def __copy__(self) -> Self:
        return self._again(self._front.llm)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._again(copy.deepcopy(self._front.llm, memo))

    def _again(self, llm: LLM) -> Self:
        """Another one like this, around `llm`. The cache is shared."""
        front = copy.copy(self._front)
        if llm is not front.llm:
            remember_as(llm, front.llm)
        front.llm = llm
        again = type(self).__new__(type(self))
        WrappedLLM.__init__(again, front)
        return again

    def __getstate__(self) -> dict[str, Any]:
        """All but the cache, whose connections belong to this process."""
        if self._front.cache is not None:
            logger.warning(
                "%r is pickled without its cache. Where it is unpickled, set its attribute cache; "
                "until then it passes everything on to the model.",
                self,
            )
        front = copy.copy(self._front)
        front.cache = None
        return {"front": front}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        WrappedLLM.__init__(self, state["front"])

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What it is, without the inner model's parameters, among which are keys."""
        llm = self._front.llm
        return {
            "class_name": self.class_name(),
            "llm": llm.class_name(),
            "model": llm.metadata.model_name,
        }

    def to_payload(self) -> dict[str, Any]:
        """What events may say of it: the inner model's name and metadata."""
        return {"class_name": self.class_name(), **self.metadata.model_dump()}

    # Tools

    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._function_calling()._prepare_chat_with_tools(*args, **kwargs)

    def _prepare_chat_with_tools_compat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # The inner class is asked whether it knows `tool_required`, not this one.
        return self._function_calling()._prepare_chat_with_tools_compat(*args, **kwargs)

    def _validate_chat_with_tools_response(self, *args: Any, **kwargs: Any) -> ChatResponse:
        return self._function_calling()._validate_chat_with_tools_response(*args, **kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls in a response: of a hit as they were stored, else as the model reads them.

        Raises:
            ValueError: There are none, and `error_on_no_tool_call` is true.
        """
        if "semantic_cache" not in response.additional_kwargs:
            return self._function_calling().get_tool_calls_from_response(
                response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
            )
        found = tools.selections(response.message)
        if error_on_no_tool_call and not found:
            raise ValueError("Expected at least one tool call, but got 0 tool calls.")
        return found

    def _function_calling(self) -> FunctionCallingLLM:
        llm = self._front.llm
        if not isinstance(llm, FunctionCallingLLM):
            raise ConfigurationError(
                f"The inner {type(llm).__name__} cannot call tools. Wrap a model that can."
            )
        return llm
