"""What a stack is going to ask of a cloud, in words every cloud understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.model import Stack, System
from preflight.reader import Reader
from preflight.report import Check


@dataclass(frozen=True, kw_only=True)
class Database:
    """A managed PostgreSQL; ``adopt`` is the id of one that exists."""

    version: str
    size: str
    volume_gb: int
    high_availability: bool = False
    adopt: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A managed Redis."""

    version: str
    size: str


@dataclass(frozen=True, kw_only=True)
class Files:
    """A bucket, and the identities that are to manage it, as the cloud writes them."""

    name: str
    managers: tuple[str, ...]
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Git repository and the tag or commit that is to run."""

    repository: str
    release: str


@dataclass(frozen=True, kw_only=True)
class Needs:
    """One system's. ``names`` get an A record in ``dns_zone``."""

    system: str
    cloud: str
    region: str
    zone: str
    size: str
    image: str
    dns_zone: str
    dns_managed: bool
    dns_adopt: str | None
    names: tuple[str, ...]
    address: str | None = None
    database: Database | None = None
    cache: Cache | None = None
    files: Files | None = None
    mail: str | None = None
    mail_adopt: str | None = None
    sources: tuple[Source, ...] = ()
    directory: str | None = None


class Cloud(Protocol):
    """What a cloud adds: one module each, named in :data:`preflight.__main__.CLOUDS`."""

    def __call__(
        self, needs: Sequence[Needs], environment: str, settings: Mapping[str, Any], reader: Reader
    ) -> list[Check]:
        """Its checks. ``settings``: the stack file's of this cloud's provider, without encrypted values."""
        ...


def needs(stack: Stack) -> Iterator[Needs]:
    """Every system's, in the order of the file."""
    for name, system in stack.systems.items():
        yield _needs(name, system)


def _needs(name: str, system: System) -> Needs:
    # By the words all systems share: `config/` checked the values, and a noun a system lacks is None.
    get = _Words(system)
    pages = [get("site", "name"), *(get("site", "aliases") or ()), *(get("dns", "names") or ())]
    pointed = (*pages, get("backend", "name")) if get("dns", "point") is not False else ()
    names = tuple(dict.fromkeys(each for each in pointed if each))
    return Needs(
        system=name,
        cloud=str(get("cloud")),
        region=str(get("region")),
        zone=str(get("zone")),
        size=str(get("instance", "size")),
        image=str(get("instance", "image")),
        dns_zone=str(get("dns", "zone")),
        dns_managed=bool(get("dns", "manage")),
        dns_adopt=get("dns", "adopt"),
        names=names,
        address=get("reserved_ip", "adopt"),
        database=Database(
            version=str(get("postgres", "version")),
            size=get("postgres", "size"),
            volume_gb=get("postgres", "volume_gb") or 0,
            high_availability=bool(get("postgres", "high_availability")),
            adopt=get("postgres", "adopt"),
            settings=get("postgres", "settings") or {},
        )
        if get("postgres")
        else None,
        cache=Cache(version=get("redis", "version"), size=get("redis", "size")) if get("redis") else None,
        files=Files(
            name=get("bucket", "name"),
            managers=tuple(get("bucket", "managers") or ()),
            adopt=get("bucket", "adopt"),
        )
        if get("bucket")
        else None,
        mail=get("mail", "domain"),
        mail_adopt=get("mail", "adopt"),
        sources=tuple(
            Source(repository=get(part, "repository"), release=get(part, "release"))
            for part in ("frontend", "backend")
            if get(part)
        ),
        directory=get("certificates", "directory"),
    )


class _Words:
    """``get("postgres", "size")`` of a system's config; None where a part is absent."""

    def __init__(self, system: System) -> None:
        self._system = system

    def __call__(self, *path: str) -> Any:
        value: Any = self._system
        for part in path:
            value = getattr(value, part, None)
        return value
