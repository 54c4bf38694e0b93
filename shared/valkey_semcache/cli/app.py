"""The commands of `semcache` and their arguments.

Rule of this file: arguments, help and exit codes; each command's work is in its own file, which is
loaded when it is called. Commands about files are in app_files.py.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from valkey_semcache.cli.app_files import COMMANDS
from valkey_semcache.cli.arguments import (
    EXIT_CODES,
    NOT_ALL,
    AsJson,
    CacheInstead,
    Name,
    Timeout,
    Url,
)
from valkey_semcache.cli.helping import Command, Group
from valkey_semcache.cli.where import server_url

app = typer.Typer(
    cls=Group,
    help="A semantic cache for LLM answers on Valkey.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
command = partial(app.command, cls=Command)


def _tell_version(wanted: bool) -> None:
    if wanted:
        import valkey_semcache

        typer.echo(valkey_semcache.__version__)
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def semcache(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the release and exit."
        ),
    ] = False,
) -> None:
    """A semantic cache for LLM answers on Valkey."""


@command(epilog="Example: semcache demo --questions my_questions.txt")
def demo(
    questions: Annotated[
        Path | None,
        typer.Option(help="Your own questions instead, one a line.", exists=True, dir_okay=False),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Also write what is shown into this SVG file.")
    ] = None,
    as_json: AsJson = False,
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
        demo.run(questions, svg, as_json=as_json)


@command(epilog="Example: semcache doctor valkeys://cache.example.org:6379")
def doctor(
    url: Url = None,
    name: Name = "semcache",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for a connection, and for each answer.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Look at a server and at a cache on it: what works, what does not, and what to do.

    Nothing is written on the server, and no password is shown. A URL of embedded:// starts its
    server first, and makes its directory. The exit code is 1 if a check failed.
    """
    from valkey_semcache.cli import doctor

    if not doctor.run(server_url(url, "semcache doctor"), name, timeout, as_json=as_json):
        raise typer.Exit(NOT_ALL)


@command(epilog='Example: semcache ask "Can I pay?" --cache app.main:cache --llm app.main:llm')
def ask(
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    url: Annotated[
        str | None, typer.Option(help="The server's URL; without it the environment's.")
    ] = None,
    cache: CacheInstead = None,
    llm: Annotated[
        str | None,
        typer.Option(help="The app's model, as module:object: with a cache of a framework."),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(help="With a URL: the app's embedding model, as module:object; else MiniLM."),
    ] = None,
    name: Name = "semcache",
    namespace: Annotated[str | None, typer.Option(help="The tenant who asks.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="What the answer depends on beside; with --llm the system prompt."),
    ] = None,
    identity: Annotated[str | None, typer.Option(help="The model with its parameters.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The similarity wanted, 0 to 1, instead of the cache's.")
    ] = None,
    neighbours: Annotated[
        int, typer.Option(help="Stored questions to show, of its scope and of others.", max=50)
    ] = 5,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="Show other tenants' questions too.")
    ] = False,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Look a question up and explain: why it hits, or what it misses by.

    Shows what was embedded, what must be the same, and the stored questions that are near, also
    those that a number, another context or another model keeps apart. Nothing is changed by it, and
    no model is asked. The exit code is 1 for a miss, 3 if the look-up failed.
    """
    from valkey_semcache.cli import ask

    asked = {"namespace": namespace, "identity": identity, "model": model, "context": context}
    options: dict[str, Any] = {"neighbours": neighbours, "other_tenants": all_tenants}
    if threshold is not None:
        options["similarity_threshold"] = threshold
    if cache is None:
        url = server_url(url, f"semcache ask {shlex.quote(question)} --url")
    where: dict[str, Any] = {"url": url, "cache": cache, "llm": llm, "embedding": embedding}
    where |= {"name": name, "timeout": timeout}
    code = ask.run(question, **where, asked=asked, options=options, as_json=as_json)
    raise typer.Exit(code)


@command(epilog="Example: semcache bench valkey://localhost:6379 --entries 10000")
def bench(
    url: Url = None,
    entries: Annotated[int, typer.Option(help="Answers that are stored.", min=1)] = 1000,
    calls: Annotated[int, typer.Option(help="Look-ups of each kind.", min=1)] = 1000,
    answer_bytes: Annotated[int, typer.Option(help="Of each answer.", min=1)] = 1000,
    dimensions: Annotated[int, typer.Option(help="Of the vectors.", min=8)] = 384,
    index: Annotated[str, typer.Option(help="The kind of index: auto, search or flat.")] = "auto",
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Measure hits, misses and stores on a server, and the bare client beside them.

    Under a name of its own, which is cleared at the end. Embedding is not measured.
    """
    from valkey_semcache.cli import bench

    sizes: dict[str, Any] = {"entries": entries, "calls": calls, "answer_bytes": answer_bytes}
    options: dict[str, Any] = {"dimensions": dimensions, "index": index, "timeout": timeout}
    bench.run(server_url(url, "semcache bench"), **sizes, **options, as_json=as_json)


