"""A checkout with a private network and somebody on it; drives effects in the order the twins do."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

from sandbox import real
from sandbox.effects.registry import EFFECTS
from sandbox.hosts import desired as want
from sandbox.hosts import effects, net, plumbing
from sandbox.inventory import Record, open_store
from sandbox.services import roots
from sandbox.services.roots import Room

NETWORK, ELSEWHERE = "fr-par/net", "fr-par/elsewhere"


class Cloud:
    """One checkout's cloud."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = real.prepare(root)
        self.inventory = open_store(self.world.root)
        self.world.notes["log"] = lambda line: None
        self.create(want.NETWORK, NETWORK, {}, {"ipv4Subnet": {"subnet": "10.20.0.0/24"}})
        self.create(want.NETWORK, ELSEWHERE, {}, {"ipv4Subnet": {"subnet": "10.30.0.0/24"}})

    def create(
        self, token: str, id: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None
    ) -> Record:
        row = Record(
            id=id, token=token, name=id, inputs=inputs, outputs=outputs or {}, state="pending", real=True
        )
        self.inventory.put(row)
        return self._ready(row, EFFECTS[token].create(self.world, row))

    def update(self, token: str, id: str, **inputs: Any) -> Record:
        old = self.row(token, id)
        new = dataclasses.replace(old, inputs={**old.inputs, **inputs}, state="pending")
        self.inventory.put(new)
        try:
            return self._ready(new, EFFECTS[token].update(self.world, old, new))
        except BaseException:
            self.inventory.put(old)
            raise

    def delete(self, token: str, id: str) -> None:
        row = self.row(token, id)
        self.inventory.put(dataclasses.replace(row, state="deleting"))
        EFFECTS[token].delete(self.world, row)
        self.inventory.remove(token, id)

    def read(self, token: str, id: str) -> Any:
        return EFFECTS[token].read(self.world, self.row(token, id))

    def row(self, token: str, id: str) -> Record:
        found = self.inventory.get(token, id)
        assert found is not None
        return found

    def _ready(self, row: Record, outputs: Any) -> Record:
        row = dataclasses.replace(row, outputs={**row.outputs, **outputs}, state="ready")
        self.inventory.put(row)
        return row

    # ------------------------------------------------------------ somebody on a network

    def visitor(self, name: str, network: str, address: str) -> str:
        """The network namespace of a host that is only cabled: what it would say comes from tests."""
        server = f"fr-par-1/{name}"
        rows = [
            Record(
                id=server,
                token=want.SERVER,
                name=name,
                inputs={"type": "DEV1-S", "name": name, "image": "debian_bookworm"},
                outputs={},
                state="ready",
                real=True,
            ),
            Record(
                id=f"{server}-nic",
                token=want.NIC,
                name=name,
                inputs={"serverId": server, "privateNetworkId": network},
                outputs={"privateIps": [{"address": address}]},
                state="ready",
                real=True,
            ),
        ]
        for row in rows:
            self.inventory.put(row)
        effects.connect(self.world)
        namespace = plumbing.namespace(self.root, want.key(server))
        net.batch([f"addr add {address}/24 dev eth1", "link set eth1 up"], namespace=namespace)
        return namespace

    def call(
        self, tree: Any, where: str | None, command: list[str], text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A program of a service's root, called from a namespace (None: the sandbox's own)."""
        user = "postgres" if tree is roots.POSTGRES else "redis"
        room: Room = roots.room(tree, user, self.root / f"client-{user}", self.root / "client-run", print)
        line = room.inside(*command)
        return subprocess.run(
            net.nsenter(where, line) if where else line,
            input=text,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def trust(self, user: str, name: str, pem: str) -> str:
        """Have a client trust a certificate; its path for the client."""
        directory = self.root / f"client-{user}"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(pem)
        directory.chmod(0o755)
        return f"/srv/{name}"


def knock(where: str | None, address: str, port: int) -> str:
    """``open``, ``refused`` or ``silent``: what becomes of a connection from a namespace."""
    script = (
        "import socket,sys\n"
        "s=socket.socket(); s.settimeout(1)\n"
        "try: s.connect((sys.argv[1], int(sys.argv[2]))); print('open')\n"
        "except ConnectionRefusedError: print('refused')\n"
        "except OSError: print('silent')\n"
    )
    command = ["/usr/bin/python3", "-c", script, address, str(port)]
    line = net.nsenter(where, command) if where else command
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
