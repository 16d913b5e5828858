"""Scaleway's managed PostgreSQL: one real server an instance, TLS only, on its private network only.

As at Scaleway: the superuser ``_rdb_superadmin`` is the provider's and owns the databases; the user made with
the instance, and others with ``is_admin``, may create databases and roles and no more; nobody may connect to
a database without a privilege on it, and a privilege covers what exists when it is set. What each allows is
not documented to the letter; here `readonly` reads, `readwrite` also changes rows, and `all` also creates
objects. Backups, snapshots and read replicas are only recorded.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sandbox import process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.hosts import desired as want
from sandbox.hosts import effects as hosts
from sandbox.services import private, roots
from sandbox.services.layout import Layout
from sandbox.services.private import Place

KIND = "postgres"
INSTANCE = want.POSTGRES
ACL = "scaleway:databases/acl:Acl"
DATABASE = "scaleway:databases/database:Database"
USER = "scaleway:databases/user:User"
PRIVILEGE = "scaleway:databases/privilege:Privilege"

TREES = {"PostgreSQL-17": roots.POSTGRES}
BINARIES = "/usr/lib/postgresql/17/bin"
# Both made by root/postgres.sh.
SUPERUSER = "_rdb_superadmin"
FIRST = "rdb"  # the database every instance has
# Scaleway's numbers have no units: memory is in megabytes (its own for a DB-DEV-S: work_mem 4,
# maintenance_work_mem 150, effective_cache_size 1300, max_connections 100, max_parallel_workers 0).
MEGABYTES = ("work_mem", "maintenance_work_mem", "autovacuum_work_mem", "effective_cache_size")
OURS = (
    r"listen_addresses|port|unix_socket_.*|ssl.*|.*_file|.*_directory|.*_command|.*_libraries|password_encryption",
    r"archive_.*|primary_.*|recovery_.*|wal_level|max_wal_senders|shared_buffers|logging_collector|log_destination",
)
MOST = {"max_connections": "100", "max_parallel_workers": "0", "max_parallel_workers_per_gather": "0"}
HBA = f"""\
local all {SUPERUSER} peer map=sandbox
hostssl all {SUPERUSER} 0.0.0.0/0 reject
hostssl all all 0.0.0.0/0 scram-sha-256
"""
IDENT = f"sandbox postgres {SUPERUSER}\n"


def ensure(root: Path, world: World) -> None:
    """Have the servers of all instances that are made up, as they should be."""
    private.ensure(root, world, KIND, INSTANCE, _up, halt)


def stop(root: Path) -> None:
    """End all servers without delay: what they have committed is on disk."""
    for place in private.places(Layout(root), KIND):
        halt(place)


def halt(place: Place) -> None:
    """End the server at once, and what a killed one has left: children, memory the kernel keeps for it."""
    place.halt("postgres", signal.SIGQUIT)
    lock = place.state / "data" / "postmaster.pid"
    lines = lock.read_text().splitlines() if lock.exists() else []
    if len(lines) > 6 and lines[6].split()[1:]:
        subprocess.run(["ipcrm", "-m", lines[6].split()[1]], capture_output=True, check=False)
        lock.unlink()


# ---------------------------------------------------------------- the server


class Server:
    """The server of one instance; the caller holds the lock of its place."""

    def __init__(self, place: Place, row: Row, log: Callable[[str], None]) -> None:
        engine = str(row.inputs.get("engine") or row.outputs.get("engine"))
        if engine not in TREES:
            raise EffectError(f"the sandbox cannot run {engine}; it runs {', '.join(TREES)}")
        self.place, self.row = place, row
        self.room = roots.room(TREES[engine], "postgres", place.state, place.run, log)

    @property
    def port(self) -> int:
        return int((self.row.outputs.get("privateNetwork") or {}).get("port") or 5432)

    def make(self) -> None:
        """A cluster with a database `rdb` that nobody may enter, unless there is one."""
        if not self.place.made.exists():
            empty = self.room.tree / "var/lib/postgresql/cluster"
            subprocess.run(["cp", "-a", str(empty), str(self.place.state / "data")], check=True)

    def up(self, addresses: list[str]) -> str:
        """Have it running for these addresses; PEM of its certificate."""
        files = self.room.directory(self.place.state / "conf")
        hostname = str((self.row.outputs.get("privateNetwork") or {}).get("hostname") or "")
        names = [hostname] if hostname else []
        pem = private.certified(files, want.bare(self.row.id), addresses, names, self.room.write)
        texts = {"postgresql.conf": self.configuration(), "pg_hba.conf": HBA, "pg_ident.conf": IDENT}
        for name, text in texts.items():
            if not (files / name).exists() or (files / name).read_text() != text:
                if name == "postgresql.conf":
                    self.check(files / "wanted.conf", text)
                self.room.write(files / name, text)
        service = process.Service(
            name=self.place.name,
            command=self.room.inside(
                f"{BINARIES}/postgres", "-D", "/srv/data", "-c", "config_file=/srv/conf/postgresql.conf"
            ),
            ready=self.answers,
            settings="\0".join([*texts.values(), pem]),
            halt=signal.SIGINT,  # does not wait for clients
            # Nothing of this instance runs when one is started: a lock is what a killed one has left.
            sockets=[
                self.place.state / "data" / "postmaster.pid",
                self.place.run / f".s.PGSQL.{self.port}",
                self.place.run / f".s.PGSQL.{self.port}.lock",
            ],
            namespace=self.place.namespace,
            patience=60,  # one that was killed reads its log first
        )
        self.place.serve(service, "postgres")
        return pem

    def check(self, path: Path, text: str) -> None:
        """Whether the server takes a configuration, asked without touching one that runs."""
        self.room.write(path, text)
        done = self.room.call(
            f"{BINARIES}/postgres",
            "-D",
            "/srv/data",
            "-c",
            f"config_file=/srv/conf/{path.name}",
            "-C",
            "port",
        )
        path.unlink()
        if done.returncode:
            said = [line.partition("LOG:")[2].strip() for line in done.stderr.splitlines() if "LOG:" in line]
            raise EffectError(f"invalid argument(s): settings: {'; '.join(said) or done.stderr.strip()}")

    def configuration(self) -> str:
        """Text of postgresql.conf."""
        asked = private.settings(self.row.inputs.get("settings"), OURS, "PostgreSQL")
        values = {
            "listen_addresses": "0.0.0.0",  # noqa: S104 - of its own network namespace
            "port": str(self.port),
            "unix_socket_directories": "/run",
            "hba_file": "/srv/conf/pg_hba.conf",
            "ident_file": "/srv/conf/pg_ident.conf",
            "ssl": "on",
            "ssl_cert_file": "/srv/conf/server.crt",
            "ssl_key_file": "/srv/conf/server.key",
            "password_encryption": "scram-sha-256",
            "shared_preload_libraries": "pg_stat_statements",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "min_wal_size": "32MB",
            "max_wal_size": "256MB",
            **MOST,
        }
        for name, value in asked.items():
            values[name] = f"{value}MB" if name in MEGABYTES and value.isdigit() else value
        return "".join(f"{name} = {literal(value)}\n" for name, value in values.items())

    def answers(self) -> bool:
        """What `pg_ctl` looks at: the server says in its lock file that it serves."""
        try:
            lines = (self.place.state / "data" / "postmaster.pid").read_text().splitlines()
            alive = Path(f"/proc/{int(lines[0])}/exe").readlink().name == "postgres"
        except (OSError, ValueError, IndexError):
            return False
        return alive and len(lines) > 7 and lines[7].strip() == "ready"

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements as the provider does, over the server's own socket; their rows, a line each."""
        quiet = "set log_min_error_statement = panic;\n"  # a statement may hold a password's digest
        done = self.room.call(
            f"{BINARIES}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-",
            "-h", "/run", "-p", str(self.port), "-U", SUPERUSER, "-d", database,
            text=quiet + text,
        )  # fmt: skip
        if done.returncode:
            raise EffectError(f"PostgreSQL of {self.row.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def has(self, kind: str, name: str) -> bool:
        """Whether there is such a ``role`` or ``database``."""
        table, column = {"role": ("pg_roles", "rolname"), "database": ("pg_database", "datname")}[kind]
        return bool(self.sql(f"select 1 from {table} where {column} = {literal(name)}"))  # noqa: S608

    # ------------------------------------------------------------ users, databases, privileges

    def role(self, name: str, secret: str, admin: bool) -> None:
        """Have a user with this password and these rights."""
        who = identifier(name)
        rights = "createdb createrole" if admin else "nocreatedb nocreaterole"
        verb = "alter" if self.has("role", name) else "create"
        self.sql(f"{verb} role {who} login nosuperuser {rights} password {literal(verifier(secret))};")

    def database(self, name: str) -> None:
        """Have a database, owned by the provider and open to nobody."""
        if not self.has("database", name):
            where = identifier(name)
            self.sql(f"create database {where};\nrevoke all on database {where} from public;")

    def databases(self) -> list[str]:
        return self.sql("select datname from pg_database where datallowconn order by 1").splitlines()

    def grant(self, database: str, user: str, permission: str) -> None:
        """Exactly this permission, on what is there now."""
        schemas = self.sql(
            "select quote_ident(nspname) from pg_namespace where nspname !~ '^pg_' and nspname <>"
            " 'information_schema' order by 1",
            database,
        ).splitlines()
        self.sql("\n".join(privileges(database, user, permission, schemas)), database)

    def forget(self, user: str) -> None:
        """Remove a user; what they made stays, and is the provider's."""
        if not self.has("role", user):
            return
        who = identifier(user)
        self.sql(
            f"alter role {who} nologin;\n"
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = {literal(user)};"
        )
        for database in self.databases():
            self.sql(f"reassign owned by {who} to {identifier(SUPERUSER)};\ndrop owned by {who};", database)
        self.sql(f"drop role {who};")


def privileges(database: str, user: str, permission: str, schemas: Iterable[str]) -> list[str]:
    """Statements for one permission in one database; ``schemas`` are quoted."""
    who, where, places = identifier(user), identifier(database), ", ".join(schemas)
    kinds = ("tables", "sequences", "functions")
    found = [f"revoke all on database {where} from {who};"]
    if places:
        found += [f"revoke all on all {kind} in schema {places} from {who};" for kind in kinds]
        found.append(f"revoke all on schema {places} from {who};")
    rows = {"readonly": "select", "readwrite": "select, insert, update, delete", "all": "all"}
    counters = {"readonly": "select", "readwrite": "usage, select, update", "all": "all"}
    if permission in rows:
        everything = permission == "all"
        found.append(f"grant {'all' if everything else 'connect, temporary'} on database {where} to {who};")
        if places:
            found.append(f"grant {'all' if everything else 'usage'} on schema {places} to {who};")
            found.append(f"grant {rows[permission]} on all tables in schema {places} to {who};")
            found.append(f"grant {counters[permission]} on all sequences in schema {places} to {who};")
            found.append(f"grant execute on all functions in schema {places} to {who};")
    elif permission != "none":
        raise EffectError(f"invalid argument(s): permission {permission!r} cannot be set")
    return found


def verifier(secret: str, salt: bytes | None = None) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that it never sees the password itself."""
    salt, rounds = salt or os.urandom(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, rounds)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, client64, server64 = (base64.b64encode(part).decode() for part in (salt, client, server))
    return f"SCRAM-SHA-256${rounds}:{salt64}${client64}:{server64}"


def identifier(text: str) -> str:
    """A name in SQL."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A value in SQL and in postgresql.conf."""
    return "'" + text.replace("'", "''") + "'"


# ---------------------------------------------------------------- effects


def _place(world: World, id: str) -> Place:
    return Place(Layout(hosts.checkout(world)), KIND, want.key(id))


def _sources(world: World, id: str, put: Row | None = None, drop: Row | None = None) -> list[str] | None:
    """Who may connect, by its access list; without one everybody on the network may."""
    for row in want.rows(world.inventory, ACL, put, drop):
        if want.bare(row.inputs.get("instanceId")) == want.bare(id):
            return [str(rule["ip"]) for rule in row.inputs.get("aclRules") or ()]
    return None


def _up(place: Place, row: Row, world: World) -> None:
    with hosts.worded():
        server = Server(place, row, hosts.log(world))
        server.up(private.addresses(private.station(world, row, "databases")))
        private.close(place, server.port, _sources(world, row.id))


class Instance(private.Instance):
    """The server, with the user made with it."""

    place, up, halt = staticmethod(_place), staticmethod(_up), staticmethod(halt)

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        if row.inputs.get("snapshotId"):
            raise EffectError("the sandbox keeps no snapshots, so no instance can be made from one")
        if row.outputs.get("loadBalancer"):
            raise EffectError("the sandbox runs databases on private networks only: leave out load_balancer")
        place, log = _place(world, row.id), hosts.log(world)
        with hosts.worded(), place.locked():
            found = private.station(world, row, "databases")
            if not place.made.exists():
                halt(place)
                place.destroy()  # half an instance that a kill has left
            server = Server(place, row, log)
            server.make()
            pem = server.up(private.addresses(found))
            private.close(place, server.port, _sources(world, row.id))
            admin = str(row.inputs.get("userName") or "")
            if admin:
                server.role(admin, private.password(row), admin=True)
                server.grant(FIRST, admin, "all")
            private.note(place, {"id": row.id})
        return {"certificate": pem}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        if old.outputs.get("engine") != new.outputs.get("engine"):
            raise EffectError("the sandbox does not upgrade databases to another version of their engine")
        return super().update(world, old, new)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        place = _place(world, row.id)
        if not place.made.exists():
            return None
        return {"certificate": (place.state / "conf" / "server.crt").read_text()}


class Part:
    """Something inside an instance."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        return self._with(world, row, lambda server: self.put(server, row))

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        def change(server: Server) -> None:
            if self.name(old) != self.name(new):
                self.drop(server, old)
            self.put(server, new)

        return self._with(world, new, change)

    def delete(self, world: World, row: Row) -> None:
        if _place(world, str(row.inputs["instanceId"])).made.exists():  # else it went with its instance
            self._with(world, row, lambda server: self.drop(server, row))

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        if not _place(world, str(row.inputs["instanceId"])).made.exists():
            return None
        there: list[bool] = []
        self._with(world, row, lambda server: there.append(self.there(server, row)))
        return {} if there[0] else None

    def _with(self, world: World, row: Row, act: Callable[[Server], None]) -> Mapping[str, Any]:
        """Act on the server, which is brought up if somebody has killed it."""
        id = want.bare(str(row.inputs["instanceId"]))
        instance = next(
            (one for one in want.rows(world.inventory, INSTANCE) if want.bare(one.id) == id), None
        )
        place = _place(world, id)
        if instance is None or not place.made.exists():
            raise EffectError(f"scaleway-sdk-go: resource instance with ID {id} is not found")
        with hosts.worded(), place.locked():
            if process.running(place.name, place.layout.run) is None:
                _up(place, instance, world)
            act(Server(place, instance, hosts.log(world)))
        return {}

    def name(self, row: Row) -> tuple[str, str]:
        """What a change of it makes another thing."""
        return "", ""

    def put(self, server: Server, row: Row) -> None:
        raise NotImplementedError

    def drop(self, server: Server, row: Row) -> None:
        raise NotImplementedError

    def there(self, server: Server, row: Row) -> bool:
        raise NotImplementedError


def _name(row: Row) -> str:
    return str(row.outputs.get("name") or row.inputs.get("name"))


class Database(Part):
    def put(self, server: Server, row: Row) -> None:
        server.database(_name(row))

    def drop(self, server: Server, row: Row) -> None:
        server.sql(f"drop database if exists {identifier(_name(row))} with (force);")

    def there(self, server: Server, row: Row) -> bool:
        return server.has("database", _name(row))


class User(Part):
    def put(self, server: Server, row: Row) -> None:
        server.role(_name(row), private.password(row), admin=bool(row.inputs.get("isAdmin")))

    def drop(self, server: Server, row: Row) -> None:
        server.forget(_name(row))

    def there(self, server: Server, row: Row) -> bool:
        return server.has("role", _name(row))


class Privilege(Part):
    def name(self, row: Row) -> tuple[str, str]:
        return str(row.inputs["databaseName"]), str(row.inputs["userName"])

    def put(self, server: Server, row: Row) -> None:
        server.grant(*self.name(row), str(row.inputs["permission"]))

    def drop(self, server: Server, row: Row) -> None:
        if self.there(server, row):
            server.grant(*self.name(row), "none")

    def there(self, server: Server, row: Row) -> bool:
        database, user = self.name(row)
        return server.has("database", database) and server.has("role", user)


class Acl:
    """Who may connect: filtered before the server."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        self._close(world, row, put=row)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        self._close(world, row, drop=row)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {} if _place(world, str(row.inputs["instanceId"])).made.exists() else None

    def _close(self, world: World, row: Row, put: Row | None = None, drop: Row | None = None) -> None:
        id = want.bare(str(row.inputs["instanceId"]))
        place = _place(world, id)
        instance = next(
            (one for one in want.rows(world.inventory, INSTANCE) if want.bare(one.id) == id), None
        )
        if instance is None or not place.made.exists():
            return
        with hosts.worded(), place.locked():
            server = Server(place, instance, hosts.log(world))
            private.close(place, server.port, _sources(world, id, put, drop))


EFFECTS: dict[str, Effect] = {
    INSTANCE: Instance(),
    ACL: Acl(),
    DATABASE: Database(),
    USER: User(),
    PRIVILEGE: Privilege(),
}
