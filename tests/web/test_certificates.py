"""berth-certificates on a host that is a directory; certbot and systemctl are played, openssl is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from components.web import certificates

TOOL = Path("components/web/certificates.py")
DIRECTORY = "https://acme.scell.io/directory"

CERTBOT = """#!/usr/bin/env python3
import json, os, subprocess, sys
from pathlib import Path
root = Path(os.environ["FAKE_ROOT"])
arguments = sys.argv[1:]
with (root / "calls").open("a") as calls:
    calls.write(json.dumps(["certbot", *arguments]) + "\\n")
busy = root / "busy"
if busy.exists():
    busy.unlink()
    sys.exit("Another instance of Certbot is already running.")
forgotten = root / "forgotten"
if arguments[0] == "register":
    forgotten.unlink()
    sys.exit(0)
if forgotten.exists():
    log = root / "var/log/letsencrypt/letsencrypt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("acme.messages.Error: urn:ietf:params:acme:error:accountDoesNotExist :: No such account")
    print("AttributeError: can't set attribute", file=sys.stderr)
    sys.exit(1)
name = arguments[arguments.index("--cert-name") + 1]
live = root / "etc/letsencrypt/live" / name
if arguments[0] == "delete":
    import shutil
    shutil.rmtree(live)
    sys.exit(0)
refused = json.loads((root / "refused").read_text())
if name in refused:
    print("Saving debug log to /var/log/letsencrypt/letsencrypt.log")
    print("Certbot failed to authenticate some domains (authenticator: webroot).")
    print(f"  Domain: {name}\\n  Type:   unauthorized\\n  Detail: {refused[name]}\\n")
    print("Some challenges have failed.", file=sys.stderr)
    sys.exit(1)
live.mkdir(parents=True, exist_ok=True)
days = os.environ.get("FAKE_DAYS", "90")
new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
new += ["-days", days, "-subj", "/CN=issued", "-addext", f"subjectAltName=DNS:{name}"]
new += ["-keyout", live / "privkey.pem", "-out", live / "fullchain.pem"]
subprocess.run(new, check=True, capture_output=True)
if "--server" in arguments:
    renewal = root / "etc/letsencrypt/renewal"
    renewal.mkdir(parents=True, exist_ok=True)
    (renewal / f"{name}.conf").write_text("server = " + arguments[arguments.index("--server") + 1] + "\\n")
