"""Options by names that a cache does not have.

Rule of this file: who misspells an option, or brings its name from another package, is told which
class has no such option and how it is called here. Type checkers see the constructor as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from valkey_semcache.options import Options

Init = TypeVar("Init", bound=Callable[..., None])

_DISTANCE = (
    "similarity_threshold=, which is 1 - distance where that is a cosine distance (0.1 there is "
    "0.9 here)"
)
_ELSEWHERE = {
    "redis_url": "Here it is url=.",
    "redis_client": "Here it is client=, a valkey.Valkey, or async_client=.",
    "distance_threshold": f"Here it is {_DISTANCE}.",
    "score_threshold": f"For a similarity it is similarity_threshold= here; for a distance, "
    f"{_DISTANCE}.",
}
"""What options of other packages for LangChain are called here: `distance_threshold` of
langchain-redis is a cosine distance, `score_threshold` of langchain-community's caches a distance
for Redis and a similarity for others."""


def told_by_name(init: Init) -> Init:
    """A constructor that refuses options which it does not take, naming the user's own class.

    Args:
        init: An `__init__`; if it has `**options`, these are `Options`.

    Raises:
        TypeError: By the constructor, before it does anything else.
    """
    parameters = inspect.signature(init).parameters
    taken = [name for name in parameters if name not in ("self", "options")]
    if "options" in parameters:
        taken += Options.__annotations__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        unknown = [name for name in options if name not in taken]
        if unknown:
            raise TypeError(_told(type(self).__qualname__, unknown, taken))
        init(self, *args, **options)

    return cast(Init, checked)


def _told(cache: str, unknown: Sequence[str], taken: Sequence[str]) -> str:
    sentences = []
    for name in unknown:
        if name in _ELSEWHERE:
            advice = _ELSEWHERE[name]
        elif near := get_close_matches(name, taken, 1):
            advice = f"Did you mean {near[0]}=?"
        else:
            advice = f"help({cache}) tells which it has."
        sentences.append(f"{cache} has no option {name}=. {advice}")
    return " ".join(sentences)
