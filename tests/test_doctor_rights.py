"""`semcache doctor`: rights, clusters, and what the command shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import valkey
from typer.testing import CliRunner

from tests.cluster import Cluster
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.standin import PlainValkey
from tests.test_doctor import ORDER, fill, look, verdicts
from tests.waiting import PATIENT
from valkey_semcache import SemanticCache
from valkey_semcache.cli.app import app
from valkey_semcache.diagnosis import diagnose
from valkey_semcache.diagnosis.rights import _COMPLETE
from valkey_semcache.server import acl

# Rights.


@pytest.fixture
def user(plain: Served) -> Iterator[str]:
    """The URL for a user with the least rights, whose name is the cache's."""
    admin: Any = plain.admin
    rules = acl.rules("flat", plain.name)
    admin.execute_command("ACL", "SETUSER", plain.name, "on", ">hunter2", *rules)
    yield f"valkey://{plain.name}:hunter2@{plain.url.removeprefix('valkey://')}"
    admin.execute_command("ACL", "DELUSER", plain.name)


def test_the_least_rights_are_enough(plain: Served, user: str) -> None:
    fill(plain, url=user)
    checks = look(user, plain.name)
    assert verdicts(checks) == {"pass"}
    assert checks["entries"].found == "2 entries"


@pytest.mark.parametrize("rule", [*acl.ENTRIES, *acl.FLAT])
def test_a_right_that_is_missing_is_named(plain: Served, user: str, rule: str) -> None:
    admin: Any = plain.admin
    admin.execute_command("ACL", "SETUSER", plain.name, rule.replace("+", "-"))
    check = look(user, plain.name)["rights"]
    assert check.verdict == "fail"
    assert check.found.split(": ")[1].split(" (")[0] == rule.removeprefix("+").upper()


def test_a_cache_with_a_policy_needs_the_rights_to_its_labels(plain: Served, user: str) -> None:
    admin: Any = plain.admin
    admin.xadd(f"{plain.name}:learned:{'0' * 32}:{'1' * 32}", {"l": "a label"})
    check = look(user, plain.name)["rights"]
    assert check.found == "this user may not run: XADD, XRANGE"
    admin.execute_command("ACL", "SETUSER", plain.name, *acl.VERIFIED)
    assert look(user, plain.name)["rights"].verdict == "pass"


def test_who_may_run_no_script_is_told_by_dry_run(plain: Served, user: str) -> None:
    admin: Any = plain.admin
    extra = ("-eval", "-zadd", "-hset", "+acl|whoami", "+acl|dryrun")
    admin.execute_command("ACL", "SETUSER", plain.name, *extra)
    check = look(user, plain.name)["rights"]
    assert check.found == f"user {plain.name} may not run: EVAL, HSET, ZADD"


def test_keys_of_another_name_are_a_missing_right(plain: Served, user: str) -> None:
    checks = look(user, "another")
    check = checks["rights"]
    assert check.verdict == "fail"
    assert check.found == "this user may not open the cache's keys"
    assert "~another:*" in check.advice
    # What may not be read is not broken: there is nothing to clear.
    assert checks["cache"].verdict == "fail"
    assert "another:meta cannot be read" in checks["cache"].found
    assert checks["cache"].advice == "Give the rights of README's 'Access rights'."


def test_meta_that_is_none_of_a_cache_is_to_be_cleared_or_left_alone(plain: Served) -> None:
    plain.admin.set(f"{plain.name}:meta", "not a hash")
    check = look(plain.url, plain.name)["cache"]
    assert "WRONGTYPE" in check.found
    assert "another name=" in check.advice
    plain.admin.delete(f"{plain.name}:meta")


