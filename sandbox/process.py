"""Standard servers of the sandbox: started once, found again by any later command, stopped by name.

There is no daemon: a server is a process with a record ``<run>/<name>.json`` holding its pid *and* the start
time the kernel gives that pid, so a recycled number is never taken for ours, and nothing is ever signalled
that this module did not start. A server runs in the network namespace of the caller, in a named one
(``namespace``), in the machine's own (``outside``), or in a fresh one that ends with it (``own_network``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import SandboxError

# The network namespace this program was started in, held before anything enters the sandbox's (process 1's
# cannot be had everywhere): this module must be imported first, which sandbox.internet and its users do.
_machine = os.open("/proc/self/ns/net", os.O_RDONLY) if Path("/proc/self/ns/net").exists() else -1
LOG_LIMIT = 4_000_000  # bytes; a log longer than this starts anew with its server
# Nothing of the caller's environment: it may hold secrets, and a proxy would lead out of the sandbox.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# The shell ends at once and leaves the server to init: no zombie and no unread pipe in a long command.
# In a shell without job control a background child leads no group, so setsid does not fork: $! is the server.
# It writes the pid down itself, so that one started by a command that was killed meanwhile is found again.
LAUNCH = 'log=$1; pid=$2; shift 2; cd /; setsid "$@" </dev/null >>"$log" 2>&1 & echo $! >"$pid"'


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server. ``settings`` is the text of its configuration files: a change reloads or restarts it.

    ``ready`` answers whether it serves; it is asked until ``patience`` seconds are over. ``sockets`` are unix
    sockets it makes itself: what a killed predecessor left there is removed before a start. ``reload`` is the
    signal that makes it read its files again; None restarts it. ``halt`` is the one that ends it cleanly.
    ``plumb`` runs right after the start with the pid, before ``ready`` is asked.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    settings: str = ""
    reload: signal.Signals | None = None
    halt: signal.Signals = signal.SIGTERM
    sockets: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outside: bool = False
    own_network: bool = False
    namespace: Path | None = None
    plumb: Callable[[int], None] | None = None
    patience: float = 15.0

    @property
    def launch(self) -> list[str]:
        if self.outside:
            return [*outside(), *self.command]
        if self.own_network:
            return ["unshare", "--net", "--", *self.command]
        if self.namespace:
            return ["nsenter", f"--net={self.namespace}", "--", *self.command]
        return list(self.command)

    @property
    def network(self) -> int:
        if self.namespace:
            return self.namespace.stat().st_ino
        return os.fstat(_machine).st_ino if self.outside else _network()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that is alive. ``start`` is the kernel's start time of ``pid`` in clock ticks since boot."""

    name: str
    pid: int
    start: int
    network: int  # inode of the network namespace it was started from, or in which it was put
    command: str  # digest
    settings: str  # digest
    halt: int = signal.SIGTERM


@contextmanager
def lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Only one holder at a time on this machine, threads included; waits. ``path`` is created and stays.

    ``waiting`` is called once if somebody else holds it.
    """
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def using(directory: Path) -> Iterator[Callable[[], bool]]:
    """At work on a directory, beside others: nobody clears it away meanwhile.

    What it yields says whether nobody else is at work: then nobody can begin before the end; else this use is
    over, so that of several that end together the last is alone.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)

    def alone() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield alone
    finally:
        os.close(handle)


def ensure(service: Service, run: Path, logs: Path) -> Running:
    """Have ``service`` up as described: find, reload, restart or start it. Raises SandboxError with its log.

    The caller holds the lock that keeps two commands from doing this at once.
    """
    for directory in (run, logs):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = running(service.name, run)
    command, settings = _digest("\0".join(service.command)), _digest(service.settings)
    if found and (found.command, found.network) == (command, service.network):
        if found.settings == settings and service.ready():
            return found
        if found.settings != settings and service.reload:
            os.kill(found.pid, service.reload)
            found = Running(**{**vars(found), "settings": settings})
            _write(found, run)
            with suppress(SandboxError):  # one that does not take it starts anew, which says why if it cannot
                _await(service, found, logs)
                return found
    stop(service.name, run)
    for path in service.sockets:
        path.unlink(missing_ok=True)
    log = logs / f"{service.name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.unlink()
    begun = run / f"{service.name}.pid"
    subprocess.run(
        ["sh", "-c", LAUNCH, "sh", str(log), str(begun), *service.launch],
        env={**ENVIRONMENT, **service.environment},
        check=True,
    )
    pid = int(begun.read_text())
    born = _stat(pid)
    started = Running(
        name=service.name,
        pid=pid,
        start=born[1] if born else 0,
        network=service.network,
        command=command,
        settings=settings,
        halt=service.halt,
    )
    _write(started, run)
    if service.plumb:
        service.plumb(pid)
    _await(service, started, logs)
    return started


