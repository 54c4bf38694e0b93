"""Old and new workers on one server while a release with another stored format is rolled out.

The new release is this one with a format of one more: its entries are newer to the old workers, and
the old ones' are older to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import SemanticCache, digest, question
from valkey_semcache.index import opening
from valkey_semcache.stored import answer, carrying

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


@contextmanager
def next_release() -> Iterator[None]:
    """Within the block the code is that of the new workers."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (digest, question, opening, answer, carrying):
            patch.setattr(module, "FORMAT", digest.FORMAT + 1)
        yield


async def test_old_and_new_workers_share_a_server(either_index: Served, way: Way) -> None:
    options = either_index.options | {"on_error": "raise"}
    old, new = (SemanticCache(HashingEmbedder(), **options) for _ in range(2))
    await way(old.store, ASKED, "by the old")
    before = set(either_index.entries())
    with next_release():
        assert not await way(new.lookup, REWORDED), "it does not read what it does not know to read"
        await way(new.store, ASKED, "by the new")
    for _ in range(3):
        for text in (ASKED, REWORDED):
            assert (await way(old.lookup, text)).answer == "by the old"
            with next_release():
                assert (await way(new.lookup, text)).answer == "by the new"
    await way(old.store, ASKED, "by the old again")
    with next_release():
        assert (await way(new.lookup, ASKED)).answer == "by the new"
    assert len(either_index.entries()) == 2
    assert before < set(either_index.entries()), "each left the other's alone"
    # An entry of the new format under a key of the old one, as a smaller change would leave it.
    (key,) = before
    data = either_index.admin.hget(key, "p") or b""
    either_index.admin.hset(key, "p", data[:2] + bytes([digest.FORMAT + 1]) + data[3:])
    for text in (ASKED, REWORDED):
        assert not await way(old.lookup, text)
    assert either_index.admin.exists(key)
    for cache in (old, new):
        assert not cache.stats().errors
        await cache.aclose()
