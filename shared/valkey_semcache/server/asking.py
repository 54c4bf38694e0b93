"""Commands of the module valkey-search in a cluster, which no key sends to a node.

Rule of this file: whichever primary is asked, it asks the others. One is asked as long as it
answers, so that what it was told a moment ago it knows; the next process asks another.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from valkey.exceptions import ConnectionError as LostConnectionError
from valkey.exceptions import ReadOnlyError, ResponseError
from valkey.exceptions import TimeoutError as LateError

from valkey_semcache.server.cluster import anodes_of, nodes_of

_SPREADING = ("FT.CREATE", "FT.DROPINDEX")
_SPREAD_SECONDS = 0.3  # at most; release 1.0 takes 7 to 17 ms
_LOOK_SECONDS = 0.002  # between two looks


class Asked:
    """Which node is asked."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._failed: str | None = None

    def ask(self, client: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The reply to one command, of the first primary that answers.

        Args:
            client: A sync cluster client.
            arguments: The command.
            options: For `execute_command`.

        Raises:
            ValkeyError: The reply is an error, or no primary answers.
        """
        failure: Exception | None = None
        for node in self._in_order(nodes_of(client)):
            try:
                reply = client.execute_command(*arguments, target_nodes=node, **options)
            except (LostConnectionError, ReadOnlyError) as error:
                failure, self._failed = error, node.name
                continue
            except LateError:
                self._failed = node.name
                raise
            except ResponseError as error:
                if _is_settled(error):
                    self._await_others(client, node, arguments)
                raise
            self._name = node.name
            self._await_others(client, node, arguments)
            return reply
        raise failure or LostConnectionError("The cluster has no primary.")

    async def aask(self, client: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The same by an async cluster client."""
        failure: Exception | None = None
        for node in self._in_order(await anodes_of(client)):
            try:
                reply = await client.execute_command(*arguments, target_nodes=node, **options)
            except (LostConnectionError, ReadOnlyError) as error:
                failure, self._failed = error, node.name
                continue
            except LateError:
                self._failed = node.name
                raise
            except ResponseError as error:
                if _is_settled(error):
                    await self._aawait_others(client, node, arguments)
                raise
            self._name = node.name
            await self._aawait_others(client, node, arguments)
            return reply
        raise failure or LostConnectionError("The cluster has no primary.")

    def _in_order(self, nodes: list[Any]) -> list[Any]:
        """The one asked last, then the others by lot: not all processes shall ask the same.

        The one that failed last comes at the end.
        """
        random.shuffle(nodes)
        nodes.sort(key=lambda node: (node.name == self._failed, node.name != self._name))
        return nodes

    def _await_others(self, client: Any, asked: Any, arguments: tuple[Any, ...]) -> None:
        """Wait until the other primaries know of an index made or dropped.

        Release 1.2 answers only then, 1.0 at once; in between, another node finds nothing among
        its own entries.
        """
        if arguments[0] in _SPREADING:
            deadline = time.monotonic() + _SPREAD_SECONDS
            for node in nodes_of(client):
                while node != asked and time.monotonic() < deadline:
                    try:
                        client.execute_command("FT.INFO", arguments[1], target_nodes=node)
                        told = arguments[0] == "FT.CREATE"
                    except ResponseError as error:
                        told = _tells(error, arguments[0])
                    except LostConnectionError:
                        told = True
                    if told:
                        break
                    time.sleep(_LOOK_SECONDS)

    async def _aawait_others(self, client: Any, asked: Any, arguments: tuple[Any, ...]) -> None:
        """The same by an async cluster client."""
        if arguments[0] in _SPREADING:
            deadline = time.monotonic() + _SPREAD_SECONDS
            for node in await anodes_of(client):
                while node != asked and time.monotonic() < deadline:
                    try:
                        await client.execute_command("FT.INFO", arguments[1], target_nodes=node)
                        told = arguments[0] == "FT.CREATE"
                    except ResponseError as error:
                        told = _tells(error, arguments[0])
                    except LostConnectionError:
                        told = True
                    if told:
                        break
                    await asyncio.sleep(_LOOK_SECONDS)


def _is_settled(error: ResponseError) -> bool:
    """Whether somebody else has made, or dropped, this index a moment ago."""
    return "already exists" in str(error) or "not found" in str(error)


def _tells(error: ResponseError, command: str) -> bool:
    """Whether an error reply to FT.INFO shows that the node has heard of `command`.

    One that speaks of something else (the right to ask, a server that loads) tells nothing that
    could be waited for.
    """
    return "not found" not in str(error) or command == "FT.DROPINDEX"
