"""`not_about_now`: a rule that keeps questions out whose answer depends on when or by whom.

Rule of this file: words, not understanding, and English only. How often it is right is measured
on questions that were not looked at when the words were chosen.
"""

from __future__ import annotations

import re

from valkey_semcache.question import Question

_SPAN = r"(?:morning|afternoon|evening|night|week|weekend|month|quarter|year|season|\w+day)"

_CLEARLY = re.compile(
    r"\b(?:today|tonight|right now|just now|currently|at the moment|at present|these days"
    rf"|nowadays|so far|this {_SPAN})\b",
    re.IGNORECASE,
)
"""Words that point at the time of asking whatever the question is."""

_TIME = re.compile(
    rf"\b(?:now|tomorrow|yesterday|lately|recent|recently|latest|newest|upcoming|ongoing"
    rf"|(?:next|last|past) {_SPAN}|the next|(?:day|week|month|year|hour|minute)s? ago|still|yet"
    r"|what(?:'s| is) new|what (?:time|day|date) is it|how long until|weather|forecast|traffic"
    r"|headlines|the news|(?:share|stock) price|(?:exchange|interest) rate"
    r"|current(?! (?:account|density|transformer|source)))\b",
    re.IGNORECASE,
)
"""Words that do so in questions of fact, not in those on how a thing is done."""

_OTHERWISE = re.compile(
    r"(?:alternating|direct|electric|electrical|ocean) current|\w+\(\)"
    r"|(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"",
    re.IGNORECASE,
)
"""Where such a word means something else: a function, a quotation."""

_HOW_TO = re.compile(
    r"^\W*(?:please )?(?:how (?:do|can|should|would|could) (?:i|we|you|one)\b|how to\b|can i\b"
    r"|(?:where|what) (?:can|should|must) i\b|explain\b|define\b|what does\b)",
    re.IGNORECASE,
)
"""Questions on how a thing is done, which have one answer for all who ask."""

_PERSON = re.compile(
    r"\b(?:my|mine|our|ours|near me|nearby|i'(?:m|ve)|(?:am|was|have|had|did|do) (?:i|we)"
    r"|(?:i|we) (?:am|are|was|were|have|had|did|\w+ed))\b",
    re.IGNORECASE,
)
"""Words that point at whoever asks."""


def not_about_now(question: Question) -> bool:
    """Whether a question's answer is the same whenever and by whomever it is asked.

    For `should_cache=`. It goes by words of English in the question's text: those that point at
    the time of asking (today, now, latest, this week, …) and those that point at the asker (my,
    our, …). Questions on how something is done ("How do I reset my password?") have one answer
    for all, unless they name today.

    Args:
        question: The question; its text alone is looked at.

    Returns:
        False where the answer seems to depend on when it is asked, or by whom.
    """
    text = _OTHERWISE.sub(" ", question.text)
    if _CLEARLY.search(text):
        return False
    if _HOW_TO.search(text):
        return True
    return not (_TIME.search(text) or _PERSON.search(text))
