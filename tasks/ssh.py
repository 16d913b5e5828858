"""One task, one SSH session: OpenSSH with the program's own key, to the host it made and no other.

The host gets one document, tasks/host/host.py in it: over standard input where the task has no terminal, so
that nothing of it is in anybody's command line or log; as an argument, which never holds a secret, where
standard input is the person's terminal.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from tasks.errors import Exit, TaskError
from tasks.stack import Operator

SOURCE = Path(__file__).parent / "host" / "host.py"
RUN = "exec(compile(d['source'],'host.py','exec'),{'__name__':'__main__','DOCUMENT':d})"
FROM_STDIN = f"import json;d=json.loads(open(0,'rb',0,closefd=False).readline());{RUN}"
"""Reads byte by byte up to the end of the line: what follows is the task's own input."""
FROM_ARGUMENT = (
    f"import base64,json,sys,zlib;d=json.loads(zlib.decompress(base64.b64decode(sys.argv[1])));{RUN}"
)
CONNECT_SECONDS = 10
FAILED = 255
"""OpenSSH's exit status for a failure of its own."""

WHYS = (
    (
        ("Host key verification failed", "IDENTIFICATION HAS CHANGED"),
        "the host at {where} cannot prove to be the one the program made",
        "was it replaced by hand? `pulumi up` makes its own. If not, somebody sits in between: do not go on",
    ),
    (
        ("Permission denied",),
        "the host at {where} does not let the program's key in",
        "`pulumi up` puts it back; `Hosts that stand` and `Who gets in` in docs/operations.md",
    ),
    (
        ("timed out", "No route to host", "Network is unreachable"),
        "{where} does not answer",
        "does your address lie in berth:admin.cidrs (docs/operations.md)? Does the instance run (the cloud's "
        "console)?",
    ),
    (
        ("Connection refused", "Connection closed", "Connection reset", "banner exchange"),
        "{where} is there but takes no SSH connection",
        "it may be booting, or has shut your address out for an hour after failed logins: try again, or from "
        "another address in berth:admin.cidrs",
    ),
)


