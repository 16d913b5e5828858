"""The operator's side: what a stack says, how the host is entered, what is judged and shown."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import __main__ as command
from tasks import secrets, show, stack, status
from tasks.errors import Exit, TaskError

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----"
OPERATOR = {
    "host": "192.0.2.7",
    "port": 2222,
    "user": "berth",
    "private_key": KEY,
    "host_key": "ssh-ed25519 AAAAhost",
    "app": "scell-api",
    "environment": {"APP_NAME": "Scell", "APP_KEY": "the app's key"},
}
SECRET = {secrets.SECRET: "1b47061264138c4ac30d75fd1eb44270"}

PULUMI = """#!/bin/bash
printf '%s\\n' "$*" >>"$FAKE/pulumi.log"
case "$*" in
  *--stack\\ gone*) echo "error: no stack named 'gone' found" >&2; exit 255 ;;
  'stack output'*) cat "$FAKE/outputs.json" ;;
  'stack export'*) cat "$FAKE/state.json" ;;
  'stack ls'*) echo '[{"name":"prod","current":false},{"name":"staging","current":true}]' ;;
esac
"""
SSH = """#!/bin/bash
# Plays OpenSSH and the host behind it: notes what it was given, answers what the test has written.
printf '%s\\n' "$@" >"$FAKE/argv"
while (($#)); do
  case $1 in
    -i) cat "$2" >"$FAKE/identity"; stat -Lc %a "$2" >"$FAKE/mode" ;;
    -E) log=$2 ;;
    UserKnownHostsFile=*) cat "${1#*=}" >"$FAKE/known" ;;
  esac
  shift
done
cat >"$FAKE/stdin"
cat "$FAKE/log" >>"$log" 2>/dev/null
cat "$FAKE/stderr" >&2 2>/dev/null
cat "$FAKE/stdout" 2>/dev/null
exit "$(cat "$FAKE/code" 2>/dev/null || echo 0)"
"""


class World:
    """A stack and its host, played by two small programs on PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in (("pulumi", PULUMI), ("ssh", SSH)):
            (root / "bin").mkdir(exist_ok=True)
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.outputs({"scell": {"urls": [], "operator": OPERATOR}})

    def outputs(self, value: Any) -> None:
        (self.root / "outputs.json").write_text(json.dumps(value))

    def answers(self, value: Any = None, *, code: int = 0, err: str = "", log: str = "") -> None:
        (self.root / "stdout").write_text(json.dumps(value) if value is not None else "")
        (self.root / "code").write_text(str(code))
        (self.root / "stderr").write_text(err)
        (self.root / "log").write_text(log)

    def given(self, name: str) -> str:
        return (self.root / name).read_text()

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.given("stdin").partition("\n")[0])
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return World(tmp_path)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(world: World, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = command.main(words)
        out, err = capfd.readouterr()
        return code, out, err

    return call


# ---------------------------------------------------------------- the stack


def test_the_selected_stack_or_the_one_that_is_named(world: World, run: Run) -> None:
    world.answers([])
    run("jobs", "failed")
    run("jobs", "failed", "--stack", "prod")
    asked = world.given("pulumi.log").splitlines()
    assert asked[0] == "stack output --json --show-secrets --non-interactive"
    assert asked[1] == "stack output --json --show-secrets --stack prod --non-interactive"


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "does not say how its host is reached"),
        ({"scell": {"urls": []}}, "does not say how its host is reached"),
        ({"scell": {"operator": {"host": "192.0.2.7", "private_key": KEY}}}, "not whole: user, host_key"),
    ],
)
def test_a_stack_that_is_not_up(world: World, run: Run, outputs: Any, said: str) -> None:
    world.outputs(outputs)
    code, out, err = run("status")
    assert (code, out) == (Exit.NO_STACK, "")
    assert said in err
    assert "pulumi up" in err
    assert "c2VjcmV0" not in err


def test_a_stack_that_does_not_exist(run: Run) -> None:
    code, _, err = run("status", "--stack", "gone")
    assert code == Exit.NO_STACK
    assert "no stack named 'gone'" in err
    assert "--stack" in err


