"""Scaleway's managed Redis: one real server a cluster, on its private network only.

The user it is made with is the only one; the default user is off. Its data outlives restarts. What a pair of
nodes adds (a standby) nobody sees; three and more, a Redis Cluster, are refused.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox import process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.hosts import desired as want
from sandbox.hosts import effects as hosts
from sandbox.services import private, roots
from sandbox.services.layout import Layout
from sandbox.services.private import Place

KIND = "redis"
CLUSTER = want.REDIS
# Scaleway sells 7.2 and says so in the stack file; Debian has 7.0, which speaks the same.
VERSION = "7"
OURS = (
    r"port|tls-.*|bind|unixsocket.*|user|aclfile|requirepass|masterauth|masteruser|dir|dbfilename|append.*|save",
    r"daemonize|pidfile|logfile|syslog.*|protected-mode|include|loadmodule|rename-command|cluster-.*|replica.*",
    r"slaveof|maxmemory|supervised|enable-.*",
)
MEMORY = 256  # megabytes of data, whatever the node's size: as much as a sandbox should need


def ensure(root: Path, world: World) -> None:
    """Have the servers of all clusters that are made up, as they should be."""
    private.ensure(root, world, KIND, CLUSTER, _up, halt)


def halt(place: Place) -> None:
    """End the server."""
    place.halt("redis-check-rdb")


class Server:
    """The server of one cluster; the caller holds the lock of its place."""

    def __init__(self, place: Place, row: Row, log: Callable[[str], None]) -> None:
        version = str(row.inputs.get("version"))
        if version.partition(".")[0] != VERSION:
            raise EffectError(
                f"the sandbox cannot run Redis {version}; it runs Redis {VERSION} (7.0 for any 7.x)"
            )
        if int(row.outputs.get("clusterSize") or 1) > 2:
            raise EffectError("the sandbox runs no Redis Cluster: ask for 1 node, or 2")
        self.place, self.row = place, row
        self.room = roots.room(roots.REDIS, "redis", place.state, place.run, log)

    @property
    def port(self) -> int:
        return next(
            (int(one.get("port") or 6379) for one in self.row.outputs.get("privateNetworks") or ()), 6379
        )

    @property
    def tls(self) -> bool:
        return bool(self.row.inputs.get("tlsEnabled"))

    def up(self, addresses: list[str]) -> str:
        """Have it running for these addresses; PEM of its certificate, "" without TLS."""
        files = self.room.directory(self.place.state / "conf")
        self.room.directory(self.place.state / "data")
        pem = ""
        if self.tls:
            pem = private.certified(files, want.bare(self.row.id), addresses, [], self.room.write)
        text, path = self.configuration(), files / "redis.conf"
        if not path.exists() or path.read_text() != text:
            self.room.write(path, text)
        service = process.Service(
            name=self.place.name,
            command=self.room.inside("/usr/bin/redis-server", "/srv/conf/redis.conf"),
            ready=self.answers,
            settings="\0".join([text, pem]),
            sockets=[self.place.run / "redis.sock"],
            namespace=self.place.namespace,
        )
        self.place.serve(service, "redis-check-rdb")
        return pem

    def configuration(self) -> str:
        """Text of redis.conf."""
        asked = private.settings(self.row.inputs.get("settings"), OURS, "Redis")
        digest = hashlib.sha256(private.password(self.row).encode()).hexdigest()
        login = f"#{digest}" if private.password(self.row) else "nopass"
        if self.tls:
            network = [
                f"port 0\ntls-port {self.port}\ntls-auth-clients no",
                "tls-cert-file /srv/conf/server.crt\ntls-key-file /srv/conf/server.key",
                "tls-ca-cert-file /srv/conf/server.crt",
            ]
        else:
            network = [f"port {self.port}"]
        return "\n".join(
            [
                "bind * \nprotected-mode no",  # of its own network namespace
                *network,
                "unixsocket /run/redis.sock\nunixsocketperm 700",
                "user default off",
                # Not what would change the server itself.
                f"user {self.row.inputs['userName']} on {login} ~* &* +@all -@admin +config|get +slowlog",
                # Each second, so that a kill costs no more; nothing to write when it ends.
                'dir /srv/data\nappendonly yes\nappendfsync everysec\nsave ""',
                f"maxmemory {MEMORY}mb",
                *(f"{name} {quote(value)}" for name, value in asked.items()),
                "",
            ]
        )

    def answers(self) -> bool:
        """Whether it asks who we are; while it reads its data it says that it is loading."""
        try:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(1)
                caller.connect(str(self.place.run / "redis.sock"))
                caller.sendall(b"PING\r\n")
                return caller.recv(64).startswith(b"-NOAUTH")
        except OSError:
            return False


def quote(value: str) -> str:
    """A value in redis.conf."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# ---------------------------------------------------------------- effects


def _place(world: World, id: str) -> Place:
    return Place(Layout(hosts.checkout(world)), KIND, want.key(id))


def _up(place: Place, row: Row, world: World) -> None:
    with hosts.worded():
        _serve(place, row, world)


def _serve(place: Place, row: Row, world: World) -> str:
    server = Server(place, row, hosts.log(world))
    pem = server.up(private.addresses(private.station(world, row, "Redis")))
    private.close(place, server.port, None)  # access lists go with public endpoints only
    return pem


class Cluster(private.Instance):
    place, up, halt = staticmethod(_place), staticmethod(_up), staticmethod(halt)

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        place = _place(world, row.id)
        with hosts.worded(), place.locked():
            pem = _serve(place, row, world)
            private.note(place, {"id": row.id})
        return {"certificate": pem}

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        place = _place(world, row.id)
        if not place.made.exists():
            return None
        pem = place.state / "conf" / "server.crt"
        return {"certificate": pem.read_text() if row.inputs.get("tlsEnabled") else ""}


EFFECTS: dict[str, Effect] = {CLUSTER: Cluster()}
