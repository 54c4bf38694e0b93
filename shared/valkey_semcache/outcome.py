"""What a look-up found: a `Hit` or a `Miss`, both true or false, printable, and in Jupyter.

Rule of this file: plain values that say why. No logic of the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from valkey_semcache.shown import Shown

Tier = Literal["local", "exact", "semantic"]
"""Where a hit came from: this process, the very words in Valkey, or near ones there."""

MissReason = Literal[
    "no_neighbour",  # nothing in the scope is near
    "below_threshold",  # the nearest is not near enough
    "rejected",  # the nearest was rejected for this question
    "guarded",  # a guard saw that the nearest asks for something else
    "judged",  # the judge said that the answer of the nearest does not do
    "unverified",  # `policy=`: not sure that the nearest's answer does, or let through to find out
    "unjudged",  # the judge gave no answer: it took too long, failed, or could not tell
    "exact_only",  # not stored in these words, and may not be compared by meaning
    "not_cacheable",  # the adapter could not read the request, or the app ruled it out
    "refresh",  # the entry is past `refresh_after`, and this caller is the one to renew it
    "error",  # something failed; see the detail
]


@dataclass(frozen=True, slots=True, repr=False)
class Hit(Shown):
    """An answer was found. True in a condition.

    Args:
        tier: `"local"`, `"exact"` or `"semantic"`.
        similarity: Cosine similarity of the two wordings, -1 to 1; 1.0 for the same words.
        question: The stored wording, or None when texts are not kept.
        answer: The answer, a new object each time.
        age: Seconds since it was stored.
        model: Name of the model that gave it, or "".
        usage: Tokens that it cost then, by name.
        key: Its key in Valkey.
        asked: Key of the question that was asked; another than `key` for another wording.
    """

    tier: Tier
    similarity: float
    question: str | None
    answer: Any
    age: float
    model: str
    usage: Mapping[str, int]
    key: str
    asked: str = ""

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return (
            f"Hit(tier={self.tier!r}, similarity={self.similarity:.4f}, "
            f"question={self.question!r}, age={self.age:.1f})"
        )

    def note(self) -> dict[str, Any]:
        """What an adapter writes beside an answer: plain values, and what `reject` needs."""
        return {
            "tier": self.tier,
            "similarity": self.similarity,
            "age": self.age,
            "question": self.question,
            "key": self.key,
            "asked": self.asked,
        }

    @classmethod
    def from_note(cls, note: Any) -> Self | None:
        """A hit without its answer, by its note; None if that is none, such as a miss's.

        Args:
            note: What `note` gave, perhaps on its way through JSON.
        """
        if not isinstance(note, Mapping):
            return None
        key, asked = note.get("key"), note.get("asked")
        if not (isinstance(key, str) and isinstance(asked, str)):
            return None
        return cls(
            "exact" if key == asked else "semantic", 1.0, None, None, 0.0, "", {}, key, asked
        )

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("hit", self.tier),
            ("similarity", f"{self.similarity:.4f}"),
            ("question", "(not kept)" if self.question is None else self.question),
            ("answer", _short(self.answer)),
            ("age", f"{self.age:.1f} s"),
            ("model", self.model or "(unnamed)"),
        ]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The stored question nearest to the one asked, which was not served.

    Args:
        question: Its wording, or None when texts are not kept.
        similarity: Cosine similarity, -1 to 1.
        refused: Why it was not served.
        key: Its key in Valkey.
    """

    question: str | None
    similarity: float
    refused: str
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Miss(Shown):
    """No answer. False in a condition.

    Args:
        reason: Why, as one word.
        detail: Why, in words.
        nearest: The nearest stored question in the scope, if one was seen.
        elsewhere: True when this process has stored the very same text under another
            context or identity: something in the prompt changes between calls.
        stale: With the reason `"refresh"`, the hit that others are served meanwhile.
    """

    reason: MissReason
    detail: str = ""
    nearest: Neighbour | None = None
    elsewhere: bool = False
    stale: Hit | None = None

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        nearest = ""
        if self.nearest is not None:
            nearest = f", nearest={self.nearest.similarity:.4f} {self.nearest.question!r}"
        return f"Miss(reason={self.reason!r}, detail={self.detail!r}{nearest})"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("miss", self.reason), ("because", self.detail)]
        if self.nearest is not None:
            rows.append(("nearest", self.nearest.question or "(not kept)"))
            rows.append(("similarity", f"{self.nearest.similarity:.4f}"))
        if self.elsewhere:
            rows.append(("note", "the same text is stored under another context: see `volatile=`"))
        return rows


def _short(value: object, limit: int = 200) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
