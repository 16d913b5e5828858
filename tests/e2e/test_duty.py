"""The night shift's tasks, each against the real host: what it says when all is well, and when it is not."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import stat
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import APP, NAME, Api
from tests.e2e.checkout import Checkout, Done, environment, until
from tests.e2e.conftest import Site

TASKS = ("exec", "--", ".venv/bin/python", "-m", "tasks")
Tasks = Callable[..., Done]


@pytest.fixture
def clone(site: Site) -> Checkout:
    return site.checkout


@pytest.fixture
def api(clone: Checkout) -> Api:
    return Api(clone)


class Shell:
    """A shell in one `sandbox exec`: what that takes is waited for once, not with every task."""

    def __init__(self, clone: Checkout, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        words = [".venv/bin/python", "-m", "sandbox", "exec", "--", "bash"]
        self.process = subprocess.Popen(
            words,
            cwd=clone.root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def task(self, *words: str, given: str = "") -> Done:
        """`python -m tasks …`"""
        self.count += 1
        place = self.directory / str(self.count)
        files = {name: place.with_suffix(f".{name}") for name in ("in", "out", "err", "code")}
        files["in"].write_text(given)
        line = shlex.join([".venv/bin/python", "-m", "tasks", *words])
        began = time.monotonic()
        assert self.process.stdin is not None
        streams = f"<{files['in']} >{files['out']} 2>{files['err']}"
        self.process.stdin.write(f"{line} {streams}; echo $? >{place}; mv {place} {files['code']}\n")
        self.process.stdin.flush()
        until(files["code"].exists, 90, line)
        seconds = time.monotonic() - began
        return Done(
            int(files["code"].read_text()), files["out"].read_text(), files["err"].read_text(), seconds
        )


@pytest.fixture(scope="module")
def tasks(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    """`python -m tasks …` in the clone, on the sandbox's internet."""
    shell = Shell(site.checkout, tmp_path_factory.mktemp("tasks"))
    with shell.process:
        yield shell.task
        if shell.process.stdin:
            shell.process.stdin.close()


@pytest.fixture(autouse=True, scope="module")
def certified(site: Site) -> None:
    until(lambda: site.checkout.curl(f"https://{NAME}/health").code == 0, 120, f"a certificate for {NAME}", 1)


def answer(done: Done) -> Any:
    return json.loads(done.out)


def cares(done: Done) -> dict[str, str]:
    """What needs a person, by subject."""
    return {line["subject"]: line["text"] for line in answer(done)["lines"] if not line["good"]}


# ---------------------------------------------------------------- looking


def test_status_tells_everything_at_one_glance(site: Site, tasks: Tasks, api: Api) -> None:
    until(lambda: "scheduler" not in cares(tasks("status", "--json")), 90, "a tick of the scheduler", pause=5)
    done = tasks("status")
    for subject in (
        *("health", "release", "services", "php", "horizon", "scheduler", "database", "failed jobs", "cache"),
        *("pending jobs", "certificate", "steps", "host", "memory", "disk"),
    ):
        assert re.search(rf"^(ok  |CARE)  {subject} ", done.out, re.MULTILINE), (subject, done.text)
    seen = answer(tasks("status", "--json"))["seen"]
    assert seen["health"] | {"ms": 0} == {"url": f"https://{NAME}/health", "code": 200, "text": "ok", "ms": 0}
    live = {one["app"]: one for one in seen["releases"]}
    assert set(live) == {"scell", APP}
    assert live[APP]["release"] == api.health()["release"]
    assert re.fullmatch("[0-9a-f]{40}", live[APP]["commit"])
    assert set(seen["databases"]) == {"production", "sandbox"}
    assert seen["databases"]["production"]["version"].startswith("17")
    assert seen["cache"]["version"].startswith("7")
    assert seen["horizon"]["horizon"] == "running"
    assert {one["name"] for one in seen["certificates"]} >= {"scell.io", "www.scell.io", NAME}
    site.figures["tasks status"] = f"{done.seconds:.1f} s"


def test_one_login_for_one_task(clone: Checkout, tasks: Tasks) -> None:
    count = "journalctl --quiet --unit ssh | grep --count 'Accepted publickey for berth'"
    before = int(clone.on_host(count))
    tasks("status")
    assert int(clone.on_host(count)) - before == 2  # the task's, and this question's own
    assert "status for" in tasks("logs", "tasks").good().out


