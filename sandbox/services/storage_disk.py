"""Buckets and objects of moto on disk: what was answered "stored" survives a kill and a start of the machine.

moto keeps all in memory. Here the bodies of objects are files, and everything else is a row of SQLite each (a
bucket, all versions of one object, an upload in parts), written by one transaction after each request that
changed something and before it is answered.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from moto.core.common_models import BaseModel
from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.settings import S3_UPLOAD_PART_MIN_SIZE

SCHEMA = """
create table if not exists entries (
    bucket text not null, kind text not null, name text not null, data blob not null, bodies text not null,
    primary key (bucket, kind, name))
"""
ACCOUNT, PARTITION = "123456789012", "aws"  # moto's own: Scaleway's projects are in Meta
CONTENTS = ("keys", "multiparts")  # of a bucket: entries of their own
BODIES: Path | None = None  # where bodies are; set when a Disk is opened


@dataclass
class Meta:
    """What a bucket has at Scaleway and not in moto. ``row``: its id in the inventory, None if made over S3.

    ``applied`` is a digest of the settings that were taken from the inventory last.
    """

    project: str
    row: str | None = None
    applied: str = ""
    policy: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """A body that is on disk already; ``name`` of its file, ``size`` in bytes."""

    name: str
    size: int


def store(pieces: Iterable[bytes]) -> Stored:
    """Write a body. One that raises on the way leaves nothing."""
    path, size = _bodies() / uuid.uuid4().hex, 0
    try:
        with path.open("xb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Stored(path.name, size)


class Key(models.FakeKey):
    """An object whose body is a file; the file goes when the row that names it does."""

    body = ""

    @property
    def value(self) -> bytes:
        """The whole body."""
        return (_bodies() / self.body).read_bytes()

    @value.setter
    def value(self, new: bytes | Stored) -> None:
        stored = new if isinstance(new, Stored) else store([new])
        self.body, self.contentsize = stored.name, stored.size
        if isinstance(new, bytes) and self._etag is None:
            self._etag = hashlib.md5(new, usedforsecurity=False).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_value_buffer", "lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def dispose(self, garbage: bool = False) -> None:
        """Nothing: moto closes its temporary file here."""

    def __del__(self) -> None:
        """Nothing either."""


def new_bucket(name: str, region: str) -> models.FakeBucket:
    """An empty one, which the caller puts into the backend."""
    made: models.FakeBucket = cast(Any, models.FakeBucket)(name, ACCOUNT, region)  # abstract, says moto
    return made


class Upload(models.FakeMultipart):
    """An upload in parts that never has the whole object in memory."""

    def complete(self, body: Iterable[tuple[int, str]]) -> Any:
        """Body, entity tag and no checksum; ``body`` is what the client says the parts are."""
        digests: list[bytes] = []

        def pieces() -> Iterator[bytes]:
            last = None
            for number, etag in body:
                part = self.parts.get(number)
                if part is None or part.etag.strip('"') != etag.strip('"'):
                    raise InvalidPart
                if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
                    raise EntityTooSmall
                last = part
                digests.append(bytes.fromhex(part.etag.strip('"')))
                yield part.value

        stored = store(pieces())
        if not digests:
            (_bodies() / stored.name).unlink()
            raise MalformedXML
        digest = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        return stored, f"{digest}-{len(digests)}", None


def _bodies() -> Path:
    if BODIES is None:
        raise RuntimeError("no Disk is open")
    return BODIES


def _untracked(cls: type[BaseModel], *_: object, **__: object) -> BaseModel:
    return object.__new__(cls)


# moto remembers every model ever made, for its resets: a server would grow with each request.
BaseModel.__new__ = _untracked  # type: ignore[method-assign]
models.FakeKey = Key  # type: ignore[misc]
models.FakeMultipart = Upload  # type: ignore[misc]


class Disk:
    """The stored state of one checkout, in ``directory``. Not for several threads at once."""

    def __init__(self, directory: Path) -> None:
        global BODIES  # unpickling a Key knows no Disk
        self.bodies = directory / "bodies"
        self.bodies.mkdir(mode=0o700, parents=True, exist_ok=True)
        BODIES = self.bodies
        self.backend: models.S3Backend = models.s3_backends[ACCOUNT][PARTITION]
        self._db = sqlite3.connect(directory / "objects.db", isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")  # on disk when a transaction ends, in this mode too
        self._db.execute(SCHEMA)
        self._load()

    def _load(self) -> None:
        named = set()
        for kind in ("bucket", "object", "upload"):
            rows = self._db.execute("select bucket, name, data, bodies from entries where kind=?", (kind,))
            for bucket_name, name, data, bodies in rows:
                named.update(json.loads(bodies))
                found = pickle.loads(data)  # noqa: S301 - this program's own, readable by its owner only
                if kind == "bucket":
                    bucket = new_bucket(bucket_name, found["region_name"])
                    vars(bucket).update(found)
                    self.backend.buckets[bucket_name] = bucket
                    continue
                bucket = self.backend.buckets[bucket_name]
                if kind == "upload":
                    dict.__setitem__(bucket.multiparts, name, found)
                    continue
                bucket.keys.setlist(name, found["versions"])
                self.backend.tagger.tags.update(found["tags"])
        for path in self.bodies.iterdir():
            if path.name not in named:  # of a request that was killed before its end
                path.unlink()

    def save(self, bucket: models.FakeBucket, objects: Iterable[str] | None = None) -> None:
        """Write a bucket and these objects of it (None: all) with their uploads; it is on disk afterwards."""
        names = (
            set(self._names(bucket.name, "object")) | set(bucket.keys) if objects is None else set(objects)
        )
        uploads = {
            id: upload
            for id, upload in bucket.multiparts.items()
            if objects is None or upload.key_name in names
        }
        over = set(self._names(bucket.name, "upload")) - set(bucket.multiparts)
        dropped: set[str] = set()
        self._db.execute("begin immediate")
        try:
            settings = {name: value for name, value in vars(bucket).items() if name not in CONTENTS}
            dropped |= self._put(bucket.name, "bucket", "", settings, ())
            for name in names:
                versions = bucket.keys.getlist(name, [])
                for version in versions:
                    version.multipart = None  # its parts are in the object by now
                kept = [version.body for version in versions if isinstance(version, Key)]
                tags = {
                    version.arn: tags
                    for version in versions
                    if isinstance(version, Key) and (tags := self.backend.tagger.tags.get(version.arn))
                }
                entry = {"versions": versions, "tags": tags} if versions else None
                dropped |= self._put(bucket.name, "object", name, entry, kept)
            for id, upload in uploads.items():
                parts = [part.body for part in upload.parts.values() if isinstance(part, Key)]
                dropped |= self._put(bucket.name, "upload", id, upload, parts)
            for id in over:
                dropped |= self._put(bucket.name, "upload", id, None, ())
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")
        self._clear(dropped)

    def forget(self, name: str) -> None:
        """Drop a bucket with all that is in it."""
        rows = self._db.execute("select bodies from entries where bucket=?", (name,)).fetchall()
        self._db.execute("delete from entries where bucket=?", (name,))
        self._clear({body for (bodies,) in rows for body in json.loads(bodies)})
        models.s3_backends.bucket_accounts.pop(name, None)
        self.backend.buckets.pop(name, None)

    def _names(self, bucket: str, kind: str) -> list[str]:
        rows = self._db.execute("select name from entries where bucket=? and kind=?", (bucket, kind))
        return [name for (name,) in rows]

    def _put(self, bucket: str, kind: str, name: str, value: Any, bodies: Iterable[str]) -> set[str]:
        """Replace one entry (None: remove it); the bodies that nobody names any more."""
        where = (bucket, kind, name)
        found = self._db.execute(
            "select bodies from entries where bucket=? and kind=? and name=?", where
        ).fetchone()
        if value is None:
            self._db.execute("delete from entries where bucket=? and kind=? and name=?", where)
        else:
            data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
            self._db.execute(
                "insert or replace into entries values (?, ?, ?, ?, ?)",
                (*where, data, json.dumps(list(bodies))),
            )
        return set(json.loads(found[0]) if found else ()) - set(bodies)

    def _clear(self, bodies: Iterable[str]) -> None:
        for body in bodies:
            (self.bodies / body).unlink(missing_ok=True)


def meta(bucket: models.FakeBucket) -> Meta:
    """What the bucket has beside moto's own."""
    found: Meta = vars(bucket)["berth"]
    return found
