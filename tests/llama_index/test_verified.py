"""`policy=Verified(…)` behind LlamaIndex's models."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index_valkey_semcache import SemanticCacheLLM, ValkeySemanticCache
from tests.conftest import Way
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import Verified

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


def tier(answer: Any) -> str | None:
    found: str | None = answer.additional_kwargs.get("semantic_cache", {}).get("tier")
    return found


async def test_an_unsure_candidate_is_a_miss_whose_answer_is_compared(
    either_index: Served, way: Way
) -> None:
    options: dict[str, Any] = {"policy": Verified(0.3), "on_error": "raise"}
    async with ValkeySemanticCache(HashingEmbedding(), **(either_index.options | options)) as cache:
        llm = SemanticCacheLLM(CountingLLM(), cache)
        await way(llm.complete, ASKED)
        assert tier(await way(llm.complete, REWORDED)) is None
        assert cache.stats().misses == {"no_neighbour": 1, "unverified": 1}
        # "counting on: …", of which all but one word is the same.
        assert cache.stats().compared == {"same": 1}
        assert tier(await way(llm.complete, REWORDED)) == "exact"
        await way(llm.chat, [ChatMessage(role="user", content=ASKED)])
        await way(llm.chat, [ChatMessage(role="user", content=REWORDED)])
        assert sum(cache.stats().compared.values()) == 2
