"""Finding the question inside a prompt that was built around it.

Rule of this file: splitting never decides what is right, only what may differ in wording.
Whatever is not the question stays in the rest, which must match to the letter; so a wrong cut
costs a hit, never a wrong answer. A prompt that cannot be split safely is exact-only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Labels that templates put before the question, at the start of a line.
_QUESTION = re.compile(
    r"^[ \t]*(?:user(?:'s)? )?(?:question|query)[ \t]*:[ \t]*\n?", re.IGNORECASE | re.MULTILINE
)
# Labels before what the question is asked of.
_MATERIAL = re.compile(
    r"^[ \t]*(?:context(?: information)?|passages?|documents?|sources?|excerpts?|search results?"
    r"|background|article|observation)[ \t]*(?::|is below)",
    re.IGNORECASE | re.MULTILINE,
)
_OBSERVATION = re.compile(r"^[ \t]*observation[ \t]*:", re.IGNORECASE | re.MULTILINE)
_NEXT_LABEL = re.compile(r"\n[ \t]*(?:[A-Z][\w']*(?: [\w']+){0,3}[ \t]*:|-{3,}|={3,}|#{1,6} )")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")

MAX_PARAGRAPHS = 2
"""An unlabelled message of more paragraphs is taken for a built prompt, not a question."""


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

    A plain question is all question. With labels (`Question:`, `Query:`, at the start of a
    line) it is what follows the last of them, up to the next label. Retrieved passages without
    a labelled question, an agent's observations and texts of many paragraphs are exact-only:
    embedded whole, such prompts look alike whatever they ask.
    """
    if _OBSERVATION.search(prompt):
        return Split(prompt, exact_reason="the prompt holds an agent's observation")
    labels = list(_QUESTION.finditer(prompt))
    if labels:
        start = labels[-1].end()
        following = _NEXT_LABEL.search(prompt, start)
        end = following.start() if following else len(prompt)
        if prompt[start:end].strip():
            return Split(prompt[start:end].strip(), prompt[:start], prompt[end:])
    if _MATERIAL.search(prompt):
        return Split(prompt, exact_reason="the prompt holds material, but no labelled question")
    if len(_PARAGRAPHS.split(prompt.strip())) > MAX_PARAGRAPHS:
        return Split(prompt, exact_reason=f"the prompt has more than {MAX_PARAGRAPHS} paragraphs")
    return Split(prompt)
