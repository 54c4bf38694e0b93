"""The two loops that carry flows out: one that waits, one that awaits.

Rule of this file: I/O and the translation of its errors. What to do next is the flow's; the
sync and the async loop differ in nothing but `await`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.errors import SemcacheError, ServerReplyError, ServerUnreachableError
from valkey_semcache.flow.operations import (
    Command,
    Embed,
    EmbedMany,
    Flow,
    Judge,
    JudgeMany,
    Nodes,
    Operation,
    Script,
    Settle,
    Sleep,
)
from valkey_semcache.gathering import Gathering
from valkey_semcache.server.asking import Asked
from valkey_semcache.server.cluster import (
    anodes_of,
    drop_connections,
    is_cluster_client,
    lost_in_cluster,
    nodes_of,
)
from valkey_semcache.server.connect import Server, decodes
from valkey_semcache.server.settling import Settling

T = TypeVar("T")


class Drive:
    """Carries flows out against one server and one embedding model.

    Args:
        server: The server.
        embedding: The model.
        batch_window: Seconds for which texts of concurrent tasks are gathered into one call of
            the model; 0 for not.
    """

    def __init__(
        self, server: Server, embedding: EmbeddingModel, batch_window: float = 0.0
    ) -> None:
        self.server = server
        self.embedding = embedding
        self._gathering = Gathering(embedding, batch_window) if batch_window else None
        self._asked = Asked()
        self._settling = Settling()

    def run(self, flow: Flow[T]) -> T:
        """Carry `flow` out and return its value; what it does not catch is raised."""
        outcome: Any = None
        error: SemcacheError | None = None
        try:
            while True:
                operation = flow.send(outcome) if error is None else flow.throw(error)
                outcome, error = None, None
                try:
                    outcome = self._do(operation)
                except SemcacheError as raised:
                    error = raised
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def arun(self, flow: Flow[T]) -> T:
        """The same, without blocking the event loop."""
        outcome: Any = None
        error: SemcacheError | None = None
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            while True:
                operation = flow.send(outcome) if error is None else flow.throw(error)
                outcome, error = None, None
                try:
                    outcome = await self._ado(operation)
                except SemcacheError as raised:
                    error = raised
                # Until Python 3.12 `asyncio.wait_for`, by which valkey-py sends, swallows a
                # cancellation that comes in the moment when all is sent.
                if task is not None and task.cancelling() > cancelled:
                    raise asyncio.CancelledError
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _do(self, operation: Operation, *, again: bool = True) -> Any:
        """Carry one operation out. What fails because a cluster was just looked up anew is done
        once more: no operation of a flow does harm by being done twice."""
        if isinstance(operation, Embed):
            return self.embedding.vector(operation.text)
        if isinstance(operation, EmbedMany):
            return self.embedding.vectors(operation.texts)
        if isinstance(operation, Sleep):
            return time.sleep(operation.seconds)
        if isinstance(operation, Settle):
            return self._settling.register(operation)
        if isinstance(operation, Judge):
            return operation.by.ask(*operation.case)
        if isinstance(operation, JudgeMany):
            return operation.by.ask_many(operation.cases)
        self._admit()
        client = None
        try:
            client = self.server.client()
            never_decode = {"NEVER_DECODE": True} if decodes(client) else {}
            if isinstance(operation, Command):
                node = operation.node
                if node is None and _names_no_node(client, operation):
                    reply = self._asked.ask(client, operation.arguments, never_decode)
                else:
                    to = client if node is None else client.get_valkey_connection(node)
                    reply = to.execute_command(*operation.arguments, **never_decode)
            elif isinstance(operation, Nodes):
                reply = nodes_of(client)
            elif isinstance(operation, Script):
                try:
                    reply = client.execute_command(*_by_sha(operation), **never_decode)
                except NoScriptError:
                    reply = client.execute_command(*_by_text(operation), **never_decode)
                self._settling.settle(client, [operation.key])
            else:
                reply = self._pipelined(client, operation.commands, never_decode)
                self._settling.settle(client, _scripted(operation.commands))
        except (ValkeyError, OSError) as error:
            raise self._translated(error) from error
        except AttributeError as error:
            lost = lost_in_cluster(client, error)
            if again:
                return self._do(operation, again=False)
            raise self._translated(lost) from error
        except SemcacheError:
            raise
        except BaseException:
            # An interrupt (Ctrl-C, a signal handler that raises) can fall between a command
            # and its reply; the connection would give that reply to the next command.
            if client is not None:
                drop_connections(client)
            raise
        self.server.breaker.succeeded()
        return reply

    async def _ado(self, operation: Operation, *, again: bool = True) -> Any:
        """The same, without blocking the event loop."""
        if isinstance(operation, Embed):
            if self._gathering is not None:
                return await self._gathering.vector(operation.text)
            return await self.embedding.avector(operation.text)
        if isinstance(operation, EmbedMany):
            return await self.embedding.avectors(operation.texts)
        if isinstance(operation, Sleep):
            return await asyncio.sleep(operation.seconds)
        if isinstance(operation, Settle):
            return self._settling.register(operation)
        if isinstance(operation, Judge):
            return await operation.by.aask(*operation.case)
        if isinstance(operation, JudgeMany):
            return await operation.by.aask_many(operation.cases)
        self._admit()
        client = None
        try:
            client = await self.server.async_client()
            never_decode = {"NEVER_DECODE": True} if decodes(client) else {}
            if isinstance(operation, Command):
                node = operation.node
                if node is None and _names_no_node(client, operation):
                    reply = await self._asked.aask(client, operation.arguments, never_decode)
                else:
                    to = client if node is None else node
                    reply = await to.execute_command(*operation.arguments, **never_decode)
            elif isinstance(operation, Nodes):
                reply = await anodes_of(client)
            elif isinstance(operation, Script):
                try:
                    reply = await client.execute_command(*_by_sha(operation), **never_decode)
                except NoScriptError:
                    reply = await client.execute_command(*_by_text(operation), **never_decode)
                await self._settling.asettle(client, [operation.key])
            else:
                reply = await self._apipelined(client, operation.commands, never_decode)
                await self._settling.asettle(client, _scripted(operation.commands))
        except (ValkeyError, OSError) as error:
            raise self._translated(error) from error
        except AttributeError as error:
            lost = lost_in_cluster(client, error)
            if again:
                return await self._ado(operation, again=False)
            raise self._translated(lost) from error
        self.server.breaker.succeeded()
        return reply

    def _pipelined(
        self, client: Any, commands: Sequence[Command | Script], never_decode: dict[str, bool]
    ) -> list[Any]:
        """The replies to a pipeline. Scripts that the server does not know go again, as text."""
        replies: dict[int, Any] = {}
        send = dict(enumerate(commands))
        for number, command in _without_node(client, commands):
            del send[number]
            try:
                replies[number] = self._asked.ask(client, command.arguments, never_decode)
            except ResponseError as error:
                replies[number] = error
        words = _by_sha
        while send:
            with client.pipeline(**_no_transaction(client)) as pipeline:
                _fill(pipeline, send, words, never_decode)
                replies.update(zip(send, pipeline.execute(raise_on_error=False), strict=True))
            send, words = _unknown(send, replies, words), _by_text
        return self._replies([replies[number] for number in range(len(commands))])

    async def _apipelined(
        self, client: Any, commands: Sequence[Command | Script], never_decode: dict[str, bool]
    ) -> list[Any]:
        replies: dict[int, Any] = {}
        send = dict(enumerate(commands))
        for number, command in _without_node(client, commands):
            del send[number]
            try:
                replies[number] = await self._asked.aask(client, command.arguments, never_decode)
            except ResponseError as error:
                replies[number] = error
        words = _by_sha
        while send:
            async with client.pipeline(**_no_transaction(client)) as pipeline:
                _fill(pipeline, send, words, never_decode)
                given = await pipeline.execute(raise_on_error=False)
                replies.update(zip(send, given, strict=True))
            send, words = _unknown(send, replies, words), _by_text
        return self._replies([replies[number] for number in range(len(commands))])

    def _admit(self) -> None:
        if not self.server.breaker.allows():
            raise ServerUnreachableError(
                f"Valkey at {self.server.where} failed several times in a row, so it is left "
                "alone for half a second."
            )

    def _replies(self, replies: list[Any]) -> list[Any]:
        """A pipeline's replies; an error reply among them becomes a `ServerReplyError`.

        Raises:
            ServerUnreachableError: One of a cluster's nodes did not answer.
        """
        translated = []
        for reply in replies:
            if isinstance(reply, Exception):
                if not isinstance(reply, ResponseError):
                    raise reply
                translated.append(self._translated(reply))
            else:
                translated.append(reply)
        return translated

    def _translated(self, error: Exception) -> SemcacheError:
        if isinstance(error, ResponseError):
            self.server.breaker.succeeded()
            # valkey-py takes the code (NOPERM, OOM, …) off where it has a class for it.
            kind = "" if type(error) is ResponseError else f"{type(error).__name__}: "
            return ServerReplyError(f"{kind}{error}")
        self.server.breaker.failed()
        return ServerUnreachableError(
            f"No answer from Valkey at {self.server.where} ({type(error).__name__}: {error}). "
            "Is it running, and may this process reach it?"
        )


def _no_transaction(client: Any) -> dict[str, bool]:
    """For `pipeline()`: cluster clients have no transactions to be told off."""
    return {} if is_cluster_client(client) else {"transaction": False}


def _names_no_node(client: Any, command: Command) -> bool:
    """Whether nothing in a command tells a cluster client where to send it."""
    return is_cluster_client(client) and str(command.arguments[0]).startswith("FT.")


def _scripted(commands: Sequence[Command | Script]) -> list[str]:
    """The keys on which scripts ran."""
    return [command.key for command in commands if isinstance(command, Script)]


def _by_sha(script: Script) -> tuple[Any, ...]:
    return ("EVALSHA", script.source.sha, 1, script.key, *script.arguments)


def _by_text(script: Script) -> tuple[Any, ...]:
    return ("EVAL", script.source.text, 1, script.key, *script.arguments)


_Words = Callable[[Script], tuple[Any, ...]]


def _fill(
    pipeline: Any,
    commands: Mapping[int, Command | Script],
    words: _Words,
    never_decode: dict[str, bool],
) -> None:
    for command in commands.values():
        sent = words(command) if isinstance(command, Script) else command.arguments
        pipeline.execute_command(*sent, **never_decode)


def _without_node(client: Any, commands: Sequence[Command | Script]) -> list[tuple[int, Command]]:
    """The commands that no pipeline of a cluster client can send."""
    if not is_cluster_client(client):
        return []
    return [
        (number, command)
        for number, command in enumerate(commands)
        if isinstance(command, Command) and _names_no_node(client, command)
    ]


def _unknown(
    sent: Mapping[int, Command | Script], replies: Mapping[int, Any], words: _Words
) -> dict[int, Command | Script]:
    """The scripts that the server did not know by their SHA-1."""
    if words is not _by_sha:
        return {}
    return {n: c for n, c in sent.items() if isinstance(replies[n], NoScriptError)}
