"""The commands of `semcache` and their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="A semantic cache for LLM answers on Valkey.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def semcache() -> None:
    """A semantic cache for LLM answers on Valkey."""


@app.command(epilog="Example: semcache demo --questions my_questions.txt")
def demo(
    questions: Annotated[
        Path | None,
        typer.Option(help="Your own questions instead, one a line.", exists=True, dir_okay=False),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Also write what is shown into this SVG file.")
    ] = None,
    again: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Ask a model questions through LangChain and LlamaIndex, and show what each one cost.

    Starts a Valkey of its own and embeds offline; no key and no network are needed. With
    OPENAI_API_KEY set the model is ChatOpenAI, without it a canned one that takes a second.
    """
    from valkey_semcache.cli import demo

    if again is not None:
        demo.run_again(str(again))
    else:
        demo.run(questions, svg)


@app.command(epilog="Example: semcache doctor valkeys://cache.example.org:6379")
def doctor(
    url: Annotated[
        str | None,
        typer.Argument(help="The server's URL; without it the environment's (VALKEY_URL, …)."),
    ] = None,
    name: Annotated[str, typer.Option(help="The cache's name.")] = "semcache",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for a connection, and for each answer.")
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at a server and at a cache on it: what works, what does not, and what to do.

    Nothing is written, and no password is shown. The exit code is 1 if a check failed.
    """
    from valkey_semcache.cli import doctor

    if not doctor.run(url, name, timeout, as_json=as_json):
        raise typer.Exit(1)


@app.command(epilog="Example: semcache stats valkey://localhost:6379 --name semcache")
def stats(
    url: Annotated[
        str | None,
        typer.Argument(help="The server's URL; without it the environment's (VALKEY_URL, …)."),
    ] = None,
    name: Annotated[str, typer.Option(help="The cache's name.")] = "semcache",
    sample: Annotated[
        int, typer.Option(help="Entries of each index that are looked at.", min=1)
    ] = 500,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each answer.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a cache holds: entries by embedding model, and the bytes they take.

    All keys are walked; bytes are those of a random sample of the entries. Nothing is written.
    Hits, misses and savings are not shown: each process counts its own (cache.stats()), and they
    are not in Valkey.
    """
    from valkey_semcache.cli import stats

    stats.run(url, name, sample, timeout, as_json=as_json)


@app.command(epilog="Example: semcache reindex valkey://localhost:6379 --to search")
def reindex(
    url: Annotated[
        str | None,
        typer.Argument(help="The server's URL; without it the environment's (VALKEY_URL, …)."),
    ] = None,
    to: Annotated[str, typer.Option(help="The kind of index to go over to: search or flat.")] = ...,  # type: ignore[assignment]
    name: Annotated[str, typer.Option(help="The cache's name.")] = "semcache",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each answer.")] = 10.0,
) -> None:
    """Let all that a cache has stored be found by the other kind of index.

    Entries stay as they are. Processes that use the cache meanwhile have to be started anew
    afterwards. If it is stopped half way, the same command does the rest.
    """
    from valkey_semcache.cli import reindex

    reindex.run(url, name, to, timeout)


@app.command(epilog="Example: semcache warm faq.jsonl --cache app.main:cache --llm app.main:llm")
def warm(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL, or CSV with a header: question, answer, and perhaps namespace and system.",
            exists=True,
            dir_okay=False,
        ),
    ],
    cache: Annotated[str, typer.Option(help="The app's cache, as module:object.")],
    llm: Annotated[
        str | None,
        typer.Option(help="The app's model, as module:object; for the caches of the frameworks."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Store also what is there already.")
    ] = False,
) -> None:
    """Store questions with their answers, so that they are answered without a call.

    What is stored for the same words already is left as it is: begun again, the command goes on
    where it was interrupted. The exit code is 1 if a line was not read or not stored.
    """
    from valkey_semcache.cli import warm

    if not warm.run(file, cache, llm, again=again):
        raise typer.Exit(1)


@app.command(epilog="Example: semcache clear valkey://localhost:6379 --namespace acme")
def clear(
    url: Annotated[
        str | None,
        typer.Argument(help="The server's URL; without it the environment's (VALKEY_URL, …)."),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(help="The app's cache, as module:object, instead of URL and name."),
    ] = None,
    name: Annotated[str, typer.Option(help="The cache's name.")] = "semcache",
    namespace: Annotated[str | None, typer.Option(help="Only this tenant's entries.")] = None,
    identity: Annotated[str | None, typer.Option(help="Only those of this llm_string.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model's name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a cache's entries, or those of one tenant or model. Asks first.

    A cache with a digest_key or encryption_key must be given by --cache to clear a part of it.
    """
    from valkey_semcache.cli import clear

    scope = {"namespace": namespace, "identity": identity, "model": model}
    clear.run(url, cache, name, scope, agreed=yes)


@app.command(epilog="Example: semcache export entries.jsonl --cache app.main:cache --vectors")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write the entries, as JSONL.")],
    cache: Annotated[str, typer.Option(help="The app's cache, as module:object.")],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With vectors, so that nothing is embedded again.")
    ] = False,
) -> None:
    """Write all that a cache has stored into a file: questions and answers as plain text."""
    from valkey_semcache.cli import moving

    moving.export(cache, file, vectors=vectors)


@app.command("import", epilog="Example: semcache import entries.jsonl --cache app.main:cache")
def import_(
    file: Annotated[
        Path, typer.Argument(help="What semcache export wrote.", exists=True, dir_okay=False)
    ],
    cache: Annotated[str, typer.Option(help="The app's cache, as module:object.")],
) -> None:
    """Store what another cache has exported, with the time that is left to each entry.

    The exit code is 1 if a line was not read or not stored.
    """
    from valkey_semcache.cli import moving

    if not moving.import_(cache, file):
        raise typer.Exit(1)


@app.command(epilog="Example: semcache tune pairs.csv --cache app.main:cache --precision 0.98")
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
) -> None:
    """Find a similarity threshold on labelled questions, with the cache's own rules.

    Shows precision, recall and wrong answers by threshold, and the lowest threshold that has the
    wanted precision. The exit code is 1 if none has. Nothing is stored, and looked up only with
    --live.
    """
    from valkey_semcache.cli import tune

    if not tune.run(pairs, cache, live, precision, confidence, png):
        raise typer.Exit(1)


@app.command(epilog="Example: semcache sample pairs.csv --cache app.main:cache --count 50")
def sample(
    cache: Annotated[str, typer.Option(help="The app's cache, as module:object.")],
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
