"""What a query engine is, beside its corpus, as text: models, prompts, retrieval and synthesis.

Rule of this file: equal in two processes for one engine, different where answers may differ.
What is searched (indexes, stores, nodes) enters by kind and name only: the corpus's version
stands for it. What cannot be named faithfully is an error, never a guess.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from types import FunctionType, MethodType
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.data_structs.data_structs import IndexStruct
from llama_index.core.graph_stores.types import GraphStore, PropertyGraphStore
from llama_index.core.indices.base import BaseIndex
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.schema import BaseNode
from llama_index.core.settings import Settings
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.storage.index_store.types import BaseIndexStore
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStore
from pydantic import BaseModel

from llama_index_valkey_semcache.identity import (
    UnnamableError,
    counts,
    named_function,
    parameters,
)
from llama_index_valkey_semcache.wrapped import WrappedLLM
from valkey_semcache.embedding import embedding_identity
from valkey_semcache.errors import ConfigurationError

_CORPUS = (
    *(BaseIndex, IndexStruct, BasePydanticVectorStore, BaseDocumentStore, BaseIndexStore),
    *(StorageContext, BaseNode, PropertyGraphStore),
)
_CORPUS_PROTOCOLS = (VectorStore, GraphStore)  # slow to ask about, and rare
# How stores call the part of a server that they search.
_PLACES = ("collection_name", "index_name", "table_name", "namespace", "database")
_PLAIN = frozenset((type(None), bool, int, float, str))
_DEEPEST = 40
_counts = lru_cache(maxsize=4096)(counts)


class EngineWalk:
    """A query engine taken apart, once.

    Args:
        engine: The engine.
        name: Stands for all of it but its prompts and the kind of its answers.
        embeddings: Takes the names of the embedding models met, also when a part raises.

    Raises:
        UnnamableError: A part has no faithful name, and none was given for the whole.
    """

    def __init__(
        self, engine: BaseQueryEngine, name: str | None, embeddings: list[str] | None = None
    ) -> None:
        self.llms: list[LLM] = []
        self._embeddings = [] if embeddings is None else embeddings
        self._path: list[int] = []
        synthesizer = getattr(engine, "_response_synthesizer", None)
        self.output_cls = _output_cls(synthesizer)
        self.wordless = isinstance(synthesizer, NoText)
        about: list[Any]
        if name is None:
            about = ["engine", self._named(engine, type(engine).__name__)]
            if not self.llms and Settings._llm is not None:
                about.append(self._named(Settings._llm, "Settings.llm"))
        else:
            if (llm := getattr(synthesizer, "_llm", None)) is not None:
                self.llms.append(_unwrapped(llm))
            about = ["engine_id", name, self._named(engine.get_prompts(), "prompts")]
        schema = None if self.output_cls is None else self.output_cls.model_json_schema()
        kind = [bool(getattr(synthesizer, "_streaming", False)), schema]
        self.identity = json.dumps([*about, kind], sort_keys=True)

    @property
    def model(self) -> str:
        """The name of the first model met, or ""."""
        return self.llms[0].metadata.model_name if self.llms else ""

    def _named(self, value: Any, path: str) -> Any:
        """`value` as JSON."""
        if type(value) in _PLAIN:
            return value
        if isinstance(value, enum.Enum):
            return [type(value).__name__, value.name]
        if isinstance(value, str | int | float):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, list | tuple):
            if value and isinstance(value[0], BaseNode):
                return "nodes"
            return [self._named(part, f"{path}[{place}]") for place, part in enumerate(value)]
        if isinstance(value, set | frozenset):
            return ["set", sorted(json.dumps(self._named(part, path)) for part in value)]
        if isinstance(value, type) and issubclass(value, BaseModel):
            return [value.__qualname__, value.model_json_schema()]
        if isinstance(value, FunctionType):
            return named_function(value, path)
        if isinstance(value, MethodType) and isinstance(value.__func__, FunctionType):
            return [named_function(value.__func__, path), self._named(value.__self__, path)]
        return self._once(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        if not all(isinstance(key, str) for key in value):
            raise UnnamableError(f"{path} has keys that are no strings")
        return {key: self._named(part, f"{path}.{key}") for key, part in value.items()}

    def _once(self, value: Any, path: str) -> Any:
        """An object; one that holds itself is named by how far up it stands."""
        if id(value) in self._path:
            return ["up", len(self._path) - self._path.index(id(value))]
        if len(self._path) >= _DEEPEST:
            raise UnnamableError(f"{path} lies too deep")
        self._path.append(id(value))
        try:
            return self._object(value, path)
        finally:
            self._path.pop()

    def _object(self, value: Any, path: str) -> Any:
        kind = _kind_of(type(value))  # type: ignore[arg-type]
        if kind == "fields":
            return self._fields(value, path)
        if kind == "llm":
            return self._llm(value)
        if kind == "embedding":
            return self._embedding(value, path)
        if kind == "wrapped engine":
            return self._named(value.inner, path)
        if kind == "corpus" or isinstance(value, _CORPUS_PROTOCOLS):
            return _place_of(value)
        raise UnnamableError(f"{path} is a {type(value).__name__}")

    def _llm(self, llm: LLM) -> Any:
        llm, name = _unwrapped(llm), _name_given(llm)
        self.llms.append(llm)
        return parameters(llm) if name is None else name

    def _embedding(self, embedding: BaseEmbedding, path: str) -> str:
        try:
            name = embedding_identity(embedding)
        except ConfigurationError as error:
            raise UnnamableError(f"{path} names no model") from error
        self._embeddings.append(name)
        return name

    def _fields(self, value: Any, path: str) -> list[Any]:
        """An object as its class and what it holds."""
        held = {
            # A template's variables may come out of a set, in another order in each process.
            name: sorted(part) if name == "template_vars" else self._named(part, f"{path}.{name}")
            for name, part in _attributes(value)
            if _counts(name)
        }
        return [type(value).__qualname__, held]


def embeddings_of(engine: BaseQueryEngine) -> list[str]:
    """The names of the embedding models that an engine can be seen to use."""
    found: list[str] = []
    with suppress(UnnamableError):
        EngineWalk(engine, None, found)
    return found


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, by name; of a pydantic model's private attributes, plain values.

    Those are caches and clients for the most part, and settings now and then.
    """
    yield from vars(value).items()
    for name, part in (getattr(value, "__pydantic_private__", None) or {}).items():
        if isinstance(part, str | bool | int | float):
            yield name, part


