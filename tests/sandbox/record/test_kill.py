"""Killing anything at any moment loses nothing: the next `up` converges."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox import engine
from sandbox.inventory import Fault, Record

pytestmark = pytest.mark.sandbox

PROGRAM = """
keep = random.RandomPassword("keep", length=12)
ip = instance.Ip("ip", tags=["a"])
vm = instance.Server("vm", type="DEV1-S", image="debian_bookworm", cloud_init=keep.result, ip_ids=[ip.id],
    opts=O(additional_secret_outputs=["user_data"]))
pulumi.export("address", ip.address)
"""


def start(lab, *faults: Fault) -> subprocess.Popen[bytes]:
    with lab.inventory() as store:
        for fault in faults:
            store.add_fault(fault)
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox", "up", "--record-only", "--stack", "dev"],
        cwd=Path(engine.__file__).parents[1],
        env=lab.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def when(condition, seconds=60.0):
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def struck(lab):
    """A slow call is under way, so the engine is in the middle of a create."""
    with lab.inventory() as store:
        return any(fault.spent for fault in store.faults())


def engine_of(process: subprocess.Popen[bytes]) -> int:
    """The pid of the pulumi below a sandbox command."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (pid,) = [int(child) for child in children if b"pulumi" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return pid


def converges(lab):
    done = lab.sandbox("up", "--record-only", "--stack", "dev").good()
    assert "pending" not in done.text
    status = json.loads(lab.sandbox("status", "--json").good().text)
    assert status["orphans"] == []
    assert status["stacks"]["dev"]["pending"] == 0
    assert status["stacks"]["dev"]["missing"] == []
    assert status["stacks"]["dev"]["types"] == {
        "scaleway:instance/ip:Ip": 1,
        "scaleway:instance/server:Server": 1,
    }
    again = lab.sandbox(
        "exec", "--record-only", "--stack", "dev", "--", "pulumi", "preview", "--expect-no-changes"
    )
    again.good()
    return done


def test_the_engine_is_killed_while_a_create_commits(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    run = start(lab, Fault(token="*:Server", kind="slow", seconds=30))
    when(lambda: struck(lab))
    os.kill(engine_of(run), signal.SIGKILL)
    assert run.wait(timeout=30) != 0
    made = lab.rows("Server")[0]  # the provider went on and finished
    done = converges(lab)
    assert "taken over" in done.text
    assert lab.rows("Server")[0].id == made.id
    # What the engine took over is whole, and its secrets are secret.
    state = json.loads(
        lab.sandbox("exec", "--record-only", "-s", "dev", "--", "pulumi", "stack", "export").good().text
    )
    server = next(r for r in state["deployment"]["resources"] if r["urn"].endswith("::vm"))
    assert server["outputs"]["publicIps"][0]["address"].startswith("198.18.16.")
    assert "ciphertext" in server["outputs"]["cloudInit"]
    assert made.inputs["cloudInit"] not in json.dumps(state)
    lab.sandbox("destroy", "--stack", "dev").good()
    assert lab.rows() == []


def test_what_is_taken_over_is_secret_before_the_engine_sees_it():
    row = Record(id="i", token="t", name="n", inputs={}, outputs={"key": {"a": 1}, "b": 2}, secrets=["key"])
    made = engine.adopted({"urn": "u"}, row)
    assert (made["urn"], made["id"], made["outputs"]["b"]) == ("u", "i", 2)
    assert made["outputs"]["key"] == {**engine.SECRET, "plaintext": '{"a": 1}'}


def test_everything_is_killed_in_the_middle_of_a_create(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    run = start(lab, Fault(token="*:Server", kind="slow", seconds=30))
    when(lambda: struck(lab))
    pid = engine_of(run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(timeout=10)
    os.kill(pid, signal.SIGKILL)
    assert lab.rows("Server") == []
    converges(lab)


def test_the_sandbox_is_killed_and_takes_the_engine_with_it(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    run = start(lab, Fault(token="*:Server", kind="slow", seconds=30))
    when(lambda: struck(lab))
    pid = engine_of(run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(timeout=10)
    when(lambda: not Path(f"/proc/{pid}").exists(), 20)
    converges(lab)


def test_a_kill_in_the_middle_of_an_update_and_of_a_delete(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    lab.sandbox("up", "--record-only", "--stack", "dev").good()
    lab.program(PROGRAM.replace('["a"]', '["b"]'))
    run = start(lab, Fault(token="*:Ip", op="update", kind="slow", seconds=30))
    when(lambda: struck(lab))
    os.kill(engine_of(run), signal.SIGKILL)
    run.wait(timeout=30)
    converges(lab)
    assert lab.rows("Ip")[0].inputs["tags"] == ["b"]
    with lab.inventory() as store:
        store.clear_faults()

    lab.program("")
    run = start(lab, Fault(token="*:Server", op="delete", kind="slow", seconds=30))
    when(lambda: struck(lab))
    os.kill(engine_of(run), signal.SIGKILL)
    run.wait(timeout=30)
    lab.sandbox("up", "--record-only", "--stack", "dev").good()
    assert lab.rows() == []


def test_an_interrupt_ends_the_run_and_leaves_no_lock(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    run = start(lab, Fault(token="*:Server", kind="slow", seconds=3))
    when(lambda: struck(lab))
    for pid in (engine_of(run), run.pid):  # as a terminal does: to the whole foreground group
        os.kill(pid, signal.SIGINT)
    assert run.wait(timeout=30) != 0
    assert not list((lab.state_directory / "state").rglob("locks/**/*.json"))
    converges(lab)


def test_a_lock_of_the_living_stands_one_of_another_machine_too(own_lab):
    lab = own_lab
    lab.program("")
    lab.sandbox("preview", "--stack", "dev").good()
    locks = lab.state_directory / "state/.pulumi/locks/organization/lab/dev"
    locks.mkdir(parents=True, exist_ok=True)
    lock = locks / "a.json"

    def held(**changes):
        since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        host = os.uname().nodename
        lock.write_text(
            json.dumps(
                {"pid": os.getpid(), "username": "me", "hostname": host, "timestamp": since, **changes}
            )
        )

    held()
    lab.sandbox("up", "--record-only", "--stack", "dev").bad("another run is at work on stack 'dev'")
    held(hostname="elsewhere")
    lab.sandbox("up", "--record-only", "--stack", "dev").bad("locked by me on elsewhere", str(lock))
    # This process is older than the lock says: the number was given to it later... so that one is dead.
    held(timestamp="2020-01-01T00:00:00+00:00")
    lab.sandbox("up", "--record-only", "--stack", "dev").good()
    assert not lock.exists()
