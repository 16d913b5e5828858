"""The release script itself, in a view of the file system of its own; PHP and systemd are played."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_static_site import SYSTEMD_RUN, can_mount

ROOM = Path("components/app").resolve()
LIBRARY = Path("components/remote/lib.sh").resolve()
APP = "berth-test"

INSIDE = """
set -e
mkdir -p /var/lib/berth
mount -t tmpfs tmpfs /usr/local
mkdir -p /usr/local/bin /usr/local/lib /usr/local/state
mount --bind "$HOST/../state" /usr/local/state # where another user gets to it
cp "$TOOLS"/* /usr/local/bin
mount --bind "$HOST/srv" /srv
mount --bind "$HOST/var/lib/berth" /var/lib/berth
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$HOST/etc,workdir=$HOST/etc.work" /etc
id -u berth-test >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/berth/x berth-test
mkdir -p /srv/berth-test/releases /srv/berth-test/shared/storage/logs /etc/supervisor/conf.d
echo "horizon says this" >/srv/berth-test/shared/storage/logs/horizon.log
exec bash script
"""

# `php8.2 artisan …` runs the repository's artisan, which is bash; a file of PHP asks the services.
PHP = r"""#!/bin/bash
echo "php $* as $(id -un)" >>"$STATE/calls"
case $1 in
  artisan) shift; exec bash ./artisan "$@" ;;
  *.php) cat >"$STATE/asked"; [[ ! -e $STATE/fault ]] || { cat "$STATE/fault"; exit 1; } ;;
esac
"""
ARTISAN = r"""
release=$(basename "$PWD")
case $1 in
  *:cache)
    [[ $1 != config:cache || ! -e no-config ]] || { echo "config is broken"; exit 1; }
    cat .env >"bootstrap/cache/${1%:cache}.php" ;;
  migrate)
    [[ ! -e no-migrate ]] || { echo "column is missing"; exit 1; }
    [[ -e stays-pending ]] || cat version >>"$STATE/migrated"
    [[ ! -e ../../shared/maintenance ]] || echo "$release" >>"$STATE/migrated-in-maintenance" ;;
  migrate:status)
    grep -qx "$(cat version)" "$STATE/migrated" && echo "one ... [1] Ran" || echo "one ... Pending" ;;
  horizon:terminate) # supervisor starts it again, on what is live by then
    echo "$release" >>"$STATE/terminated"
    supervisorctl start x ;;
  horizon:status) [[ -s $STATE/horizon ]] && echo "Horizon is running." ;;
esac
"""
SUPERVISORCTL = r"""#!/bin/bash
echo "supervisorctl $*" >>"$STATE/calls"
case $1 in
  pid) sed -n 1p "$STATE/horizon" ;;
  start)
    live=$(readlink -f /srv/berth-test/current)
    : >"$STATE/horizon"
    [[ -e $live/no-horizon ]] || printf '%s\n%s\n' "$(date +%s%N)" "${live##*/}" >"$STATE/horizon" ;;
  stop)
    [[ ! -e /srv/berth-test/shared/maintenance ]] || echo "$2" >>"$STATE/stopped-in-maintenance"
    : >"$STATE/horizon" ;;
  update)
    if [[ ! -e /etc/supervisor/conf.d/berth-test-horizon.conf ]]; then : >"$STATE/horizon"
    elif [[ ! -s $STATE/horizon ]]; then supervisorctl start x; fi ;;
esac
"""
SYSTEMCTL = r"""#!/bin/bash
echo "systemctl $*" >>"$STATE/calls"
unit=${!#}
case $1 in
  is-active) grep -qx "$unit" "$STATE/units" ;;
  start) grep -qx "$unit" "$STATE/units" || echo "$unit" >>"$STATE/units" ;;
  kill) sed -i "/^$unit\$/d" "$STATE/units" ;;
  disable) sed -i "/^$unit\$/d" "$STATE/units" ;;
  list-units) sed 's/$/ loaded active running/' "$STATE/units" ;;
