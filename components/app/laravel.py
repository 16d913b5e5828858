"""A Laravel application on its host: PHP, queue worker and scheduler, and releases that drop no request.

Each release is a directory with everything it runs with, code, `.env`, caches and a PHP-FPM of its own. A new
one is started and asked for its health beside the one that serves, then one rename switches documents,
sockets, workers and scheduler; what is running on the old one ends in its own time. So a changed value of the
`.env` is a release like any other, only that nothing is built for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pulumi import Input, Output, ResourceOptions

from components.app.dotenv import dotenv
from components.app.release import KEEP, deploy_keys, identifier
from components.cloud import Instance, Scope
from components.remote.files import File, render
from components.remote.runner import Step, StepArgs

ROOM = Path(__file__).parent
FILES = ROOM / "files"

PHP = "8.2"
"""The PHP of Debian 12; Debian 13 has 8.4, and no wkhtmltopdf at all."""

IMAGES = ("debian-12",)
"""Images whose packages have that PHP and what it needs."""

EXTENSIONS = (
    "bcmath",
    "ctype",
    "curl",
    "dom",
    "fileinfo",
    "gd",
    "intl",
    "json",
    "mbstring",
    "openssl",
    "pdo",
    "pdo_pgsql",
    "redis",
    "tokenizer",
    "xml",
    "zip",
)
"""What PHP has to load, in FPM and on the command line; the step fails with the list of those it does not."""

WORKER_EXTENSIONS = ("pcntl", "posix")
"""On the command line besides: Horizon handles signals with them."""

PACKAGES = (
    "composer",
    "curl",
    "fonts-dejavu-core",  # without any font a PDF has no text
    "git",
    "libfcgi-bin",  # asks a PHP-FPM directly, before nginx sends it anybody
    "openssh-client",
    f"php{PHP}-bcmath",
    f"php{PHP}-cli",
    f"php{PHP}-curl",
    f"php{PHP}-fpm",
    f"php{PHP}-gd",
    f"php{PHP}-intl",
    f"php{PHP}-mbstring",
    f"php{PHP}-opcache",
    f"php{PHP}-pgsql",
    f"php{PHP}-redis",
    f"php{PHP}-xml",
    f"php{PHP}-zip",
    "supervisor",
    "unzip",
    "wkhtmltopdf",
)
"""For the host's one package transaction, see components/host/baseline.py."""

LEAST_FREE_MB = 500
"""Of disk; with less a release is not begun."""

START_SECONDS = 60
"""How long Horizon, and the health behind nginx, get to be well after the switch."""

API_PROCESSES_PER_GB = 4
STREAM_PROCESSES_PER_GB = 6
"""Of the host's memory. A Laravel request takes 30–60 MB, a stream that waits about 25 MB of its own."""


@dataclass(frozen=True, kw_only=True)
class LaravelArgs:
    """``release`` is a tag or a full commit of ``repository``.

    ``environment`` and ``secrets`` together are the `.env`; values of ``secrets`` are masked in logs.
    ``files``: path below the application's `storage/` to content (secret), mode 0600.
    ``authorities``: name to certificate (PEM) of a managed service; it is at :func:`authority`.
    ``health``: the URL that answers {"status": "ok"}, at a name this host's nginx serves.
    ``memory_gb``: of the host; the number of PHP processes follows. ``stream_seconds``: longest a stream
    under /mcp/stream may last. ``drain_seconds``: how long the step waits for running jobs of the old
    release; longer ones still end in peace. ``maintenance``: this release answers 503 while it migrates and
    switches; for migrations that the old code cannot live with. ``workers``: whether Horizon and the
    scheduler run.
    """

    scope: Scope
    instance: Instance
    host: str
    app: str
    repository: str
    release: str
    environment: Mapping[str, Input[str]]
    secrets: Mapping[str, Input[str]]
    health: str
    memory_gb: float
    files: Mapping[str, Input[str]] = field(default_factory=dict)
    authorities: Mapping[str, Input[str]] = field(default_factory=dict)
    deploy_key: Input[str] | None = None
    maintenance: bool = False
    workers: bool = True
    timezone: str = "UTC"
    memory_limit_mb: int = 256
    upload_mb: int = 20
    request_seconds: int = 120
    stream_seconds: int = 3600
    drain_seconds: int = 300
    keep_days: int = 14


# ---------------------------------------------------------------- where things are


def public_root(app: str) -> str:
    """The directory a web server serves ``app`` from; it changes with each release, at once."""
    return f"/srv/{app}/current/public"


def socket(app: str) -> str:
    """PHP-FPM of the live release; the path goes through the one link that a release switches."""
    return f"/srv/{app}/current/.berth/run/api.sock"


def stream_socket(app: str) -> str:
    """The same for streams: processes of their own, so that an hour of streaming takes none from the API."""
    return f"/srv/{app}/current/.berth/run/stream.sock"


def maintenance_flag(app: str) -> str:
    """While this file is there, the web server answers 503."""
    return f"/srv/{app}/shared/maintenance"