def _unwrapped(llm: LLM) -> LLM:
    """The model that answers, out of a `SemanticCacheLLM`."""
    return llm.inner if isinstance(llm, WrappedLLM) else llm


def _name_given(llm: LLM) -> str | None:
    """The name that the user gave a model with its parameters, if any."""
    return llm._front.settings.model_id if isinstance(llm, WrappedLLM) else None


def _output_cls(synthesizer: Any) -> type[BaseModel] | None:
    """The class of which a synthesizer's answers are, if they are no texts."""
    llm = getattr(synthesizer, "_llm", None)
    if isinstance(llm, StructuredLLM):
        return llm.output_cls
    found = getattr(synthesizer, "_output_cls", None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _place_of(corpus: Any) -> list[Any]:
    """The kind of an index, store or node, and the name it goes by on its server."""
    names = {name: getattr(corpus, name, None) for name in _PLACES}
    return [
        type(corpus).__name__,
        {
            name: hashlib.sha256(value.encode()).hexdigest()
            for name, value in names.items()
            if isinstance(value, str)
        },
    ]


@lru_cache(maxsize=1024)
def _kind_of(cls: type) -> str:
    """How objects of a class are named; "" if it cannot be told."""
    if issubclass(cls, LLM):
        return "llm"
    if issubclass(cls, BaseEmbedding):
        return "embedding"
    if issubclass(cls, _CORPUS):
        return "corpus"
    if issubclass(cls, BaseQueryEngine) and hasattr(cls, "inner"):
        return "wrapped engine"
    # Of plain objects only LlamaIndex's own, such as output parsers.
    if issubclass(cls, BaseModel | PromptMixin) or _of_llama_index(cls):
        return "fields"
    return ""


def _of_llama_index(cls: type) -> bool:
    return cls.__module__.startswith("llama_index.") and "__dict__" in dir(cls)
