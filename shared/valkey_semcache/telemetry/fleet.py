"""The figures of all processes that use a cache, kept in Valkey.

Rule of this file: what is written, and what is read of it. A process adds what it has counted since
it last did; only sums are kept, for each minute and in all, and nobody's question is among them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from valkey_semcache.errors import ServerReplyError
from valkey_semcache.flow.operations import Argument, Command, Flow, Pipeline, Script, Source
from valkey_semcache.prices import priced
from valkey_semcache.shown import Shown
from valkey_semcache.stats import listed
from valkey_semcache.telemetry.histogram import quantile, shown, together

KEPT_MINUTES = 120
"""Minutes whose figures are kept by themselves, and not only in all."""

_KEPT_DAYS = 90  # the sums in all, after the last write
_ACTIVE = 2  # minutes; who wrote within these counts as a process at work

# KEYS: the hash. ARGV: its life in milliseconds, now in seconds, then fields and what to add.
ADD = Source(
    """
redis.call('HSETNX', KEYS[1], 'since', ARGV[2])
for i = 3, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)


@dataclass(frozen=True, slots=True)
class FleetStats(Shown):
    """What all processes together have done. Printable, and a table in Jupyter.

    Args:
        minutes: Of how many minutes, up to now; None for all since `since`.
        since: When counting began, seconds since 1970; None if nothing was ever counted.
        processes: Processes that looked up or stored within the last two minutes.
        hits: By tier.
        misses: By reason.
        lookups_by_model: By model: hits by tier, and `miss`. Only look-ups that were made.
        stored: Answers written.
        not_stored: Answers not written, by reason.
        errors: By kind.
        embeddings: Texts embedded.
        breaker_opened: How often a process's circuit breaker opened.
        saved_by_model: The same, by model.
        hits_by_model: Of how many answers these tokens are, by model.
        seconds: Look-ups by how long they took: for each tier and `miss`, how many fell into
            each bucket of `telemetry.histogram`. Batches are not among them.
        counts: Everything that is counted, by name and kind.
    """

    minutes: int | None
    since: float | None
    processes: int
    hits: Mapping[str, int]
    misses: Mapping[str, int]
    lookups_by_model: Mapping[str, Mapping[str, int]]
    stored: int
    not_stored: Mapping[str, int]
    errors: Mapping[str, int]
    embeddings: int
    breaker_opened: int
    saved_by_model: Mapping[str, Mapping[str, int]]
    hits_by_model: Mapping[str, int]
    seconds: Mapping[str, Mapping[int, int]]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)

    @property
    def lookups(self) -> int:
        """Look-ups in all."""
        return sum(self.hits.values()) + sum(self.misses.values())

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that hit, 0 to 1; 0 before the first."""
        return sum(self.hits.values()) / self.lookups if self.lookups else 0.0

    @property
    def saved_tokens(self) -> dict[str, int]:
        """Tokens saved, by name, of all models."""
        return dict(sum((Counter(t) for t in self.saved_by_model.values()), Counter()))

    @property
    def saved_usd(self) -> dict[str, Decimal]:
        """US dollars that they would have cost, about, by model; see `Stats.saved_usd`."""
        return priced(self.saved_by_model, self.hits_by_model)

    def quantile(self, share: float, *kinds: str) -> float | None:
        """Seconds within which a share of the look-ups came to an end, to a tenth.

        Args:
            share: Such as 0.95.
            kinds: Tiers, and `miss`; none for all look-ups.

        Returns:
            Seconds; None if there was none.
        """
        return quantile(together(self.seconds, kinds), share)

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("of", "all" if self.minutes is None else f"the last {self.minutes} min"),
            ("look-ups", f"{self.lookups:,}"),
            ("hit rate", f"{self.hit_rate:.1%}"),
            ("hits", listed(self.hits)),
            ("misses", listed(self.misses)),
            ("p50, p95", f"{shown(self.quantile(0.5))}, {shown(self.quantile(0.95))}"),
            ("stored", f"{self.stored:,}"),
            ("errors", listed(self.errors)),
            ("saved tokens", listed(self.saved_tokens)),
            *(("saved USD", f"{usd:.4f} {model}") for model, usd in self.saved_usd.items()),
            ("breaker opened", str(self.breaker_opened)),
            ("processes", str(self.processes)),
        ]


def add_figures(name: str, process: str, figures: Mapping[str, int]) -> Flow[None]:
    """Add to the sums of this minute and to those in all: one round trip.

    Args:
        name: The cache's name.
        process: What this process is counted by.
        figures: What to add, by field.

    Raises:
        ServerReplyError: The server refused.
    """
    now = int(time.time())
    added: list[Argument] = [now]
    for what, number in figures.items():
        added += (what, number)
    day = 86_400_000
    commands = [
        Script(ADD, _total(name), _KEPT_DAYS * day, *added),
        Script(ADD, _minute(name, now // 60), KEPT_MINUTES * 60_000, *added, f"at|{process}", 1),
    ]
    replies: list[Any] = yield Pipeline(commands)
    # Once the sums in all have it, it is told: it must not be added again.
    if isinstance(replies[0], ServerReplyError):
        raise replies[0]


def read_figures(name: str, minutes: int | None) -> Flow[FleetStats]:
    """The fleet's figures.

    Args:
        name: The cache's name.
        minutes: Of the last so many; None for all.

    Raises:
        ServerReplyError: The server refused.
    """
    now = int(time.time()) // 60
    wanted = _ACTIVE if minutes is None else max(minutes, _ACTIVE)
    keys = [_total(name), *(_minute(name, now - ago) for ago in range(wanted))]
    replies: list[Any] = yield Pipeline([Command("HGETALL", key) for key in keys])
    hashes = [_fields(reply) for reply in replies]
    total, recent = hashes[0], hashes[1:]
    processes = {f for fields in recent[:_ACTIVE] for f in fields if f.startswith("at|")}
    since = float(total["since"]) if "since" in total else None
    summed = _summed([total] if minutes is None else recent[:minutes])
    by_model = _by_model(summed.get("model", {}))
    return FleetStats(
        minutes=minutes,
        since=since,
        processes=len(processes),
        hits=summed.get("hits", {}),
        misses=summed.get("misses", {}),
        lookups_by_model=by_model,
        stored=sum(summed.get("stored", {}).values()),
        not_stored=summed.get("not_stored", {}),
        errors=summed.get("errors", {}),
        embeddings=sum(summed.get("embeddings", {}).values()),
        breaker_opened=sum(summed.get("opened", {}).values()),
        saved_by_model=_by_model(summed.get("saved", {})),
        hits_by_model=summed.get("priced", {}),
        seconds={
            kind: {int(b): n for b, n in buckets.items() if b.isdigit()}
            for kind, buckets in _by_model(summed.get("seconds", {}), last=True).items()
        },
        counts=summed,
    )


def _total(name: str) -> str:
    return f"{name}:stats:total"


def _minute(name: str, minute: int) -> str:
    return f"{name}:stats:{minute}"


def _fields(reply: Any) -> dict[str, str]:
    """A hash's fields, whatever the client makes of them."""
    if isinstance(reply, ServerReplyError):
        raise reply
    if not isinstance(reply, Mapping):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _summed(hashes: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """The sums by what is counted, and then by its kind."""
    sums: dict[str, Counter[str]] = {}
    for fields in hashes:
        for name, value in fields.items():
            what, bar, kind = name.partition("|")
            if bar and what != "at":
                sums.setdefault(what, Counter())[kind] += int(value)
    return {what: dict(counter) for what, counter in sums.items()}


def _by_model(counts: Mapping[str, int], *, last: bool = False) -> dict[str, dict[str, int]]:
    """Counts of `KIND|MODEL` by model and kind; with `last`, of `MODEL|KIND`."""
    found: dict[str, dict[str, int]] = {}
    for name, number in counts.items():
        kind, _, model = name.partition("|")
        if last:
            kind, model = model, kind
        found.setdefault(model, {})[kind] = number
    return found