"""
SYSTEMCTL = """#!/bin/bash
echo "[\\"systemctl\\", \\"$1\\", \\"$2\\"]" >>"$FAKE_ROOT/calls"
"""


class Host:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        for name, text in (("certbot", CERTBOT), ("systemctl", SYSTEMCTL)):
            (root / "bin").mkdir(exist_ok=True)
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_ROOT", str(root))
        self.monkeypatch, self.began = monkeypatch, time.time()
        self.unknown: set[str] = set()
        monkeypatch.setattr(
            certificates, "resolves", lambda name: "the name does not resolve" if name in self.unknown else ""
        )
        self.refuse({})
        self.configure(["scell.io", "www.scell.io"])

    def configure(self, names: list[str], directory: str = DIRECTORY) -> None:
        path = self.root / "etc/berth/certificates.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        config = {"email": "ops@scell.io", "directory": directory, "webroot": "/w", "names": names}
        path.write_text(json.dumps(config))

    def refuse(self, names: dict[str, str]) -> None:
        (self.root / "refused").write_text(json.dumps(names))

    def run(self, *arguments: str) -> int:
        return certificates.main(list(arguments), self.root)

    @property
    def calls(self) -> list[list[str]]:
        path = self.root / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def target(self, name: str) -> str:
        return str((self.root / "etc/berth/tls" / name).readlink().relative_to(self.root))

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.root / "var/lib/berth/certificates.json").read_text())
        return state

    def later(self, seconds: float) -> None:
        """So much later than when the test began."""
        self.monkeypatch.setattr(time, "time", lambda: self.began + seconds)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def subject_names(path: Path) -> str:
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def test_every_name_is_self_signed_at_once_and_no_one_is_asked(host: Host) -> None:
    assert host.run("prepare") == 0
    for name in ("scell.io", "www.scell.io"):
        assert host.target(name) == f"var/lib/berth/self-signed/{name}"
        directory = host.root / "etc/berth/tls" / name
        assert f"DNS:{name}" in subject_names(directory / "fullchain.pem")
        assert (directory / "privkey.pem").stat().st_mode & 0o777 == 0o600
    assert host.calls == []


def test_prepare_again_keeps_what_is_there(host: Host) -> None:
    host.run("prepare")
    path = host.root / "var/lib/berth/self-signed/scell.io/fullchain.pem"
    before = path.read_bytes()
    host.run("prepare")
    assert path.read_bytes() == before


def test_a_self_signed_certificate_does_not_run_out(host: Host) -> None:
    host.run("prepare")
    path = host.root / "var/lib/berth/self-signed/scell.io/fullchain.pem"
    before = path.read_bytes()
    host.later(86400 * 85)
    host.run("prepare")
    assert path.read_bytes() != before


def test_issuing_switches_the_links_reloads_and_rests_the_timer(host: Host) -> None:
    host.run("prepare")
    assert host.run("issue") == 0
    assert host.target("scell.io") == "etc/letsencrypt/live/scell.io"
    asked = [call for call in host.calls if call[0] == "certbot"]
    assert [call[call.index("--domain") + 1] for call in asked] == ["scell.io", "www.scell.io"]
    assert all(call[call.index("--server") + 1] == DIRECTORY for call in asked)
    assert all(call.count("--domain") == 1 for call in asked)  # a lineage of its own each
    assert host.calls.count(["systemctl", "reload", "nginx.service"]) == 2
    assert host.calls[-1] == ["systemctl", "stop", "berth-certificates.timer"]
    assert host.state() == {}
    count = len(asked)
    host.run("issue")
    assert len([call for call in host.calls if call[0] == "certbot"]) == count


def test_one_failing_name_delays_no_other_and_is_recorded(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.run("prepare")
    host.refuse({"scell.io": "DNS problem: NXDOMAIN looking up A for scell.io"})
    host.run("issue")
    assert host.target("www.scell.io") == "etc/letsencrypt/live/www.scell.io"
    assert host.target("scell.io") == "var/lib/berth/self-signed/scell.io"
    entry = host.state()["scell.io"]
    assert entry["reason"] == "DNS problem: NXDOMAIN looking up A for scell.io"
    assert entry["next"] - entry["tried"] == certificates.FIRST_RETRY
    assert ["systemctl", "stop", "berth-certificates.timer"] not in host.calls
    assert "www.scell.io: issued" in capsys.readouterr().out


def test_a_failing_name_is_left_alone_until_its_turn_then_longer(host: Host) -> None:
    host.run("prepare")
    host.refuse({"scell.io": "no"})

    def tries() -> int:
        return sum("scell.io" in call and call[0] == "certbot" for call in host.calls)

    host.run("issue")
    host.run("issue")
    assert tries() == 1
    waits = []
    passed = 0.0
    for _ in range(8):
        entry = host.state()["scell.io"]
        waits.append(round(entry["next"] - entry["tried"]))
        passed += waits[-1] + 1
        host.later(passed)
        host.run("issue")
    assert waits == [120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert tries() == 9
    # Let's Encrypt: five failed validations of a name in an hour
    moments = [sum(waits[:index]) for index in range(len(waits))]
    assert max(sum(start <= moment < start + 3600 for moment in moments) for start in moments) <= 5


def test_a_name_that_does_not_resolve_costs_no_try(host: Host) -> None:
    host.run("prepare")
    host.unknown = {"scell.io"}
    host.run("issue")
    assert not any(
        "scell.io" in call for call in host.calls if call[0] == "certbot" and "www.scell.io" not in call
    )
    assert host.state()["scell.io"]["failures"] == 0
    assert host.state()["scell.io"]["next"] - host.state()["scell.io"]["tried"] == certificates.NO_NAME_RETRY


def test_status_tells_what_is_missing_and_why(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("prepare")
    assert host.run("status") == 1
    assert "scell.io: self-signed" in capsys.readouterr().out
    host.refuse({"scell.io": "the firewall is closed"})
    host.run("issue")
    capsys.readouterr()
    assert host.run("status", "--json") == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["issued"], first["reason"]) == ("scell.io", False, "the firewall is closed")
    assert first["next_try"] > time.time()
    assert (second["issued"], second["reason"], second["care"]) == (True, None, False)


def test_status_worries_about_a_certificate_that_is_not_renewed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DAYS", "20")
    host.run("prepare")
    host.run("issue")
    assert host.run("status") == 1
    monkeypatch.setenv("FAKE_DAYS", "60")
    for name in ("scell.io", "www.scell.io"):
        assert host.run("renew", "--force", name) == 0
    assert host.run("status") == 0


def test_a_forced_renewal_reloads_nginx(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("prepare")
    host.run("issue")
    before = (host.root / "etc/berth/tls/scell.io/fullchain.pem").read_bytes()
    assert host.run("renew", "--force", "scell.io") == 0
    assert (host.root / "etc/berth/tls/scell.io/fullchain.pem").read_bytes() != before
    assert host.calls[-1] == ["systemctl", "reload", "nginx.service"]
    assert host.run("renew", "--force", "other.io") == 2
    assert "other.io is no name of this host" in capsys.readouterr().err
    host.refuse({"scell.io": "too many certificates"})
    assert host.run("renew", "--force", "scell.io") == 1
    assert "too many certificates" in capsys.readouterr().err


def test_another_authority_issues_anew_while_the_old_certificate_serves(host: Host) -> None:
    host.run("prepare")
    host.run("issue")
    host.configure(["scell.io"], directory="https://other.scell.io/directory")
    host.run("prepare")
    assert host.target("scell.io") == "etc/letsencrypt/live/scell.io"
    host.run("issue")
    last = [call for call in host.calls if call[0] == "certbot" and call[1] == "certonly"][-1]
    assert "--force-renewal" in last
    assert last[last.index("--server") + 1] == "https://other.scell.io/directory"


def test_a_name_that_left_is_forgotten_also_by_certbot(host: Host) -> None:
    host.run("prepare")
    host.refuse({"scell.io": "no"})
    host.run("issue")
    host.configure(["new.scell.io"])
    host.run("prepare")
    # nginx still reads a configuration that names them, and may be started again at any moment.
    assert len(list((host.root / "etc/berth/tls").iterdir())) == 3
    host.run("forget")
    assert [path.name for path in (host.root / "etc/berth/tls").iterdir()] == ["new.scell.io"]
    assert ["certbot", "delete", "--cert-name", "www.scell.io", "--non-interactive"] in host.calls
    assert host.state() == {}


def test_another_certbot_is_waited_for_and_is_no_failure_of_the_name(host: Host) -> None:
    host.configure(["scell.io"])
    (host.root / "busy").touch()
    assert host.run("issue") == 0
    assert [call[1] for call in host.calls if call[0] == "certbot"] == ["certonly"] * 2
    assert host.run("status") == 0


def test_the_link_is_never_missing_while_it_changes(host: Host) -> None:
    """A reader that looks all the time, as nginx might at any moment, always finds a certificate."""
    host.run("prepare")
    host.run("issue")
    tool = certificates.Host(host.root)
    link = host.root / "etc/berth/tls/scell.io"
    stop, looks = threading.Event(), [0, 0]

    def look() -> None:
        while not stop.is_set():
            looks[(link / "fullchain.pem").exists()] += 1

    reader = threading.Thread(target=look)
    reader.start()
    for issued in [False, True] * 100:
        host.monkeypatch.setattr(tool, "issued", lambda name, issued=issued: issued)
        assert tool.link("scell.io")
    stop.set()
    reader.join()
    assert looks[True] > 0
    assert looks[False] == 0


def test_it_runs_as_the_program_it_is_installed_as() -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(TOOL), "status"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "etc/berth/certificates.json" in done.stderr


@pytest.mark.parametrize("command", [["issue"], ["renew", "--force", "scell.io"]])
def test_an_account_the_authority_has_forgotten_is_registered_anew(host: Host, command: list[str]) -> None:
    host.configure(["scell.io"])
    if command[0] == "renew":
        host.run("issue")
    account = host.root / "etc/letsencrypt/accounts/acme.scell.io/directory/abc"
    account.mkdir(parents=True)
    renewal = host.root / "etc/letsencrypt/renewal"
    renewal.mkdir(parents=True, exist_ok=True)
    (renewal / "old.conf").write_text(f"account = abc\nserver = {DIRECTORY}\n")
    (renewal / "foreign.conf").write_text("account = xyz\nserver = https://other.scell.io/directory\n")
    (host.root / "forgotten").touch()
    assert host.run(*command) == 0
    assert not account.exists()
    assert (renewal / "old.conf").read_text() == f"server = {DIRECTORY}\n"
    assert "account = xyz" in (renewal / "foreign.conf").read_text()
    verbs = [call[1] for call in host.calls if call[0] == "certbot"]
    verb = {"issue": "certonly", "renew": "renew"}[command[0]]
    assert verbs[-3:] == [verb, "register", verb]
    assert host.run("status") == 0