def test_every_log_can_be_read(clone: Checkout, tasks: Tasks) -> None:
    found = {row["log"]: row["there"] for row in answer(tasks("logs", "--json"))}
    assert {"laravel", "horizon", "scheduler", "nginx", f"release-{APP}", "bootstrap", "web", "php"} <= set(
        found
    )
    assert all(
        found[name] for name in ("horizon", "scheduler")
    )  # the application may have had nothing to say
    assert "Horizon started" in tasks("logs", "horizon", "-n", "500").good().out
    assert f"==> {APP} is at" in tasks("logs", "release").good().out
    assert len(tasks("logs", "bootstrap", "-n", "3").good().out.splitlines()) == 3
    link = f"/srv/{APP}/shared/storage/logs/laravel.log"  # the application's own, so it could be anything
    clone.on_host(f"touch {link}; mv {link} {link}.kept; ln -s /etc/shadow {link}")
    try:
        assert "root:" not in tasks("logs", "laravel").out + tasks("logs", "laravel", "-g", "root").out
    finally:
        clone.on_host(f"mv {link}.kept {link}")
    refused = tasks("logs", "nothing").bad()
    assert (refused.code, "laravel" in refused.err) == (5, True)


def test_a_log_is_followed_until_nobody_listens(clone: Checkout, tasks: Tasks) -> None:
    following = clone.start(".venv/bin/python", "-m", "sandbox", *TASKS, "logs", NAME, "-f", "-n", "1")
    try:
        until(lambda: "tail" in clone.on_host("pgrep -a tail || true"), 30, "the log is followed")
        clone.curl(f"https://{NAME}/followed").good()
        following.says("/followed", 20)
    finally:
        os.killpg(following.process.pid, 2)
        following.end(20)
    until(lambda: "tail" not in clone.on_host("pgrep -a tail || true"), 20, "nothing is left on the host")
    assert "/followed" in tasks("logs", NAME, "--grep", "/FOLLOWED", "-n", "1").good().out


def test_certificates_are_shown_and_renewed(clone: Checkout, tasks: Tasks) -> None:
    assert re.search(rf"^ok .* {NAME}: \d+ days left$", tasks("certificate", "status").out, re.MULTILINE)
    before = clone.certificate(NAME)["serial"]
    assert "renewed" in tasks("certificate", "renew", NAME).good().out
    until(lambda: clone.certificate(NAME)["serial"] != before, 20, "nginx serves the new one")
    assert tasks("certificate", "renew", "nobody.example").code == 5


# ---------------------------------------------------------------- queue


def test_failed_jobs_are_listed_and_tried_again(tasks: Tasks, api: Api) -> None:
    tasks("psql", "--write", "-c", "delete from failed_jobs").good()  # what others left
    assert tasks("jobs", "failed").good().out == "no failed jobs\n"
    jobs = [api.work("fail") for _ in range(2)]
    until(lambda: len(answer(tasks("jobs", "failed", "--json"))) == 2, 60, "the jobs fail", pause=2)
    listed = tasks("jobs", "failed")
    assert listed.code == 1
    assert all(job in listed.out for job in jobs)
    assert "App\\Fail" in listed.out
    assert cares(tasks("status", "--json"))["failed jobs"] == "2"

    wrong = tasks("jobs", "retry", "00000000-0000-0000-0000-000000000000")
    assert (wrong.code, "no failed job" in wrong.err) == (5, True)
    repaired = f"/srv/{APP}/shared/storage/app/repaired"  # from here on these jobs go through
    api.clone.on_host(f"install -o {APP} /dev/null {repaired}")
    try:
        assert tasks("jobs", "retry", jobs[0]).good().out == "1 failed job back in the queue\n"
        assert [job["id"] for job in answer(tasks("jobs", "failed", "--json"))] == [jobs[1]]
        assert tasks("jobs", "retry", "all").good().out == "1 failed job back in the queue\n"
        for job in jobs:
            api.finished(job, 20)
    finally:
        api.clone.on_host(f"rm {repaired}")
    assert tasks("jobs", "failed").good().out == "no failed jobs\n"
    assert tasks("jobs", "retry", "all").good().out == "no failed jobs\n"


