"""The check of rights: which of the commands that a cache sends are refused to this user.

Rule of this file: nothing of what is asked about is run. Valkey tells a script what its user may
do (`redis.acl_check_cmd`, https://valkey.io/topics/lua-api), and scripts a cache needs anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

from valkey_semcache.diagnosis.findings import Ask, Check, refused, text
from valkey_semcache.server import acl

_ADVICE = "Give the rights of README's 'Access rights'."

_MAY = """
local refused, at = {}, 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local known, may = pcall(redis.acl_check_cmd, unpack(ARGV, at + 1, at + count))
  if known and not may then refused[#refused + 1] = ARGV[at + 1] end
  at = at + count + 1
end
return refused
"""
"""ARGV: of each command its number of words, and the words."""

_COMPLETE = {
    "hmget": "KEY f",
    "unlink": "KEY",
    "scan": "0",
    "evalsha": f"{'0' * 40} 1 KEY",
    "eval": "script 1 KEY",
    "type": "KEY",
    "hset": "KEY f v",
    "hdel": "KEY f",
    "persist": "KEY",
    "pexpire": "KEY 1",
    "exists": "KEY",
    "hsetnx": "KEY f v",
    "hincrby": "KEY f 1",
    "hgetall": "KEY",
    "zrange": "KEY 0 -1",
    "zadd": "KEY 1 m",
    "pttl": "KEY",
    "time": "",
    "zscore": "KEY m",
    "zrem": "KEY m",
    "xadd": "KEY * f v",
    "xrange": "KEY - +",
    "ft.info": "KEY",
    "ft.create": "KEY",
    "ft.search": "KEY *",
    "ft.dropindex": "KEY",
}
"""Arguments with which each command is complete: a server looks for the keys among them, and is
not to be asked about half a command."""


def rights(ask: Ask, name: str, *, flat: bool, searches: bool, learned: bool = False) -> Check:
    """Which commands this user may not run on the cache's keys.

    Args:
        ask: Asks the server.
        name: The cache's name.
        flat: Whether the cache uses the flat index.
        searches: Whether the server has valkey-search. Releases before 1.2 look at the category
            `@search` besides, which cannot be asked about.
        learned: Whether the cache keeps what a `policy=` has learned.
    """
    rules = (*acl.ENTRIES, *(acl.FLAT if flat else ()), *(acl.SEARCH["1.2"] if searches else ()))
    rules += acl.VERIFIED if learned else ()
    commands = {
        command: [command, *_COMPLETE[command].replace("KEY", f"{name}:doctor").split()]
        for command in (rule.removeprefix("+") for rule in rules)
    }
    who = ask("ACL", "WHOAMI")
    user = f"user {text(who)}" if isinstance(who, bytes | str) else "this user"
    words = [word for command in commands.values() for word in (len(command), *command)]
    reply = ask("EVAL", _MAY, 1, f"{name}:doctor", *words)
    unknown = ""
    if isinstance(reply, list):
        missing = [text(command) for command in reply]
    elif refused(reply) and "access a key" in str(reply):
        found = f"{user} may not open the cache's keys"
        return Check("rights", "fail", found, f"Give it the right to them: ~{name}:*. {_ADVICE}")
    elif refused(reply):
        more = _by_dry_run(ask, text(who), commands.values())
        missing = ["eval", *(more or ())]
        unknown = " (of the others it cannot be asked: ACL is refused)" if more is None else ""
    else:
        return Check("rights", "warn", f"not known: {reply}", _ADVICE)
    if missing:
        shown = ", ".join(dict.fromkeys(command.upper() for command in missing))
        return Check("rights", "fail", f"{user} may not run: {shown}{unknown}", _ADVICE)
    return Check("rights", "pass", f"{user} may run the {len(commands)} commands that are needed")


def _by_dry_run(ask: Ask, who: str, commands: Iterable[list[str]]) -> list[str] | None:
    """Who may run no script is asked about by ACL DRYRUN; None if that is refused too."""
    answers = {command[0]: ask("ACL", "DRYRUN", who, *command) for command in commands}
    if any(map(refused, answers.values())):
        return None
    return [name for name, said in answers.items() if "no permission" in text(said)]
