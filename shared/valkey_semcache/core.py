"""What the methods of a cache have in common: its parts, and how they are called.

Rule of this file: the promise that the cache never breaks the call is kept here. What is done
is in the flows, which methods there are is in cache.py and the files beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valkey_semcache.codec import Codec
from valkey_semcache.digest import Digests
from valkey_semcache.drive import Drive
from valkey_semcache.errors import ConfigurationError, NotStorableError
from valkey_semcache.flow import Flows
from valkey_semcache.operations import Flow
from valkey_semcache.options import TTL, UNSET, Unset, checked_threshold, checked_ttl
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.question import Address, Addressing, Question
from valkey_semcache.stats import Counters


class Core:
    """The parts of a cache, which `SemanticCache` puts together."""

    _addressing: Addressing
    _clears: str | None
    _codec: Codec
    _counters: Counters
    _digests: Digests
    _drive: Drive
    _flows: Flows
    _name: str
    _namespace: str
    _prefix: str
    _raises: bool
    _threshold: float
    _ttl: float | None

    # What an adapter needs beside the above

    def skip(self, reason: str) -> None:
        """Count an answer that is not to be stored, by reason."""
        self._counters.count("not_stored", reason)

    def missed(self, detail: str) -> Miss:
        """Count a request that is not to be looked up, and the miss for it."""
        miss = Miss("not_cacheable", detail)
        self._counters.seen(miss)
        return miss

    # Steps shared by the sync and the async methods

    def _address(self, question: Question | str) -> Address:
        if isinstance(question, str):
            question = Question(question)
        elif not isinstance(question, Question):
            raise ConfigurationError(
                f"A question is a string or a Question, not {type(question).__name__}."
            )
        return self._addressing.address(question, self._namespace)

    def _lookup(
        self, question: Question | str, codec: Codec | None, threshold: float | None
    ) -> Flow[Hit | Miss]:
        threshold = self._threshold if threshold is None else checked_threshold(threshold)
        return self._flows.lookup(self._address(question), codec or self._codec, threshold)

    def _store(
        self,
        question: Question | str,
        answer: Any,
        codec: Codec | None,
        ttl: TTL | Unset,
        usage: Mapping[str, int] | None,
    ) -> Flow[None] | None:
        codec = codec or self._codec
        seconds = self._ttl if ttl is UNSET else checked_ttl(ttl)
        address = self._address(question)
        try:
            content = codec.encode(answer)
        except NotStorableError as error:
            self.skip("not storable")
            self._counters.warn("not storable", "An answer is not cached: %s", error)
            return None
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            self._not_stored(error)
            return None
        return self._flows.store(address, codec.name, content, seconds, usage)

    def _missed(self, error: Exception) -> Miss:
        self._counters.failed("a look-up", error)
        if self._raises:
            raise error
        return Miss("error", f"{type(error).__name__}: {error}")

    def _not_stored(self, error: Exception) -> bool:
        self._counters.failed("a store", error)
        if self._raises:
            raise error
        return False
