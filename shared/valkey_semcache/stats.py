"""What a cache has done in this process, in numbers.

Rule of this file: counting and showing. Counters are cheap, exact and thread-safe.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal

from valkey_semcache.index.contract import VectorIndex
from valkey_semcache.locks import ForkLock
from valkey_semcache.origin import origin
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.precision.judging import at_work
from valkey_semcache.prices import priced
from valkey_semcache.shown import Shown
from valkey_semcache.telemetry.histogram import bucket, quantile, shown, together

logger = logging.getLogger("valkey_semcache")

_QUIET_SECONDS = 60.0
_MODELS = 200  # names that look-ups are counted by
_OTHERS = "(others)"
_TAKEN = 1000  # look-ups put down before they are added up


@dataclass(frozen=True, slots=True)
class Stats(Shown):
    """A snapshot, since the cache was made. Printable, and a table in Jupyter.

    Args:
        hits: By tier.
        misses: By reason.
        stored: Answers written.
        not_stored: Answers not written, by reason.
        errors: By kind of error; each was a miss or an answer not stored.
        embeddings: Texts embedded.
        evicted: Entries removed because their tenant had too many.
        coalesced: Calls that another one's answer was shared with, in `get_or_call` or where
            the cache did not have it.
        judged: Candidates that the judge was asked about, by what it said.
        compared: With `policy=`, fresh answers that were compared with what would have been served:
            `same`, `other`, or `unknown`; `rejected` ones; and `unreadable` labels of others.
        renewed: Entries renewed in place, before they expired.
        saved_tokens: Tokens of the answers served instead of asked for, by name.
        saved_by_model: The same, by model.
        hits_by_model: Of how many answers these tokens are, by model.
        breaker: State of the circuit breaker: closed, open or half-open.
        index: The index in use, or None before the first use of one.
        searches: Searches by meaning, by what served them: valkey-search's `FLAT` or `HNSW`
            index, or this process (`client`).
        generation: Of the HNSW index in use; 0 while none is needed.
        outgrown: Scopes that the HNSW index serves to this process.
        answer_bytes: Of the answers stored: `in` as the codec wrote them, `stored` with their
            envelopes, compressed where that helped.
        seconds: How long look-ups took: for each tier and `miss`, how many fell into each bucket
            of `telemetry.histogram`; see `quantile`. Empty with `fleet_stats=False` where nobody
            else listens; batches are not among them.
        lookups_by_model: By model: hits by tier, and `miss`; likewise.
    """

    hits: Mapping[str, int]
    misses: Mapping[str, int]
    stored: int
    not_stored: Mapping[str, int]
    errors: Mapping[str, int]
    embeddings: int
    saved_tokens: Mapping[str, int]
    breaker: str
    index: str | None
    searches: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    outgrown: int = 0
    answer_bytes: Mapping[str, int] = field(default_factory=dict)
    judged: Mapping[str, int] = field(default_factory=dict)
    compared: Mapping[str, int] = field(default_factory=dict)
    renewed: int = 0
    coalesced: int = 0
    evicted: int = 0
    saved_by_model: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    hits_by_model: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    lookups_by_model: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def lookups(self) -> int:
        """Look-ups in all."""
        return sum(self.hits.values()) + sum(self.misses.values())

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that hit, 0 to 1; 0 before the first."""
        return sum(self.hits.values()) / self.lookups if self.lookups else 0.0

    @property
    def saved_usd(self) -> dict[str, Decimal]:
        """US dollars that the saved tokens would have cost, about, by model.

        By the prices that come with the package `genai-prices` (extra `prices`), without asking
        anybody; empty without it. Models that it does not know are left out.
        """
        return priced(self.saved_by_model, self.hits_by_model)

    def quantile(self, share: float, *kinds: str) -> float | None:
        """Seconds within which a share of the look-ups came to an end, to a tenth.

        Args:
            share: Such as 0.95.
            kinds: Tiers, and `miss`; none for all look-ups.

        Returns:
            Seconds; None if the time was never taken.
        """
        return quantile(together(self.seconds, kinds), share)

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("look-ups", str(self.lookups)),
            ("hit rate", f"{self.hit_rate:.1%}"),
            ("p50, p95", f"{shown(self.quantile(0.5))}, {shown(self.quantile(0.95))}"),
            ("hits", listed(self.hits)),
            ("misses", listed(self.misses)),
            ("stored", str(self.stored)),
            ("renewed", str(self.renewed)),
            ("coalesced", str(self.coalesced)),
            ("evicted", str(self.evicted)),
            ("answer bytes", listed(self.answer_bytes)),
            ("not stored", listed(self.not_stored)),
            ("errors", listed(self.errors)),
            ("embeddings", str(self.embeddings)),
            *([("judged", listed(self.judged))] if self.judged else []),
            *([("compared", listed(self.compared))] if self.compared else []),
            ("saved tokens", listed(self.saved_tokens)),
            *(("saved USD", f"{usd:.4f} {model}") for model, usd in self.saved_usd.items()),
            ("breaker", self.breaker),
            ("index", self._index()),
            ("searches", listed(self.searches)),
        ]

    def _index(self) -> str:
        if self.index is None:
            return "not used yet"
        if not self.generation:
            return self.index
        scopes = "1 scope" if self.outgrown == 1 else f"{self.outgrown} scopes"
        return f"{self.index}; HNSW generation {self.generation} serves {scopes}"


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name in a line."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "0"


