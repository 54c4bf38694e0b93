"""The methods that look at what all processes have done.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from valkey_semcache.flow.operations import Flow
from valkey_semcache.methods.core import Core
from valkey_semcache.options import checked_range
from valkey_semcache.telemetry.fleet import KEPT_MINUTES, FleetStats, read_figures


class Fleet(Core):
    """Reads the fleet's figures."""

    def fleet_stats(self, *, minutes: int | None = None) -> FleetStats:
        """What all processes that use a cache of this name have done, as far as they have told.

        Each tells at most once a second, and what is left when it is closed or ends. A process
        that is killed takes its last second with it, and what had to be written twice because
        an answer of Valkey was lost may count twice.

        Args:
            minutes: Of the last so many, this one included, 1 to 120; None for all.

        Raises:
            ConfigurationError: `minutes` is out of range.
            ServerError: Valkey could not be reached or refused.
        """
        return self._drive.run(self._fleet_stats(minutes))

    async def afleet_stats(self, *, minutes: int | None = None) -> FleetStats:
        """The same as `fleet_stats`, without blocking the event loop."""
        return await self._drive.arun(self._fleet_stats(minutes))

    def _fleet_stats(self, minutes: int | None) -> Flow[FleetStats]:
        return read_figures(self._name, checked_range(minutes, "minutes", 1, KEPT_MINUTES))