def test_two_systems_have_to_be_told_apart(world: World, run: Run) -> None:
    world.outputs({"scell": {"operator": OPERATOR}, "lago": {"operator": {**OPERATOR, "host": "192.0.2.8"}}})
    world.answers([])
    assert run("jobs", "failed")[0] == Exit.USAGE
    assert run("jobs", "failed", "--system", "nope")[0] == Exit.NO_STACK
    assert run("jobs", "failed", "--system", "lago")[0] == Exit.OK
    assert "berth@192.0.2.8" in world.given("argv")


# ---------------------------------------------------------------- the way to the host


def test_the_key_is_in_memory_and_nothing_secret_in_a_command_line(world: World, run: Run) -> None:
    world.answers({"APP_NAME": "", "APP_KEY": ""})
    run("env", "diff")
    assert world.given("identity").strip() == KEY
    assert world.given("mode").strip() == "600"
    assert world.given("known") == "berth ssh-ed25519 AAAAhost\n"
    line = world.given("argv")
    assert "StrictHostKeyChecking=yes" in line
    assert "2222" in line.split()
    assert "c2VjcmV0" not in line
    assert "app's key" not in line
    assert "app's key" not in world.given("stdin")  # the host is asked for fingerprints, not told values
    document = world.document()
    assert (document["task"], document["app"]) == ("env", "scell-api")
    assert "def main(" in document["source"]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("ssh: connect to host 192.0.2.7 port 2222: Connection timed out", "berth:admin.cidrs"),
        ("ssh: connect to host 192.0.2.7 port 2222: Connection refused", "booting"),
        (
            "@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "in between",
        ),
        ("berth@192.0.2.7: Permission denied (publickey).", "pulumi up"),
        ("something else", "try again"),
    ],
)
def test_a_host_that_is_not_reached(world: World, run: Run, log: str, said: str) -> None:
    world.answers(code=255, log=log)
    for words in (("certificate", "status"), ("logs", "nginx"), ("psql", "-c", "select 1")):
        code, out, err = run(*words)
        assert (code, out) == (Exit.UNREACHABLE, "")
        assert said in err
        assert "192.0.2.7:2222" in err


def test_what_the_host_refuses_is_said_in_its_words(world: World, run: Run) -> None:
    world.answers(code=5, err="nothing of scell-api is live\n  `pulumi up`\n")
    code, _, err = run("jobs", "failed")
    assert (code, err) == (Exit.REFUSED, "nothing of scell-api is live\n  `pulumi up`\n")


def test_what_breaks_there_is_not_hidden(world: World, run: Run) -> None:
    world.answers(code=1, err="Traceback …\nKeyError: 'x'")
    code, _, err = run("jobs", "failed")
    assert code == Exit.REFUSED
    assert "KeyError" in err


def test_the_exit_status_of_psql_is_kept(world: World, run: Run) -> None:
    world.answers(code=3)
    assert run("psql", "--command", "select 'Ann'")[0] == 3
    assert "Ann" not in world.given("argv")
    assert world.given("stdin").endswith("\nselect 'Ann'")
    assert (world.document()["write"], world.document()["database"]) == (False, "production")
    run("psql", "-d", "sandbox", "--write", "-c", "select 1")
    assert (world.document()["write"], world.document()["database"]) == (True, "sandbox")


