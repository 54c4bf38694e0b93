"""Through a client of valkey-py: one that the app has given, or one of a cluster.

Rule of this file: what these clients do otherwise than a connection of our own is made up for here:
replies turned into text, commands that no key sends to a node, pipelines that cannot have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from valkey.exceptions import ResponseError

from valkey_semcache.server.asking import Asked
from valkey_semcache.server.cluster import (
    anodes_of,
    drop_connections,
    is_cluster_client,
    nodes_of,
)

Arguments = tuple[Any, ...]


class ClientLine:
    """Commands by a sync client.

    Args:
        client: The client.
        asked: Which of a cluster's nodes is asked what no key sends to one.
    """

    def __init__(self, client: Any, asked: Asked) -> None:
        self.client = client
        self.in_cluster = is_cluster_client(client)
        self._asked = asked
        self._options = _options(client)

    def ask(self, arguments: Arguments, node: Any = None) -> Any:
        """The reply to one command, undecoded.

        Args:
            arguments: The command.
            node: One that `nodes` gave; None for where its key lies.

        Raises:
            ValkeyError: The reply is an error, or there is none.
            OSError: Likewise.
        """
        if node is not None:
            client = self.client.get_valkey_connection(node)
            return client.execute_command(*arguments, **self._options)
        if self.in_cluster and _names_no_node(arguments):
            return self._asked.ask(self.client, arguments, self._options)
        return self.client.execute_command(*arguments, **self._options)

    def ask_all(self, commands: Sequence[Arguments]) -> list[Any]:
        """The replies to several commands at once, an error in place of one that is an error.

        Raises:
            ValkeyError: There is no reply.
            OSError: Likewise.
        """
        replies: dict[int, Any] = {}
        alone, together = _parted(commands, in_cluster=self.in_cluster)
        for number, command in alone.items():
            try:
                replies[number] = self._asked.ask(self.client, command, self._options)
            except ResponseError as error:
                replies[number] = error
        if together:
            with self.client.pipeline(**_no_transaction(in_cluster=self.in_cluster)) as pipeline:
                for command in together.values():
                    pipeline.execute_command(*command, **self._options)
                given = pipeline.execute(raise_on_error=False)
            replies.update(zip(together, given, strict=True))
        return _in_order(replies)

    def nodes(self) -> list[Any]:
        """The primaries of a cluster; of a single server None, for itself."""
        return nodes_of(self.client)

    def drop(self) -> None:
        """After an interrupt: no connection is used again that may still owe a reply."""
        drop_connections(self.client)


class AsyncClientLine:
    """Commands by an async client; arguments as for `ClientLine`."""

    def __init__(self, client: Any, asked: Asked) -> None:
        self.client = client
        self.in_cluster = is_cluster_client(client)
        self._asked = asked
        self._options = _options(client)

    async def ask(self, arguments: Arguments, node: Any = None) -> Any:
        """As `ClientLine.ask`, without blocking the event loop."""
        if node is not None:
            return await node.execute_command(*arguments, **self._options)
        if self.in_cluster and _names_no_node(arguments):
            return await self._asked.aask(self.client, arguments, self._options)
        return await self.client.execute_command(*arguments, **self._options)

    async def ask_all(self, commands: Sequence[Arguments]) -> list[Any]:
        """As `ClientLine.ask_all`, without blocking the event loop."""
        replies: dict[int, Any] = {}
        alone, together = _parted(commands, in_cluster=self.in_cluster)
        for number, command in alone.items():
            try:
                replies[number] = await self._asked.aask(self.client, command, self._options)
            except ResponseError as error:
                replies[number] = error
        if together:
            no_transaction = _no_transaction(in_cluster=self.in_cluster)
            async with self.client.pipeline(**no_transaction) as pipeline:
                for command in together.values():
                    pipeline.execute_command(*command, **self._options)
                given = await pipeline.execute(raise_on_error=False)
            replies.update(zip(together, given, strict=True))
        return _in_order(replies)

    async def nodes(self) -> list[Any]:
        """The primaries of a cluster; of a single server None, for itself."""
        return await anodes_of(self.client)


def _options(client: Any) -> dict[str, Any]:
    """For `execute_command`: replies come as bytes, also where the client makes text of them."""
    holder = client.nodes_manager if is_cluster_client(client) else client.connection_pool
    decodes = holder.connection_kwargs.get("decode_responses")
    return {"NEVER_DECODE": True} if decodes else {}


def _names_no_node(arguments: Arguments) -> bool:
    """Whether nothing in a command tells a cluster client where to send it."""
    return str(arguments[0]).startswith("FT.")


def _parted(
    commands: Sequence[Arguments], *, in_cluster: bool
) -> tuple[Mapping[int, Arguments], Mapping[int, Arguments]]:
    """By number, the commands that no pipeline of a cluster client can send, and the others."""
    numbered = dict(enumerate(commands))
    alone = {n: c for n, c in numbered.items() if in_cluster and _names_no_node(c)}
    return alone, {n: c for n, c in numbered.items() if n not in alone}


def _no_transaction(*, in_cluster: bool) -> dict[str, bool]:
    """For `pipeline()`: cluster clients have no transactions to be told off."""
    return {} if in_cluster else {"transaction": False}


def _in_order(replies: Mapping[int, Any]) -> list[Any]:
    return [replies[number] for number in range(len(replies))]
