"""The two loops that carry flows out: one that waits, one that awaits.

Rule of this file: I/O and the translation of its errors. What to do next is the flow's; the
sync and the async loop differ in nothing but `await`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from valkey.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    ResponseError,
    ValkeyClusterException,
    ValkeyError,
)

from valkey_semcache.at_first_use import load
from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.errors import SemcacheError, ServerReplyError, ServerUnreachableError
from valkey_semcache.flow.operations import (
    Command,
    Embed,
    EmbedMany,
    Flow,
    Judge,
    Nodes,
    Operation,
    Pipeline,
    Script,
    Settle,
    Sleep,
)
from valkey_semcache.gathering import Gathering
from valkey_semcache.server.cluster import lost_in_cluster
from valkey_semcache.server.connect import AsyncLine, Line, Server
from valkey_semcache.server.settling import Settling

T = TypeVar("T")

_UNANSWERED = (ValkeyError, ValkeyClusterException, OSError)
"""valkey-py's error of a whole cluster is none of its others."""

_WITH_A_VECTOR = (
    *("valkey_semcache.vectors", "valkey_semcache.index.opening", "valkey_semcache.index.search"),
)
"""Modules that what follows a process's first embedding needs."""

_RIGHTS = " (`semcache doctor URL` lists the rights that are missing.)"

