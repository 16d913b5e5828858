"""Receives one step on a host and runs it. Standard library only (Python 3.11), runs as root.

The file lives twice. In the SSH session :func:`take` gets the step as one JSON document (it came over
standard input, never in argv), waits for its turn, and starts the work as a transient systemd unit. In that
unit :func:`work` runs the script. A lost connection therefore ends only the watching: the next call finds the
unit and waits for it.

Standard output carries nothing but the step's facts (one JSON object); progress and failures go to standard
error. Exit status: 0 done, 1 the step failed or was not started, 75 the host is held by another step.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

TAIL = 30  # lines of the log shown when a step fails
LINE = 2000  # longest line shown; a longer one could stall the reader at the other end
POLL = 0.1  # seconds between looks at the running step
PROGRESS = "==> "
HELD = 75


class Held(Exception):
    """Another step has the host for longer than we may wait; the message names it."""


def masked(line: str, secrets: list[str]) -> str:
    """``line`` without any of ``secrets``; the longest go first, since one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "[secret]")
    return line


def say(text: str) -> None:
    """Progress and failures go to standard error: standard output is for the facts."""
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds since the epoch as a person reads them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.touch(mode)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None when there is no such file."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


class Places:
    """Where things are; ``root`` is another directory than / only in tests."""

    def __init__(self, root: Path, step: str, lock: str) -> None:
        self.root = root
        self.run = root / "run/berth"  # tmpfs: secrets never reach a disk
        self.step = self.run / "steps" / step
        self.result = self.run / "results" / f"{step}.json"
        self.lock = self.run / "locks" / lock
        self.holder = self.run / "locks" / f"{lock}.json"
        self.log = root / "var/log/berth" / f"{step}.log"
        self.unit = f"berth-{step}.service"


# ------------------------------------------------------------------------------------ in the SSH session


def settle(root: Path, limit: float) -> None:
    """Wait until cloud-init has ended: until then packages, users and keys may still change under us.

    A degraded end is only noted. All we asked of cloud-init is the user, the keys and the host key, and the
    login that brought us here has proved those.
    """
    result = root / "run/cloud-init/result.json"
    if result.exists() or (root / "run/cloud-init/disabled").exists() or not shutil.which("cloud-init"):
        return
    say(f"{PROGRESS}waiting for cloud-init")
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["cloud-init", "status", "--wait"], capture_output=True, timeout=limit, check=False)
    for error in ((read(result) or {}).get("v1") or {}).get("errors") or []:
        say(f"{PROGRESS}cloud-init noted: {error}")


def active(unit: str) -> bool:
    """Whether the unit still runs, or is about to."""
    shown = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
    return shown.stdout.strip() in ("active", "activating", "deactivating", "reloading")


def held_by(places: Places) -> str:
    """Who has the lock, in words."""
    holder = read(places.holder)
    if holder is None:
        return "another call that is about to start"
    return f"step {holder['step']!r} (unit {holder['unit']}, since {clock(holder['since'])})"


@contextlib.contextmanager
def turn(places: Places, wait: float) -> Iterator[None]:
    """Hold the host's lock. Raises Held, with the holder's name, when not ours after ``wait`` seconds."""
    places.lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    told = False
    with places.lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Held(held_by(places)) from None
                if not told:
                    say(f"{PROGRESS}waiting for {held_by(places)}")
                    told = True
                time.sleep(POLL)
        yield


def lay_out(places: Places, document: dict[str, Any], digest: str) -> None:
    """Everything the unit needs, in a directory only root can enter."""
    shutil.rmtree(places.step, ignore_errors=True)
    write(places.step / "receive.py", document["receiver"])
    write(places.step / "script", document["script"])
    (places.step / "files").mkdir()
    for name, content in document["files"].items():
        write(places.step / "files" / name, content)
    keep = ("step", "lock", "timeout", "environment", "mask")
    work_order = {name: document[name] for name in keep} | {"digest": digest, "root": str(places.root)}
    write(places.step / "work.json", json.dumps(work_order))


def start(places: Places, document: dict[str, Any], digest: str) -> int:
    """Start the unit; returns where its part of the log begins."""
    lay_out(places, document, digest)
    places.result.unlink(missing_ok=True)
    places.log.parent.mkdir(parents=True, exist_ok=True)
    offset = places.log.stat().st_size if places.log.exists() else 0
    holder = {
        "step": document["step"],
        "unit": places.unit,
        "digest": digest,
        "offset": offset,
        "since": time.time(),
    }
    write(places.holder, json.dumps(holder))
    command = ["systemd-run", "--quiet", "--no-block", "--collect", f"--unit={places.unit}"]
    # work() keeps the time itself and can say so; systemd's limit is for the case that it cannot.
    command += [f"--property=RuntimeMaxSec={document['timeout'] + 30}", "--property=TimeoutStopSec=15"]
    command += [sys.executable, str(places.step / "receive.py"), str(places.step)]
    begun = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if begun.returncode:
        shutil.rmtree(places.step)
        refused = f"could not be started by systemd: {begun.stderr.strip()}"
        result = {"why": refused, "tail": [], "digest": digest, "finished": time.time()}
        write(places.result, json.dumps(result))
    return offset