class Counters:
    """Counts what happens, and warns of what goes wrong, each kind once a minute."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._counts: dict[str, Counter[str]] = {
            name: Counter()
            for name in (
                *("hits", "misses", "stored", "not_stored", "errors", "embeddings", "priced"),
                *("searches", "bytes", "renewed", "coalesced", "evicted", "judged"),
                *("compared", "opened"),
            )
        }
        self._saved: dict[str, Counter[str]] = {}  # by model
        self._looked_up: dict[str, Counter[str]] = {}  # by model
        self._seconds: dict[str, Counter[int]] = {}  # by tier, and "miss"
        self._taken: deque[tuple[str, str, float | None]] = deque()
        self._hits: deque[tuple[str, str, tuple[tuple[str, int], ...]]] = deque()
        self.on_failure: Callable[[str, BaseException], None] | None = None
        self._warned: dict[str, float] = {}

    def seen(self, outcome: Hit | Miss) -> None:
        """A look-up came to an end."""
        if isinstance(outcome, Hit):
            # Put down here, which takes no lock, and added up when somebody looks.
            self._hits.append((outcome.tier, outcome.model, tuple(outcome.usage.items())))
            if len(self._hits) > _TAKEN:
                with self._lock:
                    self._add_up()
        elif not at_work.get():  # what a judge asks is no look-up of the app's
            self.count("misses", outcome.reason)

    def count(self, what: str, kind: str = "", number: int = 1) -> None:
        """Add to a counter of `Stats`."""
        with self._lock:
            self._counts[what][kind] += number

    def wrote(self, content: int, stored: int) -> None:
        """An answer was stored: bytes as the codec wrote it, and with its envelope."""
        with self._lock:
            counts = self._counts["bytes"]
            counts["in"] += content
            counts["stored"] += stored

    def timed(self, model: str, kind: str, seconds: float | None) -> None:
        """A look-up for a model ended as `kind`, a tier or "miss", after so many seconds."""
        # Put down, as hits are.
        self._taken.append((model, kind, seconds))
        if len(self._taken) > _TAKEN:
            with self._lock:
                self._add_up()

    def _add_up(self) -> None:
        """Add up what look-ups have put down. The lock is held."""
        while self._hits:
            tier, model, usage = self._hits.popleft()
            self._counts["hits"][tier] += 1
            if usage:
                saved = self._saved.setdefault(model, Counter())
                for name, tokens in usage:
                    saved[name] += tokens
                self._counts["priced"][model] += 1
        while self._taken:
            model, kind, seconds = self._taken.popleft()
            counter = self._looked_up.get(model)
            if counter is None:
                # Models are few; names that are made up for each call are not kept apart.
                name = model if len(self._looked_up) < _MODELS else _OTHERS
                counter = self._looked_up.setdefault(name, Counter())
            counter[kind] += 1
            if seconds is not None:
                self._seconds.setdefault(kind, Counter())[bucket(seconds)] += 1

    def failed(self, doing: str, error: BaseException, *, raised: bool = False) -> None:
        """Something went wrong while `doing`; the app goes on without the cache.

        Args:
            doing: What, in words.
            error: What was raised.
            raised: Whether the app is given the error itself; then it is counted, not logged.
        """
        kind = type(error).__name__
        self.count("errors", kind)
        if self.on_failure is not None:
            self.on_failure(doing, error)
        if raised:
            return
        self.warn(
            kind,
            "The semantic cache failed in %s and the call goes on without it: %s: %s",
            *(doing, kind, error),
            cause=error,
        )

    def warn(
        self, kind: str, message: str, *arguments: object, cause: BaseException | None = None
    ) -> None:
        """Log a warning unless one of this kind was logged within the last minute.

        Args:
            kind: Of which there is one a minute.
            message: With a `%s` for each argument.
            arguments: What stands in it.
            cause: What was raised. Where it came from is logged each time, at DEBUG: the
                traceback without the messages (see `origin`), which may hold prompts and keys.
        """
        if cause is not None:
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("Where the semantic cache failed:\n%s", origin(cause))
            message += " (At DEBUG this logger shows the traceback.)"
        now = time.monotonic()
        with self._lock:
            if now - self._warned.get(kind, -_QUIET_SECONDS) < _QUIET_SECONDS:
                return
            self._warned[kind] = now
        logger.warning(message, *arguments)

    def figures(self, model_name: Callable[[str], str], locked: bool = True) -> dict[str, int]:
        """All that is counted, as one flat table: `WHAT|KIND`, and `WHAT|KIND|MODEL`.

        Args:
            model_name: How a model is called there.
            locked: False in a child just forked, where another thread's lock never comes free.
        """
        with self._lock if locked else nullcontext():
            self._add_up()
            flat = {
                f"{what}|{model_name(kind) if what == 'priced' else kind}": number
                for what, counter in self._counts.items()
                for kind, number in counter.items()
            }
            for what, by_model in (("saved", self._saved), ("model", self._looked_up)):
                for model, counter in by_model.items():
                    name = model_name(model)
                    for kind, number in counter.items():
                        flat[f"{what}|{kind.replace('|', '/')}|{name}"] = number
            for kind, buckets in self._seconds.items():
                for which, number in buckets.items():
                    flat[f"seconds|{kind}|{which}"] = number
        return flat

    def snapshot(self, breaker: str, index: VectorIndex | None) -> Stats:
        """The numbers as of now."""
        with self._lock:
            self._add_up()
            counts = {name: dict(counter) for name, counter in self._counts.items()}
            saved = {model: Counter(tokens) for model, tokens in self._saved.items()}
            looked_up = {model: dict(counter) for model, counter in self._looked_up.items()}
            seconds = {kind: dict(counter) for kind, counter in self._seconds.items()}
        return Stats(
            seconds=seconds,
            lookups_by_model=looked_up,
            hits=counts["hits"],
            misses=counts["misses"],
            stored=sum(counts["stored"].values()),
            not_stored=counts["not_stored"],
            errors=counts["errors"],
            embeddings=sum(counts["embeddings"].values()),
            saved_tokens=dict(sum(saved.values(), Counter())),
            saved_by_model=saved,
            hits_by_model=counts["priced"],
            breaker=breaker,
            index=index.kind if index else None,
            searches=counts["searches"],
            generation=index.generation if index else 0,
            outgrown=index.outgrown if index else 0,
            answer_bytes=counts["bytes"],
            judged=counts["judged"],
            compared=counts["compared"],
            renewed=sum(counts["renewed"].values()),
            coalesced=sum(counts["coalesced"].values()),
            evicted=sum(counts["evicted"].values()),
        )
