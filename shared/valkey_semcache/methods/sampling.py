"""Drawing near pairs of stored questions, for a person to label.

Rule of this file: whoever asks must know that it did not happen, so it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.operations import Flow
from valkey_semcache.methods.core import Core
from valkey_semcache.options import checked_count, checked_namespace, checked_threshold

if TYPE_CHECKING:
    from valkey_semcache.flow import sampling
else:
    sampling = at_first_use("valkey_semcache.flow.sampling")


class DrawingPairs(Core):
    """Pairs to find a threshold with."""

    def near_pairs(
        self,
        *,
        count: int = 50,
        around: float | None = None,
        width: float = 0.1,
        entries: int = 500,
        namespace: str | None = None,
        seed: int | None = None,
    ) -> sampling.Sampled:
        """Pairs of stored questions that lie near each other, about the threshold.

        Of pairs above the threshold there are few: a question that hits is not stored. Those
        that are there were kept apart by a guard, a judge, a higher threshold, or a rejection.

        Args:
            count: Pairs at most.
            around: The similarity about which pairs are drawn; None for the cache's threshold.
            width: How far from it they may lie.
            entries: Stored questions that are looked at, drawn at random; the neighbours of each
                are searched.
            namespace: The only tenant whose questions are drawn; None for all, or a view's own.
            seed: Of the random numbers; None for others each time.

        Raises:
            ConfigurationError: An argument is out of range, or questions' texts are not kept.
            ServerError: Valkey could not be reached or refused.
        """
        wanted = self._sampling(count, around, width, entries, namespace, seed)
        return _told(self._drive.run(self._near_pairs(wanted)))

    async def anear_pairs(
        self,
        *,
        count: int = 50,
        around: float | None = None,
        width: float = 0.1,
        entries: int = 500,
        namespace: str | None = None,
        seed: int | None = None,
    ) -> sampling.Sampled:
        """The same as `near_pairs`, without blocking the event loop."""
        wanted = self._sampling(count, around, width, entries, namespace, seed)
        return _told(await self._drive.arun(self._near_pairs(wanted)))

    def _sampling(
        self,
        count: int,
        around: float | None,
        width: float,
        entries: int,
        namespace: str | None,
        seed: int | None,
    ) -> sampling.Sampling:
        if around is None:
            around = self._thresholds.shown(self._namespace)
            if around is None:
                raise ConfigurationError(
                    "The cache's threshold depends on the question: say around which similarity "
                    "pairs are to be drawn, such as around=0.9."
                )
        around = checked_threshold(around, "around")
        width = checked_threshold(width, "width")
        tenant = self._view if namespace is None else checked_namespace(namespace)
        if self._view is not None and tenant != self._view:
            raise ConfigurationError(
                f"namespace={namespace!r} is another tenant's than this view's."
            )
        return sampling.Sampling(
            count=checked_count(count, "count", 1),
            low=max(-1.0, around - width),
            high=min(1.0, around + width),
            entries=checked_count(entries, "entries", 2),
            namespace=None if tenant is None else self._digests("namespace", tenant),
            seed=seed,
        )

    def _near_pairs(self, wanted: sampling.Sampling) -> Flow[sampling.Sampled]:
        return sampling.near_pairs(self._flows, self._name, self._embedding, wanted)


def _told(sampled: sampling.Sampled) -> sampling.Sampled:
    if sampled.entries and sampled.unkept == sampled.entries:
        raise ConfigurationError(
            f"None of the {sampled.entries} stored questions that were looked at has kept its "
            "text (store_questions=False), so there is nothing to label."
        )
    return sampled
