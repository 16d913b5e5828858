"""nginx on a host, with its sites and the certificates of their names, in one step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pulumi import ResourceOptions

from components.cloud import Instance, Scope
from components.remote.files import File, render
from components.remote.runner import Step, StepArgs

FILES = Path(__file__).parent / "files"

PACKAGES = ("certbot", "nginx", "openssl")
"""For the host's one package transaction, see components/host/baseline.py."""

WEBROOT = "/var/lib/berth/acme"
"""Where certbot leaves its answers to the certificate authority."""


@dataclass(frozen=True, kw_only=True)
class SinglePageSite:
    """A site whose every path is answered by its index.html; ``root`` is the directory that holds it.

    ``names``: all public names, the main one first.
    """

    template: ClassVar[str] = "single-page.conf.j2"

    names: Sequence[str]
    root: str

    @property
    def name(self) -> str:
        """The main name."""
        return self.names[0]


@dataclass(frozen=True, kw_only=True)
class Cors:
    """Which site's pages may call an API from a browser: ``origin`` as the browser says it."""

    origin: str
    methods: Sequence[str]
    headers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PhpSite:
    """A PHP application behind its front controller, ``root``/index.php; ``socket`` is PHP-FPM's.

    ``streams``: path prefix to the PHP-FPM socket that answers there without buffering, for up to
    ``stream_seconds``. ``maintenance``: while this file is there, every answer is 503. ``request_seconds`` is
    what PHP itself has for a request.
    """

    template: ClassVar[str] = "php.conf.j2"

    names: Sequence[str]
    root: str
    socket: str
    streams: Mapping[str, str] = field(default_factory=dict)
    cors: Cors | None = None
    maintenance: str | None = None
    body_mb: int = 20
    request_seconds: int = 120
    stream_seconds: int = 3600

    @property
    def name(self) -> str:
        """The main name."""
        return self.names[0]


@dataclass(frozen=True, kw_only=True)
class WebServerArgs:
    """``email`` and ``directory``: of the account at the certificate authority, and its ACME address.

    ``http2_listen``: nginx is older than 1.25 (Debian 12) and switches HTTP/2 on in its listen directives.
    """

    scope: Scope
    instance: Instance
    host: str
    sites: Sequence[SinglePageSite | PhpSite]
    email: str
    directory: str
    http2_listen: bool
    keep_days: int = 14


def web_server(name: str, args: WebServerArgs, opts: ResourceOptions | None = None) -> Step:
    """Runs after the baseline. Never waits for a certificate: names start self-signed."""
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step="web",
            host=args.host,
            script=Path(__file__).parent / "web.sh",
            files=files(args),
            timeout=300,
        ),
        opts,
    )


def files(args: WebServerArgs) -> Sequence[File]:
    """nginx.conf, one file per site under nginx/, and what the certificates need."""

    def plain(path: str) -> File:
        return File(path=path, content=(FILES / path).read_text(encoding="utf-8"))

    certificates = {
        "email": args.email,
        "directory": args.directory,
        "webroot": WEBROOT,
        "names": [name for site in args.sites for name in site.names],
    }
    return (
        File(path="nginx.conf", content=render(FILES / "nginx.conf.j2")),
        File(
            path="nginx/00-default.conf",
            content=render(FILES / "default.conf.j2", http2_listen=args.http2_listen),
        ),
        *(
            File(
                path=f"nginx/{site.name}.conf",
                content=render(
                    FILES / site.template,
                    site=site,
                    variable=re.sub(r"\W", "_", site.name),
                    webroot=WEBROOT,
                    http2_listen=args.http2_listen,
                ),
            )
            for site in args.sites
        ),
        File(path="logrotate.conf", content=render(FILES / "logrotate.conf.j2", keep_days=args.keep_days)),
        File(path="certificates.json", content=json.dumps(certificates, indent=1) + "\n"),
        File(
            path="certificates.py",
            content=(Path(__file__).parent / "certificates.py").read_text(encoding="utf-8"),
        ),
        plain("berth-certificates.service"),
        plain("berth-certificates.timer"),
        plain("nginx-restart.conf"),
        plain("deploy-hook"),
    )
