"""What the methods of a cache have in common: its parts, and how they are called.

Rule of this file: the promise that the cache never breaks the call is kept here. What is done
is in the flows, which methods there are is in cache.py and the files beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valkey_semcache.coalesce import Coalescer
from valkey_semcache.digest import Digests
from valkey_semcache.drive import Drive
from valkey_semcache.embedding import Vector
from valkey_semcache.errors import ConfigurationError, NotStorableError, UnknownTenantError
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.operations import Flow
from valkey_semcache.options import TTL, UNSET, Unset, checked_threshold
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.precision.judging import at_work
from valkey_semcache.question import Address, Addressing, Question
from valkey_semcache.rules.lifetimes import Lifetimes, lifetime_rule
from valkey_semcache.rules.rules import Selection
from valkey_semcache.rules.tenants import Tenants
from valkey_semcache.rules.thresholds import Thresholds
from valkey_semcache.stats import Counters
from valkey_semcache.stored.codec import Codec
from valkey_semcache.telemetry.watch import Watch


class Core:
    """The parts of a cache, which `SemanticCache` puts together."""

    coalescer: Coalescer
    _addressing: Addressing
    _codec: Codec
    _counters: Counters
    _digests: Digests
    _drive: Drive
    _embedding: str
    _flows: Flows
    _name: str
    _lifetimes: Lifetimes
    _max_answer_bytes: int
    _namespace: str
    _raises: bool
    _selection: Selection
    _tenants: Tenants
    _thresholds: Thresholds
    _view: str | None
    _watch: Watch | None

    # What an adapter needs beside the above

    def skip(self, reason: str) -> None:
        """Count an answer that is not to be stored, by reason."""
        self._counters.count("not_stored", reason)
        if self._watch is not None:
            self._watch.skipped(reason)

    def missed(self, detail: str) -> Miss:
        """Count a request that is not to be looked up, and the miss for it."""
        miss = Miss("not_cacheable", detail)
        self._counters.seen(miss)
        if self._watch is not None:
            self._watch.missed(miss)
        return miss

    def hear(self) -> None:
        """Have events gathered (`telemetry.events.collecting`) where nobody else watches too."""
        if self._watch is None:
            told = self._name, self._counters, self._drive.server.breaker, self._index_kind
            self._watch = Watch(*told, None, None, None)

    def failed(self, doing: str, error: Exception) -> None:
        """Count and log an error of the app's own while `doing`; the call goes on."""
        self._counters.failed(doing, error)

    @property
    def embedding_id(self) -> str:
        """The embedding model's name."""
        return self._drive.embedding.identity

    def vector_of(self, question: Question | str) -> Vector | None:
        """The unit vector of a question's text, if this process embedded it lately."""
        return self._flows.notes.vector(self._address(question))

    def key_of(self, question: Question) -> str:
        """The key of a settled question's entry: the same for all that ask it in these words."""
        return self._address(question).key

    def settled(self, question: Question | str) -> Question:
        """The question with the tenant who is asking it now; a later store meets the same.

        Raises:
            UnknownTenantError: That cannot be told, or two tenants are named.
        """
        question = _question(question)
        if question.namespace is not None:
            return question
        return question.asked_by(self.tenant())

    def tenant(self) -> str:
        """The tenant who is asking now; the default one if nothing names one.

        Raises:
            UnknownTenantError: That cannot be told, or two tenants are named.
        """
        named = self._tenants.named_for(self._view)
        return self._namespace if named is None else named

    def named_tenant(self) -> str | None:
        """The tenant who is asking now; None if nothing names one, which is the default's.

        Raises:
            UnknownTenantError: That cannot be told, or two tenants are named.
        """
        return self._tenants.named_for(self._view)

    def of_nobody(self, error: UnknownTenantError) -> None:
        """Count and log an error of `namespace_from` behind a tenant that is not known."""
        if isinstance(error.__cause__, Exception):
            self._counters.failed("namespace_from", error.__cause__, raised=self._raises)
            if self._raises:
                raise error

    def _features_failed(self, error: Exception) -> None:
        """Count and log an error of `features=`; the question is found by its very words only."""
        self._counters.failed("features=", error, raised=self._raises)
        if self._raises:
            raise error

    def _judge_failed(self, error: Exception) -> None:
        """Count and log an error of the judge; the look-up is a miss."""
        self._counters.failed("judging", error, raised=self._raises)
        if self._raises:
            raise error

    # Steps shared by the sync and the async methods

    def _index_kind(self) -> str | None:
        index = self._flows.index
        return None if index is None else index.kind

    def _address(self, question: Question | str) -> Address:
        question = _question(question)
        namespace = self.tenant() if question.namespace is None else question.namespace
        return self._addressing.address(question, namespace)

    def _lookup(
        self, question: Question | str, codec: Codec | None, threshold: float | None
    ) -> Flow[Hit | Miss]:
        threshold = self._thresholds.plain if threshold is None else checked_threshold(threshold)
        try:
            if threshold is None or not self._selection.takes_all:
                question = self.settled(question)
                refusal = self._refusal(question)
                if refusal is not None:
                    return _told(refusal)
            address = self._address(question)
        except UnknownTenantError as error:
            self.of_nobody(error)
            return _told(Miss("not_cacheable", str(error)))
        if at_work.get():
            return _told(Miss("not_cacheable", "a judge asks: it is not answered from a cache"))
        if threshold is None:
            try:
                threshold = self._thresholds.of(_question(question))
            except Exception as error:  # noqa: BLE001 - the cache never breaks the call
                return _told(self._missed(error))
        return self._flows.lookup(address, codec or self._codec, threshold)

    def _refusal(self, question: Question) -> Miss | None:
        """The miss for a question that the app's rules keep out."""
        try:
            refusal = self._selection.refusal(question)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            return self._missed(error)
        return None if refusal is None else Miss("not_cacheable", refusal)

    def _store(
        self,
        question: Question | str,
        answer: Any,
        codec: Codec | None,
        ttl: TTL | Unset,
        usage: Mapping[str, int] | None,
        exact_only: bool = False,
    ) -> Flow[None] | None:
        if at_work.get():
            self.skip("a judge's own call")
            return None
        codec = codec or self._codec
        rule = None if ttl is UNSET else lifetime_rule(ttl)
        try:
            question = self.settled(question)
        except UnknownTenantError as error:
            self.skip("unknown tenant")
            self.of_nobody(error)
            return None
        address = self._address(question)
        if exact_only:
            address = address._replace(exact_reason="the answer is for these very words only")
        try:
            selection = self._selection
            refusal = selection.refusal(question) or selection.refusal_to_store(question, answer)
            if refusal is not None:
                self.skip(refusal)
                return None
            seconds = self._lifetimes.of(question, answer, rule)
            content = codec.encode(answer)
            if len(content) > self._max_answer_bytes:
                self.skip("longer than max_answer_bytes")
                return None
        except NotStorableError as error:
            self.skip("not storable")
            self._counters.warn("not storable", "An answer is not cached: %s", error)
            return None
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            self._not_stored(error)
            return None
        return self._flows.store(address, codec, content, seconds, usage)

    def _missed(self, error: Exception) -> Miss:
        self._counters.failed("a look-up", error, raised=self._raises)
        if self._raises:
            raise error
        return Miss("error", f"{type(error).__name__}: {error}")

    def _not_stored(self, error: Exception) -> bool:
        self._counters.failed("a store", error, raised=self._raises)
        if self._raises:
            raise error
        return False


def _question(question: Question | str) -> Question:
    """What was asked; a string is a question without context."""
    if isinstance(question, str):
        return Question(question)
    if not isinstance(question, Question):
        raise ConfigurationError(
            f"A question is a string or a Question, not {type(question).__name__}."
        )
    return question


def _told(miss: Miss) -> Flow[Hit | Miss]:
    """A look-up that asks nobody."""
    yield from ()
    return miss
