"""valkey-semcache for LangChain: `set_llm_cache(ValkeySemanticCache(...))`.

Rule of this folder: an adapter translates, and nothing else. What LlamaIndex would need as
well belongs in `valkey_semcache`.
"""

from typing import TYPE_CHECKING, Any

from langchain_valkey_semcache.cache import ValkeySemanticCache
from langchain_valkey_semcache.cached import cached
from langchain_valkey_semcache.embeddings import MiniLMEmbeddings

if TYPE_CHECKING:
    from langchain_valkey_semcache.middleware import (
        SemanticCacheMiddleware as SemanticCacheMiddleware,
    )

# The middleware is not in it, so that `import *` needs no `langchain`.
__all__ = ["MiniLMEmbeddings", "ValkeySemanticCache", "cached"]


def __getattr__(name: str) -> Any:
    """The middleware loads `langchain`, and only when it is asked for."""
    if name == "SemanticCacheMiddleware":
        from langchain_valkey_semcache.middleware import SemanticCacheMiddleware

        return SemanticCacheMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
