"""``sandbox ssh``: log in to a host as its operator would."""

from __future__ import annotations

import ipaddress
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sandbox.effects.protocol import World
from sandbox.errors import SandboxError


def ssh(
    host: Annotated[str, typer.Argument(help="Pulumi name, host name (their beginning will do) or address.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run there; a shell without it.")
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="Address to come from; the operator's by default.")
    ] = "",
) -> None:
    """Use the key and the pinned host key of the program's own commands, from the operator's address."""
    from sandbox import paths, real
    from sandbox.hosts import remote

    root = paths.root()
    reasons = real.capable()
    if reasons:
        raise SandboxError(f"no host runs here: {reasons[0]}")
    world = real.prepare(root)
    connection = _connection(world, host)
    with tempfile.TemporaryDirectory(dir=paths.runtime(root)) as directory:
        address = source or remote.operator_address(world, connection)
        line = _command_line(Path(directory), connection, address, command or [])
        raise typer.Exit(subprocess.run(line, check=False).returncode)


def _command_line(
    directory: Path, connection: Mapping[str, Any], source: str, command: list[str]
) -> list[str]:
    """OpenSSH with nothing of this machine's own configuration; the key goes by file, never by argument."""
    options = ["-F", "none", "-b", source, "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
    if connection.get("privateKey"):
        key = directory / "key"
        key.touch(mode=0o600)
        key.write_text(str(connection["privateKey"]).rstrip() + "\n")
        options += ["-i", str(key), "-o", "BatchMode=yes"]
    known = directory / "known_hosts"
    if connection.get("hostKey"):
        known.write_text(f"host {connection['hostKey']}\n")
        options += ["-o", "HostKeyAlias=host", "-o", "StrictHostKeyChecking=yes"]
    else:
        options += ["-o", "StrictHostKeyChecking=no"]
    options += ["-o", f"UserKnownHostsFile={known}", "-p", str(int(connection.get("port", 22)))]
    return ["ssh", *options, f"{connection.get('user', 'root')}@{connection['host']}", *command]


def _connection(world: World, host: str) -> Mapping[str, Any]:
    """How the program itself reaches the host. Raises SandboxError when it does not, or there is none."""
    from sandbox.hosts import desired as want
    from sandbox.hosts import remote

    hosts = want.desired(world.inventory).hosts
    names = {row.id: row.name for row in world.inventory.all(want.SERVER)}

    def called(name: str) -> bool:
        return name == host or name.startswith(f"{host}-")  # `scell` is enough for scell-server

    found = [
        one
        for one in hosts
        if host in _addresses(one.addresses, one.nics) or called(names[one.id]) or called(one.hostname)
    ]
    if len(found) != 1:
        known = ", ".join(sorted(f"{names[one.id]} ({', '.join(one.addresses)})" for one in hosts)) or "none"
        raise SandboxError(f"{'no' if not found else 'more than one'} host is {host!r}; there is: {known}")
    for address in _addresses(found[0].addresses, found[0].nics):
        connection = remote.login(world.root, address)
        if connection is not None:
            return connection
    raise SandboxError(f"no command of the program has connected to {host!r}, so its key is not known here")


def _addresses(public: tuple[str, ...], nics: Any) -> list[str]:
    return [*public, *(str(ipaddress.ip_interface(a).ip) for nic in nics for a in nic.addresses)]