esac
"""
FCGI = r"""#!/bin/bash
release=${SCRIPT_FILENAME%/public/index.php}
printf 'Content-Type: application/json\r\n\r\n{"status": "%s"}' "$(cat "$release/health")"
"""
CURL = r"""#!/bin/bash
echo "curl $*" >>"$STATE/calls"
[[ ! -e /srv/berth-test/current/ill-behind-nginx ]] || { echo '{"status": "degraded"}'; exit; }
printf '{"status": "%s"}' "$(cat /srv/berth-test/current/health)"
"""
COMPOSER = r"""#!/bin/bash
echo "composer $* as $(id -un)"
[[ ! -e no-composer ]] || { echo "Your requirements could not be resolved"; exit 2; }
mkdir -p vendor && echo vendored >vendor/autoload.php
"""
TOOLS = {
    "php8.2": PHP,
    "php-fpm8.2": '#!/bin/bash\n[[ -e ${!#} ]] && echo "test is successful"\n',
    "supervisorctl": SUPERVISORCTL,
    "systemctl": SYSTEMCTL,
    "systemd-run": SYSTEMD_RUN,
    "cgi-fcgi": FCGI,
    "curl": CURL,
    "composer": COMPOSER,
    "ss": "#!/bin/bash\n",
    "journalctl": "#!/bin/bash\n",
    # The played tools have to find their state; the real env is told what to keep.
    "env": '#!/bin/bash\n[[ $1 == -i ]] && shift\nexec /usr/bin/env -i STATE="$STATE" "$@"\n',
}
ENVIRONMENT = "APP_NAME=Scell.io\nAPP_KEY=base64:hidden-key\n"


class Host:
    def __init__(self, root: Path) -> None:
        self.host, self.repository, self.step = root / "host", root / "backend.git", root / "step"
        self.state, self.tools = root / "state", root / "tools"
        for directory in ("srv", "var/lib/berth", "etc", "etc.work"):
            (self.host / directory).mkdir(parents=True)
        for path in (self.repository, self.step, self.state, self.tools):
            path.mkdir()
        self.state.chmod(0o777)
        for name in (
            "calls",
            "units",
            "migrated",
            "horizon",
            "terminated",
            "migrated-in-maintenance",
            "stopped-in-maintenance",
        ):
            (self.state / name).touch()
            (self.state / name).chmod(0o666)
        for name, text in TOOLS.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        for name in ("release.sh", "composer.sh", "check_backend.php"):
            shutil.copy(ROOM / name, self.step / name)
        for name in ("fpm.conf", "fpm.ini"):
            (self.step / name).write_text(name)
        (self.step / "storage/certs").mkdir(parents=True)
        (self.step / "storage/certs/client.key").write_text("hidden-certificate")
        (self.step / "ca").mkdir()
        (self.step / "ca/postgres.pem").write_text("the authority")
        shutil.copy(ROOM / "laravel_release.sh", self.step / "script")
        shutil.copy(LIBRARY, self.step / "lib.sh")
        (self.host / "etc/berth").mkdir()
        (self.host / f"etc/berth/{APP}-horizon.conf").write_text("[program:x]")
        self.base = self.host / "srv" / APP
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@scell.io"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.repository, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, tag: str, *flags: str, health: str = "ok") -> None:
        """A release; `flags` are what goes wrong with it."""
        for path in self.repository.glob("[!.]*"):
            if path.is_file():
                path.unlink()
        (self.repository / "bootstrap/cache").mkdir(parents=True, exist_ok=True)
        (self.repository / "bootstrap/cache/.gitignore").write_text("*\n!.gitignore\n")
        content = {"artisan": ARTISAN, "composer.json": "{}", "version": f"{tag}\n", "health": health}
        for name, text in {**content, **dict.fromkeys(flags, "x")}.items():
            (self.repository / name).write_text(text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--message", tag)
        self.git("tag", tag)

    def release(
        self,
        release: str,
        *,
        env: str = ENVIRONMENT,
        ok: bool = True,
        maintenance: str = "",
        free: str = "1",
        workers: str = "yes",
    ) -> str:
        (self.step / "dotenv").write_text(env)
        (self.state / "calls").write_text("")
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", INSIDE],
            cwd=self.step,
            env={
                "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOST": str(self.host),
                "TOOLS": str(self.tools),
                "STATE": "/usr/local/state",
                "CALLS": "/usr/local/state/calls",
                "BERTH_FACTS": str(self.step / "facts"),
                "HOME": "/root",
                "APP": APP,
                "PHP": "8.2",
                "REPOSITORY": f"file://{self.repository}",
                "RELEASE": release,
                "CODE": f"{release}-code",
                "HEALTH": "https://api.scell.io/health",
                "MAINTENANCE": maintenance,
                "WORKERS": workers,
                "DRAIN_SECONDS": "5",
                "START_SECONDS": "2",
                "LEAST_FREE_MB": free,
                "KEEP": "3",
                "UNIT": "berth-release.service",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        self.output = done.stdout
        assert (done.returncode == 0) is ok, self.output
        assert "hidden" not in self.output + self.calls
        return self.output

    @property
    def calls(self) -> str:
        return (self.state / "calls").read_text()

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.step / "facts").read_text())
        return facts

    @property
    def current(self) -> Path:
        return self.base / (self.base / "current").readlink()

    def read(self, name: str) -> list[str]:
        return (self.state / name).read_text().split()

    def serves(self, tag: str) -> None:
        """`tag` is live: documents, PHP, Horizon; nothing else runs."""
        assert self.current.name.startswith(f"{tag}-code-"), self.output
        assert self.read("units") == [f"{APP}-php@{self.current.name}.service"], self.output
        assert self.read("horizon")[1:] == [self.current.name], self.output
        assert not (self.base / "shared/maintenance").exists()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@can_mount
def test_without_workers_a_release_is_live_and_nothing_acts(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0", workers="")
    assert host.current.name.startswith("v1.0.0-code-")
    assert host.facts["horizon"] == "resting"
    assert host.read("horizon") == []
    host.release("v1.0.0")  # once the move is done
    host.serves("v1.0.0")


@can_mount
def test_a_release_is_built_unprivileged_and_runs_as_the_application(host: Host) -> None:
    host.commit("v1.0.0")
    output = host.release("v1.0.0")
    host.serves("v1.0.0")
    assert "composer install --no-dev --optimize-autoloader --no-interaction" in output
    assert "as berth-build" in output
    release = host.current
    for path in (release / ".env", release / "storage/certs/client.key"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid != 0
    assert (release / "version").stat().st_uid == 0  # the application cannot change its own code
    assert (release / "bootstrap/cache/config.php").read_text() == ENVIRONMENT
    artisans = [line for line in host.calls.splitlines() if line.startswith("php artisan")]
    assert artisans
    assert all(line.endswith(f"as {APP}") for line in artisans)
    commands = [line.split()[2] for line in artisans]
    caches = ["config:cache", "route:cache", "view:cache", "event:cache"]
    assert commands[:6] == [*caches, "migrate:status", "migrate"]
    assert (host.state / "asked").read_text() == ENVIRONMENT  # the services, with the new .env
    assert (host.host / "etc/berth/ca/postgres.pem").read_text() == "the authority"
    assert host.facts["before"] == ""
    assert host.facts["horizon"] == "running"
    assert not (host.base / "build").exists()


@can_mount
def test_the_next_release_takes_over_and_the_old_one_is_told_to_finish(host: Host) -> None:
    host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release("v1.0.0")
    first = host.current.name
    host.release("v1.1.0")
    host.serves("v1.1.0")
    assert host.facts["before"] == first
    assert f"systemctl kill --kill-whom=main --signal=QUIT {APP}-php@{first}.service" in host.calls
    assert host.read("terminated") == [first]  # by its own code
    order = [
        host.calls.index(words) for words in ("artisan migrate ", "systemctl start", "horizon:terminate")
    ]
    assert order == sorted(order)


@can_mount
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("no-composer", "composer could not install the packages of v2.0.0"),
        ("no-config", "artisan config:cache failed in v2.0.0"),
        ("no-migrate", "the migrations of v2.0.0 failed"),
        ("ill", "v2.0.0 is not well (asked at /health before any traffic)"),
        ("ill-behind-nginx", "https://api.scell.io/health is not ok on v2.0.0"),
        ("no-horizon", "Horizon does not run on v2.0.0"),
        ("stays-pending", "migrations are still pending on v2.0.0"),
    ],
)
@pytest.mark.parametrize("maintenance", ["", "yes"])
def test_a_release_that_fails_leaves_the_old_one_live(
    host: Host, flag: str, message: str, maintenance: str
) -> None:
    host.commit("v1.0.0")
    host.commit("v2.0.0", flag, health="degraded" if flag == "ill" else "ok")
    host.release("v1.0.0")
    output = host.release("v2.0.0", ok=False, maintenance=maintenance)
    assert output.rstrip().endswith(f"{message}; what was live still is")
    host.serves("v1.0.0")
    host.release("v1.0.0")  # the previous value: nothing left to do
    host.serves("v1.0.0")


@can_mount
def test_the_very_first_release_that_fails_leaves_nothing_half_up(host: Host) -> None:
    host.commit("v1.0.0", health="degraded")
    host.commit("v1.0.1")
    output = host.release("v1.0.0", ok=False)
    assert output.rstrip().endswith("v1.0.0 is not well (asked at /health before any traffic)")
    assert not (host.base / "current").is_symlink()
    assert host.read("units") == []
    assert host.read("horizon") == []
    host.release("v1.0.1")
    host.serves("v1.0.1")


@can_mount
def test_a_service_that_is_down_stops_it_before_anything_is_touched(host: Host) -> None:
    host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release("v1.0.0")
    (host.state / "fault").write_text("cache (Redis) at 10.20.0.4:6379 does not answer: Connection refused\n")
    output = host.release("v1.1.0", ok=False)
    assert "cache (Redis) at 10.20.0.4:6379 does not answer" in output
    assert output.rstrip().endswith("v1.1.0 was not begun; what was live still is")
    assert "fetching" not in output
    assert "artisan" not in host.calls
    host.serves("v1.0.0")
    (host.state / "fault").unlink()
    host.release("v1.1.0")
    host.serves("v1.1.0")


@can_mount
def test_a_full_disk_is_said_before_anything_is_touched(host: Host) -> None:
    host.commit("v1.0.0")
    output = host.release("v1.0.0", ok=False, free="99999999999")
    assert f"the disk of {APP} is full" in output
    assert host.calls == ""


@can_mount
def test_another_environment_is_a_release_without_a_build(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0")
    first = host.current
    output = host.release("v1.0.0", env=ENVIRONMENT + "LOG_LEVEL=debug\n")
    host.serves("v1.0.0")
    second = host.current
    assert second != first
    assert "the code of v1.0.0 is there" in output
    assert "composer" not in output
    assert "LOG_LEVEL=debug" in (second / "bootstrap/cache/config.php").read_text()
    assert (first / "bootstrap/cache/config.php").read_text() == ENVIRONMENT  # though files are shared
    assert (first / "version").samefile(second / "version")
    assert host.read("terminated") == [first.name]
    output = host.release("v1.0.0")  # and back: both are there
    assert host.current == first
    assert "caching" not in output


@can_mount
def test_going_back_needs_neither_git_nor_composer(host: Host) -> None:
    host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release("v1.0.0")
    host.release("v1.1.0")
    host.repository.rename(host.repository.with_name("gone"))
    output = host.release("v1.0.0")
    assert "fetching" not in output
    host.serves("v1.0.0")


@can_mount
def test_nothing_changed_restarts_nothing(host: Host) -> None:
    host.commit("v1.0.0")
    host.release("v1.0.0")
    before = host.read("horizon")
    host.release("v1.0.0")
    assert host.read("horizon") == before
    assert "systemctl start" not in host.calls
    assert "systemctl kill" not in host.calls


@can_mount
def test_after_a_kill_between_switch_and_checks_the_last_checked_one_is_what_counts(host: Host) -> None:
    for tag in ("v1.0.0", "v1.1.0"):
        host.commit(tag)
    host.commit("v2.0.0", health="degraded")
    host.release("v1.0.0")
    first = host.current.name
    host.release("v1.1.0")
    (host.base / "proven").unlink()
    (host.base / "proven").symlink_to(f"releases/{first}")  # as a kill would have left it
    host.release("v2.0.0", ok=False)
    host.serves("v1.0.0")


@can_mount
def test_a_log_that_leads_elsewhere_shows_nothing_of_roots(host: Host) -> None:
    """The end of the application's log goes into the message, and so into whatever keeps it."""
    logs = host.base / "shared/storage/logs"
    logs.mkdir(parents=True)
    (host.host / "etc/only-root").write_text("hidden-from-the-application")
    (host.host / "etc/only-root").chmod(0o600)
    (logs / "laravel.log").symlink_to("/etc/only-root")
    host.commit("v1.0.0", health="degraded")
    output = host.release("v1.0.0", ok=False)
    assert "The end of /srv/berth-test/shared/storage/logs/laravel.log" in output
    assert "Permission denied" in output
    (logs / "laravel.log").unlink()
    (logs / "laravel.log").write_text("it says why")
    assert "it says why" in host.release("v1.0.0", ok=False)


