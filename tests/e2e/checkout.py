"""A fresh ``git clone`` of this repository, used as a person would: commands, output, what they leave."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import internet, paths
from sandbox.hosts import net
from sandbox.internet.layout import STRANGER

REPOSITORY = Path(__file__).resolve().parents[2]
STACK = "Pulumi.sandbox.yaml"
CGROUPS = Path("/sys/fs/cgroup")
PYTHON = str(REPOSITORY / ".venv/bin/python")


@dataclass(frozen=True)
class Done:
    """How a command ended. ``seconds`` it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    def good(self) -> Done:
        assert self.code == 0, self.text
        return self

    def bad(self) -> Done:
        assert self.code != 0, self.text
        assert "Traceback" not in self.text, self.text
        return self


class Started:
    """A command under way in a process group of its own; its output goes to a file."""

    def __init__(self, words: Sequence[str], root: Path, log: Path) -> None:
        self.log = log
        self.began = time.monotonic()
        with log.open("w") as sink:
            self.process = subprocess.Popen(
                words,
                cwd=root,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, words: str, seconds: float) -> None:
        """Wait until it has printed ``words``."""
        until(lambda: words in self.text or self.process.poll() is not None, seconds, words)
        assert words in self.text, self.text

    def below(self, program: str) -> int:
        """The pid of the program it has started, however deep."""
        found = [
            pid
            for pid in descendants(self.process.pid)
            if Path(os.fsdecode(cmdline(pid).partition(b"\0")[0])).name == program
        ]
        assert found, f"there is no {program} below {self.process.args!r}"
        return found[0]

    def end(self, seconds: float) -> Done:
        """Wait for its end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"not over after {seconds} s:\n{self.text}") from None
        return Done(code, self.text, "", time.monotonic() - self.began)


class Checkout:
    """The clone, and how its owner and others see what it runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = paths.key(root)
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(root)], check=True)
        # What bootstrapping would make anew, minutes long: the packages are the same.
        (root / ".venv").symlink_to(REPOSITORY / ".venv")
        (root / ".git/info/exclude").write_text("/.venv\n")
        self.committed = (root / STACK).read_text()

    # ------------------------------------------------------------ commands

    def run(self, *words: str, given: str | None = None, seconds: float = 240) -> Done:
        """Any command in the clone."""
        began = time.monotonic()
        with subprocess.Popen(
            words,
            cwd=self.root,
            env=environment(),
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                raise AssertionError(f"{words} not over after {seconds} s:\n{out}{err}") from None
        return Done(process.returncode, out, err, time.monotonic() - began)

    def start(self, *words: str) -> Started:
        """A command that goes on while the test does something else."""
        return Started(words, self.root, self.root.parent / f"{time.monotonic_ns()}.log")

    def make(self, target: str) -> tuple[str, ...]:
        """`make` with the Python that .venv was made with, so that it is found to be complete."""
        return ("make", target, f"PYTHON={PYTHON}")

    def sandbox(self, *words: str, **more: Any) -> Done:
        return self.run(".venv/bin/python", "-m", "sandbox", *words, **more)

    def pulumi(self, *words: str) -> Done:
        """The engine itself, on the stack `sandbox`."""
        return self.sandbox("exec", "--", "pulumi", *words, "--stack", "sandbox", "--non-interactive")

    def edit(self, *changes: tuple[str, str]) -> None:
        """Change the stack file of the clone."""
        text = (self.root / STACK).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} is not exactly once in {STACK}"
            text = text.replace(old, new)
        (self.root / STACK).write_text(text)

    # ------------------------------------------------------------ views

    def curl(self, url: str, *options: str) -> Done:
        """As a stranger; the chain is verified unless told otherwise."""
        return self.sandbox("curl", "--", "--silent", "--show-error", "--max-time", "20", *options, url)

    def page(self, url: str = "https://scell.io/") -> str:
        return self.curl(url, "--fail").good().out

    def head(self, url: str) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case)."""
        lines = self.curl(url, "--head").good().out.strip().splitlines()
        pairs = (line.partition(":") for line in lines[1:])
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def certificate(self, name: str) -> dict[str, str]:
        """``issuer`` and ``serial`` of what is served, whether or not it verifies."""
        seen = self.curl(f"https://{name}/", "--insecure", "--output", "/dev/null", "--write-out", "%{certs}")
        fields = dict(
            re.findall(r"^([A-Z][A-Za-z ]+?): *(.+)$", seen.good().out.partition("-----BEGIN")[0], re.M)
        )
        return {"issuer": fields["Issuer"], "serial": fields["Serial Number"]}

    def on_host(self, script: str, *, ok: bool = True) -> str:
        """Run by root on the host; the script goes over standard input."""
        done = self.sandbox("ssh", "scell", "sudo", "bash", "-s", given=script)
        if ok:
            done.good()
        return done.out

    def inside(self, *words: str, given: str | None = None) -> Done:
        """A command on the sandbox's internet."""
        return self.run(*net.nsenter(paths.netns(self.root), words), given=given)

    def open_ports(self, ports: Sequence[int], source: str, address: str = "") -> set[int]:
        """Which TCP ports of the host (of ``address``) answer to somebody at ``source``."""
        probe = """
import asyncio, sys
source, address, ports = sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3].split(",")]
async def knock(port, free):
    async with free:
        try:
            call = asyncio.open_connection(address, port, local_addr=(source, 0))
            _, writer = await asyncio.wait_for(call, 1.5)
        except (OSError, asyncio.TimeoutError):
            return
        writer.close()
        print(port)
async def main():
    free = asyncio.Semaphore(400)
    await asyncio.gather(*(knock(port, free) for port in ports))
asyncio.run(main())
"""
        listed = ",".join(map(str, ports))
        done = self.inside(sys.executable, "-c", probe, source, address or self.address, listed).good()
        return {int(line) for line in done.out.split()}

    @contextmanager
    def visited(self) -> Iterator[dict[str, Any]]:
        """Somebody keeps visiting meanwhile; what they saw is in the dictionary afterwards."""
        script = Path(__file__).with_name("visitor.py")
        authority = str(self.root / ".sandbox/ca/ca.pem")
        words = [*internet.inside(self.root), sys.executable, str(script), "scell.io", authority, STRANGER]
        seen: dict[str, Any] = {}
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitor:
            try:
                yield seen
                out, _ = visitor.communicate(timeout=30)
            finally:
                visitor.kill()
        seen.update(json.loads(out))

    def resources(self, *, secrets: bool = False) -> dict[str, dict[str, Any]]:
        """The engine's state by the names of the resources."""
        shown = ("--show-secrets",) if secrets else ()
        state = json.loads(self.pulumi("stack", "export", *shown).good().out)
        return {r["urn"].rpartition("::")[2]: r for r in state["deployment"]["resources"]}

    @property
    def address(self) -> str:
        return str(json.loads(self.pulumi("stack", "output", "--json").good().out)["scell"]["address"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sandbox("status", "--json").good().out)
        return found

    # ------------------------------------------------------------ what is left of it

    def traces(self) -> list[str]:
        """Everything of this checkout that still runs, is mounted or stands on this machine, in words."""
        name = paths.netns(self.root)
        found = [f"namespace {path.name}" for path in net.NETNS.glob(f"{name}*")]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line.split()[4]}" for line in mounts if str(self.root) in line or self.key in line]
        groups = (path for path, _, _ in os.walk(CGROUPS) if self.key in Path(path).name)
        found += [f"control group {path}" for path in groups]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                seen = b"".join(_read(entry / name) for name in ("cmdline", "environ", "cgroup"))
                ended = (
                    _read(entry / "stat").rpartition(b")")[2][1:2] in b"ZX"
                )  # for the machine's init to reap
                if not ended and (str(self.root).encode() in seen or self.key.encode() in seen):
                    found.append(f"process {entry.name}: {cmdline(int(entry.name))[:200]!r}")
        if paths.runtime(self.root).exists():
            found.append(f"directory {paths.runtime(self.root)}")
        return found


# ---------------------------------------------------------------- watching the machine


class Watch:
    """Looks at every command line of the machine, hosts included, and at the memory below one process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.lines: set[bytes] = set()
        self.peak = 0  # bytes of memory, shared pages counted once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        looks = 0
        while not self._over.wait(0.05):
            self.lines |= {
                _read(entry / "cmdline") for entry in Path("/proc").iterdir() if entry.name.isdigit()
            }
            if looks % 20 == 0:
                self.peak = max(self.peak, sum(map(memory, descendants(self.pid))))
            looks += 1


def environment() -> dict[str, str]:
    """The caller's, without what this test run itself has set."""
    mine = ("PYTEST_", "PULUMI_", "BERTH_", "VIRTUAL_ENV", "COLUMNS")
    return {key: value for key, value in os.environ.items() if not key.startswith(mine)} | {"TERM": "dumb"}


def until(true: Callable[[], object], seconds: float, what: str, pause: float = 0.2) -> None:
    """Wait for something, not longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


def cmdline(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline"))


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in _read(task / "children").split()
        ]
    except OSError:
        return []
    return [pid, *(below for child in children for below in descendants(child))]


def memory(pid: int) -> int:
    """Bytes of the process, shared pages counted once."""
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # just gone
        return b""
