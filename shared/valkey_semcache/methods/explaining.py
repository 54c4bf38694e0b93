"""Explaining look-ups.

Rule of this file: nothing is counted, stored, extended or renewed by who only asks why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.background import Background
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.flow.operations import Flow
from valkey_semcache.methods.core import Core
from valkey_semcache.options import checked_flag, checked_range, checked_threshold
from valkey_semcache.outcome import Miss
from valkey_semcache.precision.judging import at_work
from valkey_semcache.question import Question
from valkey_semcache.stored.codec import Codec

if TYPE_CHECKING:
    from valkey_semcache import explanation
    from valkey_semcache.flow import explaining
else:
    explanation = at_first_use("valkey_semcache.explanation")
    explaining = at_first_use("valkey_semcache.flow.explaining")


class Explaining(Core):
    """The answer to "why did this hit?" and "why did this miss?"."""

    _background: Background | None

    def explain(
        self,
        question: Question | str,
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
        neighbours: int = 5,
        other_tenants: bool = False,
    ) -> explanation.Explanation:
        """What `lookup` would do with a question here and now, and why; nothing is changed by it.

        It takes longer than a look-up: other scopes are searched too, to say what keeps their
        questions away. A judge is asked as the look-up would ask it.

        Args:
            question: What is asked; a string is a question without context.
            codec: Reads the answer, instead of the cache's own.
            similarity_threshold: Instead of the cache's own, 0 to 1.
            neighbours: How many stored questions to show of the question's own scope, and of
                others, 0 to 50.
            other_tenants: True shows those of other tenants as well. **Danger**: for operators
                only.

        Returns:
            The explanation: `print` it, or leave it to Jupyter.

        Raises:
            ConfigurationError: An argument is out of range.
        """
        wanted = self._wanted(question, codec, similarity_threshold, neighbours, other_tenants)
        if isinstance(wanted, explanation.Explanation):
            return wanted
        return self._as_served(self._drive.run(self._explained(wanted)))

    async def aexplain(
        self,
        question: Question | str,
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
        neighbours: int = 5,
        other_tenants: bool = False,
    ) -> explanation.Explanation:
        """The same as `explain`, without blocking the event loop."""
        wanted = self._wanted(question, codec, similarity_threshold, neighbours, other_tenants)
        if isinstance(wanted, explanation.Explanation):
            return wanted
        return self._as_served(await self._drive.arun(self._explained(wanted)))

    def unexplained(self, detail: str, text: str = "") -> explanation.Explanation:
        """Of a request that is not looked up at all.

        Args:
            detail: Why not.
            text: What was asked, as far as it is known.
        """
        miss = Miss("not_cacheable", detail)
        threshold = self._thresholds.plain
        return explanation.Explanation(miss, text, False, "", self.embedding_id, threshold, None)

    def _wanted(
        self,
        question: Question | str,
        codec: Codec | None,
        threshold: float | None,
        neighbours: int,
        other_tenants: bool,
    ) -> explaining.Wanted | explanation.Explanation:
        try:
            asked = self.settled(question)
        except UnknownTenantError as error:
            return self.unexplained(str(error), getattr(question, "text", str(question)))
        if checked_range(neighbours, "neighbours", 0, 50) is None:
            neighbours = 5
        checked_flag(other_tenants, "other_tenants")
        given = None if threshold is None else checked_threshold(threshold)
        try:
            refusal = self._selection.refusal(asked)
            if refusal is None and at_work.get():
                refusal = "a judge asks: it is not answered from a cache"
            if refusal is not None:
                return self.unexplained(refusal, asked.text)
            threshold = self._thresholds.of(asked) if given is None else given
        except Exception as error:  # noqa: BLE001 - what a look-up makes of it
            miss = Miss("error", f"{type(error).__name__}: {error}")
            return replace(self.unexplained("", asked.text), outcome=miss)
        codec = codec or self._codec
        return explaining.Wanted(
            asked, codec, threshold, self.embedding_id, neighbours, other_tenants
        )

    def _explained(self, wanted: explaining.Wanted) -> Flow[explanation.Explanation]:
        return explaining.explained(self._flows, self._addressing, wanted)

    def _as_served(self, found: explanation.Explanation) -> explanation.Explanation:
        """With `refresh=`, the old answer is served while a new one is asked for."""
        outcome = found.outcome
        if self._background is None or not isinstance(outcome, Miss) or outcome.stale is None:
            return found
        note = "The entry is due: it would be renewed in the background."
        return replace(found, outcome=outcome.stale, remarks=(*found.remarks, note))