@can_mount
def test_maintenance_lasts_from_the_migration_to_the_checks(host: Host) -> None:
    host.commit("v1.0.0")
    host.commit("v1.1.0")
    host.release("v1.0.0")
    host.release("v1.1.0", maintenance="yes")
    host.serves("v1.1.0")
    assert host.read("migrated-in-maintenance") == [host.current.name]
    assert f"supervisorctl stop {APP}-horizon" in host.calls
    assert not host.read("stopped-in-maintenance")  # a job may take an hour: nobody gets a 503 for that
    host.release("v1.1.0", maintenance="yes")  # nothing to do: nobody gets a 503
    assert f"supervisorctl stop {APP}-horizon" not in host.calls


@can_mount
def test_old_releases_go_but_for_those_that_still_run(host: Host) -> None:
    for number in range(5):
        host.commit(f"v1.{number}.0")
        host.release(f"v1.{number}.0")
        if number == 1:
            streaming = host.current.name
    (host.state / "units").write_text(f"{APP}-php@{streaming}.service\n" + (host.state / "units").read_text())
    sticky = host.tools / "systemctl"  # its stream goes on for an hour
    sticky.write_text(SYSTEMCTL.replace("kill) sed", f"kill) [[ $unit == *{streaming}* ]] || sed"))
    host.commit("v1.5.0")
    host.release("v1.5.0")
    kept = sorted(path.name.split("-")[0] for path in (host.base / "releases").iterdir())
    assert kept == ["v1.3.0", "v1.4.0", "v1.5.0"] or kept == ["v1.1.0", "v1.3.0", "v1.4.0", "v1.5.0"]


@can_mount
def test_what_is_no_laravel_application_is_said(host: Host) -> None:
    host.commit("v1.0.0")
    host.git("rm", "--quiet", "artisan")
    host.git("commit", "--quiet", "--message", "none")
    host.git("tag", "v2.0.0")
    assert "artisan or composer.json is missing" in host.release("v2.0.0", ok=False)
    assert "v9 cannot be fetched from file://" in host.release("v9", ok=False)
    assert list((host.base / "releases").iterdir()) == []
