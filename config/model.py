"""The model of one stack file, without the systems: those register themselves (see :class:`Registry`).

Everything here is plain, frozen data. What a field alone cannot know (region and zone agree, ranges do not
overlap …) is a :class:`Finding` of :meth:`System.checks` or of ``config.checks``; those run on whatever parts
of the file are sound, so that all problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny, SkipValidation

from config.types import AdminCidr, Items, SshPublicKey, UserName

if TYPE_CHECKING:
    import pulumi


class Section(BaseModel):
    """A table of the stack file: unknown keys refused, nothing converted, changed or printed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        validate_default=True,
    )


@dataclass(frozen=True)
class Finding:
    """One broken rule: ``path`` from the section that was checked, list positions as numbers."""

    path: tuple[str | int, ...]
    rule: str
    remedy: str


class Size(Protocol):
    """What an instance of one size is; ``memory_gb`` as the cloud prints it."""

    @property
    def vcpu(self) -> int: ...
    @property
    def memory_gb(self) -> float: ...
    @property
    def arch(self) -> str: ...


class Node(Protocol):
    """A node of a managed database or cache; ``volume_min_gb`` is its smallest volume."""

    @property
    def memory_gb(self) -> float: ...
    @property
    def volume_min_gb(self) -> int: ...
    @property
    def ha_required(self) -> bool: ...


class Catalogue(Protocol):
    """What one cloud sells, as far as a stack file can be wrong about it."""

    def zones(self) -> Mapping[str, str]:
        """Every zone, with its region."""
        ...

    def sizes(self, zone: str) -> Mapping[str, Size]:
        """The sizes of instances offered in ``zone``; empty for a zone that does not exist."""
        ...

    def databases(self, place: str) -> Mapping[str, Node]:
        """Sizes of managed PostgreSQL in a region; empty for one that does not exist."""
        ...

    def caches(self, place: str) -> Mapping[str, Node]:
        """Sizes of managed Redis in a zone; empty for one that does not exist."""
        ...

    def postgres_versions(self) -> Sequence[int]:
        """Major versions of PostgreSQL that are offered, ascending."""
        ...

    def redis_versions(self) -> Sequence[str]:
        """Versions of Redis that are offered, ascending."""
        ...


@dataclass(frozen=True)
class Secret:
    """A value that comes from outside and cannot be generated; ``kind`` says what it looks like.

    ``certificate`` and ``certificate-key`` are PEM; where a system has one of each, they belong together.
    """

    meaning: str
    kind: Literal["text", "ssh-private-key", "app-key", "certificate", "certificate-key"] = "text"
    usual: bool = True
    """Whether most stacks with this system need it."""


class System(Section):
    """Base of every system's config: where it runs, and which secrets it takes.

    A subclass declares ``cloud`` itself (it knows which clouds it is built for), names its secrets in
    :attr:`SECRETS` and overrides :meth:`needed_secrets` where one depends on the rest of its config.
    """

    SECRETS: ClassVar[Mapping[str, Secret]] = {}

    def needed_secrets(self) -> Iterable[str]:
        """The secrets that must be there for this config."""
        return self.SECRETS

    def checks(self, world: World) -> Iterable[Iterator[Finding]]:
        """Cross checks, one iterator per rule, so that one that cannot be judged does not hide the others."""
        return ()

    def networks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Path and range of every private network this system makes; no two in a stack may overlap."""
        yield from ()

    def managed_zones(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Path and name of every DNS zone this system owns; a zone has one owner."""
        yield from ()

    def names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Path and name of every public name this system answers; no two in a stack may be the same."""
        yield from ()

    def remarks(self, environment: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Path and advice of what is allowed but will not work on a real account as it stands."""
        yield from ()


class Admin(Section):
    """Who may administer the hosts, and from where."""

    user: UserName = Field("ops", description="Login on every host; may use sudo. root cannot log in.")
    cidrs: Items[AdminCidr] = Field(
        min_length=1,
        description="IPv4 ranges SSH is open to, in the cloud's and in the host's firewall. To move, "
        "add the new range and `up` before you delete the old one: docs/operations.md.",
        examples=[["203.0.113.0/29"]],
    )
    keys: Items[SshPublicKey] = Field(
        (),
        description="Public keys of the people who administer; a leaver's key goes by deleting its line. "
        "At least one in production.",
        examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… ada@laptop"]],
    )


Environment = Literal["production", "staging", "development", "sandbox"]


class Secrets(Mapping[str, Mapping[str, "pulumi.Output[str]"]]):
    """``stack.secrets["scell"]["deploy_key"]``: every value is a secret output, none can be printed.

    A system without secrets has an empty mapping; a name that was not given raises KeyError.
    """

    def __init__(self, values: Mapping[str, Mapping[str, pulumi.Output[str]]] | None = None) -> None:
        self._values = {system: dict(named) for system, named in (values or {}).items()}

    def __getitem__(self, system: str) -> Mapping[str, pulumi.Output[str]]:
        return self._values.get(system, {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(f'{s}.{n}' for s, named in self._values.items() for n in named)})"


class Systems(Section):
    """The systems in this stack, by name; leave out what it does not run."""

    model_config = ConfigDict(validate_default=False)  # None only says: not in this stack


class Stack(Section):
    """One stack: an environment and the systems in it."""

    environment: Environment = Field(
        description="What this stack is for; production is guarded more strictly.", examples=["production"]
    )
    data: Literal["keep", "delete"] = Field(
        "keep",
        description="Whether what holds data (databases, buckets, volumes, addresses, zones) is protected.",
    )
    confirm_delete: str | None = Field(
        None,
        description="Name of this stack: confirms `data: delete` in production. Part of ending a system: "
        "both keys, `pulumi up`, `pulumi destroy`.",
        examples=["prod"],
    )
    admin: Admin = Field(description="Who may administer the hosts, and from where.")
    systems: Mapping[str, SerializeAsAny[SkipValidation[System]]] = Field(
        description="The systems in this stack, by name."
    )

    _secrets: Secrets = PrivateAttr(default_factory=Secrets)

    @property
    def secrets(self) -> Secrets:
        """Outside secrets by system and name, only ever as ``Output.secret``; empty after a bare parse."""
        return self._secrets

    def with_secrets(self, secrets: Secrets) -> Self:
        """This stack, holding ``secrets``."""
        stack = self.model_copy()
        stack._secrets = secrets
        return stack

    @property
    def keep_data(self) -> bool:
        """Whether what holds data is protected."""
        return self.data == "keep"


@dataclass(frozen=True)
class Registry:
    """What ``systems/`` offers to the config: each system's model, and what each cloud sells."""

    systems: Mapping[str, type[System]]
    catalogues: Mapping[str, Catalogue] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What a system's checks may ask about; ``environment`` is None where the file gets that wrong."""

    environment: str | None
    catalogues: Mapping[str, Catalogue]
