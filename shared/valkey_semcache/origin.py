"""Where an error came from, in words that can be logged.

Rule of this file: places and kinds, never what was said. Those who fail (an embedding model, a
judge, the app's own code) put prompts and keys into their messages, and logs at DEBUG are kept too.
"""

from __future__ import annotations

import traceback


def origin(error: BaseException) -> str:
    """The tracebacks of an error and of what led to it, the first cause first.

    Of each exception its class is named and its message left out, and of each place the line of
    source, which may hold a key that was written there.
    """
    told, seen = [], set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        kind = type(one)
        lines = [
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'
            for frame, line in traceback.walk_tb(one.__traceback__)
        ]
        told.append("\n".join([*lines, f"{kind.__module__}.{kind.__qualname__}"]))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\nwhich led to\n".join(reversed(told))
