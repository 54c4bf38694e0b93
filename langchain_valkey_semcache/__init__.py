"""valkey-semcache for LangChain: `set_llm_cache(ValkeySemanticCache(...))`.

Rule of this folder: an adapter translates, and nothing else. What LlamaIndex would need as
well belongs in `valkey_semcache`.
"""

from langchain_valkey_semcache.cache import ValkeySemanticCache
from langchain_valkey_semcache.embeddings import MiniLMEmbeddings

__all__ = ["MiniLMEmbeddings", "ValkeySemanticCache"]
