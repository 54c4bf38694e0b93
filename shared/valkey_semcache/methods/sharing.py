"""One call's answer for those who wait for it, without the way through Valkey.

Rule of this file: what is shared is what would be stored, as bytes, and each who waits gets an
object of its own. It is looked up first where that can be done, and shared where it cannot.
"""

from __future__ import annotations

from typing import Any

from valkey_semcache.coalesce import Lead, Wait
from valkey_semcache.methods.asking import Asking
from valkey_semcache.outcome import Hit
from valkey_semcache.question import Question
from valkey_semcache.stored.codec import Codec


class Sharing(Asking):
    """What adapters whose calls coalesce need; see `Coalescer`."""

    def turn(
        self,
        question: Question,
        codec: Codec | None = None,
        *,
        blocking: bool,
        timeout: float | None = None,
    ) -> Lead | Wait:
        """The right to make a call, or a place behind the same one that is under way.

        Args:
            question: A settled question.
            codec: Reads and writes its answer, instead of the cache's own.
            blocking: True from code that blocks its thread, False from a coroutine.
            timeout: Seconds to wait at most; None for the coalescer's own.
        """
        key = self._call_key(self.key_of(question), codec)
        return self.coalescer.join(key, blocking=blocking, timeout=timeout)

    def to_share(self, question: Question, answer: Any, codec: Codec | None = None) -> bytes | None:
        """An answer for those who wait, or None where it is not one to be kept."""
        try:
            selection = self._selection
            if selection.refusal(question) or selection.refusal_to_store(question, answer):
                return None
            return (codec or self._codec).encode(answer)
        except Exception:  # noqa: BLE001 - the store has counted it
            return None

    def shared(self, question: Question, content: bytes, codec: Codec | None = None) -> Hit:
        """Another one's answer as a hit of this process.

        Args:
            question: What both asked.
            content: What `to_share` gave.
            codec: As there.
        """
        key = self.key_of(question)
        answer = (codec or self._codec).decode(content)
        self._counters.count("coalesced")
        return Hit("local", 1.0, question.text, answer, 0.0, question.model, {}, key, key)

    def _call_key(self, key: str, codec: Codec | None) -> str:
        return f"{key} {(codec or self._codec).name}"
