"""Every script that runs on a host passes shellcheck; every one of Python compiles without our packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = Path("components")
SHELL = sorted(
    path
    for path in ROOMS.rglob("*")
    if path.is_file()
    and (path.suffix == ".sh" or path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash")))
)
PROGRAMS = ("remote/receive.py", "web/certificates.py", "app/check_site.py", "data/prepare_database.py")
PYTHON = [ROOMS / name for name in PROGRAMS]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shell_scripts_are_clean() -> None:
    assert len(SHELL) >= 7
    done = subprocess.run(["shellcheck", "-x", *map(str, SHELL)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_host_programs_need_only_the_standard_library(path: Path) -> None:
    # -I -S: no site-packages, no current directory, as good as a host that has only Debian's python3.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(path)!r}, run_name='loaded')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_script_takes_a_value_into_its_text() -> None:
    """Scripts are sent as they are: a template mark in one would mean a value in the program text."""
    for path in [*SHELL, *PYTHON]:
        assert "{{" not in path.read_text(), path


LIBRARY = ROOMS / "remote/lib.sh"
BOOTSTRAP = ROOMS / "host/bootstrap.sh"


def run(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    me = subprocess.run(
        ["bash", "-c", "echo $(id -un):$(id -gn)"], capture_output=True, text=True, check=True
    )
    (tmp_path / "lib.sh").write_text(LIBRARY.read_text())
    return subprocess.run(
        ["bash", "-c", f". ./lib.sh\n{script}"],
        cwd=tmp_path,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "ME": me.stdout.strip(),
            "BERTH_FACTS": str(tmp_path / "facts"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_put_says_whether_anything_changed(tmp_path: Path) -> None:
    script = (
        'echo one >file; put file sub/target 640 "$ME" && echo changed\n'
        'put file sub/target 640 "$ME" || echo same\n'
        'put file sub/target 600 "$ME" && stat -c %a sub/target; echo two >file\n'
        'put file sub/target 600 "$ME" && cat sub/target; ls sub'
    )
    done = run(tmp_path, script)
    words = [line for line in done.stdout.splitlines() if not line.startswith("changed ")]
    assert words == ["changed", "same", "600", "two", "target"], done.stderr


def test_die_ends_a_script_and_facts_are_json(tmp_path: Path) -> None:
    done = run(tmp_path, "fact a 'it is \"so\"' b ''\ndie 'no more'\necho never")
    assert (done.returncode, done.stdout) == (1, "no more\n")
    assert (tmp_path / "facts").read_text() == '{"a": "it is \\"so\\"", "b": ""}\n'


def part(name: str, tmp_path: Path) -> str:
    """One function of bootstrap.sh, on a host that is a directory."""
    text = BOOTSTRAP.read_text()
    body = text[text.index(f"\n{name}() {{") : text.index("\n}\n", text.index(f"\n{name}() {{")) + 3]
    for path in ("/swapfile", "/etc/fstab", "/proc/swaps"):
        body = body.replace(path, f"{tmp_path}{path}")
    return body


SWAP = """
systemd-detect-virt() { return 1; }
fallocate() { truncate -s 1024 "$3"; }
stat() { command stat "$@" | sed "s/^1024$/$((1 << 30))/"; }
mkswap() { [[ -z ${KILLED-} ]] || exit 9; echo made >>calls; }
swapon() { echo "on" >>calls; echo "$1 file" >proc/swaps; }
swapoff() { : >proc/swaps; }
"""


def test_swap_comes_whole_whenever_the_step_was_killed(tmp_path: Path) -> None:
    for path in ("etc/fstab", "proc/swaps"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("")
    script = SWAP + part("swap", tmp_path)
    assert run(tmp_path, f"KILLED=1\nSWAP_GB=1\n{script}\nswap").returncode == 9
    line = f"{tmp_path}/swapfile none swap sw 0 0\n"
    for _ in range(2):  # the second time it stays as it is
        done = run(tmp_path, f"SWAP_GB=1\n{script}\nswap")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "calls").read_text() == "made\non\n"
        assert (tmp_path / "etc/fstab").read_text() == line
    (tmp_path / "proc/swaps").write_text("")
    (tmp_path / "etc/fstab").write_text("")
    assert run(tmp_path, f"SWAP_GB=1\n{script}\nswap").returncode == 0  # killed between the file and its line
    assert (tmp_path / "etc/fstab").read_text() == line
    assert run(tmp_path, f"SWAP_GB=0\n{script}\nswap").returncode == 0
    assert not (tmp_path / "swapfile").exists()
    assert (tmp_path / "etc/fstab").read_text() == ""


def test_what_keeps_services_down_during_an_installation_does_not_outlive_a_killed_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "policy-rc.d").write_text("ours")
    script = f"dpkg-query() {{ echo installed; }}\nPACKAGES=git\npolicy=there\n{part('packages', tmp_path)}"
    for left, stays in (("ours", False), ("the image's own", True)):
        (tmp_path / "there").write_text(left)
        assert run(tmp_path, f"{script}\npackages").returncode == 0
        assert (tmp_path / "there").exists() is stays
