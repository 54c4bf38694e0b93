"""The two loops that carry flows out: one that waits, one that awaits.

Rule of this file: I/O and the translation of its errors. What to do next is the flow's; the
sync and the async loop differ in nothing but `await`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from valkey_semcache.embedding import EmbeddingModel
from valkey_semcache.errors import SemcacheError, ServerReplyError, ServerUnreachableError
from valkey_semcache.operations import Command, Embed, Flow, Operation, Pipeline, Script
from valkey_semcache.server.connect import Server, decodes

T = TypeVar("T")


class Drive:
    """Carries flows out against one server and one embedding model."""

    def __init__(self, server: Server, embedding: EmbeddingModel) -> None:
        self.server = server
        self.embedding = embedding

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
                reply = client.execute_command(*operation.arguments, **never_decode)
            elif isinstance(operation, Script):
                try:
                    reply = client.execute_command(*_by_sha(operation), **never_decode)
                except NoScriptError:
                    reply = client.execute_command(*_by_text(operation), **never_decode)
            else:
                with client.pipeline(transaction=False) as pipeline:
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
                client.connection_pool.disconnect(inuse_connections=False)
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
                reply = await client.execute_command(*operation.arguments, **never_decode)
            elif isinstance(operation, Script):
                try:
                    reply = await client.execute_command(*_by_sha(operation), **never_decode)
                except NoScriptError:
                    reply = await client.execute_command(*_by_text(operation), **never_decode)
            else:
                async with client.pipeline(transaction=False) as pipeline:
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
        """A pipeline's replies; an error reply among them becomes a `ServerReplyError`."""
        return [self._translated(r) if isinstance(r, Exception) else r for r in replies]

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


def _by_sha(script: Script) -> tuple[Any, ...]:
    return ("EVALSHA", script.source.sha, 1, script.key, *script.arguments)


def _by_text(script: Script) -> tuple[Any, ...]:
    return ("EVAL", script.source.text, 1, script.key, *script.arguments)


def _fill(pipeline: Any, operation: Pipeline, never_decode: dict[str, bool]) -> None:
    for command in operation.commands:
        pipeline.execute_command(*command.arguments, **never_decode)
