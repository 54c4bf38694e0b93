"""`ValkeySemanticCache` for LlamaIndex: the core, taking LlamaIndex's embedding models.

Rule of this file: translate the embedding model; all else is the core's, or stands beside.
"""

from __future__ import annotations

from typing import Any, Unpack

from llama_index_valkey_semcache.embeddings import embedding_model
from llama_index_valkey_semcache.rejecting import Rejecting
from llama_index_valkey_semcache.warming import Warming
from valkey_semcache.options import TTL, Options
from valkey_semcache.rules.thresholds import UNSAID, Threshold


class ValkeySemanticCache(Warming, Rejecting):
    """The cache that `SemanticCacheLLM` asks.

    Args:
        embed_model: A LlamaIndex `BaseEmbedding`; its text method is used.
        url: The server; see `valkey_semcache.SemanticCache` for this and all that follows.
        similarity_threshold: Cosine similarity from which another wording is served, 0 to 1; or
            rules, as there.
        ttl: Seconds an entry lives, or a `timedelta`; None for ever.
        name: Begins every key of this cache.
        namespace: The tenant.
        client: Your own `valkey.Valkey`.
        async_client: Your own `valkey.asyncio.Valkey`.
        options: All further options of `valkey_semcache.SemanticCache`, by the same names.

    Raises:
        ConfigurationError: An argument is out of range or of the wrong type, or no server is
            given. It is a `ValueError`.
        MissingPackageError: An option needs a package that is not installed.
        TypeError: There is no such option; it names the nearest one.
    """

    def __init__(
        self,
        embed_model: Any,
        url: str | None = None,
        *,
        similarity_threshold: Threshold = UNSAID,
        ttl: TTL = 3600,
        name: str = "semcache",
        namespace: str = "",
        client: Any = None,
        async_client: Any = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            embedding_model(embed_model, options.get("embedding_id")),
            url,
            similarity_threshold=similarity_threshold,
            ttl=ttl,
            name=name,
            namespace=namespace,
            client=client,
            async_client=async_client,
            **options,
        )