@command(epilog="Example: semcache stats valkey://localhost:6379 --watch")
def stats(
    url: Url = None,
    name: Name = "semcache",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option(help="Seconds between two looks of --watch.", min=0.1)
    ] = 2.0,
    times: Annotated[
        int | None, typer.Option(help="End --watch after so many looks.", min=1)
    ] = None,
    min_hit_rate: Annotated[
        float | None,
        typer.Option(help="Exit code 1 if the last hour's hit rate is lower, 0 to 1.", max=1),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Entries of each index that are looked at.", min=1)
    ] = 500,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show what all processes have done with a cache, and what it holds.

    Hit rates by tier and model, p50 and p95, saved tokens and money, errors: as told to Valkey by
    every process (option fleet_stats). Then entries by embedding model, and the bytes they take,
    of a random sample; all keys are walked for it, under --watch once a minute. Nothing is written.
    """
    from valkey_semcache.cli import stats

    again: dict[str, Any] = {"watch": watch, "interval": interval, "times": times}
    url = server_url(url, "semcache stats")
    if not stats.run(url, name, sample, timeout, as_json=as_json, least=min_hit_rate, **again):
        raise typer.Exit(NOT_ALL)


@command(epilog="Example: semcache reindex valkey://localhost:6379 --to search")
def reindex(
    url: Url = None,
    to: Annotated[str, typer.Option(help="The kind of index to go over to: search or flat.")] = ...,  # type: ignore[assignment]
    name: Name = "semcache",
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Let all that a cache has stored be found by the other kind of index.

    Entries stay as they are. Processes that use the cache meanwhile have to be started anew
    afterwards. If it is stopped half way, the same command does the rest.
    """
    from valkey_semcache.cli import reindex

    url = server_url(url, "semcache reindex")
    reindex.run(url, name, to, timeout, as_json=as_json)


@command(epilog="Example: semcache clear valkey://localhost:6379 --namespace acme")
def clear(
    url: Url = None,
    cache: CacheInstead = None,
    name: Name = "semcache",
    namespace: Annotated[str | None, typer.Option(help="Only this tenant's entries.")] = None,
    identity: Annotated[str | None, typer.Option(help="Only those of this llm_string.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model's name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a cache's entries, or those of one tenant or model. Asks first.

    A cache with a digest_key or encryption_key must be given by --cache to clear a part of it. The
    exit code is 1 if the answer was no.
    """
    from valkey_semcache.cli import clear

    if cache is None:
        url = server_url(url, "semcache clear")
    scope = {"namespace": namespace, "identity": identity, "model": model}
    clear.run(url, cache, name, scope, agreed=yes, as_json=as_json)


for _name, (_command, _example) in COMMANDS.items():
    command(_name, epilog=_example)(_command)
