"""The two loops that carry flows out: one that waits, one that awaits.

Rule of this file: I/O and the translation of its errors. What to do next is the flow's; the
sync and the async loop differ in nothing but `await`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.errors import SemcacheError, ServerReplyError, ServerUnreachableError
from valkey_semcache.operations import Command, Embed, Flow, Nodes, Operation, Pipeline, Script
from valkey_semcache.server.asking import Asked
from valkey_semcache.server.cluster import CLIENTS, anodes_of, drop_connections, nodes_of
from valkey_semcache.server.connect import Server, decodes

T = TypeVar("T")


class Drive:
    """Carries flows out against one server and one embedding model."""

    def __init__(self, server: Server, embedding: EmbeddingModel) -> None:
        self.server = server
        self.embedding = embedding
        self._asked = Asked()

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
        try:
            while True:
                operation = flow.send(outcome) if error is None else flow.throw(error)
                outcome, error = None, None
                try:
                    outcome = await self._ado(operation)
                except SemcacheError as raised:
                    error = raised
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _do(self, operation: Operation) -> Any:
        if isinstance(operation, Embed):
            return self.embedding.vector(operation.text)
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
            else:
                with client.pipeline(**_no_transaction(client)) as pipeline:
                    _fill(pipeline, operation, never_decode)
                    reply = self._replies(pipeline.execute(raise_on_error=False))
        except (ValkeyError, OSError) as error:
            raise self._translated(error) from error
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

    async def _ado(self, operation: Operation) -> Any:
        if isinstance(operation, Embed):
            return await self.embedding.avector(operation.text)
        self._admit()
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
            else:
                async with client.pipeline(**_no_transaction(client)) as pipeline:
                    _fill(pipeline, operation, never_decode)
                    reply = self._replies(await pipeline.execute(raise_on_error=False))
        except (ValkeyError, OSError) as error:
            raise self._translated(error) from error
        self.server.breaker.succeeded()
        return reply

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
    return {} if isinstance(client, CLIENTS) else {"transaction": False}


def _names_no_node(client: Any, command: Command) -> bool:
    """Whether nothing in a command tells a cluster client where to send it."""
    return isinstance(client, CLIENTS) and str(command.arguments[0]).startswith("FT.")


def _by_sha(script: Script) -> tuple[Any, ...]:
    return ("EVALSHA", script.source.sha, 1, script.key, *script.arguments)


def _by_text(script: Script) -> tuple[Any, ...]:
    return ("EVAL", script.source.text, 1, script.key, *script.arguments)


def _fill(pipeline: Any, operation: Pipeline, never_decode: dict[str, bool]) -> None:
    for command in operation.commands:
        pipeline.execute_command(*command.arguments, **never_decode)
