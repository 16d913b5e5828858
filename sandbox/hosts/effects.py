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
from sandbox.hosts import firewall, instance, plumbing, volumes
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
        for id in want.attached(row):
            volumes.existing(checkout(world), id)
        host = connect(world, put=row).host(row.id)
        if host is None:
            raise LookupError(row.id)
        with worded():
            instance.ensure(instance.Place(checkout(world), host.key), host, log(world))
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        made = self.create(world, new)
        self._release(world, old, new)
        return made

    def delete(self, world: World, row: Row) -> None:
        place = instance.Place(checkout(world), want.key(row.id))
        with instance.locked(place):
            instance.destroy(place)
        connect(world, drop=row)
        self._release(world, row)

    def _release(self, world: World, old: Row, new: Row | None = None) -> None:
        kept = want.attached(new) if new else []
        for id in want.attached(old):
            if id not in kept:
                volumes.detach(checkout(world), id)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        found = instance.state(instance.Place(checkout(world), want.key(row.id)))
        return None if found is None else {"state": found}


class Volume:
    """A block volume; servers attach it."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        source = next((name for name in ("snapshotId", "instanceVolumeId") if row.inputs.get(name)), None)
        if source:
            raise EffectError(f"the sandbox makes empty block volumes only, not from {source}")
        volumes.make(checkout(world), want.bare(row.id), self._size(row))
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        if self._size(new) < self._size(old):
            raise EffectError(
                "scaleway-sdk-go: invalid argument(s): size does not respect constraint, "
                f"the volume has {self._size(old)} GB and cannot be made smaller"
            )
        volumes.grow(checkout(world), want.bare(new.id), self._size(new))
        return {}

    def delete(self, world: World, row: Row) -> None:
        volumes.remove(checkout(world), want.bare(row.id))

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {} if volumes.file(checkout(world), want.bare(row.id)).exists() else None

    @staticmethod
    def _size(row: Row) -> int:
        return int(row.inputs.get("sizeInGb") or row.outputs.get("sizeInGb") or 0)


EFFECTS: dict[str, Effect] = {
    want.SERVER: Server(),
    want.VOLUME: Volume(),
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
