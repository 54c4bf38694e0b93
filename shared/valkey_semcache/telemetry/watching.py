"""Puts together who watches a cache, from its options.

Rule of this file: where nobody watches there is no `Watch`, and the cache's drive is the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from valkey_semcache.drive import Drive
from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.options import checked_flag, checked_listener
from valkey_semcache.server import Server
from valkey_semcache.stats import Counters
from valkey_semcache.telemetry.events import OnEvent
from valkey_semcache.telemetry.otel import Telemetry, instruments_for
from valkey_semcache.telemetry.reporter import Reporter
from valkey_semcache.telemetry.timing import TimedDrive
from valkey_semcache.telemetry.watch import Watch


def watched(
    name: str,
    server: Server,
    model: EmbeddingModel,
    window: float,
    counters: Counters,
    index: Callable[[], str | None],
    model_name: Callable[[str], str],
    on_event: OnEvent | None,
    telemetry: bool | Telemetry | None,
    fleet_stats: bool,
) -> tuple[Drive, Watch | None, Reporter | None]:
    """A cache's drive, who watches it, and who tells the fleet.

    Args:
        name: The cache's name.
        server: For the drive.
        model: For the drive.
        window: For the drive: seconds for which texts are gathered.
        counters: What is counted.
        index: Gives the kind of index in use.
        model_name: How a model is called in Valkey.
        on_event: The option of this name.
        telemetry: Likewise.
        fleet_stats: Likewise.

    Raises:
        ConfigurationError: One of the options is not allowed.
        MissingPackageError: `telemetry` needs a package that is not installed.
    """
    on_event = checked_listener(on_event)
    instruments = instruments_for(telemetry, lambda: server.breaker.state, name)
    if not checked_flag(fleet_stats, "fleet_stats") and on_event is None and instruments is None:
        return Drive(server, model, window), None, None
    reporter = None
    if fleet_stats:
        figures = partial(counters.figures, model_name)
        reporter = Reporter(name, counters, Drive(server, model), figures)
    watch = Watch(name, counters, server.breaker, index, on_event, instruments, reporter)
    return TimedDrive(server, model, window), watch, reporter
