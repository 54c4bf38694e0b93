"""`SemanticCache`: the one object that users and adapters hold.

Rule of this file: it puts the parts together and keeps the promise that the cache never breaks
the call. How a look-up goes is in flow.py, what a question is in question.py.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.background import Background, Refresh
from valkey_semcache.coalesce import Coalescer
from valkey_semcache.digest import Digests
from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.flow.lookup import Flows
from valkey_semcache.flow.notes import Notes
from valkey_semcache.flow.policy import Policy
from valkey_semcache.index.contract import ENTRY_FIELDS, SIGNED_FIELDS
from valkey_semcache.index.settings import IndexSettings, Parameters
from valkey_semcache.local import LocalTier
from valkey_semcache.methods.explaining import Explaining
from valkey_semcache.methods.filling import Filling
from valkey_semcache.methods.fleet import Fleet
from valkey_semcache.methods.indexing import Indexing
from valkey_semcache.methods.moving import Moving
from valkey_semcache.methods.one_call import OneCall
from valkey_semcache.methods.removing import Removing
from valkey_semcache.methods.sampling import DrawingPairs
from valkey_semcache.option_names import told_by_name
from valkey_semcache.options import (
    TTL,
    check_algorithm,
    checked_choice,
    checked_codec,
    checked_count,
    checked_flag,
    checked_key,
    checked_keys,
    checked_kind,
    checked_name,
    checked_namespace,
    checked_patterns,
    checked_range,
    checked_refresh,
    checked_seconds,
    checked_share,
    checked_threshold,
    checked_ttl,
    checked_window,
)
from valkey_semcache.precision.guards import Guard, checked_guards
from valkey_semcache.precision.judging import Judge, checked_judge
from valkey_semcache.question import Addressing
from valkey_semcache.rules.lifetimes import Lifetimes, lifetime_rule
from valkey_semcache.rules.rules import Selection, ShouldCache, ShouldStore
from valkey_semcache.rules.tenants import Tenants
from valkey_semcache.rules.thresholds import UNSAID, Threshold, Thresholds, Unsaid
from valkey_semcache.server import Server
from valkey_semcache.server.deadline import max_reply_bytes
from valkey_semcache.stats import Counters, Stats
from valkey_semcache.stored.codec import Codec, TextCodec
from valkey_semcache.stored.compression import MAX_ANSWER_BYTES
from valkey_semcache.stored.sealing import Seal, derived
from valkey_semcache.telemetry.events import OnEvent
from valkey_semcache.telemetry.otel import Telemetry
from valkey_semcache.telemetry.watching import watched
from valkey_semcache.text.features import Features, checked_features

if TYPE_CHECKING:
    from valkey_semcache.precision import learning, verified
else:
    learning = at_first_use("valkey_semcache.precision.learning")
    verified = at_first_use("valkey_semcache.precision.verified")


class SemanticCache(OneCall, Filling, Explaining, DrawingPairs, Moving, Indexing, Removing, Fleet):
    """Answers kept in Valkey, found by their question's words or by their meaning.

    Nothing is connected or asked before the first use. Look-ups and stores never raise for
    what happens in Valkey or in the embedding model: a look-up that fails is a `Miss`, a store
    that fails stores nothing; both are counted in `stats()` and logged once a minute.

    Args:
        embedding: The embedding model: an object with `embed(texts)`, see `Embedder`.
        url: The server: `valkey://`, `valkeys://` (TLS), `redis://`, `rediss://`, `unix://`,
            or `embedded://` for a server of this process's own (`embedded:///path` keeps its
            data there, and serves all processes that name it). None for the environment's:
            `VALKEY_URL`, else `VALKEY_HOST` and kin, else the same with `REDIS_`.
        similarity_threshold: Cosine similarity from which another wording is served, 0 to 1. Or by
            model, `{"gpt-4o*": 0.92, "*": 0.9}`, with the same patterns as `ttl`; by model and
            tenant, `ThresholdRules(…)`; or a function of the `Question`.
        ttl: Seconds an entry lives, or a `timedelta`; None for ever. Or rules by model,
            `{"gpt-4o*": 600, "*": 3600}`, of which the most specific pattern counts (the one
            with the most characters that are no wildcards; an unknown model matches only
            `*`). Or a function of the `Question` and the answer.
        ttl_jitter: Share of its TTL by which an entry's life is shortened at most, at random,
            so that what was stored together does not expire together. 0 to below 1.
        sliding: True begins an entry's life anew at each hit.
        max_age: Seconds, or a `timedelta`, at which a sliding entry ends all the same; None
            for never.
        models: Patterns of the models' names whose questions are cached, such as
            `["gpt-4o*"]`; None for all.
        should_cache: Function of the `Question`; where it says False, nothing is looked up
            or stored. `valkey_semcache.not_about_now` is one.
        should_store: Function of the `Question` and the answer; where it says False, the
            answer is not stored.
        name: Begins every key of this cache. 1 to 64 letters, digits, `_`, `.`, `-`.
        namespace: The tenant of what names none; entries of one are never seen by another.
        namespace_from: Returns the tenant, called without arguments at each look-up and each
            store; if it returns None or raises, the request is not cached. See `namespace()`.
        client: Your own `valkey.Valkey` instead of a URL; it is not closed here.
        async_client: Your own `valkey.asyncio.Valkey`, likewise.
        index: `"search"` for the module valkey-search, `"flat"` for exact search in the
            client over any Valkey, `"auto"` for what the server can do.
        embedding_id: The embedding model's name where it has none to be found, or another
            than the one found. Entries are found only under the name they were stored with.
        codec: How answers become bytes. By default answers are strings.
        timeout: Seconds to wait for an answer from Valkey.
        connect_timeout: Seconds to wait for a connection.
        embed_timeout: Seconds to wait for an embedding, which is made in a thread of the
            cache's own, one of at most 16; None to wait for ever, in the caller's thread.
        cluster: Whether the URL's server is one of a cluster; `"auto"` asks it, once.
        on_error: `"miss"`, or `"raise"` to have errors of look-ups and stores raised.
        max_semantic_chars: Longer questions are found by their very words only.
        volatile: Patterns taken out of every text and context: what the app itself puts in
            that does not change the answer (today's date, a request id).
        features: Function from a question's text to strings that must be the same for two
            questions to meet, beside what the cache finds itself (numbers, dates, quotations,
            links, code, script). If it raises, the question is found by its very words only.
        guards: What is asked whether a stored question that is near enough is the same question:
            names of the cache's own guards (`"polarity"`, `"order"`, `"dates"`, `"units"`,
            `"names"`) and functions of the asked question and the stored one that return why
            they are not the same, or None. None for the first four; () for none.
        judge: Asked, after the guards, whether the stored answer does for the asked question: a
            function of the asked question, the stored one and the answer's text that returns
            True, False, or None if it cannot tell, sync or async; or one of
            `valkey_semcache.precision.judges`. Only True is a hit. At most three candidates are
            judged in one look-up.
        judge_below: Similarity from which on the judge is not asked; 1 asks about all, equal
            vectors too: models truncate, and take unknown words for one.
        judge_timeout: Seconds to wait for a verdict; what takes longer is a miss.
        policy: `Verified(max_error=0.01)` learns from the answers themselves how far down another
            wording may be served, and keeps the share of wrong answers within that bound. It goes
            below 0.9, but never below a `similarity_threshold` that is given. One for each cache.
        store_questions: False keeps the questions' texts out of Valkey; guards and a judge
            cannot be had then.
        promote: True remembers a wording that hit by meaning, so that it hits exactly, with
            no embedding, the next time.
        local: `LocalTier()` holds copies of what was served or stored in this process, for 30 s
            unless told otherwise; None holds none.
        refresh_after: Share of its life, such as 0.8, from which on an entry is renewed: it is
            still served, and one caller of all gets a miss, whose answer replaces it. None
            for no renewal.
        refresh: Function of the `Question` that asks the model anew, sync or async; with it
            nobody gets a miss, and the entry is renewed in the background.
        max_entries_per_namespace: Entries that one tenant may have, about; its oldest go first.
            None for any number.
        batch_window: Milliseconds for which the texts of concurrent async look-ups are gathered
            into one call of the embedding model; 0 for not.
        compress_over: Answers of more bytes are compressed (Zstandard) where that saves a tenth
            or more; None for no compression.
        max_answer_bytes: Answers of more bytes, as the codec writes them, are neither stored
            nor read.
        digest_key: Secret of 16 bytes or more that turns every digest into an HMAC, so that
            questions cannot be guessed from keys. All processes must share it.
        signing_key: Secret of 16 bytes or more, or several, newest first: the first signs. Only
            entries signed with one of them are read; who has none can make misses, or put back
            what was there and has not expired (an answer that was rejected, too), and no more.
            What is not signed is removed when it is met. Without a key nothing that is stored
            is executed or built, but who can write to Valkey can change answers.
        encryption_key: Likewise; question, answer, model and usage are encrypted (AES-GCM),
            and every digest becomes an HMAC (under the last one's, unless there is a
            digest_key). Vectors stay readable, and texts can be guessed from them in part;
            readable, too, are the embedding model's name, times, lengths, and which entries
            share a scope.
        flat_max_bytes: Memory in this process for the flat index's vectors.
        algorithm: Of valkey-search's index: `"flat"` compares with every vector of the scope,
            `"hnsw"` walks a graph and may miss some; `"auto"` uses the first, and adds the
            second for scopes that have outgrown it.
        m: Edges of a vector in the HNSW graph, 2 to 512; None for the server's default, 16.
        ef_construction: Vectors looked at when one is added to the graph, 1 to 4096; None
            for the server's default, 200.
        ef_runtime: Vectors looked at by a search of the graph, 1 to 4096; None for 256.
        initial_cap: Slots set aside when an index is created; None for the server's
            default, 10,240.
        on_event: Function told of each look-up, store, error and change of the circuit breaker,
            where it happens: see `valkey_semcache.telemetry.events`. What it raises is counted.
        telemetry: True sends spans and metrics to the app's OpenTelemetry, which needs the extra
            `otel`; `Telemetry(…)` says which, and whether with texts.
        fleet_stats: Whether this process adds its counts to those of all that use the cache, at
            most once a second, in a thread of its own; see `fleet_stats()`.

    Raises:
        ConfigurationError: An argument is out of range or of the wrong type, or no server
            is given. It is a `ValueError`.
        MissingPackageError: An option needs a package that is not installed.
        TypeError: There is no such option; it names the nearest one.
    """

    @told_by_name
    def __init__(
        self,
        embedding: Any,
        url: str | None = None,
        *,
        similarity_threshold: Threshold = UNSAID,
        ttl: TTL = 3600,
        name: str = "semcache",
        namespace: str = "",
        namespace_from: Callable[[], str | None] | None = None,
        client: Any = None,
        async_client: Any = None,
        index: Literal["auto", "search", "flat"] = "auto",
        embedding_id: str | None = None,
        codec: Codec | None = None,
        timeout: float = 0.5,
        connect_timeout: float = 1.0,
        embed_timeout: float | None = 5.0,
        cluster: bool | Literal["auto"] = "auto",
        on_error: Literal["miss", "raise"] = "miss",
        max_semantic_chars: int = 1000,
        volatile: Sequence[str | re.Pattern[str]] = (),
        features: Features | None = None,
        guards: Sequence[str | Guard] | None = None,
        judge: Judge | None = None,
        judge_below: float = 1.0,
        judge_timeout: float = 5.0,
        policy: verified.Verified | None = None,
        ttl_jitter: float = 0.0,
        sliding: bool = False,
        max_age: float | timedelta | None = 604800,
        models: Sequence[str] | None = None,
        should_cache: ShouldCache | None = None,
        should_store: ShouldStore | None = None,
        store_questions: bool = True,
        promote: bool = False,
        local: LocalTier | None = None,
        refresh_after: float | None = None,
        refresh: Refresh | None = None,
        max_entries_per_namespace: int | None = None,
        batch_window: float = 0.0,
        compress_over: int | None = 1024,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        digest_key: bytes | str | None = None,
        signing_key: bytes | str | Sequence[bytes | str] | None = None,
        encryption_key: bytes | str | Sequence[bytes | str] | None = None,
        flat_max_bytes: int = 256 * 2**20,
        algorithm: Literal["auto", "flat", "hnsw"] = "auto",
        m: int | None = None,
        ef_construction: int | None = None,
        ef_runtime: int | None = None,
        initial_cap: int | None = None,
        on_event: OnEvent | None = None,
        telemetry: bool | Telemetry | None = None,
        fleet_stats: bool = True,
    ) -> None:
        self._name = checked_name(name)
        self._namespace = checked_namespace(namespace)
        self._view: str | None = None  # the tenant of a view, and all that it may clear
        self.coalescer = Coalescer()
        self._tenants = Tenants(namespace_from)
        if policy is not None:
            policy = verified.checked_verified(policy, promote)
            if isinstance(similarity_threshold, Unsaid):
                similarity_threshold = learning.LOWEST
        self._thresholds = Thresholds(similarity_threshold)
        self._selection = Selection.of(models, should_cache, should_store)
        self._max_answer_bytes = checked_count(max_answer_bytes, "max_answer_bytes", 1)
        self._lifetimes = Lifetimes(
            lifetime_rule(ttl),
            checked_share(ttl_jitter, "ttl_jitter"),
            checked_flag(sliding, "sliding"),
            checked_ttl(max_age, "max_age"),
        )
        self._raises = checked_choice(on_error, "on_error", ("miss", "raise")) == "raise"
        self._codec: Codec = checked_codec(codec) or TextCodec()
        timeout = checked_seconds(timeout, "timeout")
        if embed_timeout is not None:
            embed_timeout = checked_seconds(embed_timeout, "embed_timeout")
        model = EmbeddingModel.of(embedding, embedding_id, embed_timeout)
        signing = checked_keys(signing_key, "signing_key")
        encryption = checked_keys(encryption_key, "encryption_key")
        key = checked_key(digest_key)
        if key is None and encryption:
            # Of the oldest, so that a new key in front of it does not hide what is stored.
            key = derived(encryption[-1], "digest")
        self._digests = Digests(key)
        graph = {"m": m, "ef_construction": ef_construction, "ef_runtime": ef_runtime}
        check_algorithm(index, algorithm, graph | {"initial_cap": initial_cap})
        settings = IndexSettings(
            wanted=checked_choice(index, "index", ("auto", "search", "flat")),
            name=self._name,
            embedding=self._digests("embedding", model.identity),
            model=model.identity,
            timeout=timeout,
            flat_max_bytes=checked_count(flat_max_bytes, "flat_max_bytes", 2**20),
            algorithm=checked_choice(algorithm, "algorithm", ("auto", "flat", "hnsw")),
            parameters=Parameters(
                m=checked_range(m, "m", 2, 512),
                ef_construction=checked_range(ef_construction, "ef_construction", 1, 4096),
                ef_runtime=checked_range(ef_runtime, "ef_runtime", 1, 4096),
                initial_cap=checked_range(initial_cap, "initial_cap", 1, 2**31 - 1),
            ),
            fields=SIGNED_FIELDS if signing else ENTRY_FIELDS,
        )
        self._embedding = settings.embedding
        self._addressing = Addressing(
            settings.prefix,
            self._digests,
            checked_count(max_semantic_chars, "max_semantic_chars", 0),
            checked_patterns(volatile),
            checked_features(features),
            self._features_failed,
        )
        self._counters = Counters()
        self._flows = Flows(
            settings,
            Notes(),
            self._counters,
            Policy(
                lifetimes=self._lifetimes,
                store_questions=checked_flag(store_questions, "store_questions"),
                guards=checked_guards(guards, store_questions),
                judge=checked_judge(
                    judge,
                    checked_threshold(judge_below, "judge_below"),
                    checked_seconds(judge_timeout, "judge_timeout"),
                    self._thresholds.plain,
                    store_questions,
                    self._judge_failed,
                ),
                verified=policy,
                promote=checked_flag(promote, "promote"),
                compress_over=checked_range(compress_over, "compress_over", 0, 2**30),
                max_answer_bytes=self._max_answer_bytes,
                refresh_after=checked_refresh(refresh_after, refresh),
                max_entries_per_namespace=checked_range(
                    max_entries_per_namespace, "max_entries_per_namespace", 1, 2**40
                ),
                local=checked_kind(local, "local", LocalTier),
                seal=Seal(signing, encryption) if signing or encryption else None,
            ),
        )
        self._background = None if refresh is None else Background(refresh, self._counters)
        self._server = Server(
            url,
            client,
            async_client,
            timeout,
            checked_seconds(connect_timeout, "connect_timeout"),
            checked_choice(cluster, "cluster", ("auto", True, False)),
            max_reply_bytes(self._max_answer_bytes),
        )
        self._drive, self._watch, self._reporter = watched(
            self._name,
            self._server,
            model,
            checked_window(batch_window, "batch_window") / 1000,
            self._counters,
            self._index_kind,
            self._hidden if encryption else str,
            on_event,
            telemetry,
            fleet_stats,
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name={self._name!r}, namespace={self._namespace!r}, "
            f"server={self._server.where!r}, similarity_threshold={self._thresholds})"
        )

    @property
    def name(self) -> str:
        """The cache's name, which begins its keys."""
        return self._name

    @property
    def default_namespace(self) -> str:
        """The tenant of questions for which none is named."""
        return self._namespace

    def namespace(self, namespace: str) -> AbstractContextManager[None]:
        """Name the tenant for a block: `with cache.namespace("acme"): …`.

        It holds for what is called inside: for this cache and its views, in tasks, and in
        threads that are given a copy of the context (`asyncio.to_thread`, LangChain's `batch`).
        A bare `threading.Thread` or `ThreadPoolExecutor` starts outside of every block. To be
        safe from that, `namespace_from=lambda: None` caches nothing outside of blocks.

        Who names the tenant: a `Question` that has one has the last word. Else the innermost
        block, or `namespace_from=` where there is no block, which a view made by
        `with_namespace` must agree with: a view asked for another tenant's request does not
        cache it. `namespace=` of the constructor is for what nobody names a tenant for.

        Args:
            namespace: The tenant.

        Raises:
            ConfigurationError: It is no string.
        """
        return self._tenants.block(namespace)

    def with_namespace(self, namespace: str) -> Self:
        """The same cache for one tenant: same server, index and counters."""
        view = copy.copy(self)
        view._namespace = checked_namespace(namespace)
        view._view = view._namespace
        return view

    def __deepcopy__(self, memo: object) -> Self:
        """A cache is shared, not copied: connections and counters have no second self."""
        return self

    def stats(self) -> Stats:
        """What this cache has done in this process."""
        return self._counters.snapshot(self._server.breaker.state, self._flows.index)

    def close(self) -> None:
        """Close the sync connections that were opened here. The cache can be used again."""
        if self._reporter is not None:
            self._reporter.flush()
        self._server.close()

    async def aclose(self) -> None:
        """Close this event loop's connections, and the sync ones."""
        if self._reporter is not None and self._reporter.behind:
            await asyncio.to_thread(self._reporter.flush)
        await self._server.aclose()

    def _hidden(self, model: str) -> str:
        """A model's name where models are encrypted: the same in all processes with the key."""
        return self._digests("model", model)[:12]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
