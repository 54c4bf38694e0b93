"""Whether a model ended its answer, or the answer was ended for it.

Rule of this file: providers' words for one thing, in one place. A word that is not known counts
as a proper end; those known here do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_SEVERAL = ("choices", "candidates")
_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "finishReason")
_NAMES = frozenset((*_SEVERAL, "status", *_REASONS))
_CUT_OFF = frozenset(
    (
        *("length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "cancelled"),
        *("model_context_window_exceeded", "pause_turn", "content_filter", "content_filtered"),
        *("refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("guardrail_intervened", "failed", "error"),
    )
)


def cut_off(metadata: Any) -> str | None:
    """How an answer was cut off, as `finish_reason length`, or None if it ended by itself.

    Args:
        metadata: What the provider said of the answer: a mapping or an object, with a finish
            reason in it, or in the first of its `choices` or `candidates`.
    """
    if metadata is None or (isinstance(metadata, dict) and _NAMES.isdisjoint(metadata)):
        return None
    said = _parts(metadata)
    for several in _SEVERAL:
        first = said(several)
        if isinstance(first, list) and first and (reason := cut_off(first[0])):
            return reason
    for name in ("status", *_REASONS):
        reason = said(name)
        if reason is not None and (word := _word(reason)) in _CUT_OFF:
            return f"{name} {word}"
    return None


def part(whole: Any, name: str) -> Any:
    """A part of a mapping or of an object, or None."""
    return _parts(whole)(name)


def _parts(whole: Any) -> Callable[[str], Any]:
    """From a name to that part, or None."""
    if isinstance(whole, Mapping):
        return whole.get
    return lambda name: getattr(whole, name, None)


def _word(reason: Any) -> str:
    """`FinishReason.MAX_TOKENS`, an enum or text, as `max_tokens`."""
    reason = getattr(reason, "value", reason)
    return reason.rpartition(".")[2].lower() if isinstance(reason, str) else ""
