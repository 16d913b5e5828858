"""The receiver, run as on a host: only systemd is played by two small programs on PATH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.remote import receive

SYSTEMD_RUN = """#!/bin/bash
# Starts what follows the options in a session of its own, as a unit would run.
for argument in "$@"; do case $argument in --unit=*) unit=${argument#--unit=} ;; esac; done
while [[ $1 == --* ]]; do shift; done
printf '%s\\n' "$*" >>"$FAKE_UNITS/argv"
setsid "$@" >/dev/null 2>&1 </dev/null &
echo $! >"$FAKE_UNITS/$unit"
"""
SYSTEMCTL = """#!/bin/bash
pid=$(cat "$FAKE_UNITS/$2" 2>/dev/null) && grep -qv ') Z ' "/proc/$pid/stat" 2>/dev/null && echo active
"""
TAKE = (
    "import json, sys; from pathlib import Path; from components.remote import receive; "
    "sys.exit(receive.take(json.load(sys.stdin), Path(sys.argv[1])))"
)


class Host:
    """A directory that plays the host's file system."""

    def __init__(self, root: Path) -> None:
        self.root = root / "host"
        self.bin = root / "bin"
        self.units = root / "units"
        for directory in (self.root, self.bin, self.units):
            directory.mkdir()
        for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        self.environment |= {"FAKE_UNITS": str(self.units), "PYTHONPATH": str(Path.cwd())}

    def call(self, document: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(document))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, document: dict[str, Any]) -> tuple[int, str, str]:
        process = self.call(document)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def pid(self, step: str) -> int:
        path = self.units / f"berth-{step}.service"
        wait_for(lambda: path.exists() and path.read_text().strip() != "")
        return int(path.read_text())

    def log(self, step: str) -> str:
        """What is in it so far; a unit has a moment before it opens its log."""
        path = self.root / f"var/log/berth/{step}.log"
        return path.read_text() if path.exists() else ""


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def document(script: str, **changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "step": "bootstrap",
        "host": "scell",
        "lock": "host",
        "timeout": 20,
        "wait": 20,
        "receiver": Path(receive.__file__).read_text(),
        "script": script,
        "files": {},
        "environment": {},
        "mask": [],
    }
    return whole | changes


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_step_sees_its_files_and_environment_and_returns_its_facts(host: Host) -> None:
    script = """echo "==> at work"; echo noise
python3 - <<'E'
import json, os
told = os.environ["NAME"] + open("sub/file").read()
json.dump({"told": told}, open(os.environ["BERTH_FACTS"], "w"))
E
"""
    value = "two\nlines $HOME \"'"
    status, out, err = host.run(document(script, files={"sub/file": "content"}, environment={"NAME": value}))
    assert status == 0, err
    assert json.loads(out) == {"told": value + "content"}
    assert "==> at work" in err
    assert "noise" not in err
    assert "noise" in host.log("bootstrap")


def test_a_step_without_facts_prints_an_empty_object(host: Host) -> None:
    assert host.run(document("true"))[:2] == (0, "{}\n")


def test_a_failure_names_step_host_reason_the_last_30_lines_and_the_log(host: Host) -> None:
    status, out, err = host.run(document("for i in $(seq 100); do echo line $i; done; exit 3"))
    assert (status, out) == (1, "")
    assert "Step 'bootstrap' failed on host 'scell': it ended with exit status 3." in err
    shown = [line.strip() for line in err.splitlines() if line.startswith("    ")]
    assert shown == [f"line {number}" for number in range(71, 101)]
    assert f"The whole log is {host.root}/var/log/berth/bootstrap.log" in err
    assert "line 1\n" in host.log("bootstrap")


def test_secrets_are_in_no_argv_no_log_no_message_and_no_facts(host: Host) -> None:
    secret = "pa$$ 'word\""
    script = (
        'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " >"$FAKE_ROOT/cmdlines"\n'
        'echo "the password is $PASSWORD"; printf \'{"p": "%s"}\' x >"$BERTH_FACTS"; exit 1\n'
    )
    environment = {"PASSWORD": secret, "FAKE_ROOT": str(host.root)}
    status, out, err = host.run(document(script, environment=environment, mask=[secret]))
    assert status == 1
    cmdlines = (host.root / "cmdlines").read_text()
    assert "receive.py" in cmdlines  # the look at the processes did see the unit itself
    for text in (out, err, host.log("bootstrap"), cmdlines, (host.units / "argv").read_text()):
        assert secret not in text
    assert "the password is [secret]" in err


def test_nothing_secret_is_left_behind(host: Host) -> None:
    assert host.run(document("true", files={"key": "k3y"}, environment={"A": "s3cret"}))[0] == 0
    left = [path for path in host.root.rglob("*") if path.is_file()]
    assert not any("k3y" in path.read_text() or "s3cret" in path.read_text() for path in left)
    assert not (host.root / "run/berth/steps/bootstrap").exists()


def test_the_directory_of_a_running_step_is_closed_to_others(host: Host) -> None:
    script = 'cd ..; stat -c %a . files files/key work.json script >"$OUT"'
    out = host.root / "modes"
    assert host.run(document(script, files={"key": "k"}, environment={"OUT": str(out)}))[0] == 0
    assert out.read_text().split() == ["700", "700", "600", "600", "600"]


def test_a_step_that_takes_too_long_is_stopped_with_its_children(host: Host) -> None:
    started = time.monotonic()
    status, _, err = host.run(document("sleep 61 & echo $!; wait", timeout=1))
    assert status == 1
    assert time.monotonic() - started < 10
    assert "was stopped after 1 seconds, its time limit" in err
    child = host.log("bootstrap").splitlines()[1]
    stat = Path(f"/proc/{child}/stat")
    wait_for(lambda: not stat.exists() or ") Z " in stat.read_text())


