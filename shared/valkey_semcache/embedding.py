"""From a user's embedding model to unit vectors under a name.

Rule of this file: the cache sees an embedding model only through `EmbeddingModel`. What it
gives is checked before it is used: a vector that cannot be compared never gets further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.errors import ConfigurationError, EmbeddingError, SemcacheError
from valkey_semcache.workers import Workers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from valkey_semcache import vectors

    Vector: TypeAlias = npt.NDArray[np.float32]
else:
    vectors = at_first_use("valkey_semcache.vectors")
    Vector = Any  # numpy is not loaded for a name
"""A unit vector: one dimension, float32, little-endian."""

THREADS = 16
"""Threads in which a model without `aembed` embeds for async calls, and any model for sync ones."""

_NAMES = ("model", "model_name", "model_id")
_DIMENSIONS = ("dimensions", "dimension", "dim")


class Embedder(Protocol):
    """What the core asks of an embedding model: texts in, one vector each out.

    An `aembed` with the same arguments is used in async calls where there is one; otherwise
    `embed` runs in a thread.
    """

    def embed(self, texts: Sequence[str], /) -> Any:
        """One vector for each text: a sequence of sequences of floats, or an array."""


def embedding_identity(model: object) -> str:
    """The name of an embedding model: class, model name and configured dimensions.

    Two processes give one name to one model, wherever its class was imported from. No vector
    is measured: an exact hit needs no embedding, and so no name may.

    Args:
        model: The embedding model. Its name is looked for as `model`, `model_name` or
            `model_id`, beside a `deployment`, on the instance or its class.

    Raises:
        ConfigurationError: It has no such name.
    """
    names = [_text(model, name) for name in _NAMES]
    named = next((name for name in names if name), "") or _text(model, "deployment")
    if not named:
        raise ConfigurationError(
            f"The embedding model {type(model).__name__} names no model (looked for the "
            f"attributes {', '.join(_NAMES)} and deployment), so its entries could be mixed "
            "up with another's. Pass embedding_id='a name of your choice', and change it "
            "whenever the model changes."
        )
    parts = [type(model).__name__, named]
    deployment = _text(model, "deployment")
    if deployment and deployment != named:
        parts.append(f"deployment={deployment}")
    for name in _DIMENSIONS:
        value = getattr(model, name, None)
        if type(value) is int:
            parts.append(f"dimensions={value}")
            break
    return "/".join(parts)


def _text(model: object, name: str) -> str:
    value = getattr(model, name, None)
    return value if isinstance(value, str) and value != "unknown" else ""


class EmbeddingModel:
    """An embedding model with a name, and its vectors checked.

    Args:
        embed: Texts to vectors, as in `Embedder.embed`.
        aembed: The same, to be awaited; None to run `embed` in a thread.
        identity: The model's name, see `embedding_identity`.
        timeout: Seconds to wait for an embedding; None to wait for ever, in the caller's thread.
    """

    def __init__(
        self,
        embed: Callable[[list[str]], Any],
        aembed: Callable[[list[str]], Awaitable[Any]] | None,
        identity: str,
        timeout: float | None = None,
    ) -> None:
        self._embed = embed
        self._aembed = aembed
        self.identity = identity
        self.timeout = timeout
        self._workers = Workers(THREADS, "semcache-embedding")

    @classmethod
    def of(
        cls, model: Any, embedding_id: str | None = None, timeout: float | None = None
    ) -> EmbeddingModel:
        """Take an `Embedder`, or an `EmbeddingModel` that an adapter has made.

        Raises:
            ConfigurationError: It has no `embed`, or no name and no `embedding_id`.
        """
        named = isinstance(embedding_id, str) and bool(embedding_id.strip())
        if embedding_id is not None and not named:
            raise ConfigurationError(
                f"embedding_id={embedding_id!r} is not allowed: it takes a name, or None for what "
                "the embedding model names."
            )
        if isinstance(model, EmbeddingModel):
            return cls(model._embed, model._aembed, model.identity, timeout)
        if not callable(getattr(model, "embed", None)):
            raise ConfigurationError(
                f"The embedding model {type(model).__name__} has no method embed(texts). Pass "
                "an object that has one, such as valkey_semcache.offline.MiniLM(), or use the "
                "cache of langchain_valkey_semcache or llama_index_valkey_semcache, which take "
                "their framework's embedding models."
            )
        identity = embedding_id or embedding_identity(model)
        return cls(model.embed, getattr(model, "aembed", None), identity, timeout)

    def vector(self, text: str) -> Vector:
        """The unit vector of `text`.

        Raises:
            EmbeddingError: The model raised or took too long, or its vector cannot be compared.
        """
        return vectors.only(self._embedded([_encodable(text)]), self.identity)

    async def avector(self, text: str) -> Vector:
        """The same, without blocking the event loop."""
        return vectors.only(await self._aembedded([_encodable(text)]), self.identity)

    def vectors(self, texts: Sequence[str]) -> list[Vector | EmbeddingError]:
        """The unit vectors of `texts`, by one call of the model; an error in place of one that
        cannot be compared.

        Raises:
            EmbeddingError: The model raised or took too long, or gave another number of vectors.
        """
        return self._each(self._embedded([_encodable(text) for text in texts]), len(texts))

    async def avectors(self, texts: Sequence[str]) -> list[Vector | EmbeddingError]:
        """The same, without blocking the event loop."""
        embedded = await self._aembedded([_encodable(text) for text in texts])
        return self._each(embedded, len(texts))

    def _each(self, embedded: Any, count: int) -> list[Vector | EmbeddingError]:
        try:
            given = len(embedded)
            rows = list(embedded)
        except TypeError as error:
            raise EmbeddingError(
                f"The embedding model {self.identity} gave {type(embedded).__name__}, not a "
                f"sequence of vectors for the {count} texts."
            ) from error
        if given != count:
            raise EmbeddingError(
                f"The embedding model {self.identity} gave {given} vectors for {count} texts."
            )
        found: list[Vector | EmbeddingError] = []
        for row in rows:
            try:
                found.append(vectors.only([row], self.identity))
            except EmbeddingError as error:
                found.append(error)
        return found

    def _embedded(self, texts: list[str]) -> Any:
        try:
            if self.timeout is None:
                return self._embed(texts)
            return self._workers.call(partial(self._embed, texts), self.timeout)
        except SemcacheError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    async def _aembedded(self, texts: list[str]) -> Any:
        try:
            if self._aembed is not None:
                async with asyncio.timeout(self.timeout):  # `wait_for` would make a task of it
                    return await self._aembed(texts)
            if self.timeout is None:
                return await asyncio.to_thread(self._embed, texts)
            return await self._workers.acall(partial(self._embed, texts), self.timeout)
        except SemcacheError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> EmbeddingError:
        if isinstance(error, TimeoutError):
            return EmbeddingError(
                f"The embedding model {self.identity} gave nothing within embed_timeout="
                f"{self.timeout} s: it hangs, is overloaded, or needs more time."
            )
        # Only the kind of error: providers put keys and prompts into their messages.
        return EmbeddingError(
            f"The embedding model {self.identity} raised {type(error).__name__}. Its words "
            "may hold keys or prompts, so they are left out here: on_error='raise' shows them, as "
            "this error's cause."
        )


def _encodable(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer or JSON body takes, as "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
