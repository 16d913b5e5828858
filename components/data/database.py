"""What only SQL can set up in a managed PostgreSQL: extensions, and who may connect to which database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pulumi import ResourceOptions

from components.cloud import Instance, Postgres, Scope
from components.remote.files import File
from components.remote.runner import Step, StepArgs

ROOM = Path(__file__).parent

WAIT_SECONDS = 300
"""How long a server may take to answer after the cloud has called it ready."""


@dataclass(frozen=True, kw_only=True)
class DatabaseArgs:
    """``postgres`` is reached from ``instance``, over the private network, as its administrator.

    ``extensions``: database to the extensions it gets. Each database's owner, and nobody else, may connect to
    it and make tables in it. ``version``: of the client, see components/data/postgresql_client.py.
    """

    scope: Scope
    instance: Instance
    host: str
    postgres: Postgres
    extensions: Mapping[str, Sequence[str]] = field(default_factory=dict)


def database(name: str, args: DatabaseArgs, opts: ResourceOptions | None = None) -> Step:
    """Runs after the client is on the host; converges, drops nothing. No facts."""
    strangers = sorted(set(args.extensions) - set(args.postgres.databases))
    if strangers:
        raise ValueError(f"extensions for {', '.join(strangers)}, which {args.postgres.host} does not have")
    databases = {
        database: {"owner": login.user, "extensions": sorted(args.extensions.get(database, ()))}
        for database, login in sorted(args.postgres.databases.items())
    }
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step="database",
            host=args.host,
            script=ROOM / "database.sh",
            files=[
                File(path="database.py", content=(ROOM / "prepare_database.py").read_text(encoding="utf-8")),
                File(path="databases.json", content=json.dumps(databases, indent=1) + "\n"),
                File(path="password", content=args.postgres.admin.password, secret=True),
                File(path="ca.pem", content=args.postgres.ca_certificate),
            ],
            environment={
                "PGHOST": args.postgres.host,
                "PGPORT": args.postgres.port.apply(lambda port: str(int(port))),
                "PGUSER": args.postgres.admin.user,
                "WAIT_SECONDS": str(WAIT_SECONDS),
            },
            timeout=WAIT_SECONDS + 120,
            lock="database",
        ),
        opts,
    )