def test_a_command_of_the_application_with_its_own_options(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.answers("said")
    with (tmp_path / "input").open("w+") as file:
        file.write("its input")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        code, out, _ = run("artisan", "--stack", "prod", "migrate:status", "--pending", "-v")
    assert (code, out) == (0, '"said"')
    assert world.document()["words"] == ["migrate:status", "--pending", "-v"]
    assert world.given("stdin").endswith("\nits input")


# ---------------------------------------------------------------- judging


NOW = 1_800_000_000.0
WELL: dict[str, Any] = {
    "now": NOW,
    "health": {"url": "https://api.scell.io/health", "code": 200, "text": "ok", "ms": 40},
    "host": {
        "name": "h",
        "uptime": 90000.0,
        "load": 0.1,
        "cpus": 3,
        "memory": 4e9,
        "memory_free": 2e9,
        "swap": 0,
        "swap_free": 0,
        "disk": 20e9,
        "disk_free": 10e9,
        "reboot": False,
        "failed": [],
    },
    "services": {"nginx": "active", "supervisor": "active"},
    "releases": [{"app": "scell-api", "release": "v1", "commit": "abc", "since": NOW - 60, "whole": True}],
    "steps": {"results": [{"step": "web", "why": "", "finished": NOW - 60}], "working": []},
    "certificates": [
        {"name": "scell.io", "issued": True, "ends": NOW + 80 * 86400, "reason": None, "care": False}
    ],
    "php": {"api": "", "stream": ""},
    "horizon": {"state": "RUNNING", "pid": 7, "uptime": "1:00:00", "horizon": "running"},
    "scheduler": {"timer": "active", "last": NOW - 30, "result": "success", "status": "0", "at_work": False},
    "databases": {
        "production": {
            "version": "17.2",
            "database": "scell_production",
            "connections": 10,
            "most": 100,
            "bytes": 5e8,
            "failed": 0,
        }
    },
    "cache": {
        "version": "7.2",
        "used": 100,
        "most": 1000,
        "keys": 5,
        "queues": {"default": 3},
        "whole": True,
    },
}


def test_all_is_well() -> None:
    lines = status.judge(WELL)
    assert [line for line in lines if not line.good] == []
    subjects = {line.subject for line in lines}
    assert {
        "health",
        "release",
        "horizon",
        "scheduler",
        "failed jobs",
        "pending jobs",
        "certificate",
    } <= subjects
    assert "CARE" not in "\n".join(status.rendered(lines))


def changed(*path: str, to: Any) -> dict[str, Any]:
    """What a well host says, but for one value."""
    seen: dict[str, Any] = json.loads(json.dumps(WELL))
    place: Any = seen
    for key in path[:-1]:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(path[-1]) if isinstance(place, list) else path[-1]] = to
    return seen


@pytest.mark.parametrize(
    ("path", "value", "subject", "says"),
    [
        (("health", "text"), "database", "health", "database"),
        (("health", "code"), 502, "health", ""),
        (("services", "nginx"), "failed", "services", "nginx failed"),
        (("php", "api"), "Connection refused", "php", "api: Connection refused"),
        (("php",), {}, "php", "PHP does not run"),
        (("horizon", "horizon"), "inactive", "horizon", "inactive"),
        (("horizon", "state"), "FATAL", "horizon", "FATAL"),
        (("horizon", "state"), "ERROR", "horizon", "ERROR"),
        (("scheduler", "last"), NOW - 600, "scheduler", "10 min ago"),
        (("scheduler", "last"), None, "scheduler", "not run yet"),
        (("scheduler", "timer"), "inactive", "scheduler", "timer inactive"),
        (("scheduler", "result"), "exit-code", "scheduler", "exit-code"),
        (("databases", "production", "failed"), 2, "failed jobs", "2"),
        (("databases", "production", "connections"), 80, "database", "80 of 100"),
        (("databases", "production"), {"error": "gone\n  wait"}, "database", "gone"),
        (("databases",), {"error": "no .env\n  up"}, "databases", "no .env"),
        (("cache", "used"), 800, "cache", "of 0 MB"),
        (("cache", "queues", "default"), 1001, "pending jobs", "1001 (default 1001)"),
        (("cache",), {"error": "refused"}, "cache", "refused"),
        (("certificates", "0", "care"), True, "certificate", "80 days"),
        (("steps", "results", "0", "why"), "ended with exit status 1", "step", "ended with exit status 1"),
        (("releases", "0", "whole"), False, "release", "not there"),
        (("releases",), [], "release", "nothing is live"),
        (("host", "reboot"), True, "host", "reboot"),
        (("host", "disk_free"), 3e9, "disk", "3.0 GB of 20.0 GB"),
        (("host", "memory_free"), 2e8, "memory", "200 MB"),
        (("host", "failed"), ["x.service"], "units", "x.service"),
    ],
)
def test_what_needs_a_person(path: tuple[str, ...], value: Any, subject: str, says: str) -> None:
    bad = [line for line in status.judge(changed(*path, to=value)) if not line.good]
    assert [line.subject for line in bad] == [subject]
    assert says in bad[0].text


def test_status_shows_what_to_do_and_fails(world: World, run: Run) -> None:
    world.answers(changed("horizon", "horizon", to="inactive"))
    code, out, _ = run("status")
    assert code == Exit.CARE
    assert "CARE  horizon" in out
    assert "-> `workers restart`" in out
    code, out, _ = run("status", "--json")
    report = json.loads(out)
    assert (code, report["good"]) == (Exit.CARE, False)
    assert [line["subject"] for line in report["lines"] if not line["good"]] == ["horizon"]


