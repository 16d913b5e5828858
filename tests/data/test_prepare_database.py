"""prepare_database.py against a real PostgreSQL, with TLS; and against what is no PostgreSQL at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROGRAM = Path("components/data/prepare_database.py").resolve()
BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/none"))
ADMIN = "Adm1n:pass\\word'"

needs_server = pytest.mark.skipif(
    os.geteuid() != 0
    or not all((BINARIES / name).exists() for name in ("initdb", "postgres"))
    or shutil.which("psql") is None,
    reason="needs root, and a PostgreSQL server and client on this machine",
)


class Server:
    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = str(listener.getsockname()[1])
        for directory in (root, *list(root.parents)[:2]):
            directory.chmod(0o755)
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        self.as_postgres(str(BINARIES / "initdb"), "-D", str(self.data), "-U", "super", "-A", "trust", "-N")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-subj", "/CN=managed", "-days", "9"]
        self.as_postgres(*command, "-keyout", f"{self.data}/server.key", "-out", f"{self.data}/server.crt")
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\n"
            "hostssl all unlisted 127.0.0.1/32 reject\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        options = ["-D", str(self.data), "-p", self.port, "-k", str(root), "-c", "ssl=on", "-c", "fsync=off"]
        shutil.chown(root, "postgres", "postgres")
        with (root / "log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    "setpriv",
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    BINARIES / "postgres",
                    *options,
                ],
                stderr=log,
            )
        for _ in range(200):
            if self.sql("SELECT 1;", check=False).returncode == 0:
                break
            time.sleep(0.05)
        self.sql(f"CREATE ROLE berth LOGIN CREATEROLE CREATEDB PASSWORD $x${ADMIN}$x$;")
        self.sql("CREATE ROLE scell LOGIN PASSWORD 'app'; CREATE ROLE other LOGIN PASSWORD 'other';")

    def as_postgres(self, *command: str) -> None:
        subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command],
            check=True,
            capture_output=True,
        )

    def sql(
        self, sql: str, database: str = "postgres", *, user: str = "super", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = ["psql", "-XqAt", "-h", str(self.root), "-p", self.port, "-U", user, "-d", database]
        return subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1"], input=sql, check=check, capture_output=True, text=True
        )

    def fresh(self, owner: str) -> None:
        """Two databases of `owner`, as a cloud has just made them."""
        for name in ("scell_production", "scell_sandbox"):
            self.sql(f"DROP DATABASE IF EXISTS {name};")
            self.sql(f"CREATE DATABASE {name} OWNER {owner};")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("pg"))
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait()


DATABASES = {
    "scell_production": {"owner": "scell", "extensions": ["pg_trgm"]},
    "scell_sandbox": {"owner": "other", "extensions": []},
}


def run(directory: Path, port: str, ca: str = "none", **more: str) -> tuple[int, str]:
    directory.mkdir(exist_ok=True)
    (directory / "databases.json").write_text(json.dumps(DATABASES))
    (directory / "password").write_text(more.pop("password", ADMIN))
    (directory / "ca.pem").write_text(ca)
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "PGHOST": "127.0.0.1",
        "PGPORT": port,
        "PGUSER": "berth",
        "WAIT_SECONDS": "0",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (directory / "pgpass").exists()
    return done.returncode, done.stdout + done.stderr


def prepare(server: Server, tmp_path: Path, **more: str) -> tuple[int, str]:
    return run(tmp_path / "step", server.port, (server.data / "server.crt").read_text(), **more)


@needs_server
def test_owners_get_what_they_need_and_nobody_else_gets_in(server: Server, tmp_path: Path) -> None:
    server.fresh("berth")
    for _ in range(2):  # the second time changes nothing
        status, said = prepare(server, tmp_path)
        assert status == 0, said
        assert said == "scell_production: scell, pg_trgm\nscell_sandbox: other, no extensions\n"
    query = "CREATE TABLE mine (); SELECT extname FROM pg_extension WHERE extname = 'pg_trgm';"
    assert server.sql(query, "scell_production", user="scell").stdout == "pg_trgm\n"
    server.sql("CREATE TABLE mine ();", "scell_sandbox", user="other")
    for user, database in (("scell", "scell_sandbox"), ("other", "scell_production")):
        refused = server.sql("SELECT 1;", database, user=user, check=False)
        assert "permission denied for database" in refused.stderr


@needs_server
def test_what_the_administrator_may_not_change_is_an_error_that_says_so(
    server: Server, tmp_path: Path
) -> None:
    server.fresh("super")
    status, said = prepare(server, tmp_path)
    assert status == 1
    assert "refuses in scell_production: ERROR: permission denied to create extension" in said
    server.sql("CREATE EXTENSION pg_trgm;", "scell_production")
    status, said = prepare(server, tmp_path)
    assert (status, "scell may not make tables in scell_production" in said) == (1, True), said
    for database, owner in (("scell_production", "scell"), ("scell_sandbox", "other")):
        server.sql(f"GRANT CONNECT ON DATABASE {database} TO {owner}, berth;")
        server.sql(f"GRANT USAGE, CREATE ON SCHEMA public TO {owner};", database)
    status, said = prepare(server, tmp_path)
    assert status == 1
    assert "lets every user connect to scell_production, and berth may not change that" in said
    for database in DATABASES:
        server.sql(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC;")
    assert prepare(server, tmp_path)[0] == 0  # where a cloud has it all done, nothing is asked for


@needs_server
def test_a_wrong_password_a_closed_door_and_a_stranger_are_told_apart(server: Server, tmp_path: Path) -> None:
    status, said = prepare(server, tmp_path, password="hidden-secret", WAIT_SECONDS="60")
    assert status == 1
    assert "it refuses the administrator's password" in said
    assert "hidden-secret" not in said
    assert "it lets nobody in from this host" in prepare(server, tmp_path, PGUSER="unlisted")[1]
    other = tmp_path / "other"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-subj", "/CN=other", "-keyout", f"{other}.key", "-out", f"{other}.pem"]
    subprocess.run(command, check=True, capture_output=True)
    status, said = run(tmp_path / "step", server.port, Path(f"{other}.pem").read_text())
    assert (status, "is not the one the cloud has told us" in said) == (1, True), said


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_a_server_that_is_down_is_waited_for_and_then_named(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    status, said = run(tmp_path / "step", port)
    assert status == 1
    assert said.startswith(
        f"PostgreSQL at 127.0.0.1:{port} does not answer; what is ready stays, run `up` again"
    )
    assert "Connection refused" in said
