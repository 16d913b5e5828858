"""What "the cloud" of this checkout holds: SQLite in ``.sandbox/inventory.db``.

Two commands at once are safe (WAL, one immediate transaction a write). The twins write; effects, ``status``
and tests read. A row is ``pending`` from before its effect runs until its outputs are stored, and carries the
process that works on it: a pending row whose process is gone is what a killed sandbox left behind.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.effects.protocol import Row
from sandbox.errors import SandboxError

SCHEMA = """
create table if not exists resources (
    token text not null, id text not null, name text not null, urn text not null, stack text not null,
    inputs text not null, outputs text not null, secrets text not null default '[]',
    state text not null, real integer not null, before text, owner text not null default '',
    created real not null, updated real not null,
    primary key (token, id));
create index if not exists resources_stack on resources (stack);
create index if not exists resources_urn on resources (urn);
create table if not exists addresses (
    scope text not null, address text not null, token text not null, id text not null, use text not null,
    primary key (scope, address));
create table if not exists faults (
    fault integer primary key, token text not null, op text not null, nth integer not null,
    kind text not null, seconds real not null,
    seen integer not null default 0, spent integer not null default 0);
create table if not exists events (
    at real not null, op text not null, token text not null, id text not null, urn text not null);
"""
VERSION = 1
COLUMNS = (
    *("token", "id", "name", "urn", "stack", "inputs", "outputs"),
    *("secrets", "state", "real", "before", "owner", "created", "updated"),
)
PUT = (
    f"insert into resources ({', '.join(COLUMNS)}) values ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    " on conflict (token, id) do update set "
    + ", ".join(f"{name}=excluded.{name}" for name in COLUMNS if name not in ("token", "id", "created"))
)


@dataclass(frozen=True, kw_only=True)
class Record(Row):
    """A row with what only the sandbox needs.

    ``secrets`` names the properties whose value is secret; ``before`` is what an update under way started
    from ({"inputs", "outputs", "secrets"}). ``state`` is ready, pending (created or updated) or deleting.
    """

    urn: str = ""
    stack: str = ""
    real: bool = False
    before: Mapping[str, Any] | None = None
    secrets: Sequence[str] = ()
    owner: str = ""
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Makes the ``nth`` (from 1) ``op`` on ``token`` (a glob) go wrong once; ``kind`` as in KINDS."""

    KINDS = ("fail", "no-capacity", "rate-limit", "after-commit", "slow")
    OPS = ("create", "update", "delete", "read")

    fault: int = 0
    token: str = "*"  # noqa: S105
    op: str = "create"
    nth: int = 1
    kind: str = "fail"
    seconds: float = 5.0
    seen: int = 0
    spent: bool = False


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a resource; ``at`` is seconds since the epoch."""

    at: float
    op: str
    token: str
    id: str
    urn: str


def process(pid: int | None = None) -> str:
    """``pid:start`` of a living process (default: this one), "" of a dead one. Survives reuse of a pid."""
    pid = pid or os.getpid()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:  # no /proc (macOS): the pid alone has to do
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return f"{pid}:"
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else f"{pid}:{fields[19]}"


class Store:
    """The inventory of one checkout; safe to share between threads. Implements ``protocol.Inventory``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._owner = process()
        new = not path.exists()
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        if new:
            path.chmod(0o600)  # it holds secrets in the clear, like a cloud's own database would
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        found = self._db.execute("pragma user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise SandboxError(f"{path} is of another version of berth; `python -m sandbox reset`, then `up`")
        if found == 0:
            with self._write():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"pragma user_version={VERSION}")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Read and write as one step, against other threads and processes (e.g. to choose an address)."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            with self._write():
                yield

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self.exclusive():
            yield self._db

    def _rows(self, where: str, values: Sequence[Any] = ()) -> list[Record]:
        with self._lock:
            found = self._db.execute(f"select * from resources {where}", values).fetchall()  # noqa: S608
        return [
            Record(
                id=row["id"],
                token=row["token"],
                name=row["name"],
                inputs=json.loads(row["inputs"]),
                outputs=json.loads(row["outputs"]),
                state=row["state"],
                urn=row["urn"],
                stack=row["stack"],
                real=bool(row["real"]),
                before=json.loads(row["before"]) if row["before"] else None,
                secrets=json.loads(row["secrets"]),
                owner=row["owner"],
                created=row["created"],
                updated=row["updated"],
            )
            for row in found
        ]

    # ------------------------------------------------------------ resources

    def get(self, token: str, id: str) -> Record | None:
        """The resource, or None; one that is being deleted is gone already."""
        found = self.held(token, id)
        return None if found is None or found.state == "deleting" else found

    def all(self, token: str) -> list[Record]:
        """Every resource of one type, oldest first, without what is being deleted."""
        return self._rows("where token=? and state!='deleting' order by created, id", (token,))

    def held(self, token: str, id: str) -> Record | None:
        """The row, whatever its state."""
        return next(iter(self._rows("where token=? and id=?", (token, id))), None)

    def every(self, stack: str | None = None) -> list[Record]:
        """All resources (of one stack), oldest first."""
        if stack is None:
            return self._rows("order by created, id")
        return self._rows("where stack=? order by created, id", (stack,))

    def by_urn(self, urn: str) -> list[Record]:
        return self._rows("where urn=? order by created", (urn,))

    def abandoned(self) -> list[Record]:
        """Rows in the middle of something, whose process is gone."""
        return [row for row in self._rows("where state!='ready'") if process(_pid(row.owner)) != row.owner]

    def real(self, stack: str) -> bool | None:
        """Whether this stack's hosts are real; None while it has no resource."""
        with self._lock:
            found = self._db.execute("select real from resources where stack=? limit 1", (stack,)).fetchone()
        return None if found is None else bool(found["real"])

    def put(self, row: Record, event: str | None = None) -> None:
        """Insert or replace; a pending row is marked as this process's. ``event`` is logged with it."""
        now = time.time()
        with self._change() as db:
            db.execute(
                PUT,
                (
                    row.token, row.id, row.name, row.urn, row.stack, _dump(row.inputs), _dump(row.outputs),
                    _dump(list(row.secrets)), row.state, row.real, _dump(row.before) if row.before else None,
                    "" if row.state == "ready" else self._owner, row.created or now, now,
                ),
            )  # fmt: skip
            if event:
                self.log(event, row.token, row.id, row.urn)

    def remove(self, token: str, id: str, event: str | None = "deleted") -> None:
        """Forget a resource; removing what is not there is no error."""
        with self._change() as db:
            found = db.execute("select urn from resources where token=? and id=?", (token, id)).fetchone()
            if found is None:
                return
            db.execute("delete from resources where token=? and id=?", (token, id))
            db.execute("delete from addresses where token=? and id=?", (token, id))
            if event:
                self.log(event, token, id, found["urn"])

    # ------------------------------------------------------------ addresses

    def address(
        self,
        scope: str,
        cidr: str,
        token: str,
        id: str,
        use: str = "",
        wanted: str | None = None,
        skip: int = 2,
    ) -> str | None:
        """The address in ``scope`` this resource holds for ``use``, given now if it holds none.

        ``wanted`` asks for one in particular. The first ``skip`` addresses of the range and its last are
        never given. None: the range is full, or ``wanted`` is taken. Freed when the resource is removed.
        """
        with self._change() as db:
            held = db.execute(
                "select address from addresses where scope=? and token=? and id=? and use=?",
                (scope, token, id, use),
            ).fetchone()
            if held is not None and wanted in (None, held["address"]):
                return str(held["address"])
            network = ipaddress.ip_network(cidr, strict=False)
            taken = {
                row["address"] for row in db.execute("select address from addresses where scope=?", (scope,))
            }
            last = int(network.broadcast_address)
            free = (
                text
                for number in range(int(network.network_address) + skip, last)
                if (text := str(ipaddress.ip_address(number))) not in taken
            )
            chosen = next(free, None) if wanted is None else None if wanted in taken else wanted
            if chosen is None:
                return None
            if held is not None:
                db.execute("delete from addresses where scope=? and address=?", (scope, held["address"]))
            db.execute("insert into addresses values (?,?,?,?,?)", (scope, chosen, token, id, use))
            return chosen

    def holders(self, scope: str) -> list[tuple[str, str, str]]:
        """(address, token, id) of every address given in a scope."""
        with self._lock:
            found = self._db.execute("select * from addresses where scope=?", (scope,)).fetchall()
        return [(row["address"], row["token"], row["id"]) for row in found]

    # ------------------------------------------------------------ faults and events

    def add_fault(self, fault: Fault) -> int:
        """Order a fault; its number."""
        with self._change() as db:
            done = db.execute(
                "insert into faults (token, op, nth, kind, seconds) values (?,?,?,?,?)",
                (fault.token, fault.op, fault.nth, fault.kind, fault.seconds),
            )
        return int(done.lastrowid or 0)

    def faults(self) -> list[Fault]:
        with self._lock:
            found = self._db.execute("select * from faults order by fault").fetchall()
        return [Fault(**{**dict(row), "spent": bool(row["spent"])}) for row in found]

    def clear_faults(self) -> int:
        """Forget all; how many there were."""
        with self._change() as db:
            return db.execute("delete from faults").rowcount

    def strike(self, token: str, op: str) -> Fault | None:
        """Count this call; the fault that hits it, if one does."""
        with self._lock:  # the usual case costs one read
            if not self._db.execute("select 1 from faults where spent=0 limit 1").fetchone():
                return None
        hit: Fault | None = None
        with self._change() as db:
            for fault in self.faults():
                if fault.spent or fault.op != op or not _glob(fault.token, token):
                    continue
                seen = fault.seen + 1
                spent = seen >= fault.nth and hit is None
                db.execute("update faults set seen=?, spent=? where fault=?", (seen, spent, fault.fault))
                if spent:
                    hit = fault
        return hit

    def log(self, op: str, token: str, id: str, urn: str) -> None:
        with self._change() as db:
            db.execute("insert into events values (?,?,?,?,?)", (time.time(), op, token, id, urn))

    def events(self, limit: int = 1000) -> list[Event]:
        """The newest, oldest first."""
        with self._lock:
            found = self._db.execute("select * from events order by rowid desc limit ?", (limit,)).fetchall()
        return [Event(**dict(row)) for row in reversed(found)]


def _dump(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _pid(owner: str) -> int:
    return int(owner.partition(":")[0] or 0) or -1


def _glob(pattern: str, token: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(token, pattern) or fnmatchcase(token.rpartition(":")[2], pattern)


def open_store(state: Path) -> Store:
    """The inventory in a ``.sandbox`` directory."""
    return Store(state / "inventory.db")


__all__ = ["Event", "Fault", "Record", "Store", "open_store", "process"]