def test_a_default_user_without_rights() -> None:
    with PlainValkey() as server, valkey.Valkey.from_url(server.url) as admin:
        execute: Any = admin.execute_command
        execute("ACL", "SETUSER", "default", "-@all", "resetkeys")
        found = diagnose(server.url, **PATIENT)
    checks = {check.name: check for check in found.checks}
    assert not found.ok
    assert checks["reachable"].verdict == "pass"
    assert "INFO is refused" in checks["server"].advice
    assert checks["memory"].verdict == "warn"
    assert "keys cannot be listed" in checks["cache"].found
    assert "may not run: EVAL" in checks["rights"].found


def test_every_rule_can_be_asked_about() -> None:
    """Completely: a server is not to be asked about half a command."""
    rules = {*acl.ENTRIES, *acl.FLAT, *acl.SEARCH["1.2"], *acl.VERIFIED}
    assert {rule.removeprefix("+") for rule in rules} == set(_COMPLETE)
    with PlainValkey() as server, valkey.Valkey.from_url(server.url) as admin:
        execute: Any = admin.execute_command
        for command, rest in _COMPLETE.items():
            if not command.startswith("ft."):
                assert execute("ACL", "DRYRUN", "default", command, *rest.split()) in (b"OK", True)


# Clusters.


def test_a_cluster_is_looked_at_as_a_whole() -> None:
    with Cluster() as cluster:
        with SemanticCache(HashingEmbedder(), cluster.url, **PATIENT) as cache:
            for number in range(6):
                assert cache.store(f"a question {'x' * number}", "x")
        checks = look(cluster.url)
        admin: Any = cluster.client(cluster.nodes[0])
        rules = acl.rules("flat")
        admin.execute_command("ACL", "SETUSER", "semcache", "on", ">hunter2", *rules)
        admin.close()
        where = cluster.url.removeprefix("valkey://")
        limited = look(f"valkey://semcache:hunter2@{where}")
    assert verdicts(checks) == {"pass", "warn"}
    assert checks["role"].found == "one of a cluster of 3 nodes, state ok"
    assert checks["entries"].found == "6 entries"
    assert limited["cluster"].verdict == "fail"
    assert "for clusters" in limited["cluster"].advice


# The command.


def doctor(*arguments: str, columns: int = 80) -> Any:
    return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": str(columns)})


def test_the_table_fits_and_says_what_was_found(plain: Served) -> None:
    fill(plain)
    shown = doctor(plain.url, "--name", plain.name)
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    for name in (*ORDER, "rights"):
        assert f"\n {name} " in shown.output
    assert "9 pass" in shown.output


def test_json_says_the_same(plain: Served) -> None:
    fill(plain)
    shown = doctor(plain.url, "--name", plain.name, "--json")
    assert shown.exit_code == 0
    told = json.loads(shown.output)
    assert (told["ok"], told["server"], told["cache"]) == (True, plain.url, plain.name)
    assert [check["name"] for check in told["checks"]] == [*ORDER, "rights"]
    assert all(set(c) == {"name", "verdict", "found", "advice"} for c in told["checks"])


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_failed_check_is_an_exit_code_and_no_secret_is_shown(json_too: list[str]) -> None:
    shown = doctor("valkey://user:hunter2@127.0.0.1:1?client_name=hunter2", *json_too)
    assert shown.exit_code == 1
    assert "hunter2" not in shown.output
    assert "fail" in shown.output


def test_a_warning_is_no_failure() -> None:
    with PlainValkey(["--maxmemory", "50mb"]) as server:
        shown = doctor(server.url)
    assert shown.exit_code == 0
    assert "8 pass, 1 warn" in shown.output


def test_as_a_user_runs_it_with_the_server_in_the_environment(plain: Served) -> None:
    command = [sys.executable, "-m", "valkey_semcache.cli", "doctor", "--name", plain.name]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(command, env={"VALKEY_URL": plain.url, "COLUMNS": "80"}, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Server {plain.url}" in done.stdout
    done = subprocess.run(command, env={}, **options)
    assert done.returncode == 2
    assert "No Valkey server was given" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_an_example() -> None:
    assert "Example: semcache doctor valkeys://" in doctor("--help").output
