"""The clause `[KNN k @field $vector EF_RUNTIME n AS name]`: text to words and options.

Parameters are not filled in here, and no field is looked up.
"""

from __future__ import annotations

from tests.standin.args import CommandError, show
from tests.standin.schema import VectorField


def check_size(vector: bytes, field: VectorField) -> None:
    if len(vector) != field.size:
        raise CommandError(
            f"query vector blob size ({len(vector)}) does not match index's expected size "
            f"({field.size})."
        )


def read_words(clause: bytes) -> list[bytes]:
    """KNN, k, @field, vector and options, still as they were written."""
    if not clause:
        raise CommandError("Vector query clause is missing")
    if not clause.endswith(b"]"):
        raise CommandError(f"Expecting ']' got '{show(clause[-1:])}'")
    if not clause.startswith(b"["):
        raise CommandError(f"Expecting '[' got '{show(clause[:1])}'")
    words = [x for x in clause[1:-1].split(b" ") if x]
    if not words:
        raise CommandError("Missing parameters")
    if words[0].upper() != b"KNN":
        raise CommandError(f"`{show(words[0])}`. Expecting `KNN`")
    if len(words) == 1:
        raise CommandError("KNN argument is missing")
    if len(words) == 2:
        raise CommandError("Vector field argument is missing")
    if len(words[2]) == 1 or not words[2].startswith(b"@"):
        raise CommandError(
            f"Unexpected argument `{show(words[2])}`. "
            "Expecting a vector field name, starting with '@'"
        )
    if len(words) == 3:
        raise CommandError("Blob attribute argument is missing")
    return words


def read_options(words: list[bytes]) -> dict[bytes, bytes]:
    options: dict[bytes, bytes] = {}
    for at in range(0, len(words), 2):
        name = words[at].upper()
        if name not in (b"EF_RUNTIME", b"AS"):
            raise CommandError(f"Unexpected argument `{show(words[at])}`")
        if at + 1 == len(words):
            raise CommandError(f"{name.decode()} argument is missing")
        options[name] = words[at + 1]
    return options
