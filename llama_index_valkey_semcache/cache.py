"""`ValkeySemanticCache` for LlamaIndex: the core, taking LlamaIndex's embedding models.

Rule of this file: translate the embedding model; all else is the core's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from llama_index_valkey_semcache.embeddings import embedding_model
from valkey_semcache import SemanticCache
from valkey_semcache.options import TTL


class ValkeySemanticCache(SemanticCache):
    """The cache that `SemanticCacheLLM` asks.

    Args:
        embed_model: A LlamaIndex `BaseEmbedding`; its text method is used.
        url: The server; see `valkey_semcache.SemanticCache` for this and all that follows.
        similarity_threshold: Cosine similarity from which another wording is served, 0 to 1.
        ttl: Seconds an entry lives, or a `timedelta`; None for ever.
        name: Begins every key of this cache.
        namespace: The tenant.
        client: Your own `valkey.Valkey`.
        async_client: Your own `valkey.asyncio.Valkey`.
        index: `"auto"`, `"search"` or `"flat"`.
        embedding_id: The embedding model's name where it has none to be found.
        timeout: Seconds to wait for an answer from Valkey.
        connect_timeout: Seconds to wait for a connection.
        on_error: `"miss"` or `"raise"`.
        max_semantic_chars: Longer questions are found by their very words only.
        volatile: Patterns taken out of every text and context.
        store_questions: False keeps the questions' texts out of Valkey.
        promote: True remembers a wording that hit by meaning.
        digest_key: Secret of 16 bytes or more that keys every digest.
        flat_max_bytes: Memory in this process for the flat index's vectors.

    Raises:
        ConfigurationError: An argument is out of range or of the wrong type, or no server is
            given. It is a `ValueError`.
    """

    def __init__(
        self,
        embed_model: Any,
        url: str | None = None,
        *,
        similarity_threshold: float = 0.9,
        ttl: TTL = 3600,
        name: str = "semcache",
        namespace: str = "",
        client: Any = None,
        async_client: Any = None,
        index: Literal["auto", "search", "flat"] = "auto",
        embedding_id: str | None = None,
        timeout: float = 0.5,
        connect_timeout: float = 1.0,
        on_error: Literal["miss", "raise"] = "miss",
        max_semantic_chars: int = 1000,
        volatile: Sequence[str | re.Pattern[str]] = (),
        store_questions: bool = True,
        promote: bool = False,
        digest_key: bytes | str | None = None,
        flat_max_bytes: int = 256 * 2**20,
    ) -> None:
        super().__init__(
            embedding_model(embed_model, embedding_id),
            url,
            similarity_threshold=similarity_threshold,
            ttl=ttl,
            name=name,
            namespace=namespace,
            client=client,
            async_client=async_client,
            index=index,
            timeout=timeout,
            connect_timeout=connect_timeout,
            on_error=on_error,
            max_semantic_chars=max_semantic_chars,
            volatile=volatile,
            store_questions=store_questions,
            promote=promote,
            digest_key=digest_key,
            flat_max_bytes=flat_max_bytes,
        )
