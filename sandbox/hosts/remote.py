"""Commands on hosts and here, run the way the real ``command`` plugin (1.2.1) runs them.

The operator's own address is the source of every connection, so firewalls judge it as they would theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh

from sandbox.effects.protocol import EffectError, Row, World
from sandbox.hosts import desired as want
from sandbox.hosts import net

# The plugin's pause between dials: 0.1 s, half as much again each time, never over 5 s.
FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.1, 1.5, 5.0
Log = Callable[[str], None]


@dataclass
class Outcome:
    """Both streams as the plugin returns them, and interleaved as they came for its error text."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    both: list[str] = field(default_factory=list)

    def outputs(self) -> dict[str, str]:
        return {name: "".join(getattr(self, name)).removesuffix("\n") for name in ("stdout", "stderr")}

    def failure(self, why: str, command: str) -> EffectError:
        # Go's %q: like JSON but for what it leaves alone.
        quoted = json.dumps(command, ensure_ascii=False)
        return EffectError(f"{why}: running {quoted}:\n{''.join(self.both)}")


class RemoteCommand:
    """``create``, ``update`` (``create`` where it is absent) and ``delete``, each in one SSH session."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        return self._run(world, row, row.inputs.get("create"), {})

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self._run(world, new, new.inputs.get("update") or new.inputs.get("create"), old.outputs)

    def delete(self, world: World, row: Row) -> None:
        self._run(world, row, row.inputs.get("delete"), row.outputs)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}  # the plugin has no Read: what happens on a host is not its business

    def _run(
        self, world: World, row: Row, command: str | None, before: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if not command:
            return {name: before.get(name) or "" for name in ("stdout", "stderr")}
        return asyncio.run(self._outcome(world, row, command, before)).outputs()

    async def _outcome(self, world: World, row: Row, command: str, before: Mapping[str, Any]) -> Outcome:
        return await _remote(world, row.inputs, command, before)


class LocalCommand(RemoteCommand):
    """The same on this machine, as the user who runs the sandbox."""

    async def _outcome(self, world: World, row: Row, command: str, before: Mapping[str, Any]) -> Outcome:
        return await _local(row.inputs, command, before, logger(world))


class CopyToRemote:
    """One file over SFTP: a text or file asset. Archives have no stand-in."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        asyncio.run(_copy(world, row.inputs["connection"], self._content(row), row.inputs["remotePath"]))
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        """The plugin leaves the file."""

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}

    def _content(self, row: Row) -> bytes:
        source = row.inputs.get("source")
        if isinstance(source, Mapping) and isinstance(source.get("text"), str):
            return str(source["text"]).encode()
        if isinstance(source, Mapping) and isinstance(source.get("path"), str):
            return Path(str(source["path"])).read_bytes()
        raise EffectError("the sandbox copies file and text assets only")


class CopyFile(CopyToRemote):
    """The deprecated form, with a path."""

    def _content(self, row: Row) -> bytes:
        return Path(row.inputs["localPath"]).read_bytes()


def logger(world: World) -> Log:
    """Lines for the engine's log, dropped when nobody listens."""
    given = world.notes.get("log")
    return given if callable(given) else lambda _: None


def login(state: Path, address: str) -> Mapping[str, Any] | None:
    """The connection a command last used to reach a host, for ``sandbox ssh``. ``state`` is ``.sandbox``."""
    try:
        return dict(json.loads(_logins(state, address).read_text()))
    except FileNotFoundError:
        return None


def _remember(world: World, connection: Mapping[str, Any]) -> None:
    path = _logins(world.root, str(connection["host"]))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(dict(connection))
    if not path.exists() or path.read_text() != text:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False
        ) as new:  # made for its owner only
            new.write(text)
        Path(new.name).replace(path)


def _logins(state: Path, address: str) -> Path:
    return state / "hosts" / "logins" / quote(address, safe="")


# ---------------------------------------------------------------- connection


def operator_address(world: World, connection: Mapping[str, Any]) -> str:
    """The operator's address for a connection, one its first host lets in."""
    first = connection.get("proxy") or connection
    for host in want.desired(world.inventory).hosts:
        if first.get("host") in host.addresses:
            return net.operator(host.admits(int(first.get("port", 22))))
    return net.ADMIN