def follow(places: Places, offset: int) -> dict[str, Any]:
    """Show the running unit's progress until it has ended; returns its result."""
    looks = 0
    with places.log.open("ab+") as log:
        log.seek(offset)
        rest = b""
        while True:
            result = read(places.result)
            *lines, rest = (rest + log.read()).split(b"\n")
            for line in lines:
                if line.startswith(PROGRESS.encode()):
                    say(line.decode(errors="replace")[:LINE])
            if result is not None:
                return result
            looks += 1
            if looks % 20 == 0 and not active(places.unit):
                return read(places.result) or killed(places, offset)
            time.sleep(POLL)


def killed(places: Places, offset: int) -> dict[str, Any]:
    """The result of a unit that could not write one: killed by hand, by lack of memory, or by a reboot."""
    with places.log.open("rb") as log:
        log.seek(offset)
        lines = log.read().decode(errors="replace").splitlines()
    return {"why": "was killed before it could end (out of memory, or by hand)", "tail": lines[-TAIL:]}


def report(places: Places, document: dict[str, Any], result: dict[str, Any]) -> int:
    """Facts or failure, to whoever called; returns the exit status."""
    if not result["why"]:
        print(masked(json.dumps(result["facts"], sort_keys=True), document["mask"]), flush=True)
        return 0
    tail = [masked(line, document["mask"])[:LINE] for line in result["tail"]]
    say(f"Step {document['step']!r} failed on host {document['host']!r}: it {result['why']}.")
    if tail:
        say(f"The last {len(tail)} lines of its log:")
    for line in tail:
        say("    " + line)
    say(f"The whole log is {places.log} on that host.")
    return 1


def take(document: dict[str, Any], root: Path = Path("/")) -> int:
    """Run the step of ``document`` (see components/remote/runner.py for its keys); returns an exit status."""
    arrived = time.time()
    os.umask(0o077)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    places = Places(root, document["step"], document["lock"])
    places.run.mkdir(parents=True, exist_ok=True)
    settle(root, document["wait"])
    try:
        with turn(places, document["wait"]):
            holder = read(places.holder)
            if holder and active(holder["unit"]):  # its caller lost the connection, the work went on
                other = Places(root, holder["step"], document["lock"])
                say(f"{PROGRESS}still at work from before: {held_by(places)}")
                follow(other, holder["offset"])
            result = read(places.result)
            if result is None or result["digest"] != digest or result["finished"] < arrived:
                result = follow(places, start(places, document, digest))
    except Held as holder_name:
        say(f"Step {document['step']!r} was not started on host {document['host']!r}: held by {holder_name}.")
        return HELD
    return report(places, document, result)


# ------------------------------------------------------------------------------------------ in the unit


def stopped(*_: object) -> None:
    """Handler of SIGTERM: lets work() end in its own words."""
    raise InterruptedError


def copy_out(output: IO[bytes], log: IO[str], tail: deque[str], secrets: list[str]) -> None:
    """Copy a script's output to the log line by line, without the secrets."""
    for raw in output:
        line = masked(raw.decode(errors="replace").rstrip("\n"), secrets)
        log.write(line + "\n")
        log.flush()
        tail.append(line)


def work(directory: Path) -> int:
    """Run the script of ``directory``; its output goes to the log, line by line, without the secrets."""
    signal.signal(signal.SIGTERM, stopped)
    order = json.loads((directory / "work.json").read_text(encoding="utf-8"))
    places = Places(Path(order["root"]), order["step"], order["lock"])
    facts = directory / "facts.json"
    environment = {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "BERTH_FILES": str(directory / "files"),
        "BERTH_FACTS": str(facts),
        **order["environment"],
    }
    tail: deque[str] = deque(maxlen=TAIL)
    why = ""
    with places.log.open("a", encoding="utf-8") as log:
        log.write(f"--- {clock(time.time())} step {order['step']} {order['digest'][:12]}\n")
        log.flush()
        process = subprocess.Popen(
            ["bash", str(directory / "script")],
            cwd=directory / "files",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # A thread, because a process the script left behind may keep its output open for ever.
        copier = threading.Thread(
            target=copy_out, args=(cast(IO[bytes], process.stdout), log, tail, order["mask"]), daemon=True
        )
        copier.start()
        try:
            status = process.wait(timeout=order["timeout"])
            if status:
                why = f"ended with exit status {status}" if status > 0 else f"was killed by signal {-status}"
        except subprocess.TimeoutExpired:
            why = f"was stopped after {order['timeout']} seconds, its time limit"
        except InterruptedError:
            why = "was stopped by the host (shutdown, or systemctl stop)"
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        copier.join(timeout=2)
        log.write(f"--- {clock(time.time())} {'failed: it ' + why if why else 'done'}\n")
    result = {
        "why": why,
        "tail": list(tail),
        "facts": (read(facts) or {}) if not why else {},
        "digest": order["digest"],
        "finished": time.time(),
    }
    write(places.result, json.dumps(result))
    shutil.rmtree(directory, ignore_errors=True)
    return 1 if why else 0


if __name__ == "__main__":
    step_document = globals().get("DOCUMENT")  # set by the reader in the command line (runner.READER)
    sys.exit(take(step_document) if step_document is not None else work(Path(sys.argv[1])))
