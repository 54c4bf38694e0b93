"""Several flows at once: what they want done is done in one batch.

Rule of this file: the flows do not notice. Each is sent the outcome of its own operation, and the
error of one is none of another's. What is read or created twice alike is sent once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from valkey_semcache.errors import SemcacheError
from valkey_semcache.flow.operations import (
    Command,
    Embed,
    EmbedMany,
    Flow,
    Judge,
    JudgeMany,
    Operation,
    Pipeline,
    Script,
    batched,
)

T = TypeVar("T")

_ONCE = frozenset(("EXISTS", "FT.CREATE", "FT.INFO", "FT.SEARCH", "HMGET", "ZRANGE"))


def together(flows: Sequence[Flow[T]]) -> Flow[list[T | Exception]]:
    """The flows' values, or what each of them raised, in order.

    The server is asked first, in one pipeline for all that want something of it; only when none
    that goes on does, texts are embedded in one batch; and only then, candidates are judged.
    """
    results: list[Any] = [None] * len(flows)
    waiting: dict[int, Operation] = {}

    def go_on(place: int, outcome: Any, error: Exception | None = None) -> None:
        flow = flows[place]
        alone = batched.set(True)
        try:
            waiting[place] = flow.send(outcome) if error is None else flow.throw(error)
        except StopIteration as stop:
            results[place] = stop.value
            waiting.pop(place, None)
        except Exception as raised:  # noqa: BLE001 - it is this flow's result
            results[place] = raised
            waiting.pop(place, None)
        finally:
            batched.reset(alone)

    for place in range(len(flows)):
        go_on(place, None)
    while waiting:
        wanted, batch = _next(waiting)
        try:
            outcomes = yield from batch
        except SemcacheError as error:
            outcomes = dict.fromkeys(wanted, error)
        for place, outcome in outcomes.items():
            if isinstance(outcome, SemcacheError):
                # One error for all of them would grow by the frames of each.
                go_on(place, None, outcome.with_traceback(None))
            else:
                go_on(place, outcome)
    return results


def _next(
    waiting: dict[int, Operation],
) -> tuple[Mapping[int, Operation], Flow[dict[int, Any]]]:
    """Those whose turn it is, and what does what they want."""
    asking = {p: o for p, o in waiting.items() if not isinstance(o, Embed | Judge)}
    if asking:
        return asking, _server(asking)
    embedding = {p: o for p, o in waiting.items() if isinstance(o, Embed)}
    if embedding:
        return embedding, _embeddings(embedding)
    judging = {p: o for p, o in waiting.items() if isinstance(o, Judge)}
    return judging, _verdicts(judging)


def _verdicts(wanted: dict[int, Judge]) -> Flow[dict[int, Any]]:
    """All that is to be judged, at once; all flows of a batch have one judge."""
    verdicts = yield JudgeMany(list(wanted.values()))
    return dict(zip(wanted, verdicts, strict=True))


def _embeddings(wanted: dict[int, Embed]) -> Flow[dict[int, Any]]:
    """One embedding batch; a text that several ask for is embedded once."""
    texts = {place: operation.text for place, operation in wanted.items()}
    unique = list(dict.fromkeys(texts.values()))
    vectors = yield EmbedMany(unique)
    by_text = dict(zip(unique, vectors, strict=True))
    return {place: by_text[text] for place, text in texts.items()}


def _server(wanted: Mapping[int, Operation]) -> Flow[dict[int, Any]]:
    """One pipeline; each flow is given what it would have been given alone."""
    if len(wanted) == 1:
        ((place, operation),) = wanted.items()
        return {place: (yield operation)}
    commands: list[Command | Script] = []
    sent: dict[tuple[Any, ...], int] = {}
    places: dict[int, list[int]] = {}
    alone: dict[int, Operation] = {}
    for place, operation in wanted.items():
        if isinstance(operation, Pipeline):
            places[place] = [_add(commands, sent, command) for command in operation.commands]
        elif isinstance(operation, Command | Script):
            places[place] = [_add(commands, sent, operation)]
        else:
            alone[place] = operation
    outcomes: dict[int, Any] = {}
    if commands:
        replies = yield Pipeline(commands)
        for place, numbers in places.items():
            own = [replies[number] for number in numbers]
            outcomes[place] = own if isinstance(wanted[place], Pipeline) else own[0]
    for place, operation in alone.items():
        outcomes[place] = yield operation
    return outcomes


def _add(
    commands: list[Command | Script], sent: dict[tuple[Any, ...], int], command: Command | Script
) -> int:
    """Put a command into the pipeline, unless one just like it is there; its number there."""
    if isinstance(command, Command) and command.arguments[0] in _ONCE:
        number = sent.setdefault(command.arguments, len(commands))
        if number < len(commands):
            return number
    commands.append(command)
    return len(commands) - 1
