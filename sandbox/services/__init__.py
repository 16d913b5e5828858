"""Managed services of the cloud as standard servers: one module a kind, listed in :data:`MODULES`.

A module has ``KIND``, its name in `status` and `fault`; ``EFFECTS`` by resource token; and
``ensure(root, world)``, which brings its servers to what the whole inventory says: starts what is missing or
was killed, ends what nobody asks for any more. It is called at the beginning of each command, and its
effects call it (or the part of it that they touch) when a resource changes, so a module keeps no state beside
the data itself. Where servers run and how they are started: :class:`sandbox.services.layout.Layout`.
``stop(root)`` is for modules that hold more than recorded processes (mounts, devices). Stations, that is
network namespaces with cables into private networks, come from :mod:`sandbox.hosts.desired`.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from sandbox import process
from sandbox.effects.protocol import World
from sandbox.errors import SandboxError
from sandbox.services.layout import Layout, kind

# In the order they are started. Not imported here: status and doctor need none of them.
MODULES: tuple[str, ...] = ("postgres", "redis", "storage", "mail", "balancer")
# What a host would hold without a managed service; `status` tells their memory apart.
DATABASES = frozenset({"postgres", "redis"})


def modules() -> list[ModuleType]:
    """The modules of all kinds."""
    return [importlib.import_module(f"{__name__}.{name}") for name in MODULES]


def ensure(root: Path, world: World) -> None:
    """Have all managed services of the checkout ``root`` as ``world``'s inventory says.

    The calling thread is in the checkout's network namespace; cables and internet stand. Raises SandboxError
    with the log of a server that does not come up.
    """
    for module in modules():
        module.ensure(root, world)


def stop(root: Path) -> None:
    """End every managed service of the checkout; data on disk stays. No error when nothing runs."""
    layout = Layout(root)
    for module in modules():
        if hasattr(module, "stop"):
            module.stop(root)
    for name in process.names(layout.run):
        process.stop(name, layout.run)


def status(root: Path) -> list[dict[str, Any]]:
    """What runs: name, kind, database (bool), pid, memory (bytes), seconds up; and whether it is down."""
    layout = Layout(root)
    since, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
    down = layout.down()
    running = [record for name in process.names(layout.run) if (record := process.running(name, layout.run))]
    found = [
        {
            "name": record.name,
            "kind": kind(record.name),
            "database": kind(record.name) in DATABASES,
            "down": kind(record.name) in down,
            "pid": record.pid,
            "memory": process.memory(record),
            "seconds": round(since - record.start / ticks),
        }
        for record in running
    ]
    absent = down - {one["kind"] for one in found}
    return found + [
        {
            "name": name,
            "kind": name,
            "database": name in DATABASES,
            "down": True,
            "pid": None,
            "memory": 0,
            "seconds": 0,
        }
        for name in sorted(absent)
    ]


def take_down(root: Path, kinds: frozenset[str]) -> None:
    """Have exactly these kinds down from the next :func:`ensure` on. SandboxError for one there is not."""
    known = {module.KIND for module in modules()}
    if unknown := sorted(kinds - known):
        raise SandboxError(
            f"no managed service is called {unknown[0]}; there is {', '.join(sorted(known))}", 2
        )
    Layout(root).set_down(kinds)
