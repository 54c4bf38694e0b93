"""valkey-semcache for LlamaIndex: `SemanticCacheLLM(llm, ValkeySemanticCache(...))`.

Rule of this folder: an adapter translates, and nothing else. What LangChain would need as well
belongs in `valkey_semcache`.
"""

from typing import TYPE_CHECKING

from llama_index_valkey_semcache.cache import ValkeySemanticCache
from llama_index_valkey_semcache.embeddings import MiniLMEmbedding
from valkey_semcache.at_first_use import names_at_first_use

if TYPE_CHECKING:
    from llama_index_valkey_semcache.events import (
        SemanticCacheBreakerEvent,
        SemanticCacheErrorEvent,
        SemanticCacheHitEvent,
        SemanticCacheMissEvent,
        SemanticCacheStoreEvent,
    )
    from llama_index_valkey_semcache.llm import SemanticCacheLLM
    from llama_index_valkey_semcache.query_engine import SemanticCacheQueryEngine
else:
    __getattr__ = names_at_first_use(
        __name__,
        {
            "SemanticCacheBreakerEvent": "llama_index_valkey_semcache.events",
            "SemanticCacheErrorEvent": "llama_index_valkey_semcache.events",
            "SemanticCacheHitEvent": "llama_index_valkey_semcache.events",
            "SemanticCacheLLM": "llama_index_valkey_semcache.llm",
            "SemanticCacheMissEvent": "llama_index_valkey_semcache.events",
            "SemanticCacheQueryEngine": "llama_index_valkey_semcache.query_engine",
            "SemanticCacheStoreEvent": "llama_index_valkey_semcache.events",
        },
    )

__all__ = [
    "MiniLMEmbedding",
    "SemanticCacheBreakerEvent",
    "SemanticCacheErrorEvent",
    "SemanticCacheHitEvent",
    "SemanticCacheLLM",
    "SemanticCacheMissEvent",
    "SemanticCacheQueryEngine",
    "SemanticCacheStoreEvent",
    "ValkeySemanticCache",
]


def __dir__() -> list[str]:
    """Also the names that are loaded at first use."""
    return sorted({*globals(), *__all__})
