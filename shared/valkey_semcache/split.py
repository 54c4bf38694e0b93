"""Finding the question inside a prompt that was built around it.

Rule of this file: splitting never decides what is right, only what may differ in wording.
Whatever is not the question stays in the rest, which must match to the letter; so a wrong cut
costs a hit, never a wrong answer. A prompt that cannot be split safely is exact-only: embedded
whole, prompts built around the same material look alike whatever they ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Labels that templates put before the question, at the start of a line.
_QUESTION = re.compile(
    r"^[ \t]*(?:user(?:'s)? )?(?:question|query)[ \t]*:[ \t]*\n?", re.IGNORECASE | re.MULTILINE
)
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
# A question ends where a line is empty, another label stands, or a rule is drawn.
_END = re.compile(r"\n[ \t]*(?:\n|[A-Z][\w']*(?: [\w']+){0,3}[ \t]*:|-{3,}|={3,}|#{1,6} )")
_EMPTY_LINE = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Split:
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

    A plain question of one paragraph is all question. In a prompt with labels (`Question:`,
    `Query:`, at the start of a line) it is what follows the last of them; in a conversation
    written out (`Human:`, `AI:`) it is the last turn, if that is the user's. Everything else is
    exact-only: material without a labelled question, an agent's observations, paragraphs.
    """
    if _OBSERVATION.search(prompt):
        return Split(prompt, exact_reason="the prompt holds an agent's observation")
    if labels := list(_QUESTION.finditer(prompt)):
        return _labelled(prompt, labels[-1].end())
    if turns := list(_TURN.finditer(prompt)):
        return _last_turn(prompt, turns)
    if _MATERIAL.search(prompt):
        return Split(prompt, exact_reason="the prompt holds material, but no labelled question")
    if _EMPTY_LINE.search(prompt.strip()):
        return Split(prompt, exact_reason="the prompt has several paragraphs and no label")
    return Split(prompt)


def _labelled(prompt: str, start: int) -> Split:
    following = _END.search(prompt, start)
    end = following.start() if following else len(prompt)
    text = prompt[start:end].strip()
    if not text or _MATERIAL.match(text):
        return Split(prompt, exact_reason="the prompt's label is followed by no question")
    return Split(text, prompt[:start], prompt[end:])


def _last_turn(prompt: str, turns: list[re.Match[str]]) -> Split:
    *_, last = turns
    if last[1].lower() in ("ai", "assistant") and not prompt[last.end() :].strip():
        turns.pop()
    if not turns or turns[-1][1].lower() not in ("human", "user"):
        return Split(prompt, exact_reason="the conversation's last turn is not the user's")
    start = turns[-1].end()
    end = last.start() if last is not turns[-1] else len(prompt)
    text = prompt[start:end]
    if not text.strip() or _EMPTY_LINE.search(text.strip()):
        return Split(prompt, exact_reason="the conversation's last turn is no single paragraph")
    return Split(text.strip(), prompt[:start], prompt[end:])
