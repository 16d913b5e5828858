"""Databases: dumped from the old server, restored into the new one whole or not at all, and compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.host.host import databases, libpq

# What an archive holds beside the application's own things: made by the cloud or by `up`.
NOT_OURS = re.compile(r"^\d+; \d+ \d+ (EXTENSION|SCHEMA - public|COMMENT - (EXTENSION|SCHEMA public))")
# Text of a row has to be the same wherever it is asked for.
ALIKE = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1"
)

# Everything the user owns in `public`, so that what a release has made meanwhile is not in the way.
CLEAR = """
SET lock_timeout = '10s';
SET client_min_messages = warning;
DO $$
DECLARE thing record;
BEGIN
  FOR thing IN
    SELECT format('%I.%I', n.nspname, c.relname) AS name,
           CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                          WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND pg_get_userbyid(c.relowner) = current_user
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i'))
  LOOP
    EXECUTE format('DROP %s IF EXISTS %s CASCADE', thing.kind, thing.name);
  END LOOP;
  FOR thing IN
    SELECT p.oid::regprocedure AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND pg_get_userbyid(p.proowner) = current_user
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
  LOOP
    EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', thing.name);
  END LOOP;
  FOR thing IN
    SELECT format('%I.%I', n.nspname, t.typname) AS name FROM pg_type t
      JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd', 'r') AND pg_get_userbyid(t.typowner) = current_user
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype IN ('e', 'i'))
  LOOP
    EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', thing.name);
  END LOOP;
END $$;
"""

TABLES = """
SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e');
"""
# A sum of hashes does not depend on the order of rows, and needs no memory however large the table.
CONTENT = """
SELECT json_build_array(
  count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0)::text)
FROM {table} t;
"""
SEQUENCES = """
SELECT coalesce(json_object_agg(schemaname || '.' || sequencename, last_value), '{}') FROM pg_sequences;
"""
# Known to everybody who may connect, and never alike: a server has started once, to the microsecond.
IDENTITY = """
SELECT json_build_array(pg_postmaster_start_time(), oid)
FROM pg_database WHERE datname = current_database();
"""


class Failed(Exception):
    """Why it did not work, for the person at the terminal; holds no password."""


@dataclass(frozen=True)
class Server:
    """One database of an application, as its `.env` reaches it."""

    name: str  # production, sandbox
    variables: Mapping[str, str]

    def run(self, program: str, *words: str, **more: Any) -> subprocess.CompletedProcess[Any]:
        """A PostgreSQL program on this database. Raises Failed with what it said."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **self.variables}
        done = subprocess.run(
            [program, "--no-password", *words], env=environment, stderr=subprocess.PIPE, check=False, **more
        )
        if done.returncode:
            text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace")
            raise Failed(f"{self.name}: {program}: {text.strip()}")
        return done

    def ask(self, sql: str) -> Any:
        """The JSON value a query gives."""
        words = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-")
        return json.loads(self.run("psql", *words, input=sql, stdout=subprocess.PIPE, text=True).stdout)

    def content(self) -> dict[str, Any]:
        """Rows and content of every table, and where each sequence stands."""
        tables = {table: self.ask(CONTENT.format(table=table)) for table in self.ask(TABLES)}
        return {**tables, **{f"sequence {name}": at for name, at in self.ask(SEQUENCES).items()}}


def servers(environment: Mapping[str, str], only: str | None = None) -> list[Server]:
    """The databases of an `.env`. Raises Failed for one it does not have."""
    known = databases(environment)
    if only is not None and only not in known:
        raise Failed(f"there is no database {only!r} in this .env; it has {', '.join(known) or 'none'}")
    found = []
    for name in known if only is None else [only]:
        variables = libpq(environment, name, write=True, who="cutover")
        found.append(Server(name, {**variables, "PGOPTIONS": ALIKE}))
    return found


def move(old: Server, new: Server, directory: Path, *, replace: bool, say: Callable[[str], None]) -> None:
    """Dump ``old`` into ``directory`` and restore it into ``new``, in one transaction. Raises Failed.

    What ``new`` holds goes; rows in it are only thrown away with ``replace``.
    """
    if same(old, new):
        raise Failed(f"{new.name}: both .env files name the same database; nothing was done")
    if not replace:
        filled = [t for t in new.ask(TABLES) if "migrations" not in t and new.ask(CONTENT.format(table=t))[0]]
        if filled:
            raise Failed(
                f"{new.name}: the new database has rows in {', '.join(filled[:5])}"
                f"{' …' if len(filled) > 5 else ''}; with --replace they are thrown away"
            )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    archive = directory / f"{old.name}.dump"
    began = time.monotonic()
    archive.unlink(missing_ok=True)
    archive.touch(0o600)
    old.run("pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--file={archive}")
    megabytes, dumped = archive.stat().st_size / 1e6, time.monotonic() - began
    say(f"{old.name}: dumped in {dumped:.1f} s, {megabytes:.1f} MB")
    began = time.monotonic()
    restore(new, archive)
    say(f"{new.name}: restored in {time.monotonic() - began:.1f} s")


def restore(new: Server, archive: Path) -> None:
    """Put an archive in place of what ``new`` holds: all of it, or nothing is changed. Raises Failed."""
    listed = new.run("pg_restore", "--list", str(archive), stdout=subprocess.PIPE, text=True).stdout
    wanted = archive.with_suffix(".list")
    wanted.write_text("\n".join(line for line in listed.splitlines() if not NOT_OURS.match(line)) + "\n")
    script = archive.with_suffix(".sql")
    script.touch(0o600)
    try:
        with script.open("w") as sql:
            sql.write(CLEAR)
            sql.flush()
            words = ("--no-owner", "--no-acl", f"--use-list={wanted}", "--file=-", str(archive))
            new.run("pg_restore", *words, stdout=sql)
        words = (
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            f"--file={script}",
        )
        new.run("psql", *words, stdout=subprocess.DEVNULL)
    finally:
        script.unlink()  # it holds everything in the clear
    new.run("psql", "--no-psqlrc", "--quiet", "--command=ANALYZE", stdout=subprocess.DEVNULL)


FREEZE = """
ALTER ROLE CURRENT_USER SET default_transaction_read_only = {};
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = current_user AND pid <> pg_backend_pid();
"""


def freeze(server: Server, *, on: bool) -> int:
    """Have the application's user only read from now on, or write again; how many connections were ended."""
    # The one that does it must itself be able to write.
    writing = Server(server.name, {**server.variables, "PGOPTIONS": "-c default_transaction_read_only=off"})
    return int(writing.ask(FREEZE.format("on" if on else "off")))


def same(old: Server, new: Server) -> bool:
    """Whether both are one and the same database, by whatever name or address each is reached."""
    return bool(old.ask(IDENTITY) == new.ask(IDENTITY))


def differences(old: Server, new: Server) -> Iterator[str]:
    """What is not the same in both, table by table."""
    before, after = old.content(), new.content()
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{old.name}: {name}: {_told(before.get(name))} there, {_told(after.get(name))} here"


def rows(content: Mapping[str, Any]) -> int:
    """All rows of a database."""
    return sum(value[0] for value in content.values() if isinstance(value, list))


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{value[0]} rows ({value[1]})" if isinstance(value, list) else str(value)
