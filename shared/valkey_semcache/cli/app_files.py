"""The commands of `semcache` that read or write files, and their arguments.

Rule of this file: arguments only; app.py makes commands of these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from valkey_semcache.cli.arguments import NOT_ALL, AsJson, Cache


def warm(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL, or CSV with a header: question, answer, and perhaps namespace and system.",
            exists=True,
            dir_okay=False,
        ),
    ],
    cache: Cache,
    llm: Annotated[
        str | None,
        typer.Option(help="The app's model, as module:object; for the caches of the frameworks."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Store also what is there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store questions with their answers, so that they are answered without a call.

    What is stored for the same words already is left as it is: begun again, the command goes on
    where it was interrupted. The exit code is 1 if a line was not read or not stored.
    """
    from valkey_semcache.cli import warm

    if not warm.run(file, cache, llm, again=again, as_json=as_json):
        raise typer.Exit(NOT_ALL)


def export(
    file: Annotated[Path, typer.Argument(help="Where to write the entries, as JSONL.")],
    cache: Cache,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With vectors, so that nothing is embedded again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write all that a cache has stored into a file: questions and answers as plain text."""
    from valkey_semcache.cli import moving

    moving.export(cache, file, vectors=vectors, as_json=as_json)


def import_(
    file: Annotated[
        Path, typer.Argument(help="What semcache export wrote.", exists=True, dir_okay=False)
    ],
    cache: Cache,
    as_json: AsJson = False,
) -> None:
    """Store what another cache has exported, with the time that is left to each entry.

    The exit code is 1 if a line was not read or not stored.
    """
    from valkey_semcache.cli import moving

    if not moving.import_(cache, file, as_json=as_json):
        raise typer.Exit(NOT_ALL)


def tune(
    pairs: Annotated[
        Path | None,
        typer.Argument(
            help="CSV with a header, or JSONL: a, b, same (yes or no); or question, group.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(help="The app's cache, as module:object; without it MiniLM and the defaults."),
    ] = None,
    live: Annotated[
        int | None,
        typer.Option(help="Instead of a file: label so many near pairs of the cache now.", min=1),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="The share of right answers that is wanted.")
    ] = 0.95,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    png: Annotated[Path | None, typer.Option(help="Also plot into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find a similarity threshold on labelled questions, with the cache's own rules.

    Shows precision, recall and wrong answers by threshold, and the lowest threshold that has the
    wanted precision. The exit code is 1 if none has. Nothing is stored, and looked up only with
    --live.
    """
    from valkey_semcache.cli import tune

    if not tune.run(pairs, cache, live, precision, confidence, png, as_json=as_json):
        raise typer.Exit(NOT_ALL)


def sample(
    cache: Cache,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Where labels go, CSV or JSONL; added to. Without it pairs are listed.",
            dir_okay=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Pairs at most.", min=1)] = 50,
    around: Annotated[
        float | None, typer.Option(help="The similarity meant; by default the threshold.")
    ] = None,
    width: Annotated[float, typer.Option(help="How far from it pairs may lie.")] = 0.1,
    entries: Annotated[
        int, typer.Option(help="Stored questions that are looked at, drawn at random.", min=2)
    ] = 500,
    namespace: Annotated[str | None, typer.Option(help="Only this tenant's questions.")] = None,
    seed: Annotated[int | None, typer.Option(help="To draw the same pairs again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="List the pairs as JSON.")] = False,
) -> None:
    """Draw near pairs of stored questions, to label them in the terminal for semcache tune.

    Each pair is asked about: does one answer do for both? Yes, no, skip or quit, by one key. Labels
    are in the file at once; the next time the same pairs are not asked about again. The questions'
    texts must be kept (store_questions), and are shown. Nothing is written into the cache.
    """
    from valkey_semcache.cli import sample

    drawn = {"count": count, "around": around, "width": width, "entries": entries}
    sample.run(file, cache, as_json=as_json, **drawn, namespace=namespace, seed=seed)


COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "warm": (warm, "Example: semcache warm faq.jsonl --cache app.main:cache --llm app.main:llm"),
    "export": (export, "Example: semcache export entries.jsonl --cache app.main:cache --vectors"),
    "import": (import_, "Example: semcache import entries.jsonl --cache app.main:cache"),
    "tune": (tune, "Example: semcache tune pairs.csv --cache app.main:cache --precision 0.98"),
    "sample": (sample, "Example: semcache sample pairs.csv --cache app.main:cache --count 50"),
}
"""By name: the function, and its example."""
