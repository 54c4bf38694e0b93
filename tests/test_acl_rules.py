"""The rules of acl.py: as complete as the source, and as the README says them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

import valkey_semcache
from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Servers
from tests.standin import PlainValkey
from tests.standin.release import ACL_CATEGORIES
from valkey_semcache import SemanticCache
from valkey_semcache.index.contract import IndexKind
from valkey_semcache.server import acl

ROOT = Path(__file__).parents[1]
CORE = Path(valkey_semcache.__file__).parent
ASKED = "how do i reset the password of my account"


def test_every_command_in_the_source_is_in_the_rules() -> None:
    """A command that somebody adds to the package joins the rules, or this names it."""
    sent: set[str] = set()
    for path in (*CORE.glob("*.py"), *(CORE / "index").glob("*.py")):
        source = path.read_text()
        sent |= {name.lower() for name in re.findall(r"redis\.call\('(\w+)'", source)}
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Command":
                sent |= {name.lower().replace(" ", "|") for name in first_words(node)}
    allowed = {
        rule.removeprefix("+")
        for rules in (
            acl.CONNECTING,
            acl.ENTRIES,
            acl.FLAT,
            acl.SEARCH["1.2"],
            acl.VERIFIED,
            acl.IF_ALLOWED,
        )
        for rule in rules
    }
    assert sent <= allowed
    assert {"hmget", "unlink", "ft.search", "hset", "zadd"} <= sent
    assert {name for name in allowed if name.startswith("ft.")} <= sent


def first_words(call: ast.Call) -> Iterator[str]:
    """The command's name, if it is written out: `Command("X", …)` or `Command(*("X", …))`."""
    first: Any = call.args[0] if call.args else None
    first = first.value if isinstance(first, ast.Starred) else first
    first = first.elts[0] if isinstance(first, ast.Tuple) and first.elts else first
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value


def test_the_category_of_1_0_has_the_commands_of_1_2_and_none_of_these_is_for_admins() -> None:
    for rule in acl.SEARCH["1.2"]:
        categories = ACL_CATEGORIES[rule.removeprefix("+").upper()]
        assert "@search" in categories
        assert "@admin" not in categories


def test_the_lines_of_the_readme_are_these() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Access rights\n")[1].split("\n## ")[0]
    lines = re.findall(r"^ACL SETUSER .*$", section, re.MULTILINE)
    assert lines == [
        acl.setuser("flat"),
        acl.setuser("search", release="1.0"),
        acl.setuser("search", release="1.2"),
    ]


def test_the_readme_says_what_a_cluster_needs() -> None:
    assert f"`{' '.join(acl.CLUSTER)}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("release", [None, "1.0.2", "1.2.1"])
async def test_nothing_is_refused_in_a_cluster(
    servers: Servers, way: Way, release: str | None
) -> None:
    cluster = servers.cluster(release)
    index: IndexKind = "search" if release else "flat"
    rules = (*acl.rules(index, "t", (release or "1.0")[:3]), *acl.CLUSTER)
    doors: list[Any] = [valkey.Valkey.from_url(x.url) for x in cluster.standins or cluster.nodes]
    for door in doors:
        door.execute_command("ACL", "SETUSER", "t", "on", ">pw", *rules)
        door.acl_log_reset()
    url = f"valkey://t:pw@{cluster.url.removeprefix('valkey://')}"
    options: dict[str, Any] = {"name": "t", "promote": True, "on_error": "raise"}
    async with SemanticCache(HashingEmbedder(), url, timeout=20.0, **options) as cache:
        await way(cache.store, ASKED, "x")
        assert await way(cache.lookup, f"{ASKED} please")
        assert await way(cache.delete, ASKED)
        assert await way(cache.clear) == 1
    assert [who for standin in cluster.standins for who, _ in standin.refused if who == "t"] == []
    for door in doors:
        assert [entry for entry in door.acl_log() if entry["username"] == "t"] == []
        door.execute_command("ACL", "DELUSER", "t")
        door.close()


def test_the_line_of_the_readme_makes_a_user_that_works() -> None:
    with PlainValkey() as server, valkey.Valkey.from_url(server.url) as admin:
        execute: Any = admin.execute_command
        assert execute(*acl.setuser("flat").split()) in (b"OK", True)
        where = server.url.removeprefix("valkey://")
        url = f"valkey://semcache:PASSWORD@{where}"
        with SemanticCache(HashingEmbedder(), url, on_error="raise", timeout=20.0) as cache:
            cache.store(ASKED, "x")
            assert cache.lookup(f"{ASKED} please")
            assert cache.clear() == 1