def test_health_is_what_a_visitor_gets() -> None:
    seen = status.health("http://127.0.0.1:9/health")  # the discard port: nobody listens
    assert seen["code"] == 0
    assert "refused" in seen["text"].lower()


# ---------------------------------------------------------------- jobs, workers, .env


JOB = {
    "id": "8c1e",
    "queue": "default",
    "failed_at": "2026-03-03 14:30:00",
    "job": "App\\Fail",
    "reason": "RuntimeException: no",
}


def test_failed_jobs_need_care(world: World, run: Run) -> None:
    world.answers([JOB])
    code, out, _ = run("jobs", "failed")
    assert code == Exit.CARE
    assert out.splitlines()[1].split()[0] == "8c1e"
    assert "RuntimeException: no" in out
    world.answers([])
    assert run("jobs", "failed")[:2] == (Exit.OK, "no failed jobs\n")


def test_jobs_are_tried_again(world: World, run: Run) -> None:
    world.answers({"retried": ["8c1e"], "said": ""})
    assert run("jobs", "retry", "8c1e")[:2] == (Exit.OK, "1 failed job back in the queue\n")
    assert world.document()["retry"] == ["8c1e"]
    with pytest.raises(SystemExit, match="2"):
        command.main(["jobs", "retry"])


def test_the_stack_is_named_before_the_task_or_behind_it(world: World, run: Run) -> None:
    for words in (("--stack", "gone", "jobs", "failed"), ("jobs", "failed", "--stack", "gone")):
        code, _, err = run(*words)
        assert (code, "no stack named 'gone'" in err) == (Exit.NO_STACK, True)
    world.answers([])
    assert json.loads(run("--json", "jobs", "failed")[1]) == []


def test_how_many_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "-1", "x"):
        with pytest.raises(SystemExit, match="2"):
            command.main(["logs", f"--lines={wrong}"])
        assert f"{wrong!r} is not a number from 1 on" in capsys.readouterr().err


def test_workers_that_are_not_back_need_care(world: World, run: Run) -> None:
    before, after = (
        {"state": "RUNNING", "pid": 7, "uptime": "1"},
        {"state": "RUNNING", "pid": 9, "uptime": "1"},
    )
    world.answers({"before": before, "now": after, "renewed": True})
    assert run("workers", "restart") == (Exit.OK, "Horizon runs anew: pid 7 -> 9\n", "")
    world.answers({"before": before, "now": before, "renewed": False})
    code, out, _ = run("workers", "restart")
    assert code == Exit.CARE
    assert "finish their jobs" in out
    world.answers({"before": before, "now": {**after, "state": "FATAL"}, "renewed": False})
    assert "logs horizon" in run("workers", "restart")[1]


