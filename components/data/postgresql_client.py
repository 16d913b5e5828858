"""PostgreSQL's own tools (psql, pg_dump, pg_restore) in the version of the server, on the host.

A client older than its server cannot dump it, and Debian 12 has version 15. Version 17 is Debian 13's, so its
packages are unpacked into a directory of their own with the libraries they were built with, C library
included, and run there by their own loader: the system's libraries stay what they are. Same archive, same
signatures, and a timer that brings Debian's security updates. Measured on 2 cores: 7 s and 23 MB, 3 s where
nothing is newer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pulumi import ResourceOptions

from components.cloud import Instance, Scope
from components.remote.files import File
from components.remote.runner import Step, StepArgs

ROOM = Path(__file__).parent

VERSION = 17


def packages(image: Literal["debian-12", "debian-13"]) -> tuple[str, ...]:
    """For the host's one package transaction: Debian 13 has the client itself."""
    return (f"postgresql-client-{VERSION}",) if image == "debian-13" else ()


@dataclass(frozen=True, kw_only=True)
class PostgresqlClientArgs:
    """Where it goes."""

    scope: Scope
    instance: Instance
    host: str


def postgresql_client(name: str, args: PostgresqlClientArgs, opts: ResourceOptions | None = None) -> Step:
    """Needs nothing but a Debian host, and has a lock of its own: it may run beside the baseline.

    Facts: ``version`` of the client.
    """
    paths = ("berth-postgresql-client", "berth-postgresql-client.service", "berth-postgresql-client.timer")
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step="psql",  # its unit runs as berth-<step>.service: not the one that is installed here
            host=args.host,
            script=ROOM / "postgresql_client.sh",
            files=[
                File(path=path, content=(ROOM / "files" / path).read_text(encoding="utf-8")) for path in paths
            ],
            timeout=600,
            lock="postgresql-client",
        ),
        opts,
    )
