"""Object Storage: moto's S3 in a process of its own, reached at Scaleway's names through the gateway.

Buckets are made and set from the inventory; objects come over S3 and live in ``.sandbox/services/storage``.
Keys and IAM policies are read from the inventory at each request (:mod:`sandbox.services.iam`).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox import process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.internet.out import accepts
from sandbox.services.iam import plain, standing
from sandbox.services.layout import Layout

KIND = "storage"
BUCKET = "scaleway:object/bucket:Bucket"
BUCKET_ACL = "scaleway:object/bucketAcl:BucketAcl"
BUCKET_POLICY = "scaleway:object/bucketPolicy:BucketPolicy"
ITEM = "scaleway:object/item:Item"
SOURCES = ("iam", "storage_auth", "storage_disk", "storage_rules", "storage_server")
PATIENCE = 120.0  # seconds for one change: it waits for bodies being stored


def ensure(root: Path, world: World) -> None:
    """Have the server up where there are buckets, and the buckets as the inventory says."""
    layout = Layout(root)
    with process.lock(layout.run / f"{KIND}.lock"):
        wanted = any(standing(world.inventory, BUCKET)) or _directory(layout).exists()
        if not wanted:
            process.stop(KIND, layout.run)
        elif layout.serve(service(layout, world.root)) is not None:
            _call(layout, "converge")


def service(layout: Layout, state: Path) -> process.Service:
    """The server; ``state`` is the checkout's ``.sandbox``."""
    room = Path(__file__).parent
    code = "".join((room / f"{name}.py").read_text() for name in SOURCES)
    sockets = [layout.run / "storage.sock", layout.run / "storage-control.sock"]
    return process.Service(
        name=KIND,
        command=[
            *(sys.executable, "-m", f"{__package__}.storage_server"),
            *(str(state), str(_directory(layout)), str(layout.run)),
        ],
        settings=hashlib.sha256(code.encode()).hexdigest(),
        ready=lambda: all(accepts(path) for path in sockets),
        sockets=sockets,
        environment={"PYTHONPATH": str(room.parent.parent), "MALLOC_ARENA_MAX": "2"},
        patience=60,
    )


def _directory(layout: Layout) -> Path:
    return layout.state / "storage"


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def _call(layout: Layout, what: str, **arguments: Any) -> Any:
    """Ask the server to do something. Raises EffectError with its refusal."""
    connection = _Unix(layout.run / "storage-control.sock")
    try:
        connection.request("POST", f"/{what}", json.dumps(arguments))
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except OSError as error:
        raise EffectError(
            f"RequestError: send request failed: Object Storage does not answer ({error})"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise EffectError(found["error"])
    return found


def _up(world: World) -> Layout:
    """Have the server up, whatever killed it; it is down only where somebody wants it so."""
    layout = Layout(world.root.parent)
    with process.lock(layout.run / f"{KIND}.lock"):
        layout.serve(service(layout, world.root))
    return layout


class Buckets:
    """A bucket, or a part of one: the server reads its settings from the inventory."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        failed = _call(_up(world), "converge")
        name = plain(row.inputs.get("bucket") or row.id)
        for id, text in failed.items():
            if plain(id) == name:
                raise EffectError(text)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        _call(_up(world), "converge")

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        found = _call(_up(world), "bucket", name=plain(row.inputs.get("bucket") or row.id))
        return None if found is None else self.seen(row, found)

    def seen(self, row: Row, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Outputs as they are in a bucket that exists."""
        return {}


class Bucket(Buckets):
    def delete(self, world: World, row: Row) -> None:
        name = str(row.inputs["name"])
        try:
            _call(_up(world), "remove", name=name, row=row.id, force=bool(row.inputs.get("forceDestroy")))
        except EffectError as error:
            raise EffectError(f"deleting S3 bucket ({name}): BucketNotEmpty: {error}") from error

    def seen(self, row: Row, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return {
            "versioning": {"enabled": found["versioning"]},
            **({"tags": found["tags"]} if found["tags"] or row.inputs.get("tags") else {}),
        }


class BucketPolicy(Buckets):
    def seen(self, row: Row, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return {"policy": found["policy"]} if found["policy"] is not None else None


class Item:
    """An object that a program stores itself."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        inputs = row.inputs
        if inputs.get("file"):
            content = Path(str(inputs["file"])).read_bytes()
        elif inputs.get("contentBase64"):
            content = base64.b64decode(str(inputs["contentBase64"]))
        else:
            content = str(inputs.get("content", "")).encode()
        _call(
            _up(world),
            "put",
            **_where(row),
            content=base64.b64encode(content).decode(),
            type=row.outputs["contentType"],
            metadata={f"x-amz-meta-{key}": value for key, value in (inputs.get("metadata") or {}).items()},
            tags=dict(inputs.get("tags") or {}),
            acl=row.outputs["visibility"],
        )
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        if _where(old) != _where(new):
            self.delete(world, old)
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        _call(_up(world), "drop", **_where(row))

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {} if _call(_up(world), "get", **_where(row)) else None


def _where(row: Row) -> dict[str, str]:
    return {"bucket": plain(row.inputs["bucket"]), "key": str(row.inputs["key"])}


EFFECTS: dict[str, Effect] = {
    BUCKET: Bucket(),
    BUCKET_ACL: Buckets(),
    BUCKET_POLICY: BucketPolicy(),
    ITEM: Item(),
}
