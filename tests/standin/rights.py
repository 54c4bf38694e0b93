"""Who may run the module's commands: what `ACL` says of them, and what the module asks besides.

The server behind does not know their names and refuses rules that have them. Such rules are
kept here; all others, the keys a user may open, and passwords are the server's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.standin.args import CommandError
from tests.standin.release import ACL_CATEGORIES, Release

CATEGORY = "@search"
READ, WRITE = "%R", "%W"


@dataclass(frozen=True)
class User:
    """A user as the module's server sees it."""

    name: str
    commands: tuple[str, ...]
    """Rules for commands, in order, each with its sign; also those that only the module has."""
    keys: tuple[str, ...]
    """Rules for keys: `~pattern`, `%R~pattern`, `%W~pattern`."""
    needs_password: bool

    def may(self, command: str) -> bool:
        """Whether the server lets this command pass."""
        may = False
        for rule in self.commands:
            sign, what = rule[:1], rule[1:].lower()
            if rule in ("allcommands", "nocommands"):
                may = rule == "allcommands"
            elif what in ("@all", command.lower()) or what in ACL_CATEGORIES[command]:
                may = sign == "+"
        return may

    def has_rule_of_1_0(self, command: str) -> bool:
        """What 1.0 looks for in the text of the rules. It compares letter by letter, and the
        text has commands in lower case: a rule for the single command counts for nothing."""
        found = False
        for rule in self.commands:
            if rule in ("+@all", "allcommands", "-@all", "nocommands"):
                found = rule in ("+@all", "allcommands")
            elif rule[1:] in (command, *ACL_CATEGORIES[command]):
                found = rule.startswith("+")
        return found

    def may_open(self, prefix: bytes, access: str) -> bool:
        """Whether all keys with this prefix are the user's, to read or to write."""
        text = prefix.decode("utf-8", "surrogateescape")
        for rule in self.keys:
            allowed, _, pattern = rule.partition("~")
            fits = pattern.endswith("*") and fnmatchcase(text, pattern)
            if fits and (not allowed or access.strip("%") in allowed):
                return True
        return False

    def check_prefixes(
        self, release: Release, command: str, prefixes: list[bytes], access: str
    ) -> None:
        """What the module itself asks of who uses an index.

        Raises:
            CommandError: the user may not.
        """
        if release.acl_by_text:
            readable = [self.may_open(x, READ) for x in prefixes]
            if not (self.has_rule_of_1_0(command) and any(readable)):
                raise CommandError("The user doesn't have a permission to execute a command")
        elif not all(self.may_open(x, access) for x in prefixes):
            raise CommandError("The user does not have permission to access the key prefix")


@dataclass
class Rights:
    """The users of one server."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    """User and command, of what was refused here."""
    _rules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """All rules for commands of those users that were made through the stand-in."""

    def split(self, rules: list[bytes]) -> tuple[list[bytes], list[str]]:
        """What of an ACL SETUSER is for the server behind, and all that is about commands."""
        texts = [x.decode("utf-8", "surrogateescape") for x in rules]
        behind = [x for x, text in zip(rules, texts, strict=True) if not is_ours(text)]
        return behind, [x for x in texts if x[:1] in "+-" or x in _ALL_OR_NOTHING]

    def made(self, user: str, rules: list[str]) -> None:
        """ACL SETUSER went well."""
        known = self._rules.get(user, ("+@all",) if user == "default" else ())
        self._rules[user] = (*known, *("-@all" if x == "reset" else x for x in rules))

    def gone(self, users: list[str]) -> None:
        """ACL DELUSER went well."""
        for user in users:
            self._rules.pop(user, None)

    def read(self, name: str, reply: Any) -> User:
        """A user, by the reply of ACL GETUSER."""
        told: dict[Any, Any] = reply if isinstance(reply, dict) else {}
        behind = tuple(told.get(b"commands", b"").decode().split())
        flags = told.get(b"flags", [])
        return User(
            name,
            self._rules.get(name, behind),
            tuple(told.get(b"keys", b"").decode("utf-8", "surrogateescape").split()),
            b"nopass" not in flags or b"on" not in flags,
        )

    def with_ours(self, user: str, reply: Any) -> Any:
        """ACL GETUSER's reply, with the rules that the server behind does not know."""
        ours = " ".join(x for x in self._rules.get(user, ()) if is_ours(x)).encode()
        if not ours or not isinstance(reply, dict | list):
            return reply
        flat = [x for pair in reply.items() for x in pair] if isinstance(reply, dict) else reply
        at = flat.index(b"commands") + 1
        flat[at] += b" " + ours
        return dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(reply, dict) else flat


_ALL_OR_NOTHING = ("allcommands", "nocommands", "reset")


def is_ours(rule: str) -> bool:
    """Whether a rule names a command or a category of the module."""
    what = rule[1:].lower()
    return rule[:1] in "+-" and (what == CATEGORY or what.upper() in ACL_CATEGORIES)