def test_a_process_left_behind_with_the_output_open_does_not_hold_the_step(host: Host) -> None:
    started = time.monotonic()
    pid = host.root / "pid"
    status, _, err = host.run(document('setsid sleep 30 & echo $! >"$PID"', environment={"PID": str(pid)}))
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert status == 0, err
    assert time.monotonic() - started < 10


def test_a_lost_connection_does_not_end_the_work_and_the_next_call_waits_for_it(host: Host) -> None:
    counting = document(
        'echo run >>"$OUT"; sleep 2; echo "==> end"', environment={"OUT": str(host.root / "runs")}
    )
    first = host.call(counting)
    host.pid("bootstrap")
    first.kill()
    first.communicate()
    status, _, err = host.run(counting)
    assert status == 0, err
    assert "still at work from before: step 'bootstrap' (unit berth-bootstrap.service" in err
    assert (host.root / "runs").read_text() == "run\n"  # the same work is not done twice


def test_a_changed_step_runs_after_the_one_still_at_work(host: Host) -> None:
    out = str(host.root / "runs")
    first = host.call(document('sleep 1; echo old >>"$OUT"', environment={"OUT": out}))
    host.pid("bootstrap")
    first.kill()
    first.communicate()
    assert host.run(document('echo new >>"$OUT"', environment={"OUT": out}))[0] == 0
    assert Path(out).read_text() == "old\nnew\n"


def test_a_second_step_waits_for_the_first(host: Host) -> None:
    out = str(host.root / "runs")
    first = host.call(document('sleep 1; echo first >>"$OUT"', environment={"OUT": out}))
    host.pid("bootstrap")
    status, _, err = host.run(document('echo second >>"$OUT"', step="web", environment={"OUT": out}))
    assert status == 0
    assert "waiting for step 'bootstrap' (unit berth-bootstrap.service" in err
    assert Path(out).read_text() == "first\nsecond\n"
    assert first.wait() == 0
    first.communicate()


def test_steps_with_different_locks_run_side_by_side(host: Host) -> None:
    gate = str(host.root / "gate")
    first = host.call(document('until [ -e "$GATE" ]; do sleep 0.05; done', environment={"GATE": gate}))
    host.pid("bootstrap")
    status, _, _ = host.run(document('touch "$GATE"', step="release", lock="app", environment={"GATE": gate}))
    assert status == 0
    assert first.wait(timeout=10) == 0
    first.communicate()


def test_a_host_held_too_long_names_the_holder_and_starts_nothing(host: Host) -> None:
    first = host.call(document("sleep 3"))
    host.pid("bootstrap")
    status, _, err = host.run(document("touch ../../never", step="web", wait=0.3))
    assert status == receive.HELD
    assert "Step 'web' was not started on host 'scell': held by step 'bootstrap'" in err
    assert not (host.root / "run/berth/never").exists()
    first.wait()
    first.communicate()


def test_a_killed_unit_is_told_from_a_failed_script(host: Host) -> None:
    call = host.call(document("echo begun; sleep 30"))
    pid = host.pid("bootstrap")
    wait_for(lambda: "begun" in host.log("bootstrap"))
    os.killpg(pid, signal.SIGKILL)
    _, err = call.communicate(timeout=15)
    assert call.returncode == 1
    assert "was killed before it could end" in err
    assert "begun" in err


def test_a_step_systemd_refuses_is_a_failure_in_words(host: Host) -> None:
    (host.bin / "systemd-run").write_text("#!/bin/sh\necho 'Unit was already loaded' >&2\nexit 1\n")
    status, output, messages = host.run(document("true"))
    assert (status, output) == (1, "")
    assert "could not be started by systemd: Unit was already loaded" in messages
    assert "Traceback" not in messages
    assert not (host.root / "run/berth/steps/bootstrap").exists()


def test_a_stopped_unit_says_so(host: Host) -> None:
    call = host.call(document("echo begun; sleep 30"))
    pid = host.pid("bootstrap")
    wait_for(lambda: "begun" in host.log("bootstrap"))
    os.kill(pid, signal.SIGTERM)
    _, err = call.communicate(timeout=15)
    assert call.returncode == 1
    assert "was stopped by the host" in err


def test_cloud_init_is_waited_for_and_its_errors_are_noted(host: Host) -> None:
    seen = host.root / "run/cloud-init/result.json"
    seen.parent.mkdir(parents=True)
    tool = host.bin / "cloud-init"
    tool.write_text(
        f'#!/bin/bash\n[ "$*" = "status --wait" ] || exit 9\n'
        f'echo \'{{"v1": {{"errors": ["no datasource liked"]}}}}\' >{seen}\nexit 2\n'
    )
    tool.chmod(0o755)
    status, _, err = host.run(document("true"))
    assert status == 0
    assert "waiting for cloud-init" in err
    assert "cloud-init noted: no datasource liked" in err
    assert "cloud-init" not in host.run(document("true"))[2]  # once it has ended, no one asks again


def test_very_long_lines_are_cut(host: Host) -> None:
    _, _, err = host.run(document("head -c 100000 /dev/zero | tr '\\0' x; echo; exit 1"))
    assert max(map(len, err.splitlines())) <= receive.LINE + 4


def test_masking_takes_the_longest_secret_first() -> None:
    assert receive.masked("abcdef abc", ["abc", "abcdef"]) == "[secret] [secret]"
