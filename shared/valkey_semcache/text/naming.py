"""Which part of a prompt is the question, where the app says so.

Rule of this file: what the app says is looked for in the prompt and cut out; what is not found
there is never put in its place, for then the prompt would be compared by words it does not hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeAlias

from valkey_semcache.blocks import Block
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.text.split import Split, split_at, split_prompt

QuestionFrom: TypeAlias = Callable[[str], str | None]
"""From the text of the last message, or of the whole prompt, to the question in it; None where
it is to be read as without the function."""


class Found(NamedTuple):
    """The question in a message of one text or of several.

    Args:
        split: The text that holds it, cut.
        place: Which of the texts that is; None if none of them, or all.
    """

    split: Split
    place: int | None


class Naming:
    """How the question in a prompt is told: by a block, by a function, else by labels.

    Args:
        question_from: See `QuestionFrom`.
        failed: Told of an error of that function.

    Raises:
        ConfigurationError: `question_from` cannot be called, or has to be awaited.
    """

    def __init__(
        self, question_from: QuestionFrom | None, failed: Callable[[str, Exception], None]
    ) -> None:
        if question_from is not None and (
            not callable(question_from) or inspect.iscoroutinefunction(question_from)
        ):
            raise ConfigurationError(
                f"question_from={question_from!r} is not allowed: it takes a plain function from "
                "the last message's text to the question in it."
            )
        self._question_from = question_from
        self._failed = failed
        self._block: Block[str] = Block()

    def block(self, question: str) -> AbstractContextManager[None]:
        """Say what the question is, for what is called inside a `with` block."""
        if not isinstance(question, str) or not question.strip():
            raise ConfigurationError(
                f"question({question!r}) is not allowed: it takes the question's text as it "
                "stands in the prompt."
            )
        return self._block(question.strip())

    @property
    def is_silent(self) -> bool:
        """Whether the app says nothing: the same prompt is always read alike then."""
        return self._question_from is None and self._block.value() is None

    def find(self, texts: Sequence[str]) -> Found:
        """Where the question is in a message's texts."""
        if not texts:
            return Found(Split(""), None)
        if (named := self._block.value()) is not None:
            return _found(texts, named, "the question of the block is not in the last message")
        if self._question_from is not None:
            try:
                named = self._question_from("\n".join(texts))
            except Exception as error:  # noqa: BLE001 - the cache never breaks the call
                self._failed("question_from", error)
                reason = f"question_from= raised {type(error).__name__}"
                return Found(Split("\n".join(texts), exact_reason=reason), None)
            if named is not None:
                reason = "what question_from= returned is not in the last message"
                return _found(texts, named, reason)
        if len(texts) > 1:
            reason = "the message holds several pieces of text, whose places count"
            return Found(Split("", exact_reason=reason), None)
        return Found(split_prompt(texts[0]), 0)


def _found(texts: Sequence[str], question: object, otherwise: str) -> Found:
    named = question.strip() if isinstance(question, str) else ""
    for place in range(len(texts) - 1, -1, -1) if named else ():
        split = split_at(texts[place], named)
        if split is not None:
            return Found(split, place)
    return Found(Split("\n".join(texts), exact_reason=otherwise), None)
