"""`semcache ask`: what a cache makes of one question, and why.

Rule of this file: showing. What is found, and what is told of it, is `explain`'s.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from valkey_semcache.cache import SemanticCache
from valkey_semcache.cli.arguments import NO_SERVER, NOT_ALL
from valkey_semcache.cli.objects import loaded
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.explanation import Explanation
from valkey_semcache.outcome import Hit
from valkey_semcache.question import Question

_BY_THE_APP = (
    "To ask with your app's embedding model, give its cache instead of --url: --cache "
    "module:object, and for a cache of LangChain or LlamaIndex --llm module:object too."
)


def run(
    question: str,
    *,
    url: str | None,
    cache: str | None,
    llm: str | None,
    embedding: str | None,
    name: str,
    timeout: float,
    asked: dict[str, str | None],
    options: dict[str, Any],
    as_json: bool,
) -> int:
    """Explain, show, and say by the exit code what came of it.

    Args:
        question: The question.
        url: The server; None for the environment's.
        cache: The app's cache as module:object, instead of a server.
        llm: The app's model, for the caches of the frameworks.
        embedding: The app's embedding model, for a server; None for MiniLM.
        name: The cache's name on the server.
        timeout: Seconds to wait for an answer of the server.
        asked: Namespace, identity, model and context of the question.
        options: Of `explain`.
        as_json: Whether JSON is printed.
    """
    if cache is not None:
        opened = loaded(cache, "--cache")
    else:
        how: dict[str, Any] = {"name": name, "timeout": timeout, "fleet_stats": False}
        opened = SemanticCache(_embedding(embedding), url, **how)
    core = getattr(opened, "core", opened)
    if not isinstance(core, SemanticCache):
        raise ConfigurationError(f"--cache {cache} is a {type(opened).__name__}, not a cache.")
    with core:
        explained = _explained(opened, llm, question, asked, options)
        explained = _with_other_models(core, explained, by_url=cache is None)
    if as_json:
        print(json.dumps(_plain(question, explained), indent=2))  # noqa: T201
    else:
        _show(question, explained, Console(highlight=False))
    if isinstance(explained.outcome, Hit):
        return 0
    return NO_SERVER if explained.outcome.reason == "error" else NOT_ALL


def _embedding(name: str | None) -> Any:
    if name is not None:
        return loaded(name, "--embedding")
    from valkey_semcache.offline import MiniLM

    return MiniLM()


def _explained(
    cache: Any,
    llm: str | None,
    question: str,
    asked: dict[str, str | None],
    options: dict[str, Any],
) -> Explanation:
    """Through the framework whose cache it is."""
    core = getattr(cache, "core", cache)
    through_framework = hasattr(cache, "warm")
    if through_framework != (llm is not None):
        need = (
            "needs --llm module:object" if through_framework else "asks no model: leave out --llm"
        )
        raise ConfigurationError(f"This cache {need}.")
    if llm is None:
        given = {what: value for what, value in asked.items() if value is not None}
        explained: Explanation = core.explain(Question(question, **given), **options)
        return explained
    if unfit := [f"--{what}" for what in ("identity", "model") if asked[what] is not None]:
        raise ConfigurationError(f"{' and '.join(unfit)} are read off the model of --llm.")
    if options.pop("similarity_threshold", None) is not None:
        raise ConfigurationError("--threshold is the app's own with --llm.")
    model, system, namespace = loaded(llm, "--llm"), asked["context"], asked["namespace"]
    if cache is not core:
        cache = cache if namespace is None else cache.with_namespace(namespace)
        messages = [*([("system", system)] if system else []), ("human", question)]
        return cache.explain(messages, model, **options)  # type: ignore[no-any-return]
    from llama_index.core.base.llms.types import ChatMessage

    if namespace is not None:
        raise ConfigurationError("--namespace is the SemanticCacheLLM's own.")
    chat = [ChatMessage(role="system", content=system)] if system else []
    return model.explain(  # type: ignore[no-any-return]
        [*chat, ChatMessage(role="user", content=question)], **options
    )


def _with_other_models(core: SemanticCache, explained: Explanation, *, by_url: bool) -> Explanation:
    """Where nothing is stored, say so if it is under other embedding models."""
    outcome = explained.outcome
    if isinstance(outcome, Hit) or outcome.reason == "error":
        return explained
    if explained.neighbours or explained.scope is None:
        return explained
    stored = core.indexes()
    if any(index.in_use and index.entries for index in stored):
        return explained
    others = [index.model or "one that is not known" for index in stored if index.entries]
    told = f"Nothing is stored under the name {core.name!r}."
    if others:
        told = f"All entries of {core.name!r} are of other embedding models: {', '.join(others)}."
    remarks = [*explained.remarks, told, *([_BY_THE_APP] if others and by_url else [])]
    return replace(explained, remarks=tuple(remarks))


def _show(question: str, explained: Explanation, console: Console) -> None:
    console.print(Text(f"\n{question}", style="bold"))
    console.print(explained)
    if isinstance(explained.outcome, Hit):
        console.print(Text("\nanswer", style="dim"))
        console.print(Text(answer_text(explained.outcome.answer)))


def _plain(question: str, explained: Explanation) -> dict[str, Any]:
    outcome = explained.outcome
    answer = answer_text(outcome.answer) if isinstance(outcome, Hit) else None
    return {"question": question, "answer": answer, **explained.as_dict()}


def answer_text(answer: Any) -> str:
    """An answer as text, whichever framework's it is."""
    if isinstance(answer, list) and answer:  # LangChain's generations
        answer = answer[0]
    for name in ("text", "message", "content"):
        found = getattr(answer, name, None)
        if isinstance(found, str):
            return found
        answer = found if name == "message" and found is not None else answer
    return str(answer)