def test_workers_are_restarted_and_lose_no_job(clone: Checkout, tasks: Tasks, api: Api) -> None:
    job = api.work("slow", seconds=6)
    until(lambda: api.job(job), 20, "the job runs")
    said = tasks("workers", "restart").good().out
    before, after = re.findall(r"\d+", said)
    assert before != after
    assert api.finished(job, 5)["finished_at"]
    clone.on_host(f"supervisorctl stop {APP}-horizon")
    report = tasks("status", "--json")
    assert report.code == 1
    assert "STOPPED" in cares(report)["horizon"]
    assert "pid none ->" in tasks("workers", "restart").good().out
    assert "horizon" not in cares(tasks("status", "--json"))


def test_a_service_that_fell_is_seen_and_restarted(clone: Checkout, tasks: Tasks, api: Api) -> None:
    refused = tasks("restart", "php")
    assert (refused.code, "--force" in refused.err) == (5, True)
    clone.on_host(f"systemctl stop {APP}-php@{api.health()['release']}")
    found = cares(tasks("status", "--json"))
    assert {"health", "services", "php"} <= set(found)
    assert "502" in found["health"]
    assert "active" in tasks("restart", "php").good().out
    assert api.well()
    tasks("restart", "nginx").good()
    assert not {"health", "services", "php"} & set(cares(tasks("status", "--json")))


# ---------------------------------------------------------------- database


def test_psql_as_the_application_s_own_user(tasks: Tasks) -> None:
    who = ("psql", "--csv", "-c", "select current_user, current_database()")
    first, second = tasks(*who).good().out, tasks(*who, "--database", "sandbox").good().out
    assert "scell_production" in first
    assert "scell_sandbox" in second
    assert first.splitlines()[1].split(",")[0] != second.splitlines()[1].split(",")[0]
    refused = tasks("psql", "-c", "create table nobody (x int)")
    assert refused.code == 3
    assert "read-only transaction" in refused.err
    given = (
        "create temporary table trial (x int);\ninsert into trial values (41 + 1);\nselect x from trial;\n"
    )
    assert "42" in tasks("psql", "--write", given=given).good().out
    assert tasks("psql", "-d", "nothing", "-c", "select 1").code == 5


def test_psql_at_a_terminal(clone: Checkout) -> None:
    words = [".venv/bin/python", "-m", "sandbox", *TASKS, "psql"]
    said = at_terminal(clone, words, ("=> ", "select 6 * 7 as answer;\n"), ("=> ", "\\q\n"))
    assert "42" in said


