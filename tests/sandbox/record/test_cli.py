"""``python -m sandbox`` as a person calls it, in record-only mode."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from sandbox import engine, paths, real
from sandbox.effects.protocol import World
from sandbox.inventory import Store
from sandbox.process import using

pytestmark = pytest.mark.sandbox

PROGRAM = """
ip = instance.Ip("ip")
pulumi.export("address", ip.address)
pulumi.export("token", pulumi.Config().get_secret("token"))
pulumi.export("site", {"urls": ["https://shop.example/", "http://plain.example/"], "note": "https://a b"})
pulumi.export("hidden", pulumi.Output.secret("https://secret.example/"))
"""


def test_a_round_of_all_commands(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    lab.stackfile("config:\n  lab:token:\n    secure: v1:AAAAAAAAAAAAAAAA:bm90IG91cnM=\n")
    subprocess.run(["git", "init", "-q"], cwd=lab.root, check=True)
    (lab.root / ".gitignore").write_text("/.sandbox/\n/.venv\n__pycache__/\n")
    subprocess.run(["git", "add", "."], cwd=lab.root, check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, "commit", "-qm", "x"], cwd=lab.root, check=True)

    assert "1 to create" not in lab.sandbox("preview", "--stack", "dev").good().text  # stack and address
    assert lab.rows() == []
    up = lab.sandbox("up", "--stack", "dev", "--record-only").good()
    closing = up.text.partition("==> ")[2].splitlines()
    assert "Recorded only: no host was run and no service started (--record-only was given)" in closing[0]
    assert "Nothing answers at https://shop.example/ until hosts can run: " in closing[1]
    assert len(closing) == 2
    report = json.loads(lab.sandbox("status", "--json").good().text)
    assert report["stacks"]["dev"]["mode"] == "record-only"
    assert report["stacks"]["dev"]["types"] == {"scaleway:instance/ip:Ip": 1}
    assert "1 Ip" in lab.sandbox("status").good().text

    # Any command; `pulumi` in it is the sandbox's; the exit code is kept.
    run = ("exec", "--record-only", "--")
    lab.sandbox(*run, "pulumi", "preview", "--stack", "dev", "--expect-no-changes").good()
    lab.sandbox(*run, "pulumi", "refresh", "--stack=dev", "--yes", "--expect-no-changes").good()
    assert "198.18.16.2" in lab.sandbox(*run, "pulumi", "stack", "output", "--stack", "dev").good().text
    assert lab.sandbox(*run, "sh", "-c", "exit 7").code == 7
    lab.sandbox(*run, "no-such-command").bad("no-such-command: command not found")
    shown = (
        lab.sandbox("exec", "--record-only", "-s", "dev", "--", "pulumi", "config", "get", "token")
        .good()
        .text.strip()
    )
    assert len(shown) == 32  # a stand-in for the committed secret, made here

    # A second derivation keeps it, and the committed files were not touched.
    lab.sandbox("up", "--stack", "dev", "--record-only").good()
    again = (
        lab.sandbox("exec", "--record-only", "-s", "dev", "--", "pulumi", "config", "get", "token")
        .good()
        .text.strip()
    )
    assert again == shown
    lab.sandbox("destroy", "--stack", "dev").good()
    clean = subprocess.run(
        ["git", "status", "--porcelain"], cwd=lab.root, capture_output=True, text=True, check=True
    )
    assert clean.stdout == ""

    for path in (lab.state_directory / "inventory.db", lab.state_directory / "passphrase"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with using(lab.state_directory):
        lab.sandbox("reset").bad("another command is at work in this sandbox")
    assert (lab.state_directory / "inventory.db").exists()
    lab.sandbox("reset").good()
    assert [path.name for path in lab.state_directory.iterdir()] == ["toolchain.json"]


def test_what_somebody_made_open_is_closed(tmp_path):
    (tmp_path / ".sandbox").mkdir(mode=0o755)
    assert stat.S_IMODE(paths.state(tmp_path).stat().st_mode) == 0o700
    assert not paths.state(tmp_path / "gone").exists()


def test_a_world_without_hosts_goes_with_the_last_command_that_works_in_it(own_lab, monkeypatch):
    gone: list[Path] = []
    monkeypatch.setattr(real, "prepare", lambda root: World(root=root, inventory=Store(root / "x.db")))
    monkeypatch.setattr(real, "reset", gone.append)
    with engine.session(own_lab.root, real=True):
        with engine.session(own_lab.root, real=True):
            pass
        assert gone == []
    assert gone == [own_lab.root]


def test_accounts_of_the_caller_do_not_reach_the_program(own_lab, monkeypatch):
    lab = own_lab
    monkeypatch.setenv("SCW_ACCESS_KEY", "SCWREALREALREALREAL1")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://elsewhere.example")
    seen = lab.sandbox("exec", "--record-only", "--", "env").good().text
    assert "SCWREAL" not in seen
    assert "elsewhere" not in seen


def test_orphans_and_what_is_missing_are_reported(own_lab):
    lab = own_lab
    lab.program(PROGRAM.replace("ip = ", 'g = instance.SecurityGroup("g")\nip = '))
    lab.sandbox("fault", "add", "--token", "*:Ip", "--kind", "after-commit").good()
    assert "after-commit" in lab.sandbox("fault", "list").good().text
    lab.sandbox("up", "--stack", "dev", "--record-only").bad("504 Gateway Timeout")
    lab.sandbox("up", "--stack", "dev", "--record-only").good()
    with lab.inventory() as store:
        group = lab.rows("SecurityGroup")[0]
        store.remove(group.token, group.id)
    report = json.loads(lab.sandbox("status", "--json").good().text)
    assert [(o["stack"], o["name"], o["type"]) for o in report["orphans"]] == [
        ("dev", "ip", "scaleway:instance/ip:Ip")
    ]
    assert [urn.rpartition("::")[2] for urn in report["stacks"]["dev"]["missing"]] == ["g"]
    text = lab.sandbox("status").good().text
    assert "orphan of dev: ip" in text
    assert "gone behind the engine's back: g" in text
    lab.sandbox("fault", "down", "postgres").good()
    lab.sandbox("fault", "down", "nothing").bad("no managed service is called nothing; there is", "redis")
    assert "postgres is down" in lab.sandbox("fault", "list").good().text
    assert "1 forgotten" in lab.sandbox("fault", "clear").good().text
    assert "down" not in lab.sandbox("fault", "list").good().text


def test_expected_failures_are_one_message(own_lab):
    lab = own_lab
    lab.sandbox("up", "--stack", "nope", "--record-only").bad(
        "there is no Pulumi.nope.yaml", "stacks here: dev"
    )
    lab.stackfile("config: [\n")
    lab.sandbox("preview", "--stack", "dev").bad("Pulumi.dev.yaml:2:1 is not valid YAML")
    lab.sandbox("fault", "add", "--kind", "odd").bad("--kind odd: expected one of fail, no-capacity")
    (lab.state_directory / "toolchain.json").unlink()
    lab.sandbox("preview", "--stack", "dev").bad(
        "no Pulumi has been set up for this checkout; run `make preview`"
    )


def test_a_stack_keeps_its_mode(own_lab):
    lab = own_lab
    lab.program(PROGRAM)
    lab.sandbox("up", "--stack", "dev", "--record-only").good()
    with lab.inventory() as store:  # as if its hosts had been made on this machine
        row = lab.rows("Ip")[0]
        store.put(type(row)(**{**vars(row), "real": True}))
    lab.sandbox("up", "--stack", "dev", "--record-only").bad("hosts of stack 'dev' are real", "sandbox reset")
    lab.program("")
    # Also where the engine is called directly.
    lab.sandbox("exec", "--record-only", "-s", "dev", "--", "pulumi", "up", "--yes").bad(
        "this run is record-only"
    )
    assert len(lab.rows("Ip")) == 1


def test_preview_needs_no_root(own_lab):
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    lab = own_lab
    lab.program(PROGRAM)
    # Without a single capability; another user could not reach tools that root keeps in its home.
    user = (
        ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs") if os.geteuid() == 0 else ()
    )
    done = lab.sandbox("preview", "--stack", "dev", user=user).good()
    assert "2 to create" in done.text
    if user:
        caps = subprocess.run(
            [*user, "grep", "CapEff", "/proc/self/status"], capture_output=True, text=True, check=True
        )
        assert int(caps.stdout.split()[1], 16) == 0