@contextlib.contextmanager
def private(content: bytes = b"") -> Iterator[Path]:
    """A file that only this process' own user can read and that ends with this process.

    In memory where the system can (Linux); elsewhere a temporary file, removed at the end.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("berth")
        try:
            os.fchmod(number, 0o600)
            os.write(number, content)
            yield Path(f"/proc/{os.getpid()}/fd/{number}")
        finally:
            os.close(number)
        return
    with tempfile.NamedTemporaryFile() as file:  # made with mode 0600
        file.write(content)
        file.flush()
        yield Path(file.name)


class Host:
    """The host of a system, for as many tasks as wanted."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.where = f"{operator.host}:{operator.port}"

    def ask(self, task: str, **arguments: Any) -> Any:
        """The JSON a task answers with. Raises TaskError in the host's words."""
        with self._session(self._line()) as (process, log):
            out, err = process.communicate(self._sent(task, arguments))
            self._failed(process.returncode, log)
        if process.returncode:
            said = err.decode(errors="replace").strip()
            problem, _, remedy = said.partition("\n  ")
            if process.returncode != Exit.REFUSED:
                problem, remedy = f"the task failed on {self.where}: {said}", ""
            raise TaskError(problem, remedy, Exit.REFUSED)
        return json.loads(out)

    def stream(
        self, task: str, *, given: bytes | IO[bytes] = b"", stay: bool = False, **arguments: Any
    ) -> int:
        """Show a task's output as it comes; its exit status.

        ``given`` is its input. ``stay``: the task has no end of its own and lasts as long as we listen.
        """
        with self._session(self._line(), show=True) as (process, log):
            sent = self._sent(task, arguments)
            threading.Thread(target=_feed, args=(process, sent, given, stay), daemon=True).start()
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                return 130
            self._failed(code, log)
            return code

    def terminal(self, task: str, **arguments: Any) -> int:
        """A task at the person's own terminal; its exit status."""
        packed = base64.b64encode(zlib.compress(self._document(task, arguments).encode(), 9)).decode()
        command = f"sudo -n python3 -c {shlex.quote(FROM_ARGUMENT)} {packed}"
        with self._session(self._line("-t", command=command), inherit=True) as (process, log):
            while True:
                try:
                    code = process.wait()
                    break
                except KeyboardInterrupt:  # the terminal is in raw mode: ssh sends it on
                    continue
            self._failed(code, log)
            return code

    # ------------------------------------------------------------ the way there

    def _document(self, task: str, arguments: Mapping[str, Any]) -> str:
        fixed = {"task": task, "app": self.operator.app, "who": who(), "source": SOURCE.read_text("utf-8")}
        return json.dumps({**fixed, **arguments})

    def _sent(self, task: str, arguments: Mapping[str, Any]) -> bytes:
        return self._document(task, arguments).encode() + b"\n"

    def _line(self, *options: str, command: str = "") -> list[str]:
        if shutil.which("ssh") is None:
            raise TaskError("ssh is not on PATH", "install OpenSSH's client (openssh-client)", Exit.USAGE)
        settings = {
            "BatchMode": "yes",
            "CheckHostIP": "no",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": "berth",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
        }
        words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        target = f"{self.operator.user}@{self.operator.host}"
        command = command or f"sudo -n python3 -c {shlex.quote(FROM_STDIN)}"
        return ["ssh", "-F", "none", *words, "-p", str(self.operator.port), *options, target, command]

    @contextlib.contextmanager
    def _session(
        self, line: Sequence[str], *, show: bool = False, inherit: bool = False
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """(ssh, the file of what it says itself); ``show`` its output, ``inherit`` the whole terminal."""
        key = self.operator.private_key.get_secret_value().strip() + "\n"
        known = f"berth {self.operator.host_key.strip()}\n"
        with private(key.encode()) as identity, private(known.encode()) as hosts, private() as log:
            words = [
                line[0],
                "-i",
                str(identity),
                "-o",
                f"UserKnownHostsFile={hosts}",
                "-E",
                str(log),
                *line[1:],
            ]
            pipe = None if show or inherit else subprocess.PIPE
            process = subprocess.Popen(
                words, stdin=None if inherit else subprocess.PIPE, stdout=pipe, stderr=pipe
            )
            try:
                yield process, log
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _failed(self, code: int, log: Path) -> None:
        """Raises TaskError where it was ssh that failed, and not what it ran."""
        if code != FAILED:
            return
        said = log.read_text(errors="replace").strip()
        for words, problem, remedy in WHYS:
            if any(word in said for word in words):
                raise TaskError(f"{problem.format(where=self.where)}: {last(said)}", remedy, Exit.UNREACHABLE)
        raise TaskError(
            f"the connection to {self.where} failed: {last(said) or 'ssh does not say why'}",
            "try again; `status` shows whether the host is well",
            Exit.UNREACHABLE,
        )


def _feed(process: subprocess.Popen[bytes], document: bytes, given: bytes | IO[bytes], stay: bool) -> None:
    """The document, then the task's input, then its end."""
    pipe = cast(IO[bytes], process.stdin)
    with contextlib.suppress(BrokenPipeError):  # a task may end without reading
        pipe.write(document)
        if isinstance(given, bytes):
            pipe.write(given)
        else:
            shutil.copyfileobj(given, pipe)
        pipe.flush()
        if not stay:
            pipe.close()


def last(said: str) -> str:
    """The line that tells, of all that ssh says."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("@")]
    return lines[-1] if lines else ""


def who() -> str:
    """Who is at the keyboard here, for the host's journal."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def at_terminal() -> bool:
    """Whether a person sits at both ends of us."""
    return sys.stdin.isatty() and sys.stdout.isatty()