def at_terminal(clone: Checkout, words: list[str], *talk: tuple[str, str]) -> str:
    """What a program says on a terminal of its own: waits for a text, types, and so on to its good end."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, 120))  # of a window without rows every answer is too long
    process = subprocess.Popen(
        words, cwd=clone.root, env=environment(), stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    said = ""
    deadline = time.monotonic() + 60
    try:
        for expected, typed in (*talk, ("", "")):
            seen = ""
            while process.poll() is None and (expected not in seen or not expected):
                assert time.monotonic() < deadline, said + seen
                if select.select([leader], [], [], 0.5)[0]:
                    try:
                        seen += os.read(leader, 65536).decode(errors="replace")
                    except OSError:  # its other end is closed: the program has ended
                        break
            said += seen
            if typed:
                os.write(leader, typed.encode())
        assert process.wait(20) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return said


def test_slow_queries_are_counted(tasks: Tasks) -> None:
    tasks("psql", "-c", "select pg_sleep(0.3)").good()
    found = answer(tasks("slow-queries", "-n", "100", "--json"))
    slowest = next(one for one in found if "pg_sleep" in one["query"])
    assert slowest["mean_ms"] > 250
    assert "pg_sleep" in tasks("slow-queries", "-n", "100").good().out
    assert "pg_sleep" not in tasks("slow-queries", "--database", "sandbox").good().out


# ---------------------------------------------------------------- the application


def test_other_commands_of_the_application(clone: Checkout, tasks: Tasks) -> None:
    assert "Ran" in tasks("artisan", "migrate:status").good().out
    assert "fiscal:daily-closing" in tasks("artisan", "fiscal:daily-closing", "--force").good().out
    assert tasks("artisan", "no:such-command").code == 1
    for command in ("key:generate", "migrate:fresh"):
        refused = tasks("artisan", command, "--force")
        assert (refused.code, "not run on a live host" in refused.err) == (5, True)


def test_what_was_changed_by_hand_in_the_env_is_named(clone: Checkout, tasks: Tasks) -> None:
    assert "is what the last" in tasks("env", "diff").good().out
    path = f"/srv/{APP}/current/.env"
    clone.on_host(f"cp -p {path} {path}.kept")
    try:
        edits = "-e 's/^APP_LOCALE=.*/APP_LOCALE=de/' -e '/^APP_TIMEZONE=/d'"
        clone.on_host(f"sed -i {edits} {path}\necho EXTRA=1 >>{path}")
        done = tasks("env", "diff", "--json")
        assert done.code == 1
        assert answer(done) == {"changed": ["APP_LOCALE"], "missing": ["APP_TIMEZONE"], "extra": ["EXTRA"]}
    finally:
        clone.on_host(f"mv {path}.kept {path}")
    tasks("env", "diff").good()


# ---------------------------------------------------------------- secrets


def test_the_copy_of_the_secrets_is_whole_and_for_its_owner_only(
    clone: Checkout, tasks: Tasks, api: Api, tmp_path: Path
) -> None:
    names = tasks("secrets", "export").good().out
    file = tmp_path / "copy.json"
    tasks("secrets", "export", "--to", str(file)).good()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    copy = json.loads(file.read_text())
    assert set(copy["generated"]) >= {"scell-host-key", "scell-deploy-key"}
    values = [value for one in copy["generated"].values() for key, value in one.items() if key != "type"]
    assert not [value for value in values if str(value) in names]
    on_host = api.shell('printf "%s\\n" "$APP_KEY" "$DB_PASSWORD" "$DB_PASSWORD_SANDBOX" "$REDIS_PASSWORD"')
    there = copy["environments"][APP]
    assert on_host.splitlines() == [
        there[name] for name in ("APP_KEY", "DB_PASSWORD", "DB_PASSWORD_SANDBOX", "REDIS_PASSWORD")
    ]
    assert set(on_host.splitlines()[1:]) <= set(values)
    assert tasks("secrets", "export", "--to", "copy.json").code == 2
    assert not (clone.root / "copy.json").exists()


def test_no_secret_in_a_command_line_while_tasks_run(clone: Checkout, api: Api) -> None:
    passwords = api.shell('printf "%s\\n" "$APP_KEY" "$DB_PASSWORD" "$REDIS_PASSWORD"').splitlines()
    task = clone.start(".venv/bin/python", "-m", "sandbox", *TASKS, "psql", "-c", "select pg_sleep(3)")
    lines: set[bytes] = set()
    while task.process.poll() is None:  # of the host as well: its processes are this machine's
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                lines.add((entry / "cmdline").read_bytes())
            except OSError:  # just gone
                continue
        time.sleep(0.05)
    task.end(20).good()
    seen = b"\n".join(lines)
    assert b"psql\0--no-psqlrc" in seen
    assert b"pg_sleep(3)" in seen  # typed here
    on_host = [line for line in lines if line.startswith((b"/usr/local/bin/psql", b"sudo\0", b"python3\0-c"))]
    assert on_host
    assert not [line for line in on_host if b"pg_sleep" in line]
    assert not [word for word in passwords if word.encode() in seen]


# ---------------------------------------------------------------- accidents


def test_a_host_that_is_not_reached_or_is_another(clone: Checkout, tasks: Tasks) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    accidents = (
        ("systemctl stop ssh", "systemctl start ssh", "takes no SSH connection"),
        (
            f"mv {key} {key}.kept; ssh-keygen -q -t ed25519 -N '' -f {key}; systemctl restart ssh",
            f"mv {key}.kept {key}; ssh-keygen -y -f {key} >{key}.pub; systemctl restart ssh",
            "cannot prove to be the one the program made",
        ),
    )
    for accident, repair, said in accidents:
        # Nobody gets in afterwards, so the host has to repair itself.
        later = f"systemd-run --quiet --collect sh -c 'sleep 12; {repair.replace(chr(39), '')}'"
        clone.on_host(f"{later}\n{accident}\n")
        done = tasks("status")
        assert (done.code, said in done.err) == (4, True), done.text
        assert "https://api.scell.io/health: ok" in done.out  # whether visitors reach it is still told
        until(lambda: clone.sandbox("ssh", "scell", "true").code == 0, 90, "the host is back", pause=2)
    tasks("logs", "tasks").good()


def test_a_stack_that_is_not_up(tasks: Tasks) -> None:
    done = tasks("status", "--stack", "staging").bad()
    assert (done.code, done.out) == (3, "")
    assert "pulumi up" in done.err
    assert tasks("status", "--stack", "nothing").code == 3
