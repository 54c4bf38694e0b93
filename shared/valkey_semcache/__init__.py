"""valkey-semcache: a semantic cache for LLM answers on Valkey.

This package is the core; it imports neither LangChain nor LlamaIndex. Apps use it directly, or
through `langchain_valkey_semcache` and `llama_index_valkey_semcache`.
"""

from typing import TYPE_CHECKING

from valkey_semcache.at_first_use import names_at_first_use
from valkey_semcache.cache import SemanticCache
from valkey_semcache.embedding import Embedder
from valkey_semcache.errors import (
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingError,
    IndexKindError,
    JudgeError,
    MissingPackageError,
    NewerFormatError,
    NotStorableError,
    SearchTimeoutError,
    SemcacheError,
    ServerError,
    ServerReplyError,
    ServerUnreachableError,
    UnreadableError,
)
from valkey_semcache.local import LocalTier
from valkey_semcache.outcome import Hit, Miss, Neighbour
from valkey_semcache.question import Question
from valkey_semcache.rules.thresholds import ThresholdRules
from valkey_semcache.stats import Stats
from valkey_semcache.stored.codec import Codec, TextCodec
from valkey_semcache.telemetry.events import (
    BreakerEvent,
    ErrorEvent,
    Event,
    LookupEvent,
    StoreEvent,
)
from valkey_semcache.telemetry.fleet import FleetStats
from valkey_semcache.telemetry.otel import Telemetry

if TYPE_CHECKING:
    from valkey_semcache.explanation import Explanation, Near
    from valkey_semcache.flow.contents import Contents
    from valkey_semcache.index.listing import StoredIndex
    from valkey_semcache.precision.judges import CrossEncoderJudge, LLMJudge
    from valkey_semcache.precision.verified import Verified
    from valkey_semcache.rules.now import not_about_now
    from valkey_semcache.version import __version__ as __version__
else:
    __getattr__ = names_at_first_use(
        __name__,
        {
            "Contents": "valkey_semcache.flow.contents",
            "CrossEncoderJudge": "valkey_semcache.precision.judges",
            "Explanation": "valkey_semcache.explanation",
            "LLMJudge": "valkey_semcache.precision.judges",
            "Near": "valkey_semcache.explanation",
            "StoredIndex": "valkey_semcache.index.listing",
            "Verified": "valkey_semcache.precision.verified",
            "__version__": "valkey_semcache.version",
            "not_about_now": "valkey_semcache.rules.now",
        },
    )

__all__ = [
    "BreakerEvent",
    "Codec",
    "ConfigurationError",
    "Contents",
    "CrossEncoderJudge",
    "DimensionMismatchError",
    "Embedder",
    "EmbeddingError",
    "ErrorEvent",
    "Event",
    "Explanation",
    "FleetStats",
    "Hit",
    "IndexKindError",
    "JudgeError",
    "LLMJudge",
    "LocalTier",
    "LookupEvent",
    "Miss",
    "MissingPackageError",
    "Near",
    "Neighbour",
    "NewerFormatError",
    "NotStorableError",
    "Question",
    "SearchTimeoutError",
    "SemanticCache",
    "SemcacheError",
    "ServerError",
    "ServerReplyError",
    "ServerUnreachableError",
    "Stats",
    "StoreEvent",
    "StoredIndex",
    "Telemetry",
    "TextCodec",
    "ThresholdRules",
    "UnreadableError",
    "Verified",
    "not_about_now",
]


def __dir__() -> list[str]:
    """Also the names that are loaded at first use."""
    return sorted({*globals(), *__all__})
