"""What managed PostgreSQL and Redis have in common: a server each, on a private network and nowhere else."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import process
from sandbox.effects.protocol import EffectError, Row, World
from sandbox.hosts import desired as want
from sandbox.hosts import effects as hosts
from sandbox.hosts import net
from sandbox.services import certificate, guard
from sandbox.services.layout import Layout

SETTING = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True)
class Place:
    """Where one instance lives. ``key`` as :func:`sandbox.hosts.desired.key`."""

    layout: Layout
    kind: str
    key: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.key}"

    @property
    def state(self) -> Path:
        return self.layout.state / self.name

    @property
    def run(self) -> Path:
        return self.layout.run / self.name

    @property
    def made(self) -> Path:
        """Written last: what lies here without it is half an instance."""
        return self.state / "made.json"

    @property
    def namespace(self) -> Path:
        return self.layout.namespace(self.key)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command, and one effect, at a time works on an instance."""
        with process.lock(self.layout.state / f"{self.name}.lock"):
            yield

    def serve(self, service: process.Service, program: str) -> None:
        """Have the server up; ``program`` is the name of its executable."""
        if process.running(self.name, self.layout.run) is None:
            self.halt(program)
        process.ensure(service, self.layout.run, self.layout.logs)

    def halt(self, program: str, sign: int | None = None) -> None:
        """End the server (with this signal), and what one that was killed has left in the namespace."""
        process.stop(self.name, self.layout.run, sign=sign)
        deadline = time.monotonic() + 5
        while (left := self._processes(program)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _processes(self, program: str) -> list[int]:
        if not net.exists(self.namespace.name):
            return []
        found = []
        for pid in net.ip("netns", "pids", self.namespace.name).split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name == program:
                    found.append(int(pid))
        return found

    def destroy(self) -> None:
        """Remove every trace but the cables, when the server has ended; no error when there is none."""
        for directory in (self.state, self.run):
            if directory.exists():
                shutil.rmtree(directory)


def places(layout: Layout, kind: str) -> list[Place]:
    """Every instance of one kind with something on disk."""
    found = sorted(layout.state.glob(f"{kind}-*/"))
    return [Place(layout, kind, path.name.removeprefix(f"{kind}-")) for path in found]


def ensure(
    root: Path,
    world: World,
    kind: str,
    token: str,
    up: Callable[[Place, Row, World], None],
    halt: Callable[[Place], None],
) -> None:
    """Bring every instance that is made up again, with ``up``; remove what the inventory does not know."""
    layout = Layout(root)
    found = places(layout, kind)  # before the inventory: another command may just make one
    known = {want.key(row.id): row for row in want.rows(world.inventory, token)}
    for place in found:
        row = known.get(place.key)
        with place.locked():
            if row is None:
                halt(place)
                place.destroy()
            # One that is not made is being made or removed by another command, or lost: its twin's business.
            elif place.made.exists():
                up(place, row, world)


class Instance(ABC):
    """What every kind of instance does as an effect; ``place``, ``up`` and ``halt`` are the kind's own."""

    place: Callable[[World, str], Place]
    up: Callable[[Place, Row, World], None]
    halt: Callable[[Place], None]

    @abstractmethod
    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        """Have it as ``row`` says, also where it stands already."""

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        """Data stays whatever changes; a change that the server refuses leaves it as it was."""
        try:
            return self.create(world, new)
        except EffectError:
            place = self.place(world, new.id)
            with place.locked():
                self.up(place, old, world)
            raise

    def delete(self, world: World, row: Row) -> None:
        place = self.place(world, row.id)
        with place.locked():
            self.halt(place)
            place.destroy()
        hosts.connect(world, drop=row)


def station(world: World, row: Row, what: str) -> want.Station:
    """Have the cables of ``row``; its station. EffectError where it would be reached from the internet."""
    found = hosts.connect(world, put=row).service(row.id)
    if found is None or not found.nics:
        raise EffectError(
            f"the sandbox runs {what} on a private network only, and this one has none; give it one"
        )
    return found


def addresses(found: want.Station) -> list[str]:
    """The private addresses, without prefix length."""
    return [str(ipaddress.ip_interface(text).ip) for nic in found.nics for text in nic.addresses]


def close(place: Place, port: int, sources: Iterable[str] | None) -> None:
    """Let in to the port what may come in, nobody while the service is down on purpose."""
    guard.apply(place.namespace, guard.render(port, sources, down=place.kind in place.layout.down()))


def certified(
    files: Path, name: str, ips: list[str], hostnames: list[str], write: Callable[[Path, str], None]
) -> str:
    """PEM of the certificate in ``files``, made if there is none for these addresses."""
    pem, key = files / "server.crt", files / "server.key"
    if not (pem.exists() and key.exists() and certificate.holds(pem.read_text(), ips)):
        text, secret = certificate.make(name, ips, hostnames)
        write(key, secret)
        write(pem, text)
    return pem.read_text()


def note(place: Place, made: Mapping[str, str]) -> None:
    """Say that the instance is made: whole or not at all."""
    new = place.made.with_suffix(".new")
    new.write_text(json.dumps(made))
    new.replace(place.made)


def settings(given: Mapping[str, str] | None, ours: Iterable[str], product: str) -> dict[str, str]:
    """What the program asks for. EffectError for names that are the provider's own or no names."""
    asked = {str(name): str(value) for name, value in sorted((given or {}).items())}  # as ever the same text
    reserved = [re.compile(pattern) for pattern in ours]
    for name, value in asked.items():
        if not SETTING.fullmatch(name) or "\n" in value or any(one.fullmatch(name) for one in reserved):
            raise EffectError(
                f"invalid argument(s): settings: {name!r} is not a setting of {product} one may set"
            )
    return asked


def password(row: Row) -> str:
    """The one the program gave; "" for none, as the provider takes it."""
    return str(row.inputs.get("password") or row.inputs.get("passwordWo") or "")
