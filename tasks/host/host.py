"""What a task does on a host. Standard library only (Python 3.11), runs as root, comes anew with every task.

The other end is tasks/ssh.py: it sends one document, this file included, and gets JSON or plain text back.
Whatever touches the application runs as the application's own user. Exit status: that of the program a task
runs, or 0 done, 5 it cannot be done here (standard error says why, and what to do).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import pwd
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import syslog
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

REFUSED = 5
SECONDS = 10  # most that one question of `status` may take
SCAN_SECONDS = 2  # most that looking for queues among the cache's keys may take
LOCALE = {"LANG": "C.UTF-8", "QT_QPA_PLATFORM": "offscreen"}  # as components/app runs it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DESTRUCTIVE = {
    "key:generate": "Laravel would write another APP_KEY into the .env: every session and all that was "
    "encrypted with the old one is lost, and the next release puts the old one back",
    "db:wipe": "it drops every table",
    "migrate:fresh": "it drops every table",
    "migrate:refresh": "it undoes every migration, and with it the data",
    "migrate:reset": "it undoes every migration, and with it the data",
}


class Refused(Exception):
    """The task cannot be done here: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  {remedy}")


# ---------------------------------------------------------------- the application


class App:
    """An application below /srv; everything that belongs to it carries its name.

    ``root`` is another directory than / only in tests.
    """

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        self.name = name
        self.root = root
        self.base = root / "srv" / name
        self.current = self.base / "current"
        self.env_file = self.base / "shared/.env"
        self.logs = self.base / "shared/storage/logs"
        self.program = f"{name}-horizon"
        self.schedule = f"berth-schedule-{name}"

    def php(self) -> str:
        """The service of the live release's PHP: each release has one of its own. "" before the first."""
        return f"{self.name}-php@{self.current.readlink().name}.service" if self.current.is_symlink() else ""

    def environment(self) -> dict[str, str]:
        """The values of its `.env`. Raises Refused when there is none."""
        try:
            return dotenv(self.env_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Refused(
                f"{self.name} has no {self.env_file}", "no release of it has gone live yet: `pulumi up`"
            ) from None

    def artisan(self, *words: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
        """`php artisan …`, quietly."""
        return subprocess.run(
            self.artisan_line(words),
            **self.as_user(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def artisan_line(self, words: Sequence[str]) -> list[str]:
        """The command. Raises Refused where nothing is released or PHP is missing."""
        if not (self.current / "artisan").exists():
            raise Refused(
                f"nothing of {self.name} is live: {self.current} has no artisan",
                "its first release failed or has not run: `pulumi up`, and `logs release`",
            )
        php = shutil.which("php", path=PATH)
        if php is None:
            raise Refused("PHP is not installed on this host", "`pulumi up` sets the host up again")
        return [php, "artisan", *words]

    def as_user(self) -> dict[str, Any]:
        """Options of subprocess that make a command the application's own: user, directory, environment."""
        user = pwd.getpwnam(self.name)
        return {
            "cwd": self.current,
            "user": user.pw_uid,
            "group": user.pw_gid,
            "extra_groups": [],
            "umask": 0o027,
            "env": {"PATH": PATH, "HOME": user.pw_dir, **LOCALE},
        }


PAIR = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
    (?: "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>[^']*)' | (?P<bare>[^\r\n]*?) )
    [ \t]*(?:(?<=\s)\#[^\r\n]*)?$""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}


def dotenv(text: str) -> dict[str, str]:
    """Names and values of an `.env` as PHP's dotenv reads it; ``${NAME}`` stays as it is written."""
    found = {}
    for pair in PAIR.finditer(text):
        if pair["double"] is not None:
            value = re.sub(r"\\(.)", lambda e: ESCAPES.get(e[1], e[1]), pair["double"], flags=re.DOTALL)
        else:
            value = pair["single"] if pair["single"] is not None else pair["bare"]
        found[pair["name"]] = value
    return found


# ---------------------------------------------------------------- database


def databases(environment: Mapping[str, str]) -> dict[str, str]:
    """The databases of an `.env` by what a task calls them: suffix of the variables by name."""
    suffixes = {"production": "", "sandbox": "_SANDBOX"}
    return {name: suffix for name, suffix in suffixes.items() if environment.get(f"DB_DATABASE{suffix}")}


def libpq(environment: Mapping[str, str], database: str, *, write: bool, who: str) -> dict[str, str]:
    """The variables psql reads, for one of the application's databases as the application's own user.

    Raises Refused for a database the `.env` does not have.
    """
    known = databases(environment)
    by_name = {environment[f"DB_DATABASE{suffix}"]: suffix for suffix in known.values()}
    suffix = known.get(database, by_name.get(database))
    if suffix is None:
        raise Refused(
            f"the application has no database {database!r}",
            f"name one of {', '.join(known) or 'none: DB_DATABASE is not in its .env'}",
        )

    def value(name: str) -> str:
        return environment.get(f"{name}{suffix}") or environment.get(name) or ""

    found = {
        "PGHOST": value("DB_HOST"),
        "PGPORT": value("DB_PORT") or "5432",
        "PGDATABASE": value("DB_DATABASE"),
        "PGUSER": value("DB_USERNAME"),
        "PGPASSWORD": value("DB_PASSWORD"),
        "PGSSLMODE": value("DB_SSLMODE"),
        "PGSSLROOTCERT": value("DB_SSLROOTCERT"),
        "PGCONNECT_TIMEOUT": "5",
        "PGAPPNAME": f"berth tasks, {who}",
        "PGOPTIONS": "" if write else "-c default_transaction_read_only=on",
        "PSQL_HISTORY": "/dev/null",  # what customers own does not stay on the host
    }
    return {name: text for name, text in found.items() if text}


def psql_line(*options: str) -> list[str]:
    """psql, without anybody's settings. Raises Refused where it is missing."""
    program = shutil.which("psql", path=PATH)
    if program is None:
        raise Refused("psql is not installed on this host", "`pulumi up` sets the host up again")
    return [program, "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1", *options]


def query(app: App, database: str, sql: str, who: str) -> Any:
    """The one JSON value that ``sql`` (a psql script) prints, read only. Raises Refused with psql's words."""
    options = app.as_user()
    options["env"] |= libpq(app.environment(), database, write=False, who=who)
    options["cwd"] = "/"
    done = subprocess.run(
        psql_line("--tuples-only", "--no-align", "--quiet"),
        **options,
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode:
        said = done.stderr.strip()
        if done.returncode == 2:  # psql: the connection to the server went bad
            remedy = "is the database up, and its private network attached? The cloud's console has its state"
        else:
            remedy = "the statement failed there; nothing was changed"
        raise Refused(f"database {database}: {said}", remedy)
    return json.loads(done.stdout.strip() or "null")


ENGINE = """
set statement_timeout = '5s';
select to_regclass('failed_jobs') is not null as has \\gset
\\if :has
select count(*) as failed from failed_jobs \\gset
\\else
\\set failed null
\\endif
select json_build_object(
  'version', current_setting('server_version'),
  'database', current_database(),
  'connections', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  'most', current_setting('max_connections')::int,
  'bytes', pg_database_size(current_database()),
  'failed', :failed);
"""

FAILED = """
set statement_timeout = '10s';
select to_regclass('failed_jobs') is not null as has \\gset
\\if :has
select coalesce(json_agg(found), '[]') from (
  select uuid::text as id, queue, to_char(failed_at, 'YYYY-MM-DD HH24:MI:SS') as failed_at,
    payload::json->>'displayName' as job, left(split_part(exception, E'\\n', 1), 500) as reason
  from failed_jobs order by failed_jobs.failed_at desc, failed_jobs.id desc limit 200) found;
\\else
select 'null'::json;
\\endif
"""

SLOW = """
set statement_timeout = '10s';
select exists (select from pg_extension where extname = 'pg_stat_statements') as has \\gset
\\if :has
select coalesce(json_agg(slow), '[]') from (
  select calls, round(mean_exec_time::numeric, 2) as mean_ms, round(total_exec_time::numeric, 1) as total_ms,
    round(max_exec_time::numeric, 2) as max_ms, rows,
    left(regexp_replace(query, '\\s+', ' ', 'g'), 2000) as query
  from pg_stat_statements
  where dbid = (select oid from pg_database where datname = current_database())
    and userid = (select oid from pg_roles where rolname = current_user)
  order by mean_exec_time desc limit :most) slow;
\\else
select 'null'::json;
\\endif
"""


# ---------------------------------------------------------------- cache


class Cache:
    """The few words of Redis' protocol a task needs; closed at the end of ``with``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        host, port = environment.get("REDIS_HOST", ""), int(environment.get("REDIS_PORT") or 6379)
        if not host:
            raise Refused("the application has no REDIS_HOST in its .env", "`pulumi up` writes it")
        link = socket.create_connection((host, port), timeout=5)
        if environment.get("REDIS_SCHEME") == "tls":
            context = ssl.create_default_context(cafile=environment.get("REDIS_CA") or None)
            # The service's own certificate is its anchor, and need not name the private address.
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            link = context.wrap_socket(link)
        self.link = link
        self.answers: IO[bytes] = link.makefile("rb")
        self.first = []
        if environment.get("REDIS_PASSWORD"):
            user = environment.get("REDIS_USERNAME")
            self.first.append(["AUTH", *([user] if user else []), environment["REDIS_PASSWORD"]])
        if environment.get("REDIS_DB"):
            self.first.append(["SELECT", environment["REDIS_DB"]])

    def __enter__(self) -> Cache:
        try:
            for words in self.first:
                self.ask(*words)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.close()
        self.link.close()

    def ask(self, *words: str) -> Any:
        """One command's answer: text, number, list or None. Raises Refused with the server's error."""
        parts = [word.encode() for word in words]
        head = b"*%d\r\n" % len(parts)
        self.link.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._answer()

    def _answer(self) -> Any:
        line = self.answers.readline()
        if not line.endswith(b"\r\n"):
            raise Refused("the cache closed the connection", "is it out of memory? The cloud's console says")
        kind, rest = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"-":
            raise Refused(
                f"the cache answers: {rest}", "its user and password come from the last `pulumi up`"
            )
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self.answers.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return [self._answer() for _ in range(max(0, int(rest)))]
        return rest

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO."""
        lines = str(self.ask("INFO", section)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def queues(self) -> tuple[dict[str, int], bool]:
        """(jobs waiting by queue, whether all keys were looked at): Laravel's lists ``…queues:<name>``.

        Delayed and reserved jobs are in sets beside the list; jobs a worker has taken are not waiting.
        """
        found: dict[str, int] = {}
        cursor, deadline = "0", time.monotonic() + SCAN_SECONDS
        while True:
            cursor, keys = self.ask("SCAN", cursor, "MATCH", "*queues:*", "COUNT", "1000")
            for key in keys:
                queue = key.partition("queues:")[2]
                if queue.endswith((":reserved", ":notify")):
                    continue
                delayed = queue.endswith(":delayed")
                kind = self.ask("TYPE", key)
                if kind == ("zset" if delayed else "list"):
                    name = queue.removesuffix(":delayed")
                    found[name] = found.get(name, 0) + self.ask("ZCARD" if delayed else "LLEN", key)
            if cursor == "0" or time.monotonic() > deadline:
                return found, cursor == "0"


# ---------------------------------------------------------------- status


def output(*words: str) -> str:
    """What a command prints; "" where it is not there or failed."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
        return done.stdout
    return ""


def shown(*units: str) -> dict[str, dict[str, str]]:
    """`systemctl show` of units that exist, by unit; see :func:`epoch` for its times."""
    names = "Id,LoadState,ActiveState,Result,ExecMainStatus,LastTriggerUSec"
    text = output("systemctl", "show", "--timestamp=utc", f"--property={names}", *units)
    found = (dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n") if block)
    return {unit["Id"]: unit for unit in found if unit.get("LoadState") == "loaded"}


def epoch(text: str) -> float | None:
    """`Fri 2026-11-20 17:49:00 UTC`, as systemd says it, in seconds since the epoch; None for never."""
    try:
        return (
            datetime.strptime(text.partition(" ")[2], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp()
        )
    except ValueError:
        return None


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """The host itself. Memory and disk in bytes, uptime in seconds."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    disk = os.statvfs(root)
    failed = output("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager")
    return {
        "name": socket.gethostname(),
        "uptime": float((root / "proc/uptime").read_text().split()[0]),
        "load": float((root / "proc/loadavg").read_text().split()[0]),
        "cpus": os.cpu_count(),
        "memory": memory["MemTotal"],
        "memory_free": memory["MemAvailable"],
        "swap": memory["SwapTotal"],
        "swap_free": memory["SwapFree"],
        "disk": disk.f_blocks * disk.f_frsize,
        "disk_free": disk.f_bavail * disk.f_frsize,
        "reboot": (root / "run/reboot-required").exists(),
        "failed": [line.split()[0] for line in failed.splitlines() if line.strip()],
    }


def services(app: App | None) -> dict[str, str]:
    """What should run, as far as the host has it: state by unit."""
    names = ["nginx", "nftables", "fail2ban", *([app.php(), "supervisor"] if app else [])]
    units = shown(*(name if name.endswith(".service") else f"{name}.service" for name in names if name))
    return {name.removesuffix(".service"): unit["ActiveState"] for name, unit in units.items()}


def releases(root: Path = Path("/")) -> list[dict[str, Any]]:
    """What is live of every application: id of the release, its commit, since when."""
    found = []
    for directory in sorted((root / "srv").glob("*")):
        link = directory / "current"
        if link.is_symlink():
            commits = [path for path in (link / "commit", link / ".berth/commit") if path.is_file()]
            found.append(
                {
                    "app": link.parent.name,
                    "release": link.readlink().name,
                    "commit": commits[0].read_text().strip() if commits else None,
                    "since": link.lstat().st_mtime,
                    "whole": link.exists(),
                }
            )
    return found


def steps(root: Path = Path("/")) -> dict[str, Any]:
    """Results of the program's steps since the last boot, and what is at work: see components/remote."""
    results = []
    for path in sorted((root / "run/berth/results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        results.append({"step": path.stem, "why": result["why"], "finished": result["finished"]})
    working = []
    for path in sorted((root / "run/berth/locks").glob("*.json")):
        holder = json.loads(path.read_text(encoding="utf-8"))
        if output("systemctl", "is-active", holder["unit"]).strip() in ("active", "activating"):
            working.append({"step": holder["step"], "since": holder["since"]})
    return {"results": results, "working": working}


def certificates() -> Any:
    """What berth-certificates says of each name."""
    return json.loads(output("berth-certificates", "status", "--json") or "[]")


def pools(app: App) -> dict[str, str]:
    """Whether somebody listens at each of the application's PHP sockets: "" or why not."""
    found = {}
    for path in (app.current / ".berth/run/api.sock", app.current / ".berth/run/stream.sock"):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(2)
            try:
                link.connect(str(path))
                found[path.stem] = ""
            except OSError as error:
                found[path.stem] = error.strerror or str(error)
    return found


def supervised(app: App) -> dict[str, Any]:
    """State and pid (0 without) of the application's Horizon as supervisor sees it."""
    text = output("supervisorctl", "status", app.program)
    seen = re.search(r"^\S+\s+(\S+)\s*(?:pid (\d+), uptime (\S+))?", text, re.MULTILINE)
    if seen is None:
        return {"state": "UNKNOWN", "pid": 0, "uptime": None}
    return {"state": seen[1], "pid": int(seen[2] or 0), "uptime": seen[3]}


def horizon(app: App) -> dict[str, Any]:
    """The same, and what Horizon says of itself: running, paused or inactive."""
    with ThreadPoolExecutor(1) as beside:
        process = beside.submit(supervised, app)
        said = app.artisan("horizon:status", seconds=SECONDS)
        text = re.sub(r"\x1b\[[0-9;]*m", "", said.stdout + said.stderr)
        state = re.search(r"Horizon is (\w+)", text)
        return {**process.result(), "horizon": state[1] if state else text.strip()[-200:] or "silent"}


def scheduler(app: App) -> dict[str, Any]:
    """When the timer ran last (seconds since the epoch, None for never) and how that ended."""
    units = shown(f"{app.schedule}.timer", f"{app.schedule}.service")
    timer, service = units.get(f"{app.schedule}.timer"), units.get(f"{app.schedule}.service", {})
    if timer is None:
        raise Refused("there is no scheduler on this host", "`pulumi up` sets the host up again")
    return {
        "timer": timer["ActiveState"],
        "last": epoch(timer.get("LastTriggerUSec", "")),
        "result": service.get("Result"),
        "status": service.get("ExecMainStatus"),
        "at_work": service.get("ActiveState") in ("active", "activating"),
    }


def engines(app: App, who: str) -> dict[str, Any]:
    """Every database of the application; what went wrong with one does not hide the others."""
    names = databases(app.environment())
    with ThreadPoolExecutor(max(1, len(names))) as threads:
        asked = {name: threads.submit(answer, query, app, name, ENGINE, who) for name in names}
        return {name: future.result() for name, future in asked.items()}


def cache(app: App) -> dict[str, Any]:
    """The cache's memory (bytes; ``most`` 0 for no limit), keys, and jobs waiting by queue."""
    with Cache(app.environment()) as link:
        memory = link.info("memory")
        waiting, whole = link.queues()
        return {
            "version": link.info("server").get("redis_version"),
            "used": int(memory.get("used_memory", 0)),
            "most": int(memory.get("maxmemory", 0)),
            "keys": link.ask("DBSIZE"),
            "queues": waiting,
            "whole": whole,
        }


def answer(probe: Callable[..., Any], *arguments: Any) -> Any:
    """What a probe finds, or ``{"error"}``: one that fails takes nothing from the others."""
    try:
        return probe(*arguments)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {SECONDS} s"}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person has to know
        return {"error": str(error) or type(error).__name__}


def status(document: Mapping[str, Any]) -> int:
    """Everything at once, so that it costs one login and the slowest of the answers."""
    app = App(document["app"]) if document.get("app") else None
    probes: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "host": (machine, ()),
        "services": (services, (app,)),
        "releases": (releases, ()),
        "steps": (steps, ()),
        "certificates": (certificates, ()),
    }
    if app:
        probes |= {
            "php": (pools, (app,)),
            "horizon": (horizon, (app,)),
            "scheduler": (scheduler, (app,)),
            "databases": (engines, (app, document["who"])),
            "cache": (cache, (app,)),
        }
    with ThreadPoolExecutor(len(probes)) as threads:
        asked = {name: threads.submit(answer, probe, *given) for name, (probe, given) in probes.items()}
        tell({"now": time.time(), **{name: future.result() for name, future in asked.items()}})
    return 0


# ---------------------------------------------------------------- logs


def log_files(document: Mapping[str, Any], root: Path = Path("/")) -> dict[str, Path]:
    """Every log file somebody may ask for, by name."""
    found = {}
    if document.get("app"):
        app = App(document["app"], root)
        found = {name: app.logs / f"{name}.log" for name in ("laravel", "horizon", "scheduler")}
    found |= {path.stem: path for path in sorted((root / "var/log/berth").glob("*.log"))}
    found |= {path.stem: path for path in sorted((root / "var/log/php").glob("*.log"))}
    visits = sorted((root / "var/log/nginx").glob("*.access.log"))
    found |= {path.name.removesuffix(".access.log"): path for path in visits}
    found |= {"nginx": root / "var/log/nginx/error.log", "access": root / "var/log/nginx/access.log"}
    found |= {"certificates": root / "var/log/letsencrypt/letsencrypt.log"}
    return found


def journals(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """What has no file of its own: options of journalctl by name."""
    app = document.get("app")
    return {
        **({"php": [f"--unit={app}-php@*"], "schedule": [f"--unit=berth-schedule-{app}"]} if app else {}),
        "ssh": ["--unit=ssh"],
        "tasks": ["--identifier=berth-tasks"],
        "system": ["--priority=warning"],
    }


def logs(document: Mapping[str, Any]) -> int:
    """The end of a log, and what comes after it for as long as the other end listens."""
    name, lines, follow = document["log"], str(document["lines"]), document["follow"]
    files, units = log_files(document), journals(document)
    if not name:
        rows = [{"log": key, "where": str(path), "there": path.exists()} for key, path in files.items()]
        rows += [
            {"log": key, "where": " ".join(["journalctl", *o]), "there": True} for key, o in units.items()
        ]
        tell(rows)
        return 0
    if name not in (*units, *files):
        near = [one for one in files if one.startswith(name)]
        own = f"{name}-{document.get('app')}"  # of several applications' the one with workers and a database
        name = own if own in near else near[0] if len(near) == 1 else name
    if name in units:
        line = [
            "journalctl",
            "--no-pager",
            f"--lines={lines}",
            *units[name],
            *(["--follow"] if follow else []),
        ]
    elif name in files:
        if not files[name].exists() and not follow:
            raise Refused(f"nothing has been written to {files[name]} yet", "`logs` lists what there is")
        line = ["tail", f"--lines={lines}", *(["-F"] if follow else []), "--", str(files[name])]
    else:
        raise Refused(f"there is no log {name!r}", f"name one of {', '.join([*files, *units])}")
    options: dict[str, Any] = {}
    if name in ("laravel", "horizon", "scheduler"):
        # Read as the application: a link it has put in a log's place shows no more than it could see.
        options = {**App(document["app"]).as_user(), "cwd": "/"}
    if document["grep"] and not follow:
        return searched(line, document["grep"], document["lines"], options)
    if document["grep"]:
        words = ["grep", "--line-buffered", "--fixed-strings", "--ignore-case", "--", document["grep"]]
        source = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
        try:
            return until_unheard(subprocess.Popen(words, stdin=source.stdout), follow)
        finally:
            source.terminate()
    return until_unheard(subprocess.Popen(line, stdin=subprocess.DEVNULL, **options), follow)


def searched(line: list[str], text: str, most: int, options: Mapping[str, Any]) -> int:
    """The last lines with ``text`` in them, of all there are."""
    whole = [word for word in line if not word.startswith("--lines=")]
    if whole[0] == "tail":
        whole.insert(1, "--lines=+1")
    found: deque[bytes] = deque(maxlen=most)
    wanted = text.lower().encode()
    with subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options) as source:
        found.extend(each for each in source.stdout or () if wanted in each.lower())
    sys.stdout.buffer.write(b"".join(found))
    sys.stdout.buffer.flush()
    return source.returncode


def until_unheard(process: subprocess.Popen[bytes], follow: bool) -> int:
    """Wait for the end of a program; where it has none, until the other end closes our standard input."""
    if follow and not os.isatty(0):
        while process.poll() is None:
            if select.select([0], [], [], 0.5)[0] and not os.read(0, 4096):
                process.terminate()
    return process.wait()


# ---------------------------------------------------------------- doing something


def workers(document: Mapping[str, Any]) -> int:
    """Horizon lets go of its workers, each after its job, and supervisor starts it anew."""
    app = needed(document)
    before = supervised(app)
    if before["state"] == "UNKNOWN":
        raise Refused(
            f"supervisor knows no {app.program}", "`pulumi up` sets the host up again; `logs release`"
        )
    if before["pid"]:
        said = app.artisan("horizon:terminate", seconds=60)
        if said.returncode:
            raise Refused(
                f"horizon:terminate failed: {(said.stdout + said.stderr).strip()[-500:]}",
                "`logs laravel`; is the cache reachable? `status`",
            )
    else:
        output("supervisorctl", "start", app.program)
    deadline = time.monotonic() + float(document["wait"])
    while True:
        now = supervised(app)
        renewed = now["state"] == "RUNNING" and now["pid"] != before["pid"]
        if renewed and horizon(app)["horizon"] == "running":
            tell({"before": before, "now": now, "renewed": True})
            return 0
        if now["state"] in ("FATAL", "BACKOFF", "EXITED") or time.monotonic() > deadline:
            tell({"before": before, "now": now, "renewed": False})
            return 0
        time.sleep(0.5)


def restart(document: Mapping[str, Any]) -> int:
    """nginx reads its configuration again, without a gap; PHP is started anew, which has one."""
    if document["service"] == "nginx":
        unit, verb = "nginx.service", "reload-or-restart"
        tested = subprocess.run(["nginx", "-t"], capture_output=True, text=True, check=False)
        if tested.returncode:
            raise Refused(
                f"nginx refuses its configuration, so it was left alone: {tested.stderr.strip()}",
                "`pulumi up` writes it anew; `logs web`",
            )
    else:
        app, verb = needed(document), "restart"
        unit = app.php()
        if not unit:
            raise Refused(
                f"nothing of {app.name} is live", "`pulumi up`; `logs release` says why there is none"
            )
        if not any(pools(app).values()) and not document["force"]:
            raise Refused(
                "PHP answers; a restart cuts off streams and answers 502 for up to 20 seconds",
                "--force does it anyway",
            )
    done = subprocess.run(["systemctl", verb, unit], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{unit}: {done.stderr.strip()}", "`logs system`")
    tell({"unit": unit, "did": verb, "state": output("systemctl", "is-active", unit).strip()})
    return 0


def jobs(document: Mapping[str, Any]) -> int:
    """The failed jobs, newest first, or those of them that are to be tried again."""
    app = needed(document)
    failed = query(app, "production", FAILED, document["who"])
    if failed is None:
        raise Refused("the database has no table failed_jobs", "`artisan migrate:status`; a release migrates")
    if document["retry"] is None:
        tell(failed)
        return 0
    known = [job["id"] for job in failed]
    if not known:
        tell({"retried": [], "said": ""})
        return 0
    missing = [one for one in document["retry"] if one not in (*known, "all")]
    if missing:
        raise Refused(
            f"no failed job has the id {', '.join(missing)}",
            f"`jobs failed` lists them: {', '.join(known[:3])}{' …' if len(known) > 3 else ''}",
        )
    said = app.artisan("queue:retry", *document["retry"], seconds=300)
    if said.returncode:
        raise Refused(f"queue:retry failed: {(said.stdout + said.stderr).strip()[-500:]}", "`logs laravel`")
    wanted = known if "all" in document["retry"] else document["retry"]
    tell({"retried": wanted, "said": said.stdout.strip()})
    return 0


def certificate(document: Mapping[str, Any]) -> int:
    """What each name has, or new ones now."""
    if not document["renew"]:
        tell(certificates())
        return 0
    names = [row["name"] for row in certificates()]
    unknown = [name for name in document["renew"] if name not in (*names, "all")]
    if unknown:
        raise Refused(
            f"{', '.join(unknown)} is no name of this host", f"name `all`, or some of {', '.join(names)}"
        )
    wanted = names if "all" in document["renew"] else document["renew"]
    worst = 0
    for name in wanted:
        line = ["berth-certificates", "renew", "--force", name]
        worst = max(worst, subprocess.run(line, check=False, stdin=subprocess.DEVNULL).returncode)
    return 1 if worst else 0


def psql(document: Mapping[str, Any]) -> int:
    """psql as the application's own user; with a terminal, or the statements from standard input."""
    app = needed(document)
    more = libpq(app.environment(), document["database"], write=document["write"], who=document["who"])
    options = app.as_user()
    options["env"] |= more
    options["cwd"] = "/"
    if os.isatty(0):
        options["env"]["TERM"] = os.environ.get("TERM", "dumb")
        return subprocess.run(psql_line(), **options, check=False).returncode
    form = ("--csv",) if document["csv"] else ()
    return subprocess.run(psql_line(*form, "--file=-"), **options, check=False).returncode


def slow_queries(document: Mapping[str, Any]) -> int:
    """What took longest on average, as the database has counted it for the application's user."""
    app = needed(document)
    sql = f"\\set most {int(document['most'])}\n{SLOW}"
    found = query(app, document["database"], sql, document["who"])
    if found is None:
        raise Refused(
            "the database has no extension pg_stat_statements, so nothing was counted",
            "`pulumi up` makes it: the step that prepares the databases has not run, or failed",
        )
    tell(found)
    return 0


def environment(document: Mapping[str, Any]) -> int:
    """Fingerprints of every value in the `.env`, under the asker's key: no value leaves the host."""
    found, key = needed(document).environment(), bytes.fromhex(document["key"])
    tell({name: hmac.new(key, value.encode(), hashlib.sha256).hexdigest() for name, value in found.items()})
    return 0


def artisan(document: Mapping[str, Any]) -> int:
    """Any command of the application, as its own user, but for those that destroy what it holds."""
    app = needed(document)
    for word in document["words"]:
        if word in DESTRUCTIVE:
            raise Refused(f"{word} is not run on a live host: {DESTRUCTIVE[word]}", "see docs/night-shift.md")
    options = app.as_user()
    if os.isatty(0):
        options["env"]["TERM"] = os.environ.get("TERM", "dumb")
    return subprocess.run(app.artisan_line(document["words"]), **options, check=False).returncode


def needed(document: Mapping[str, Any]) -> App:
    """The application. Raises Refused where the stack has none."""
    if not document.get("app"):
        raise Refused("the stack runs no application with workers and a database", "this task needs one")
    return App(document["app"])


def tell(value: Any) -> None:
    """The task's answer: one line of JSON."""
    print(json.dumps(value), flush=True)


TASKS: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "artisan": artisan,
    "certificate": certificate,
    "env": environment,
    "jobs": jobs,
    "logs": logs,
    "psql": psql,
    "restart": restart,
    "slow-queries": slow_queries,
    "status": status,
    "workers": workers,
}


def main(document: Mapping[str, Any]) -> int:
    """Run the task of ``document`` (see tasks/ssh.py for its keys); returns an exit status."""
    syslog.openlog("berth-tasks")
    syslog.syslog(f"{document['task']} for {document['who']}")  # who was here stays to be seen
    try:
        code = TASKS[document["task"]](document)
        return code if code >= 0 else 128 - code  # as a shell says that a signal ended it
    except Refused as refused:
        print(refused, file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main(globals()["DOCUMENT"]))
