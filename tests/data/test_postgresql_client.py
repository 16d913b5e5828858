"""The client of PostgreSQL 17, really fetched and unpacked, in a view of the file system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from components.data import postgresql_client

PROGRAM = Path("components/data/files/berth-postgresql-client").resolve()

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("apt-get") is None
    or "\nID=debian\n" not in f"\n{Path('/etc/os-release').read_text()}"
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs Debian, root and mount namespaces",
)

INSIDE = """
set -e
for directory in /opt /usr/local/bin /usr/lib/postgresql; do
  mkdir -p $directory
  mount -t tmpfs tmpfs $directory
done
mount -t tmpfs tmpfs /var/cache
"""


BASE = "/opt/berth/postgresql-17"


def inside(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", f"{INSIDE}\n{script}"],
        env={
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PROGRAM": str(PROGRAM),
            "HOME": "/root",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tools_run_with_libraries_of_their_own_and_come_once() -> None:
    done = inside(
        'bash "$PROGRAM"\n'
        "for tool in psql pg_dump pg_restore; do $tool --version; done\n"
        "psql -X -h 127.0.0.1 -p 1 -c 'SELECT 1' 2>&1 | head -n 1\n"
        f"stat -c %i {BASE}/current/packages\n"
        'bash "$PROGRAM"\n'
        f"stat -c %i {BASE}/current/packages\n"
        f"ls {BASE} | wc -l; find /var/cache/berth -name '*.deb' | wc -l\n"
        # An update: what is there is not what the archive has.
        f"sed -i 's/^postgresql-client-17 .*/postgresql-client-17 17.0/' {BASE}/current/packages\n"
        'bash "$PROGRAM"\n'
        f"grep -c '^postgresql-client-17 17.0$' {BASE}/current/packages || true; psql --version\n"
        f"ls {BASE} | wc -l\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *versions, refused, before, after, kept, debs, old, again, still = done.stdout.splitlines()
    assert [line.split(".")[0] for line in versions] == [
        f"{tool} (PostgreSQL) {postgresql_client.VERSION}" for tool in ("psql", "pg_dump", "pg_restore")
    ]
    assert refused.startswith('psql: error: connection to server at "127.0.0.1", port 1 failed')
    assert before == after  # nothing newer, nothing unpacked
    assert (kept, debs) == ("2", "0")  # one version and the link to it
    assert (old, again.split(".")[0], still) == ("0", "psql (PostgreSQL) 17", "2")


def test_a_host_that_has_the_package_uses_it() -> None:
    done = inside(
        "mkdir -p /usr/lib/postgresql/17/bin\n"
        "for tool in psql pg_dump pg_restore; do\n"
        "  printf '#!/bin/sh\\necho own $0 \"$@\"\\n' >/usr/lib/postgresql/17/bin/$tool\n"
        "  chmod 755 /usr/lib/postgresql/17/bin/$tool\n"
        'done; bash "$PROGRAM"; psql -c "a b"; ls /opt'
    )
    assert done.stdout == "own /usr/lib/postgresql/17/bin/psql -c a b\nberth\n", done.stderr
    assert postgresql_client.packages("debian-13") == ("postgresql-client-17",)
    assert postgresql_client.packages("debian-12") == ()


def test_without_a_debian_mirror_it_says_so_and_leaves_nothing_half_done() -> None:
    done = inside(
        'mount -t tmpfs tmpfs /etc/apt; bash "$PROGRAM" || ls /usr/local/bin /opt/berth/postgresql-17'
    )
    assert "names no Debian mirror" in done.stderr
    assert done.stdout.split() == ["/opt/berth/postgresql-17:", "/usr/local/bin:"]


def test_a_host_that_has_no_package_lists_yet_is_enough() -> None:
    """It runs beside the step that fetches them."""
    done = inside('mount -t tmpfs tmpfs /var/lib/apt/lists\nbash "$PROGRAM"\npsql --version\n')
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"(PostgreSQL) {postgresql_client.VERSION}" in done.stdout
