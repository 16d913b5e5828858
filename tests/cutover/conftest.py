"""Two managed PostgreSQL servers in one private network, and PostgreSQL's own tools on a host there."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.app.dotenv import dotenv
from sandbox import real
from sandbox.hosts import desired as want
from sandbox.hosts import images, net
from sandbox.services import postgres, roots
from tests.sandbox.services.cloud import NETWORK, Cloud

ROOT = Path(__file__).resolve().parents[2]
ADMIN, PASSWORD = "Adm1n!pass word", 'App1!"\\quote $x'
TOOLS = ("psql", "pg_dump", "pg_restore")


@dataclass
class Side:
    """One server; ``env`` is the application's file that names it."""

    address: str
    env: Path
    site: Site

    @property
    def login(self) -> dict[str, str]:
        """psql's variables for the application's user."""
        where = {"PGHOST": self.address, "PGDATABASE": "production", "PGSSLMODE": "require"}
        return {**where, "PGUSER": "app", "PGPASSWORD": PASSWORD}

    def sql(self, text: str, *, admin: bool = False, database: str = "production") -> str:
        done = self._psql(text, admin, database)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, text: str) -> str:
        done = self._psql(text, False, "production")
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _psql(self, text: str, admin: bool, database: str) -> subprocess.CompletedProcess[str]:
        who = {"PGUSER": "berth", "PGPASSWORD": ADMIN} if admin else {}
        variables = {**self.login, "PGDATABASE": database, **who}
        return self.site.run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", given=text, **variables)


@dataclass
class Site:
    """Where the tools run; ``argv`` keeps every command line they were called with."""

    where: str
    bin: Path
    argv: Path
    home: Path

    def run(
        self, *command: str, given: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        paths = {"PATH": f"{self.bin}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            net.nsenter(self.where, list(command)),
            input=given,
            env={**paths, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def cutover(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "cutover", "--old", "old.env", "--new", "new.env", *words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Side, Side]]:
    if reasons := real.capable():
        pytest.skip(f"no server runs here: {'; '.join(reasons)}")
    root = tmp_path_factory.mktemp("checkout")
    home = tmp_path_factory.mktemp("home")
    cloud = Cloud(root)
    try:
        images.ready(roots.POSTGRES, print)
        site = Site(cloud.visitor("host", NETWORK, "10.20.0.50"), home / "bin", home / "argv", home)
        _tools(site, roots.room(roots.POSTGRES, "postgres", root / "client", root / "client-run", print).tree)
        sides = []
        for name, address in (("old", "10.20.0.9"), ("new", "10.20.0.10")):
            _server(cloud, f"fr-par/{name}", address)
            env = home / f"{name}.env"
            env.write_text(dotenv({
                "DB_HOST": address, "DB_PORT": "5432", "DB_DATABASE": "production", "DB_USERNAME": "app",
                "DB_PASSWORD": PASSWORD, "DB_SSLMODE": "require", "DB_DATABASE_SANDBOX": "sandbox",
                "AWS_BUCKET": "one", "AWS_ENDPOINT": "https://s3.fr-par.scw.cloud",
            }))  # fmt: skip
            sides.append(Side(address, env, site))
        yield site, sides[0], sides[1]
    finally:
        real.reset(root)
        net.leave()


def _server(cloud: Cloud, id: str, address: str) -> None:
    outputs = {"privateNetwork": {"pnId": NETWORK, "ip": address, "port": 5432, "hostname": "x.internal"}}
    inputs = {"engine": "PostgreSQL-17", "userName": "berth", "password": ADMIN, "nodeType": "DB-DEV-S"}
    cloud.create(want.POSTGRES, id, inputs, outputs)
    rules = [{"ip": "10.20.0.0/24", "description": "x"}]
    cloud.create(postgres.ACL, f"{id}-acl", {"instanceId": id, "aclRules": rules})
    cloud.create(postgres.USER, f"{id}/app", {"instanceId": id, "name": "app", "password": PASSWORD})
    for database in ("production", "sandbox"):
        cloud.create(postgres.DATABASE, f"{id}/{database}", {"instanceId": id, "name": database})
        for who in ("app", "berth"):
            about = {"instanceId": id, "databaseName": database, "userName": who, "permission": "all"}
            cloud.create(postgres.PRIVILEGE, f"{id}/{database}/{who}", about)


def _tools(site: Site, tree: Path) -> None:
    """Debian 13's programs run by their own loader, as berth puts them on a host of Debian 12."""
    site.bin.mkdir()
    libraries = ":".join(str(tree / part) for part in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
    for tool in TOOLS:
        real_one = tree / "usr/lib/postgresql/17/bin" / tool
        line = [str(tree / "lib64/ld-linux-x86-64.so.2"), "--library-path", libraries, str(real_one)]
        script = (
            f'#!/bin/sh\nprintf "%s\\n" "$*" >>{shlex.quote(str(site.argv))}\nexec {shlex.join(line)} "$@"\n'
        )
        (site.bin / tool).write_text(script)
        (site.bin / tool).chmod(0o755)
