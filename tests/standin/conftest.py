"""Servers for the stand-in's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standin import StandIn
from tests.standin.client import RawClient
from tests.standin.release import RELEASES, ReleaseName


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[dict[str, StandIn]]:
    """One of each release. Tests flush them; those that kill start their own."""
    running = {name: StandIn(name).start() for name in ("1.0.2", "1.2.1")}
    yield running
    for stand_in in running.values():
        stand_in.stop()


@pytest.fixture(params=sorted(RELEASES))
def stand_in(request: pytest.FixtureRequest, stand_ins: dict[str, StandIn]) -> StandIn:
    """An empty stand-in, of each release in turn."""
    release: ReleaseName = request.param
    chosen = stand_ins[release]
    with RawClient(chosen.port) as client:
        client("FLUSHALL")
    chosen.clear_faults()
    chosen.backfill_delay = 0
    return chosen


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request: pytest.FixtureRequest, stand_in: StandIn) -> Iterator[RawClient]:
    """A raw connection to `stand_in`, in each protocol in turn."""
    with RawClient(stand_in.port, request.param) as made:
        yield made
