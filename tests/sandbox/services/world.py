"""A checkout with internet and managed services and without hosts; its cloud is asked as the engine asks."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import internet, paths, process, services
from sandbox.effects.protocol import World
from sandbox.internet import certs
from sandbox.internet.layout import GATEWAY
from sandbox.internet.layout import Layout as Internet
from sandbox.inventory import open_store
from sandbox.services.layout import Layout
from sandbox.twins.cloud import Cloud, Made
from tests.twins.conftest import SETTINGS, Twin

NEEDED = "nginx fcgiwrap pebble pdns_server nft ip nsenter unshare git curl dig".split()
PROJECT = SETTINGS["projectId"]


@dataclass
class Place:
    """The world of ``root``. Methods that meet it run in its network namespace."""

    root: Path
    twin: Twin

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def authority(self) -> str:
        return str(certs.ca_certificate(self.root))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread inside the namespace, where every public name is the gateway."""
        libc = ctypes.CDLL(None, use_errno=True)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(Internet(self.root).namespace, os.O_RDONLY)
        patch = pytest.MonkeyPatch()
        asked = socket.getaddrinfo
        patch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: asked(GATEWAY, *rest, **more) if host else None
        )
        try:
            assert libc.setns(there, 0x40000000) == 0
            yield
        finally:
            assert libc.setns(back, 0x40000000) == 0
            os.close(back)
            os.close(there)
            patch.undo()

    def ensure(self) -> None:
        with self.entered():
            world = self.twin.cloud.world
            assert world is not None
            internet.ensure(self.root, world)
            services.ensure(self.root, world)

    def create(self, token: str, inputs: dict[str, Any], name: str = "it") -> Made:
        with self.entered():
            return self.twin.create(token, inputs, name)

    def update(self, token: str, made: Made, inputs: dict[str, Any]) -> Made:
        with self.entered():
            return self.twin.update(token, made, inputs)

    def delete(self, token: str, made: Made) -> None:
        with self.entered():
            self.twin.delete(token, made)

    def read(self, token: str, made: Made) -> Made | None:
        with self.entered():
            return self.twin.cloud.read(
                self.twin.resource(token), self.twin.urn(token, "it"), made.id, None, {}, ()
            )

    def run(self, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """A command with the sandbox's own name service."""
        return subprocess.run(
            [*internet.inside(self.root), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **more,
        )

    def kill(self, name: str) -> None:
        record = process.running(name, self.layout.run)
        assert record is not None
        os.kill(record.pid, 9)
        while process.running(name, self.layout.run):
            pass

    def memory(self, name: str) -> int:
        record = process.running(name, self.layout.run)
        assert record is not None
        return process.memory(record)

    def key(self, name: str, *permission_sets: str, project: str = PROJECT) -> dict[str, Made]:
        """An application with these permission sets in one project, and its API key."""
        application = self.create("scaleway:iam/application:Application", {"name": name}, name)
        rule = {"permissionSetNames": list(permission_sets), "projectIds": [project]}
        policy = self.create(
            "scaleway:iam/policy:Policy", {"applicationId": application.id, "rules": [rule]}, name
        )
        key = self.create(
            "scaleway:iam/apiKey:ApiKey", {"applicationId": application.id, "defaultProjectId": project}, name
        )
        return {"application": application, "policy": policy, "key": key}


def missing() -> str:
    """Why this machine cannot run it, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "managed services need root on Linux"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lost = [name for name in NEEDED if not shutil.which(name, path=path)]
    if lost:
        return f"managed services need {', '.join(lost)}"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "managed services need network namespaces"
    return ""


@contextmanager
def checkout(root: Path) -> Iterator[Place]:
    """A world in ``root``, gone afterwards; skips where this machine cannot run one."""
    if reason := missing():
        pytest.skip(reason)
    from sandbox.effects.registry import EFFECTS
    from sandbox.hosts import net

    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    state = paths.state(root)
    store = open_store(state)
    place = Place(root, Twin(Cloud(store, World(root=state, inventory=store), EFFECTS)))
    name = paths.netns(root)
    net.make(name)
    try:
        with place.entered():
            net.ensure(root)
        place.ensure()
        yield place
    finally:
        services.stop(root)
        internet.stop(root)
        store.close()
        net.drop(name)
        shutil.rmtree(paths.runtime(root), ignore_errors=True)
        patch.undo()
