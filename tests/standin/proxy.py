"""Who answers what: the server behind, the module, or both.

How bytes get from one to the other is known in `link.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tests.standin.journal import Fault, Received
from tests.standin.link import Handler, Link, Order, Shared
from tests.standin.metadata import array_of, items_of, with_commands, with_module
from tests.standin.resp import Failure, decode, encode, encode_command

# From these on, replies no longer answer commands one by one.
STREAMS = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"})
# Takes the place of an FT command in a transaction of the server behind.
PLACEHOLDER = encode_command(["ECHO", "stand-in"])


@dataclass
class Transaction:
    """What a client has queued since MULTI."""

    queued: list[Received | None] = field(default_factory=list)
    """The FT commands; None for what the server behind answers."""
    asks_module: bool = False
    flushes: int = 0


class Connection(Link):
    """A client's connection, sorted out command by command."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._module = shared.module
        self._busy = False
        self._user: str | None = None
        """Who has logged in; None: nobody yet, which is the user `default`."""
        self._unsettled = False
        """The database or the protocol may change with a reply that is under way."""
        self._protocol, self._db = 2, 0
        self._transaction: Transaction | None = None

    def work(self) -> None:
        """Passes on what the server behind answers, up to a command that is answered here."""
        while self.orders and self.connected and not (self._busy or self._unsettled):
            order = self.orders[0]
            if order.fault is not None or self._is_ours(order.received):
                # It waits for the replies to what was sent before it.
                if not self.awaited:
                    self.orders.popleft()
                    self._busy = True
                    self.spawn(self._answer(order))
                return
            self.orders.popleft()
            self._pass_on(order)

    def _is_ours(self, received: Received) -> bool:
        if received.name in self._module.names:
            return self._transaction is None
        return received.name == "COMMAND" and (
            received.subject("GETKEYS") in self._module.names and self._transaction is None
        )

    def _pass_on(self, order: Order) -> None:
        name = order.received.name
        if name in STREAMS:
            self.streaming = True
            for each in (order, *self.orders):
                self.forward(each.raw)
            self.orders.clear()
        elif self._transaction is not None and name not in ("EXEC", "DISCARD", "RESET"):
            self._queue(self._transaction, order)
        elif name == "ACL":
            self._pass_on_acl(order)
        else:
            self.forward(order.raw, self._handler_for(order.received))

    def _handler_for(self, received: Received) -> Handler | None:
        """What is to be done with the reply of the server behind; None: nothing."""
        release = self._module.release
        match received.name:
            case "HELLO" | "SELECT" | "RESET" | "AUTH":
                self._unsettled = True
                return lambda reply: self._settled(received, reply)
            case "MULTI":
                self._transaction = Transaction()
            case "DISCARD":
                self._transaction = None
            case "EVAL" | "EVALSHA" if len(received.args) > 1 and received.args[1].isdigit():
                count = int(received.args[1])
                self._module.scripted(self._db, received.args[2 : 2 + count])
            case "EXEC":
                return self._exec_handler()
            case "FLUSHDB":
                return self._flush_handler(1)
            case "MODULE" if received.subcommand == "LIST":
                return lambda reply: with_module(release, reply, self._protocol)
            case "COMMAND" if received.subcommand == "INFO":
                names = [x.upper().decode("latin-1") for x in received.args[1:]]
                return lambda reply: with_commands(release, names, reply, self._protocol)
        return None

    def _settled(self, received: Received, reply: bytes) -> bytes:
        self._unsettled = False
        if received.name == "RESET":
            self._protocol, self._db, self._transaction, self._user = 2, 0, None, None
        elif received.args and not reply.startswith(b"-"):
            if received.name == "SELECT":
                self._db = int(received.args[0])
            else:
                if received.name == "HELLO":
                    self._protocol = int(received.args[0])
                self._user = _logged_in(received) or self._user
        return reply

    def _pass_on_acl(self, order: Order) -> None:
        """What the server behind cannot know is kept from it and added to what it says."""
        received, rights = order.received, self._module.rights
        users = [_text(x) for x in received.args[1:]]
        raw, done = order.raw, lambda: None
        if received.subcommand == "SETUSER" and users:
            behind, rules = rights.split(list(received.args[2:]))
            raw = encode_command(["ACL", "SETUSER", received.args[1], *behind])
            done = lambda: rights.made(users[0], rules)  # noqa: E731
        elif received.subcommand == "DELUSER":
            done = lambda: rights.gone(users)  # noqa: E731

        def take(reply: bytes) -> bytes:
            if not reply.startswith(b"-"):
                done()
            if received.subcommand != "GETUSER" or not users:
                self._module.users_changed()
                return reply
            found = decode(reply)
            assert found is not None
            return encode(rights.with_ours(users[0], found[0]), self._protocol)

        self.forward(raw, take)

    def _flush_handler(self, times: int) -> Handler:
        db = self._db
        self._module.flushing(db, times)

        def take(reply: bytes) -> bytes:
            if reply.startswith((b"-", b"_", b"*-1")):
                self._module.flushing(db, -times)
            return reply

        return take

    # Transactions.

    def _queue(self, transaction: Transaction, order: Order) -> None:
        ours = order.received.name in self._module.names
        transaction.asks_module |= ours
        transaction.flushes += order.received.name == "FLUSHDB"

        def take(reply: bytes) -> bytes:
            if reply.startswith(b"+QUEUED"):
                transaction.queued.append(order.received if ours else None)
            return reply

        self.forward(PLACEHOLDER if ours else order.raw, take)

    def _exec_handler(self) -> Handler | None:
        """EXEC's reply, with the answers of the module put where the placeholders stood.

        They are found when the transaction has ended: an FT command in a transaction sees all
        of its writes, also those behind it.
        """
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return None
        settle = self._flush_handler(transaction.flushes)
        if not transaction.asks_module:
            return settle
        self._busy = True

        def take(reply: bytes) -> None:
            self.spawn(self._complete(transaction.queued, settle(reply) or b""))

        return take

    async def _complete(self, queued: list[Received | None], reply: bytes) -> None:
        if reply.startswith(b"*") and not reply.startswith(b"*-1"):
            items = items_of(reply)
            for at, received in enumerate(queued):
                if received is not None:
                    items[at] = await self._run(received)
            reply = array_of(items)
        self.reply(reply)
        self._busy = False
        self.work()

    # Answers of our own.

    async def _answer(self, order: Order) -> None:
        fault = order.fault or Fault()
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.error is not None:
            self.reply(encode(Failure(fault.error), self._protocol))
        elif not self._is_ours(order.received):
            self._pass_on(order)
        elif order.received.name == "COMMAND":
            text = "ERR The command has no key arguments"
            self.reply(encode(Failure(text), self._protocol))
        else:
            self.reply(await self._run(order.received))
        self._busy = False
        self.work()

    async def _run(self, received: Received) -> bytes:
        user = await self._module.user(self._user or "default")
        if self._user is None and user.needs_password:
            return encode(Failure("NOAUTH Authentication required."), self._protocol)
        reply = await self._module.run(self._db, received.name, received.args, user)
        return encode(reply, self._protocol)


def _logged_in(received: Received) -> str | None:
    """The user's name in AUTH or HELLO; None if it names none."""
    if received.name == "AUTH":
        return "default" if len(received.args) == 1 else _text(received.args[0])
    words = [x.upper() for x in received.args]
    return _text(received.args[words.index(b"AUTH") + 1]) if b"AUTH" in words else None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