@contextlib.asynccontextmanager
async def connect(
    given: Mapping[str, Any], source: str, log: Log
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Dial from ``source`` as often as ``dialErrorLimit`` allows, through ``proxy`` if there is one.

    Raises EffectError, also for a connection that breaks while it is used: only dialling is tried again.
    """
    async with contextlib.AsyncExitStack() as open_ones:
        tunnel = None
        if given.get("proxy"):
            tunnel = await open_ones.enter_async_context(await _dial(given["proxy"], None, source, log))
        connection = await open_ones.enter_async_context(await _dial(given, tunnel, source, log))
        try:
            yield connection
        except (OSError, asyncssh.Error) as error:
            raise EffectError(f"ssh: {error}") from None


async def _dial(
    given: Mapping[str, Any], tunnel: asyncssh.SSHClientConnection | None, source: str, log: Log
) -> asyncssh.SSHClientConnection:
    limit = int(given.get("dialErrorLimit", 10))
    pause, dials = FIRST_PAUSE, 0
    while True:
        try:
            return await asyncssh.connect(**_options(given, tunnel, source))
        except (OSError, asyncssh.Error) as error:
            dials += 1
            why = _worded(error, given)
            if limit != -1 and dials > limit:
                raise EffectError(f"after {dials} failed attempts: {why}") from None
            log(f"Dial {dials}/{'inf' if limit == -1 else limit} failed: retrying")
        await asyncio.sleep(pause)
        pause = min(pause * GROWTH, LONGEST_PAUSE)


def _options(
    given: Mapping[str, Any], tunnel: asyncssh.SSHClientConnection | None, source: str
) -> dict[str, Any]:
    if given.get("agentSocketPath"):
        raise EffectError("the sandbox does not use an SSH agent: give the connection a privateKey")
    options: dict[str, Any] = {
        "host": given["host"],
        "port": int(given.get("port", 22)),
        "username": given.get("user", "root"),
        "connect_timeout": float(given.get("perDialTimeout", 15)),
        "known_hosts": _known(given.get("hostKey")),
        # Nothing from this machine's own SSH: what is not in the program does not exist.
        "config": [],
        "agent_path": None,
        "client_keys": None,
        "password": given.get("password"),
        "gss_host": None,
    }
    if given.get("privateKey"):
        try:
            key = asyncssh.import_private_key(given["privateKey"], given.get("privateKeyPassword"))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise EffectError(f"ssh: privateKey of the connection: {error}") from None
        options["client_keys"] = [key]
    if tunnel is not None:
        options["tunnel"] = tunnel
    else:
        options["local_addr"] = (source, 0)
    return options


def _known(host_key: str | None) -> Any:
    """Trusted keys of one host, from a line as in authorized_keys; None trusts any, as the plugin does."""
    if not host_key:
        return None
    try:
        return [asyncssh.import_public_key(host_key)], [], []
    except asyncssh.KeyImportError as error:
        raise EffectError(f"ssh: hostKey of the connection: {error}") from None


def _worded(error: Exception, given: Mapping[str, Any]) -> str:
    """Roughly the plugin's words, which people search for."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return "ssh: handshake failed: ssh: host key mismatch"
    if isinstance(error, asyncssh.PermissionDenied):
        return "ssh: handshake failed: ssh: unable to authenticate, no supported methods remain"
    where = f"dial tcp {given['host']}:{int(given.get('port', 22))}"
    if isinstance(error, TimeoutError):
        return f"{where}: i/o timeout"
    if isinstance(error, OSError):
        return f"{where}: connect: {(os.strerror(error.errno) if error.errno else str(error)).lower()}"
    return f"ssh: handshake failed: {error}"


# ---------------------------------------------------------------- running


async def _remote(
    world: World, inputs: Mapping[str, Any], command: str, before: Mapping[str, Any]
) -> Outcome:
    outcome, log = Outcome(), logger(world)
    environment = {name: str(value) for name, value in (inputs.get("environment") or {}).items()}
    async with connect(inputs["connection"], operator_address(world, inputs["connection"]), log) as ssh:
        _remember(world, inputs["connection"])
        await _settable(ssh, environment)
        process = await ssh.create_process(
            command, env={**environment, **_previous(inputs, before)}, encoding=None
        )
        await asyncio.gather(
            _feed(process.stdin, inputs.get("stdin")),
            _collect(process.stdout, outcome, "stdout", _listener(inputs, "stdout", log)),
            _collect(process.stderr, outcome, "stderr", _listener(inputs, "stderr", log)),
        )
        await process.wait_closed()
        if process.exit_signal:
            name = process.exit_signal[0]
            number = getattr(signal, f"SIG{name}", 0)
            raise outcome.failure(f"Process exited with status {128 + number} from signal {name}", command)
        if process.exit_status is None:
            raise outcome.failure("wait: remote command exited without exit status or exit signal", command)
        if process.exit_status:
            raise outcome.failure(f"Process exited with status {process.exit_status}", command)
    return outcome


async def _settable(ssh: asyncssh.SSHClientConnection, environment: Mapping[str, str]) -> None:
    """The plugin asks the server to set each variable and fails if it refuses. asyncssh cannot ask: look."""
    for name, value in environment.items():
        seen = await ssh.run(f"printenv {name}", env={name: value})
        if str(seen.stdout or "").removesuffix("\n") != value:
            raise EffectError(
                f'could not set environment variable "{name}": ssh: setenv failed\n'
                f"Unable to set '{name}'. This only works if your SSH server is configured to accept these"
                " variables via AcceptEnv. Alternatively, if a Bash-like shell runs the command on the remote"
                " host, you could prefix the command itself with the variables in the form"
                " 'VAR=value command'"
            )


async def _local(inputs: Mapping[str, Any], command: str, before: Mapping[str, Any], log: Log) -> Outcome:
    outcome = Outcome()
    interpreter: Sequence[str] = inputs.get("interpreter") or ("/bin/sh", "-c")
    environment = {name: str(value) for name, value in (inputs.get("environment") or {}).items()}
    process = await asyncio.create_subprocess_exec(
        *interpreter,
        command,
        stdin=subprocess.PIPE if inputs.get("stdin") else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=inputs.get("dir"),
        env={**os.environ, **_previous(inputs, before), **environment},
    )
    if process.stdin is not None:
        process.stdin.write(str(inputs["stdin"]).encode())
        process.stdin.close()
    await asyncio.gather(
        _collect(process.stdout, outcome, "stdout", _listener(inputs, "stdout", log)),
        _collect(process.stderr, outcome, "stderr", _listener(inputs, "stderr", log)),
    )
    status = await process.wait()
    if status:
        why = f"signal: {signal.strsignal(-status)}".lower() if status < 0 else f"exit status {status}"
        raise outcome.failure(why, command)
    return outcome


async def _copy(world: World, connection: Mapping[str, Any], content: bytes, path: str) -> None:
    async with connect(connection, operator_address(world, connection), logger(world)) as ssh:
        try:
            async with ssh.start_sftp_client() as sftp, sftp.open(path, "wb") as file:
                await file.write(content)
        except (asyncssh.SFTPError, asyncssh.Error) as error:
            raise EffectError(f"failed to copy to {path}: {error}") from None


def _previous(inputs: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, str]:
    """The last run's output, which a server may refuse to take; nobody is told."""
    if inputs.get("addPreviousOutputInEnv") is False:
        return {}
    named = {"PULUMI_COMMAND_STDOUT": before.get("stdout"), "PULUMI_COMMAND_STDERR": before.get("stderr")}
    return {name: str(value) for name, value in named.items() if value}


def _listener(inputs: Mapping[str, Any], stream: str, log: Log) -> Log:
    wanted = inputs.get("logging") or "stdoutAndStderr"
    return log if wanted in (stream, "stdoutAndStderr") else lambda _: None


async def _feed(stdin: Any, text: str | None) -> None:
    # A command that ends without reading its input is no failure of ours.
    with contextlib.suppress(BrokenPipeError, ConnectionError, asyncssh.Error):
        if text:
            stdin.write(str(text).encode())
            await stdin.drain()
        stdin.write_eof()


async def _collect(stream: Any, outcome: Outcome, name: str, log: Log) -> None:
    pending = b""
    while chunk := await stream.read(65536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            _note(outcome, name, line.decode(errors="replace") + "\n", log)
    if pending:
        _note(outcome, name, pending.decode(errors="replace"), log)


def _note(outcome: Outcome, name: str, text: str, log: Log) -> None:
    getattr(outcome, name).append(text)
    outcome.both.append(text)
    log(text.rstrip("\n"))
