"""Places of the managed services of one checkout, and which of them are down on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox import paths, process

# Hosts and internet are imported where they are used: servers written in Python live in this room, and they
# are to stay small.


@dataclass(frozen=True)
class Layout:
    """``root`` is the checkout. State survives a reboot of the machine, ``run`` does not."""

    root: Path

    @property
    def state(self) -> Path:
        return _made(paths.state(self.root) / "services")

    @property
    def logs(self) -> Path:
        return _made(paths.state(self.root) / "log")

    @property
    def run(self) -> Path:
        """Process records and unix sockets; short, because socket paths are limited."""
        return _made(paths.runtime(self.root) / "services")

    def namespace(self, key: str) -> Path:
        """The network namespace of a station, for :attr:`process.Service.namespace`."""
        from sandbox.hosts import net, plumbing

        return net.NETNS / plumbing.namespace(self.root, key)

    # ------------------------------------------------------------ down on purpose

    @property
    def _down(self) -> Path:
        return self.state / "down.json"

    def down(self) -> frozenset[str]:
        """Kinds of service that ``sandbox fault down`` has taken down."""
        return frozenset(json.loads(self._down.read_text())) if self._down.exists() else frozenset()

    def set_down(self, kinds: Iterable[str]) -> None:
        """Take these kinds down and no other; they are at the next :func:`sandbox.services.ensure`."""
        from sandbox.internet.render import write

        write(self._down, json.dumps(sorted(kinds)))

    # ------------------------------------------------------------ servers

    def serve(self, service: process.Service) -> process.Running | None:
        """Have a server up; None, and it is stopped, where its kind is down.

        ``service.name`` is a kind, or ``<kind>-<key>`` where there may be several.
        """
        if kind(service.name) in self.down():
            process.stop(service.name, self.run)
            return None
        return process.ensure(service, self.run, self.logs)


def kind(name: str) -> str:
    """The kind a server's name begins with."""
    return name.partition("-")[0]


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
