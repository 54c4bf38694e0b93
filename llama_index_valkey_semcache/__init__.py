"""valkey-semcache for LlamaIndex: `SemanticCacheLLM(llm, ValkeySemanticCache(...))`.

Rule of this folder: an adapter translates, and nothing else. What LangChain would need as well
belongs in `valkey_semcache`.
"""

from llama_index_valkey_semcache.cache import ValkeySemanticCache
from llama_index_valkey_semcache.embeddings import MiniLMEmbedding
from llama_index_valkey_semcache.events import (
    SemanticCacheBreakerEvent,
    SemanticCacheErrorEvent,
    SemanticCacheHitEvent,
    SemanticCacheMissEvent,
    SemanticCacheStoreEvent,
)
from llama_index_valkey_semcache.llm import SemanticCacheLLM
from llama_index_valkey_semcache.query_engine import SemanticCacheQueryEngine

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
