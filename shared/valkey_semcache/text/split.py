"""Finding the question inside a prompt that was built around it.

Rule of this file: splitting never decides what is right, only what may differ in wording.
Whatever is not the question stays in the rest, which must match to the letter; so a wrong cut
costs a hit, never a wrong answer. A prompt that cannot be split safely is exact-only: embedded
whole, prompts built around the same material look alike whatever they ask.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Labels that templates put before the question: at the start of a line, or as a heading.
_QUESTION = re.compile(
    r"^[ \t]*(?:\*\*|#{1,6}[ \t]*)?(?:user(?:'s)? )?(?:question|query|q)[ \t]*:(?:\*\*)?[ \t]*\n?"
    r"|^#{1,6}[ \t]*(?:user(?:'s)? )?(?:question|query)[ \t]*\n",
    re.IGNORECASE | re.MULTILINE,
)
# Or around it, as tags.
_TAGGED = re.compile(r"<((?:user_)?(?:question|query))>\s*([^\n<]*?)\s*</\1>", re.IGNORECASE)
# Turns of a conversation written out as text.
_TURN = re.compile(
    r"^[ \t]*(system|human|user|ai|assistant|tool|function)[ \t]*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# Labels before what the question is asked of.
_MATERIAL = re.compile(
    r"^[ \t]*(?:context(?: information)?|passages?|documents?|sources?|excerpts?|search results?"
    r"|background|article|text)[ \t]*(?::|is below)",
    re.IGNORECASE | re.MULTILINE,
)
_OBSERVATION = re.compile(r"^[ \t]*observation[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Split(NamedTuple):
    """A prompt in two: what may differ in wording, and what may not.

    Args:
        text: The question.
        before: What stands before it.
        after: What stands behind it.
        exact_reason: Why the prompt must not be compared by meaning at all; empty if it may.
    """

    text: str
    before: str = ""
    after: str = ""
    exact_reason: str = ""


def split_prompt(prompt: str) -> Split:
    """Cut the question out of a prompt.

    A plain question of one line is all question. In a prompt with labels (`Question:`,
    `Query:`, at the start of a line, or as tags around it) it is the line that follows the last
    of them; in a conversation written out (`Human:`, `AI:`) it is the last turn, if that is the
    user's. Everything else is exact-only: material without a labelled question, an agent's
    observations, several lines. (Measured with MiniLM: a line of 80 characters before them
    makes unrelated questions 0.93 alike on average.)
    """
    # Without one of these there is nothing of the below to be found.
    if not (":" in prompt or "#" in prompt or "<" in prompt or " below" in prompt.lower()):
        return _plain(prompt)
    if _OBSERVATION.search(prompt):
        return Split(prompt, exact_reason="the prompt holds an agent's observation")
    if labels := list(_QUESTION.finditer(prompt)):
        return _labelled(prompt, labels[-1].end())
    if tags := list(_TAGGED.finditer(prompt)):
        return _cut(prompt, *tags[-1].span(2))
    if turns := list(_TURN.finditer(prompt)):
        return _last_turn(prompt, turns)
    if _MATERIAL.search(prompt):
        return Split(prompt, exact_reason="the prompt holds material, but no labelled question")
    return _plain(prompt)


def _plain(prompt: str) -> Split:
    if "\n" in prompt and "\n" in prompt.strip():
        return Split(prompt, exact_reason="the prompt has several lines and no label")
    return Split(prompt)


def split_at(prompt: str, question: str) -> Split | None:
    """Cut out a question that is known; None where the prompt does not hold it.

    Where it stands more than once the last place is taken; the others must match to the letter.
    """
    start = prompt.rfind(question)
    return None if start < 0 else _cut(prompt, start, start + len(question))


def _cut(prompt: str, start: int, end: int) -> Split:
    text = prompt[start:end].strip()
    if not text or _MATERIAL.match(text):
        return Split(prompt, exact_reason="the prompt's label is followed by no question")
    return Split(text, prompt[:start], prompt[end:])


def _labelled(prompt: str, start: int) -> Split:
    end = prompt.find("\n", start)
    return _cut(prompt, start, len(prompt) if end < 0 else end)


def _last_turn(prompt: str, turns: list[re.Match[str]]) -> Split:
    *_, last = turns
    if last[1].lower() in ("ai", "assistant") and not prompt[last.end() :].strip():
        turns.pop()
    if not turns or turns[-1][1].lower() not in ("human", "user"):
        return Split(prompt, exact_reason="the conversation's last turn is not the user's")
    start = turns[-1].end()
    end = last.start() if last is not turns[-1] else len(prompt)
    text = prompt[start:end].strip()
    if not text or "\n" in text:
        return Split(prompt, exact_reason="the conversation's last turn is no single line")
    return Split(text, prompt[:start], prompt[end:])
