"""Extensions and rights of the databases of one PostgreSQL server, converging. Standard library only.

Reads databases.json ({database: {"owner", "extensions"}}), password and ca.pem in the working directory;
environment: PGHOST, PGPORT, PGUSER (its administrator), WAIT_SECONDS. Runs psql. Exit status 1 and one line
that says what is wrong and what to do about it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PAUSE = 3  # seconds between tries while the server does not answer
CONNECT_SECONDS = 5

FINAL = (
    ("password authentication failed", "it refuses the administrator's password: has somebody changed it?"),
    ("pg_hba.conf", "it lets nobody in from this host: look at its ACL and its private network"),
    ("certificate verify failed", "its certificate is not the one the cloud has told us: who answers there?"),
    ("does not support SSL", "it offers no TLS, and nothing goes there in the clear"),
    ("permission denied", "the administrator may not connect"),
)
"""What a server says that will not become better by waiting, and what it means."""


class Failed(Exception):
    """One line for whoever waits for the step."""


def environment(directory: Path) -> dict[str, str]:
    """What psql gets; the password is in a file only we can read."""
    password = (directory / "password").read_text(encoding="utf-8").rstrip("\n")
    passfile = directory / "pgpass"
    passfile.touch(0o600)
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
    return {
        **os.environ,
        "PGPASSFILE": str(passfile),
        "PGSSLMODE": "verify-ca",
        "PGSSLROOTCERT": str(directory / "ca.pem"),
        "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        "PGAPPNAME": "berth",
        "PGOPTIONS": "-c client_min_messages=error -c statement_timeout=60s",
    }


class Server:
    """One server, asked by psql."""

    def __init__(self, directory: Path, wait: float) -> None:
        self.environment = environment(directory)
        self.deadline = time.monotonic() + wait
        self.where = f"PostgreSQL at {os.environ['PGHOST']}:{os.environ['PGPORT']}"

    def psql(self, database: str, sql: str) -> subprocess.CompletedProcess[str]:
        """``sql`` over standard input; status 2 where there was no connection."""
        return subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database],
            input=sql,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, database: str, sql: str) -> str:
        """The rows of ``sql``; waits for the server. Raises Failed."""
        told = False
        while True:
            done = self.psql(database, sql)
            if done.returncode == 0:
                return done.stdout.strip()
            said = " ".join(done.stderr.split())
            if done.returncode != 2:  # connected, and the statement was refused
                raise Failed(f"{self.where} refuses in {database}: {said}")
            for words, meaning in FINAL:
                if words in said:
                    raise Failed(f"{self.where}: {meaning} ({said})")
            if time.monotonic() > self.deadline:
                raise Failed(f"{self.where} does not answer; what is ready stays, run `up` again ({said})")
            if not told:
                print(f"==> waiting for {self.where}", flush=True)
                told = True
            time.sleep(PAUSE)


def name(word: str) -> str:
    """An identifier in SQL."""
    return '"' + word.replace('"', '""') + '"'


def text(word: str) -> str:
    """A text in SQL."""
    return "'" + word.replace("'", "''") + "'"


def extend(server: Server, database: str, extensions: Sequence[str]) -> None:
    """Extensions that are missing."""
    for extension in extensions:
        server.run(database, f"CREATE EXTENSION IF NOT EXISTS {name(extension)};")


def close(server: Server, database: str) -> None:
    """Nobody connects who was not given the right: PostgreSQL gives it to everyone by default."""
    asked = f"SELECT has_database_privilege('public', {text(database)}, 'CONNECT');"
    if server.run(database, asked) == "f":
        return
    # Who does not own the database gets a warning or an error, as the case may be: asked again instead.
    server.psql(database, f"REVOKE CONNECT, TEMPORARY ON DATABASE {name(database)} FROM PUBLIC;")
    if server.run(database, asked) != "f":
        raise Failed(
            f"{server.where} lets every user connect to {database}, and {os.environ['PGUSER']} may not "
            f"change that: REVOKE CONNECT ON DATABASE {database} FROM PUBLIC as its owner, then `up` again"
        )


def give(server: Server, database: str, owner: str) -> None:
    """The owner may connect and make tables; asked first, since the cloud may have granted it already."""
    asked = (
        f"SELECT has_database_privilege({text(owner)}, {text(database)}, 'CONNECT'),"
        f" has_schema_privilege({text(owner)}, 'public', 'CREATE');"
    )
    grants = (
        f"GRANT CONNECT, TEMPORARY ON DATABASE {name(database)} TO {name(owner)};"
        f"GRANT USAGE, CREATE ON SCHEMA public TO {name(owner)};"
    )
    if server.run(database, asked) != "t|t":
        server.psql(database, grants)
    if server.run(database, asked) != "t|t":
        raise Failed(f"{server.where}: {owner} may not make tables in {database}, and could not be given it")


def main(directory: Path) -> int:
    """All of it; every statement may be run again."""
    databases = json.loads((directory / "databases.json").read_text(encoding="utf-8"))
    server = Server(directory, float(os.environ["WAIT_SECONDS"]))
    try:
        for database, wanted in databases.items():
            extend(server, database, wanted["extensions"])
            give(server, database, wanted["owner"])  # before PUBLIC loses it: no moment without
            close(server, database)
            print(f"{database}: {wanted['owner']}, {', '.join(wanted['extensions']) or 'no extensions'}")
    except Failed as failed:
        print(failed)
        return 1
    finally:
        (directory / "pgpass").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
