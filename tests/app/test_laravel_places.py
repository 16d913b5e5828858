"""Root makes an application's directories without ever following what the application has put there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from components.app import laravel

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, for a mount namespace and another user"
)

USER = "mail"  # any user of Debian's own, with a group of its name
SCRIPT = (laravel.ROOM / "laravel_runtime.sh").read_text(encoding="utf-8")
STORAGE = f"/srv/{USER}/shared/storage"


def places(*before: str) -> subprocess.CompletedProcess[str]:
    """`places` of the real script, twice, with ``before`` run by the application in between.

    In a mount namespace of its own, so that nothing of it is left.
    """
    found = re.search(r"^places\(\) \{\n.*?^\}", SCRIPT, re.DOTALL | re.MULTILINE)
    assert found
    head = re.search(r"^base=.*?^logs=[^\n]*", SCRIPT, re.DOTALL | re.MULTILINE)
    assert head
    lines = [
        "set -euo pipefail",
        f"APP={USER}",
        "for place in /srv /var/lib /var/log /etc/opt; do mount -t tmpfs none $place; done",
        "mkdir /etc/opt/victim /etc/opt/berth /var/lib/berth; chmod 700 /etc/opt/victim",
        head[0],
        found[0].replace("/etc/berth", "/etc/opt/berth"),
        "places",
        *(f"setpriv --reuid={USER} --regid={USER} --clear-groups {command}" for command in before),
        "places",
        f"stat -c '%n %U %a' /etc/opt/victim {STORAGE}/* {STORAGE}/framework/*",
    ]
    return subprocess.run(
        ["unshare", "--mount", "bash"], input="\n".join(lines), capture_output=True, text=True, check=False
    )


def test_the_application_owns_what_it_writes_to_and_nobody_else_reads_it() -> None:
    shown = places()
    assert not shown.returncode, shown.stderr
    assert shown.stdout.splitlines() == [
        "/etc/opt/victim root 700",
        f"{STORAGE}/app {USER} 750",
        f"{STORAGE}/framework {USER} 750",
        f"{STORAGE}/logs root 1770",
        f"{STORAGE}/framework/cache {USER} 750",
        f"{STORAGE}/framework/sessions {USER} 750",
    ]


@pytest.mark.parametrize("place", ["framework/cache", "framework/cache/data", "framework/sessions"])
def test_a_link_in_the_place_of_a_directory_gives_the_application_nothing(place: str) -> None:
    """An application that was broken into would own /etc after the next `up` otherwise."""
    shown = places(f"rm -rf {STORAGE}/{place}", f"ln -s /etc/opt/victim {STORAGE}/{place}")
    assert "/etc/opt/victim root 700" in shown.stdout or shown.returncode, shown.stdout
    assert "victim mail" not in shown.stdout


def test_the_application_does_not_take_a_log_of_root_away() -> None:
    log = Path(STORAGE) / "logs/horizon.log"
    shown = places(f"mv {log} {log}.mine || true")
    assert not shown.returncode, shown.stderr
    assert "Operation not permitted" in shown.stderr