def authority(name: str) -> str:
    """Where the certificate ``name`` of :attr:`LaravelArgs.authorities` is, readable by all."""
    return f"/etc/berth/ca/{name}.pem"


# ---------------------------------------------------------------- the two steps


def laravel_runtime(name: str, args: LaravelArgs, opts: ResourceOptions | None = None) -> Step:
    """PHP, the application's user and directories, Horizon under supervisor, the scheduler's timer, logs.

    Runs after the baseline, beside the web server. Nothing of it changes with a release.
    """
    values = {"app": args.app, "php": PHP, "keep_days": args.keep_days, "timezone": args.timezone}
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step=f"php-{args.app}",
            host=args.host,
            script=ROOM / "laravel_runtime.sh",
            files=[
                _filled("php-cli.ini", **values),
                _filled("php-fpm.service", **values),
                _filled("php-tmpfiles.conf", **values),
                _filled("horizon.conf", **values),
                _plain("supervisor.conf"),
                _filled("schedule.service", **values),
                _filled("schedule.timer", **values),
                _plain("schedule.sh"),
                _filled("laravel-logrotate.conf", **values),
            ],
            environment={
                "APP": args.app,
                "PHP": PHP,
                "EXTENSIONS": " ".join(EXTENSIONS),
                "WORKER_EXTENSIONS": " ".join(WORKER_EXTENSIONS),
                "WORKERS": "yes" if args.workers else "",
            },
            timeout=3900,  # a changed worker program waits for the jobs of the old one
            lock=f"app-{args.app}",
        ),
        opts,
    )


def laravel_release(name: str, args: LaravelArgs, opts: ResourceOptions | None = None) -> Step:
    """Runs after the runtime, the web server and the database's own step.

    Facts: ``release``, ``commit``, ``id``, ``before`` (the id that was live until then, "" at first) and
    ``horizon``: "running", "finishing" where jobs of the old release outlast ``drain_seconds``, or "resting".
    """
    both = sorted(set(args.environment) & set(args.secrets))
    if both:
        raise ValueError(f"{', '.join(both)}: in both environment and secrets of {args.app}")
    files = [
        *(_plain(path) for path in ("release.sh", "composer.sh", "check_backend.php")),
        File(path="dotenv", content=Output.all(**args.environment, **args.secrets).apply(dotenv)),
        # Never used on the host: it is there so that each of its lines is masked in logs.
        File(path="masks", content=Output.all(*args.secrets.values()).apply(_lines), secret=True),
        _filled(
            "fpm.conf",
            app=args.app,
            api=max(4, math.floor(args.memory_gb * API_PROCESSES_PER_GB)),
            streams=max(4, math.floor(args.memory_gb * STREAM_PROCESSES_PER_GB)),
            request_seconds=args.request_seconds,
            stream_seconds=args.stream_seconds,
        ),
        _filled(
            "fpm.ini",
            memory_limit_mb=args.memory_limit_mb,
            upload_mb=args.upload_mb,
            request_seconds=args.request_seconds,
            timezone=args.timezone,
        ),
        *(
            File(path=f"storage/{path}", content=content, secret=True)
            for path, content in sorted(args.files.items())
        ),
        *(File(path=f"ca/{who}.pem", content=content) for who, content in sorted(args.authorities.items())),
        *deploy_keys(args.deploy_key),
    ]
    step = f"release-{args.app}"
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step=step,
            host=args.host,
            script=ROOM / "laravel_release.sh",
            files=files,
            environment={
                "APP": args.app,
                "PHP": PHP,
                "REPOSITORY": args.repository,
                "RELEASE": args.release,
                "CODE": code_id(args),
                "HEALTH": args.health,
                "MAINTENANCE": "yes" if args.maintenance else "",
                "WORKERS": "yes" if args.workers else "",
                "DRAIN_SECONDS": str(args.drain_seconds),
                "START_SECONDS": str(START_SECONDS),
                "LEAST_FREE_MB": str(LEAST_FREE_MB),
                "KEEP": str(KEEP),
                "UNIT": f"berth-{step}.service",
            },
            timeout=3600 + args.drain_seconds,
            lock=f"app-{args.app}",
        ),
        opts,
    )


def code_id(args: LaravelArgs) -> str:
    """Name of the built code: the tag, and a hash of all else that makes it.

    The host adds a hash of what the code runs with (`.env`, files, PHP's configuration) for the release's.
    """
    recipe = (ROOM / "composer.sh").read_text(encoding="utf-8")
    return identifier(args.release, [args.release, args.repository, PHP, recipe])


def _lines(values: list[str]) -> str:
    return "".join(f"{value}\n" for value in sorted(set(values)))


def _plain(path: str) -> File:
    found = FILES / path if (FILES / path).exists() else ROOM / path
    return File(path=path, content=found.read_text(encoding="utf-8"))


def _filled(path: str, **values: object) -> File:
    return File(path=path, content=render(FILES / f"{path}.j2", **values))