def test_env_diff_knows_values_by_their_fingerprints(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bytes(32)
    monkeypatch.setattr("secrets.token_bytes", lambda size: key[:size])

    def mark(value: str) -> str:
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()

    world.answers({"APP_NAME": mark("Scell"), "APP_KEY": mark("the app's key")})
    assert run("env", "diff")[0] == Exit.OK
    world.answers({"APP_KEY": mark("another"), "APP_DEBUG": mark("true")})
    code, out, _ = run("env", "diff", "--json")
    assert code == Exit.CARE
    assert json.loads(out) == {"changed": ["APP_KEY"], "missing": ["APP_NAME"], "extra": ["APP_DEBUG"]}
    assert "app's key" not in run("env", "diff")[1]


# ---------------------------------------------------------------- secrets


def secret(value: Any) -> dict[str, str]:
    return {**SECRET, "plaintext": json.dumps(value)}


STATE = {
    "deployment": {
        "resources": [
            {"urn": "u::s::top", "type": "pulumi:pulumi:Stack", "outputs": {"scell": secret("of the stack")}},
            {
                "urn": "u::a::scell-password",
                "type": "random:index/randomPassword:RandomPassword",
                "custom": True,
                "inputs": {"length": 32},
                "outputs": {"length": 32, "result": secret("pass"), "bcryptHash": secret("$2")},
            },
            {
                "urn": "u::s::berth:System$berth:Redis$random:P::scell-twice",
                "type": "random:index/randomPassword:RandomPassword",
                "custom": True,
                "inputs": {},
                "outputs": {"result": secret("first")},
            },
            {
                "urn": "u::s::berth:System$berth:Postgres$random:P::scell-twice",
                "type": "random:index/randomPassword:RandomPassword",
                "custom": True,
                "inputs": {},
                "outputs": {"result": secret("second")},
            },
            {
                "urn": "u::b::scell-host-key",
                "type": "tls:index/privateKey:PrivateKey",
                "custom": True,
                "inputs": {},
                "outputs": {"privateKeyPem": secret("pem"), "privateKeyOpenssh": secret("open")},
            },
            {
                "urn": "u::c::scell-user",
                "type": "scaleway:databases/user:User",
                "custom": True,
                "inputs": {"password": secret("pass")},
                "outputs": {"password": secret("pass")},
            },
            {
                "urn": "u::d::scell-key",
                "type": "scaleway:iam/apiKey:ApiKey",
                "custom": True,
                "inputs": {"description": "x"},
                "outputs": {"secretKey": secret("api"), "nested": [{"deep": secret(1)}]},
            },
            {
                "urn": "u::e::scell-release-command",
                "type": "command:remote:Command",
                "custom": True,
                "inputs": {},
                "outputs": {"stdout": secret("said")},
            },
        ]
    }
}


def test_what_is_generated_is_found_and_nothing_else() -> None:
    found = secrets.generated(STATE)
    values = {
        name: {key: value for key, value in one.items() if key != "type"} for name, one in found.items()
    }
    assert values == {
        "scell-password": {"result": "pass"},
        "scell-twice of berth:Redis": {"result": "first"},
        "scell-twice of berth:Postgres": {"result": "second"},
        "scell-host-key": {"privateKeyOpenssh": "open"},
        "scell-key": {"secretKey": "api", "nested.0.deep": 1},
    }


def test_values_are_shown_only_where_they_are_asked_for(world: World, run: Run, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps(STATE))
    code, out, _ = run("secrets", "export")
    assert code == Exit.OK
    assert "scell-password" in out
    assert "pass\n" not in out
    assert '"open"' not in out
    file = tmp_path / "copy.json"
    assert run("secrets", "export", "--to", str(file))[0] == Exit.OK
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert (kept["stack"], kept["generated"]["scell-password"]["result"]) == ("staging", "pass")
    assert kept["environments"]["scell-api"]["APP_KEY"] == "the app's key"
    code, _, err = run("secrets", "export", "--to", str(file))
    assert (code, "exists" in err) == (Exit.USAGE, True)
    assert json.loads(run("secrets", "export", "--stdout", "--stack", "prod")[1])["stack"] == "prod"


def test_no_export_into_a_checkout(world: World, run: Run, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps(STATE))
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True)
    code, _, err = run("secrets", "export", "--to", str(checkout / "copy.json"))
    assert (code, "Git checkout" in err) == (Exit.USAGE, True)
    assert not (checkout / "copy.json").exists()


# ---------------------------------------------------------------- words


def test_how_things_are_said() -> None:
    assert [show.duration(s) for s in (-1, 59, 60, 7200, 86400, 200000)] == [
        "0 s", "59 s", "1 min", "2 h", "1 day", "2 days",
    ]  # fmt: skip
    assert (show.size(45e6), show.size(1.25e10)) == ("45 MB", "12.5 GB")
    assert show.table(("A", "LONG"), [(1, None), ("xyz", 2)]) == "A    LONG\n1\nxyz  2"
    assert show.short("a  b\n c " * 20, 12) == "a b c a b …"


def test_every_task_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")}
    tasks = {
        "status",
        "logs",
        "workers",
        "restart",
        "jobs",
        "certificate",
        "psql",
        "slow-queries",
        "env",
        "secrets",
    }
    assert tasks <= words


def test_the_operator_s_model_prints_no_key() -> None:
    assert "c2VjcmV0" not in repr(stack.Operator.model_validate(OPERATOR))
    with pytest.raises(TaskError, match="not whole"):
        stack.choose({"scell": {"operator": {**OPERATOR, "port": 0}}}, None)