_FOR_THE_SERVER = (Command, Script, Pipeline, Nodes)


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
        self._settling = Settling()
        self._has_loaded = False

    def run(self, flow: Flow[T]) -> T:
        """Carry `flow` out and return its value; what it does not catch is raised."""
        return self._run(flow, self._do)

    async def arun(self, flow: Flow[T]) -> T:
        """The same, without blocking the event loop."""
        return await self._arun(flow, self._ado)

    def _run(self, flow: Flow[T], do: Callable[[Operation], Any]) -> T:
        try:
            operation = next(flow)
            while True:
                try:
                    outcome = do(operation)
                except SemcacheError as error:
                    operation = flow.throw(error)
                else:
                    operation = flow.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _arun(self, flow: Flow[T], do: Callable[[Operation], Awaitable[Any]]) -> T:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            operation = next(flow)
            while True:
                error: SemcacheError | None = None
                try:
                    outcome = await do(operation)
                except SemcacheError as raised:
                    error = raised
                # Until Python 3.12 `asyncio.wait_for`, by which valkey-py sends, swallows a
                # cancellation that comes in the moment when all is sent.
                if task is not None and task.cancelling() > cancelled:
                    raise asyncio.CancelledError
                operation = flow.send(outcome) if error is None else flow.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _do(self, operation: Operation) -> Any:
        """Carry one operation out."""
        if isinstance(operation, _FOR_THE_SERVER):
            return self._asked(operation)
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
        return operation.by.ask_many(operation.cases)

    async def _ado(self, operation: Operation) -> Any:
        """The same, without blocking the event loop."""
        if isinstance(operation, _FOR_THE_SERVER):
            return await self._aasked(operation)
        if isinstance(operation, Embed | EmbedMany):
            return await self._aembedded(operation)
        if isinstance(operation, Sleep):
            return await asyncio.sleep(operation.seconds)
        if isinstance(operation, Settle):
            return self._settling.register(operation)
        if isinstance(operation, Judge):
            return await operation.by.aask(*operation.case)
        return await operation.by.aask_many(operation.cases)

    async def _aembedded(self, operation: Embed | EmbedMany) -> Any:
        if not self._has_loaded:  # with numpy that takes a tenth of a second
            await asyncio.to_thread(load, *_WITH_A_VECTOR)
            self._has_loaded = True
        if isinstance(operation, EmbedMany):
            return await self.embedding.avectors(operation.texts)
        if self._gathering is not None:
            return await self._gathering.vector(operation.text)
        return await self.embedding.avector(operation.text)

    def _asked(self, operation: Command | Script | Pipeline | Nodes, *, again: bool = True) -> Any:
        """What the server says. What fails because a cluster was just looked up anew is asked
        once more: no operation of a flow does harm by being done twice."""
        self._admit()
        line: Line | None = None
        try:
            line = self.server.line()
            if isinstance(operation, Command):
                reply = line.ask(operation.arguments, operation.node)
            elif isinstance(operation, Script):
                try:
                    reply = line.ask(_by_sha(operation))
                except NoScriptError:
                    reply = line.ask(_by_text(operation))
                self._settling.settle(line, (operation.key,))
            elif isinstance(operation, Nodes):
                reply = line.nodes()
            else:
                reply = self._replies(self._pipelined(line, operation.commands))
                self._settling.settle(line, _scripted(operation.commands))
        except _UNANSWERED as error:
            raise self._translated(error) from error
        except AttributeError as error:
            lost = lost_in_cluster(line and line.client, error)
            if again:
                return self._asked(operation, again=False)
            raise self._translated(lost) from error
        except SemcacheError:
            raise
        except BaseException:
            # An interrupt (Ctrl-C, a signal handler that raises) can fall between a command
            # and its reply; the connection would give that reply to the next command.
            if line is not None:
                line.drop()
            raise
        self.server.breaker.succeeded()
        return reply

    async def _aasked(
        self, operation: Command | Script | Pipeline | Nodes, *, again: bool = True
    ) -> Any:
        """The same, without blocking the event loop."""
        self._admit()
        line: AsyncLine | None = None
        try:
            line = await self.server.async_line()
            if isinstance(operation, Command):
                reply = await line.ask(operation.arguments, operation.node)
            elif isinstance(operation, Script):
                try:
                    reply = await line.ask(_by_sha(operation))
                except NoScriptError:
                    reply = await line.ask(_by_text(operation))
                await self._settling.asettle(line, (operation.key,))
            elif isinstance(operation, Nodes):
                reply = await line.nodes()
            else:
                reply = self._replies(await self._apipelined(line, operation.commands))
                await self._settling.asettle(line, _scripted(operation.commands))
        except _UNANSWERED as error:
            raise self._translated(error) from error
        except AttributeError as error:
            lost = lost_in_cluster(line and line.client, error)
            if again:
                return await self._aasked(operation, again=False)
            raise self._translated(lost) from error
        self.server.breaker.succeeded()
        return reply

    def _pipelined(self, line: Line, commands: Sequence[Command | Script]) -> list[Any]:
        """The replies to a pipeline. Scripts that the server does not know go again, as text."""
        replies = line.ask_all([_words(command) for command in commands])
        unknown = _unknown(commands, replies)
        if unknown:
            texts = line.ask_all([_by_text(script) for script in unknown.values()])
            for number, reply in zip(unknown, texts, strict=True):
                replies[number] = reply
        return replies

    async def _apipelined(self, line: AsyncLine, commands: Sequence[Command | Script]) -> list[Any]:
        replies = await line.ask_all([_words(command) for command in commands])
        unknown = _unknown(commands, replies)
        if unknown:
            texts = await line.ask_all([_by_text(script) for script in unknown.values()])
            for number, reply in zip(unknown, texts, strict=True):
                replies[number] = reply
        return replies

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
            rights = isinstance(error, NoPermissionError) or "ACL failure in script" in str(error)
            return ServerReplyError(f"{kind}{error}{_RIGHTS if rights else ''}")
        self.server.breaker.failed()
        # A cluster client tells of it as the cause of its own error.
        login = error if isinstance(error, AuthenticationError) else error.__cause__
        if isinstance(login, AuthenticationError):
            return ServerUnreachableError(
                f"Valkey at {self.server.where} answers, but refuses the login "
                f"({type(login).__name__}: {login}). Give user and password in the URL "
                "(valkey://user:password@host:6379), in the environment or to your own client, or "
                "check those given; ACL GETUSER shows whether the user is on."
            )
        return ServerUnreachableError(
            f"No answer from Valkey at {self.server.where} ({type(error).__name__}: {error}). "
            "Is it running, and may this process reach it?"
        )


def _scripted(commands: Sequence[Command | Script]) -> list[str]:
    """The keys on which scripts ran."""
    return [command.key for command in commands if isinstance(command, Script)]


def _words(command: Command | Script) -> tuple[Any, ...]:
    return _by_sha(command) if isinstance(command, Script) else command.arguments


def _by_sha(script: Script) -> tuple[Any, ...]:
    return ("EVALSHA", script.source.sha, 1, script.key, *script.arguments)


def _by_text(script: Script) -> tuple[Any, ...]:
    return ("EVAL", script.source.text, 1, script.key, *script.arguments)


def _unknown(commands: Sequence[Command | Script], replies: Sequence[Any]) -> dict[int, Script]:
    """A pipeline's scripts that the server did not know by their SHA-1, by number."""
    return {
        number: command
        for number, command in enumerate(commands)
        if isinstance(command, Script) and isinstance(replies[number], NoScriptError)
    }