def outside() -> list[str]:
    """What to put before a command that needs the machine's own network. We must outlive its start."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_machine}", "--"]


def born_in(namespace: Path) -> bool:
    """Whether this program was itself started in that network namespace, so that there is no way out."""
    return namespace.exists() and os.fstat(_machine).st_ino == namespace.stat().st_ino


def running(name: str, run: Path) -> Running | None:
    """The server recorded under ``name`` if that very process is alive."""
    record = _read(name, run)
    return record if record and _alive(record) else None


def names(run: Path) -> list[str]:
    """Every server recorded, alive or not."""
    return sorted({path.stem for path in run.iterdir() if path.suffix in (".json", ".pid")})


def stop(name: str, run: Path, patience: float = 5.0, sign: int | None = None) -> None:
    """End what was recorded under ``name``, with all its children; no error when there is nothing.

    ``sign`` instead of the signal its :attr:`Service.halt` names.
    """
    record = _read(name, run)
    if record is None:
        return
    for sent in (sign or record.halt, signal.SIGKILL):
        deadline = time.monotonic() + patience
        members = list(_members(record))
        for pid in members:
            _signal(pid, sent)
        while members and time.monotonic() < deadline:
            time.sleep(0.02)
            members = list(_members(record))
        if not members:
            break
    for kind in ("json", "pid"):
        (run / f"{name}.{kind}").unlink(missing_ok=True)


def memory(record: Running) -> int:
    """Bytes of memory that ``record`` and its children use, shared pages counted once (PSS)."""
    total = 0
    for pid in _family(record):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log, or a word that it is empty."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        text = []
    return "\n".join(f"  {line}" for line in text[-lines:]) or "  (its log is empty)"


def _await(service: Service, started: Running, logs: Path) -> None:
    deadline = time.monotonic() + service.patience
    log = logs / f"{service.name}.log"
    while not service.ready():
        if not _alive(started):
            raise SandboxError(f"{service.name} ended at its start:\n{tail(log)}\n  whole log: {log}")
        if time.monotonic() > deadline:
            raise SandboxError(
                f"{service.name} does not answer after {service.patience:.0f} s:\n{tail(log)}\n"
                f"  whole log: {log}"
            )
        time.sleep(0.02)


def _read(name: str, run: Path) -> Running | None:
    try:
        return Running(**json.loads((run / f"{name}.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return _begun(name, run)


def _begun(name: str, run: Path) -> Running | None:
    """A server whose command was killed before it wrote the record."""
    path = run / f"{name}.pid"
    try:
        pid = int(path.read_text())
        found = _stat(pid)
        if found is None or began(pid) > path.stat().st_mtime + 1:  # the number is another's by now
            return None
    except (OSError, ValueError):
        return None
    return Running(name=name, pid=pid, start=found[1], network=0, command="", settings="")


def _write(record: Running, run: Path) -> None:
    temporary = run / f"{record.name}.json.new"
    temporary.write_text(json.dumps(vars(record)))
    temporary.replace(run / f"{record.name}.json")
    (run / f"{record.name}.pid").unlink(missing_ok=True)


def _stat(pid: int) -> tuple[int, int, str] | None:
    """Session, start time and state of a process, None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[3]), int(fields[19]), fields[0]


def began(pid: int) -> float:
    """When a process began, in seconds since the epoch. Raises OSError where the kernel does not tell.

    Not the times of its directory in /proc, which are those of the first look at it.
    """
    found = _stat(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + found[1] / os.sysconf("SC_CLK_TCK")


def _alive(record: Running) -> bool:
    found = _stat(record.pid)
    return found is not None and found[1] == record.start and found[2] not in "ZX"


def _members(record: Running) -> Iterator[int]:
    """Processes of the server's session.

    A leader that was killed leaves children (nginx workers) that hold its sockets. While they live the kernel
    gives its pid to nobody; once they are gone it may, and that process has another start time.
    """
    leader = _stat(record.pid)
    if leader is not None and leader[1] != record.start:
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found = _stat(int(entry.name))
            if found and found[0] == record.pid and found[1] >= record.start and found[2] not in "ZX":
                yield int(entry.name)


def _family(record: Running) -> set[int]:
    """Processes of the server's session, and what they started in sessions of its own (PostgreSQL does)."""
    found = set(_members(record))
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    new = list(found)
    while new:
        new = [child for pid in new for child in parents.get(pid, ()) if child not in found]
        found.update(new)
    return found


def _signal(pid: int, sign: int) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


def _network() -> int:
    # Of this thread: a thread may have entered the namespace alone.
    return Path("/proc/thread-self/ns/net").stat().st_ino


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
