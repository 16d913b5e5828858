"""Servers started, found again, reloaded and stopped; nothing else is ever touched."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox import process
from sandbox.errors import SandboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's servers run on Linux")
# Serves one line on a unix socket from a child, so that there is a whole family to end.
SERVER = """
import os, signal, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
signal.signal(signal.SIGHUP, lambda *_: open(sys.argv[1] + ".reloaded", "a").write("x"))
if os.fork() == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
while True: signal.pause()
"""


@pytest.fixture
def service(tmp_path):
    path = tmp_path / "s"
    service = process.Service(
        name="server",
        command=[sys.executable, "-c", SERVER, str(path)],
        sockets=[path],
        settings="one",
        ready=lambda: _accepts(path),
    )
    yield service
    process.stop("server", tmp_path)


def _accepts(path: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _family(pid: int) -> list[int]:
    done = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(pid)], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    return [int(row[0]) for row in rows if "Z" not in row[1]]


def test_a_server_is_started_once_and_found_by_a_later_command(service, tmp_path):
    first = process.ensure(service, tmp_path, tmp_path)
    assert process.ensure(service, tmp_path, tmp_path) == first == process.running("server", tmp_path)
    assert process.names(tmp_path) == ["server"]
    assert process.memory(first) > 1_000_000


def test_nothing_of_the_callers_environment_reaches_a_server(service, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    found = process.ensure(service, tmp_path, tmp_path)
    assert b"hunter2" not in Path(f"/proc/{found.pid}/environ").read_bytes()


def test_stopping_ends_the_children_too_and_once_more_is_no_error(service, tmp_path):
    pid = process.ensure(service, tmp_path, tmp_path).pid
    assert len(_family(pid)) == 2
    process.stop("server", tmp_path)
    assert _family(pid) == []
    assert process.names(tmp_path) == []
    process.stop("server", tmp_path)


def test_a_killed_server_comes_back_though_a_child_and_its_socket_are_left(service, tmp_path):
    first = process.ensure(service, tmp_path, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while process.running("server", tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = process.ensure(service, tmp_path, tmp_path)
    assert second.pid != first.pid
    assert _accepts(service.sockets[0])
    assert _family(first.pid) == []


def test_a_server_whose_command_was_killed_before_it_was_recorded_is_not_lost(service, tmp_path):
    first = process.ensure(service, tmp_path, tmp_path)
    (tmp_path / "server.json").unlink()
    begun = tmp_path / "server.pid"
    begun.write_text(f"{first.pid}\n")
    assert process.names(tmp_path) == ["server"]
    second = process.ensure(service, tmp_path, tmp_path)
    assert second.pid != first.pid
    assert _family(first.pid) == []
    assert not begun.exists()
    # A number that has become another's since is nobody of ours.
    process.stop("server", tmp_path)
    begun.write_text(str(os.getpid()))
    os.utime(begun, (0, 0))
    process.stop("server", tmp_path)


def test_changed_settings_restart_or_reload(service, tmp_path):
    first = process.ensure(service, tmp_path, tmp_path)
    second = process.ensure(dataclasses.replace(service, settings="two"), tmp_path, tmp_path)
    assert second.pid != first.pid
    changed = dataclasses.replace(service, settings="three", reload=signal.SIGHUP)
    assert process.ensure(changed, tmp_path, tmp_path).pid == second.pid
    assert process.ensure(changed, tmp_path, tmp_path).pid == second.pid
    deadline = time.monotonic() + 5
    mark = tmp_path / "s.reloaded"
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mark.read_text() == "x"


def test_a_process_that_only_has_the_same_number_is_left_alone(service, tmp_path):
    found = process.ensure(service, tmp_path, tmp_path)
    record = tmp_path / "server.json"
    record.write_text(record.read_text().replace(str(found.start), str(found.start - 1)))
    assert process.running("server", tmp_path) is None
    process.stop("server", tmp_path)
    assert len(_family(found.pid)) == 2
    os.killpg(found.pid, signal.SIGKILL)


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path):
    broken = process.Service(
        name="broken", command=["sh", "-c", "echo no such option >&2"], ready=lambda: False
    )
    with pytest.raises(SandboxError, match=r"(?s)broken ended at its start:\n  no such option.*broken\.log"):
        process.ensure(broken, tmp_path, tmp_path)


def test_a_server_that_never_answers_is_reported(service, tmp_path):
    deaf = dataclasses.replace(service, ready=lambda: False, patience=0.2)
    with pytest.raises(SandboxError, match="does not answer"):
        process.ensure(deaf, tmp_path, tmp_path)


def test_when_a_process_began_is_not_when_somebody_first_looked():
    sleeper = subprocess.Popen(["sleep", "60"])
    started = time.time()
    try:
        time.sleep(1)
        assert abs(process.began(sleeper.pid) - started) < 0.2
    finally:
        sleeper.kill()
        sleeper.wait()
    with pytest.raises(ProcessLookupError):
        process.began(sleeper.pid)


def test_the_last_of_several_users_is_alone(tmp_path):
    with process.using(tmp_path) as first:
        with process.using(tmp_path) as second:
            assert not second()
            assert first()  # the second has given up its use
        done = subprocess.run(["timeout", "1", "flock", "--shared", str(tmp_path), "true"], check=False)
        assert done.returncode == 124  # nobody begins while somebody is alone
    subprocess.run(["flock", "--shared", "--nonblock", str(tmp_path), "true"], check=True)


def test_who_has_to_wait_for_a_lock_is_told(tmp_path):
    told = []
    with process.lock(tmp_path / "l", lambda: told.append("free")):
        holder = threading.Thread(target=_take, args=(tmp_path / "l", told))
        holder.start()
        while not told:
            time.sleep(0.01)
        assert told == ["waiting"]
    holder.join()
    assert told == ["waiting", "mine"]


def _take(path, told):
    with process.lock(path, lambda: told.append("waiting")):
        told.append("mine")
