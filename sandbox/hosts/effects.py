"""What makes Scaleway's instances, addresses, networks and security groups real, and commands run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox import paths, process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.errors import SandboxError
from sandbox.hosts import desired as want
from sandbox.hosts import firewall, instance, plumbing
from sandbox.hosts.remote import CopyFile, CopyToRemote, LocalCommand, RemoteCommand


def checkout(world: World) -> Path:
    """The checkout a world belongs to."""
    return world.root.parent


def log(world: World) -> Callable[[str], None]:
    """Where progress goes: the engine's log if there is one, else standard error."""
    given = world.notes.get("log")
    return given if callable(given) else lambda line: print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def worded() -> Iterator[None]:
    """What the machine refuses is the effect's failure, not the twin's."""
    try:
        yield
    except SandboxError as error:
        raise EffectError(str(error)) from error


@worded()
def connect(world: World, put: Row | None = None, drop: Row | None = None) -> want.Desired:
    """Cables, routes and firewall as the inventory has it, with ``put`` and without ``drop``."""
    root = checkout(world)
    with process.lock(paths.state(root) / "hosts.lock"):
        desired = want.desired(world.inventory, put, drop)
        plumbing.converge(root, desired)
        firewall.apply(desired.hosts)
    return desired


class Wiring:
    """A resource that only changes how hosts are connected or filtered."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        self._settle(world, connect(world, put=row), row)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        self._settle(world, connect(world, put=new), new)
        return {}

    def delete(self, world: World, row: Row) -> None:
        self._settle(world, connect(world, drop=row), row)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}

    def _settle(self, world: World, desired: want.Desired, row: Row) -> None:
        """Hosts whose inside depends on it."""


class PrivateNic(Wiring):
    """Plugged in or out while the host runs."""

    def _settle(self, world: World, desired: want.Desired, row: Row) -> None:
        host = desired.host(str(row.inputs["serverId"]))
        place = host and instance.Place(checkout(world), host.key)
        if host and place:
            with worded():
                instance.ensure(place, host, log(world), make=False)


class Server:
    """An instance."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        host = connect(world, put=row).host(row.id)
        if host is None:
            raise LookupError(row.id)
        with worded():
            instance.ensure(instance.Place(checkout(world), host.key), host, log(world))
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        place = instance.Place(checkout(world), want.key(row.id))
        with instance.locked(place):
            instance.destroy(place)
        connect(world, drop=row)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        found = instance.state(instance.Place(checkout(world), want.key(row.id)))
        return None if found is None else {"state": found}


EFFECTS: dict[str, Effect] = {
    want.SERVER: Server(),
    want.NIC: PrivateNic(),
    want.IP: Wiring(),
    want.GROUP: Wiring(),
    want.GROUP_RULES: Wiring(),
    want.NETWORK: Wiring(),
    "command:remote:Command": RemoteCommand(),
    "command:remote:CopyFile": CopyFile(),
    "command:remote:CopyToRemote": CopyToRemote(),
    "command:local:Command": LocalCommand(),
}
