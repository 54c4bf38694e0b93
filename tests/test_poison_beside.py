"""What else somebody can write to Valkey beside rewritten entries: huge values, odd keys, odd logs.

Nothing of it may raise, hang a look-up, take much memory, or stay in the way for good.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import SemanticCache
from valkey_semcache.server import deadline

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
ELSE = "which wine goes with fish on a warm evening"


def strict(served: Served, **options: Any) -> SemanticCache:
    """A cache whose look-ups and stores raise what they would else count."""
    options = served.options | {"on_error": "raise"} | options
    return SemanticCache(HashingEmbedder(), **options)


async def test_a_huge_reply_is_not_read_to_its_end(
    served: Served, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "MAX_REPLY_BYTES", 1_000_000)
    options = served.options | {"max_answer_bytes": 10_000}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        await way(cache.store, ASKED, "good")
        await way(cache.store, ELSE, "good")
        key = (await way(cache.lookup, ASKED)).key
        served.admin.hset(key, "p", b"x" * 900_000)
        assert not await way(cache.lookup, ASKED)
        assert cache.stats().errors == {"UnreadableError": 1}, "it was read, and is no envelope"
        await way(cache.store, ASKED, "good")
        served.admin.hset(key, "p", b"x" * 3_000_000)
        for text in (ASKED, REWORDED):
            miss = await way(cache.lookup, text)
            assert miss.reason == "error"
            assert "more than 1,000,000 bytes" in miss.detail
            assert await way(cache.lookup, ELSE), "the connection is in order"
        await way(cache.store, ASKED, "good again")
        assert (await way(cache.lookup, REWORDED)).answer == "good again"
