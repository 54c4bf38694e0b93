"""Texts that are shown to people: secrets out, and no longer than one reads.

Rule of this file: what looks like a secret is one. Better a harmless word hidden than a key shown;
what is compared and stored never passes through here.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

HIDDEN = "***"

_NAME = (
    r"[\w-]*(?:(?:api|access|auth|secret|private|encryption|signing|digest)[_-]?(?:key|token)"
    r"|password|passwd|secret|credentials?|authorization|cookie|(?:^|[_-])token)"
)
# A name and its value, as in JSON, in Python's own spelling, and in what people write.
_NAMED = re.compile(
    rf"""(?P<name>(?P<q>["']?)\b{_NAME}(?P=q)\s*(?:[:=,]|\bis\b)\s*)"""
    r"""(?P<value>"[^"]*"|'[^']*'|[^\s,;'"(){}\[\]]+)""",
    re.IGNORECASE,
)
# Keys of well-known services, bearer tokens, signed tokens.
_KEYS = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{8,}|\bAKIA[0-9A-Z]{12,}|\bgh[pousr]_\w{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|\bAIza[\w-]{30,}|\bhf_\w{20,}|\bey[\w-]{10,}\.[\w-]{10,}\.[\w-]+|(?<=Bearer )[\w.~+/=-]{8,}"
)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@\"']+(?=@)")
_LONGEST = 160  # characters shown of one text among several


def without_secrets(text: str) -> str:
    """`text` with `***` in place of what looks like a password, a key or a token."""
    text = _IN_ADDRESS.sub(HIDDEN, _KEYS.sub(HIDDEN, text))
    return _NAMED.sub(lambda found: found["name"] + HIDDEN, text)


def readable(text: str, most: int = 600) -> str:
    """A context or an identity as people read it: secrets out, long parts cut.

    Args:
        text: As it is compared; JSON or not.
        most: Characters at most.
    """
    if text[:1] in ("[", "{"):
        with suppress(ValueError, RecursionError):
            text = json.dumps(_cut_leaves(json.loads(text)), ensure_ascii=False)
    return cut(without_secrets(text), most)


def cut(text: str, most: int) -> str:
    """`text`, of which what is too long is counted."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text) - most:,} more characters)"


def _cut_leaves(value: Any) -> Any:
    if isinstance(value, str):
        # Before it is cut, or a half of a secret would no longer look like one.
        return cut(without_secrets(value), _LONGEST)
    if isinstance(value, list):
        return [_cut_leaves(part) for part in value]
    if isinstance(value, dict):
        return {name: _cut_leaves(part) for name, part in value.items()}
    return value
