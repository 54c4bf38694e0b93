"""Looking up and storing, one question at a time.

Rule of this file: a look-up that fails is a miss, a store that fails stores nothing; both are
counted, and neither raises, unless the app wants it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from valkey_semcache.background import Background
from valkey_semcache.methods.core import Core
from valkey_semcache.options import TTL, UNSET, Unset
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.question import Question
from valkey_semcache.stored.codec import Codec


class Asking(Core):
    """Look-ups and stores."""

    _background: Background | None

    def lookup(
        self,
        question: Question | str,
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
    ) -> Hit | Miss:
        """Look for an answer: by the very words, then by meaning.

        Args:
            question: What is asked; a string is a question without context.
            codec: Reads the answer, instead of the cache's own.
            similarity_threshold: Instead of the cache's own, 0 to 1.

        Returns:
            A `Hit`, true in a condition, or a `Miss`, false, which says why.
        """
        if self._watch is not None:
            return self._watch.lookup(self._look, question, codec, similarity_threshold)
        return self._look(question, codec, similarity_threshold)

    def _look(
        self, question: Question | str, codec: Codec | None, similarity_threshold: float | None
    ) -> Hit | Miss:
        flow = self._lookup(question, codec, similarity_threshold)
        try:
            outcome = self._drive.run(flow)
            if self._background is not None and isinstance(outcome, Miss):
                outcome = self._renewed(self._background, outcome, question, codec)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            outcome = self._missed(error)
        self._counters.seen(outcome)
        return outcome

    async def alookup(
        self,
        question: Question | str,
        *,
        codec: Codec | None = None,
        similarity_threshold: float | None = None,
    ) -> Hit | Miss:
        """The same as `lookup`, without blocking the event loop."""
        if self._watch is not None:
            return await self._watch.alookup(self._alook, question, codec, similarity_threshold)
        return await self._alook(question, codec, similarity_threshold)

    async def _alook(
        self, question: Question | str, codec: Codec | None, similarity_threshold: float | None
    ) -> Hit | Miss:
        flow = self._lookup(question, codec, similarity_threshold)
        try:
            outcome = await self._drive.arun(flow)
            if self._background is not None and isinstance(outcome, Miss):
                outcome = self._renewed(self._background, outcome, question, codec, in_loop=True)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            outcome = self._missed(error)
        self._counters.seen(outcome)
        return outcome

    def store(
        self,
        question: Question | str,
        answer: Any,
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
        usage: Mapping[str, int] | None = None,
        exact_only: bool = False,
    ) -> bool:
        """Keep an answer. One stored for the same words before is replaced.

        Args:
            question: What was asked; a string is a question without context.
            answer: The answer, as the codec takes it.
            codec: Writes the answer, instead of the cache's own.
            ttl: Instead of the cache's own, in any of its forms; None for ever.
            usage: Tokens that the answer cost, by name, given back with each hit.
            exact_only: Whether only the very same words may find it.

        Returns:
            Whether it was stored.
        """
        what = (answer, codec, ttl, usage, exact_only)
        if self._watch is not None:
            return self._watch.store(self._keep, question, *what)
        return self._keep(question, *what)

    def _keep(
        self,
        question: Question | str,
        answer: Any,
        codec: Codec | None,
        ttl: TTL | Unset,
        usage: Mapping[str, int] | None,
        exact_only: bool,
    ) -> bool:
        flow = self._store(question, answer, codec, ttl, usage, exact_only)
        if flow is None:
            return False
        try:
            self._drive.run(flow)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            return self._not_stored(error)
        self._counters.count("stored")
        return True

    async def astore(
        self,
        question: Question | str,
        answer: Any,
        *,
        codec: Codec | None = None,
        ttl: TTL | Unset = UNSET,
        usage: Mapping[str, int] | None = None,
        exact_only: bool = False,
    ) -> bool:
        """The same as `store`, without blocking the event loop."""
        what = (answer, codec, ttl, usage, exact_only)
        if self._watch is not None:
            return await self._watch.astore(self._akeep, question, *what)
        return await self._akeep(question, *what)

    async def _akeep(
        self,
        question: Question | str,
        answer: Any,
        codec: Codec | None,
        ttl: TTL | Unset,
        usage: Mapping[str, int] | None,
        exact_only: bool,
    ) -> bool:
        flow = self._store(question, answer, codec, ttl, usage, exact_only)
        if flow is None:
            return False
        try:
            await self._drive.arun(flow)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            return self._not_stored(error)
        self._counters.count("stored")
        return True

    def _renewed(
        self,
        background: Background,
        miss: Miss,
        question: Question | str,
        codec: Codec | None,
        *,
        in_loop: bool = False,
    ) -> Hit | Miss:
        """The old answer in place of a miss whose entry is renewed in the background."""
        if miss.stale is None:
            return miss
        asked = self.settled(question)
        store = partial(self.store, codec=codec)
        if in_loop:
            background.abegin(asked, store, partial(self.astore, codec=codec))
        else:
            background.begin(asked, store)
        return miss.stale
