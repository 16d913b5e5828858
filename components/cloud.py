"""The vocabulary every cloud speaks: Args in, neutral outputs out.

A cloud package (``components/scaleway`` …) implements :class:`Cloud` with one component per noun.
``systems/`` composes through this module only, so a system moves to another cloud by one word of its
stack file. What a cloud cannot do is a :class:`Unsupported` error at build time, never a silent gap.

Conventions: sizes keep the cloud's own names; ``*_gb`` are 10^9 bytes as the providers print them;
addresses are text without a prefix length, ranges are CIDR text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Literal, Protocol
from urllib.parse import quote

import pulumi
from pulumi import Input, Output, ResourceOptions


class Unsupported(Exception):
    """A cloud was asked for something it does not sell; the message names the way around."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a resource stands and whom it belongs to; the first field of every Args class.

    ``keep_data``: resources that hold data are protected (``data: keep`` in the stack file).
    """

    system: str
    environment: str
    region: str
    zone: str
    keep_data: bool = True
    project_id: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What every taggable resource carries, so that a bill or an orphan can be traced."""
        return {
            "managed-by": "berth",
            "berth-environment": self.environment,
            "berth-system": self.system,
        }


# ---------------------------------------------------------------- network, firewall, address


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """One private network; ``cidr`` is its IPv4 range."""

    scope: Scope
    cidr: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """``id`` is the cloud's identifier of what instances and databases attach to."""

    id: Output[str]
    cidr: Output[str]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Traffic let in: ``port`` is one port, a range ``8000-8010`` or None for a whole protocol.

    ValueError for SSH from everywhere, whether its port is named or lies within what is opened.
    """

    protocol: Literal["tcp", "udp", "icmp"]
    port: str | None
    sources: Sequence[str]
    description: str

    def __post_init__(self) -> None:
        first, _, last = (self.port or "0-65535").partition("-")
        ssh = self.protocol == "tcp" and int(first) <= 22 <= int(last or first)
        if ssh and any(ip_network(source).prefixlen == 0 for source in self.sources):
            raise ValueError(
                f"rule {self.description!r} opens SSH (port 22) to the world; name the admins' ranges"
            )


@dataclass(frozen=True, kw_only=True)
class FirewallArgs:
    """Everything inbound that no rule lets in is dropped; outbound is open.

    ``smtp``: also to ports 25, 465 and 587, which clouds close unless asked (and open only for accounts whose
    support has agreed).
    """

    scope: Scope
    inbound: Sequence[Rule]
    smtp: bool = False


@dataclass(frozen=True, kw_only=True)
class Firewall:
    id: Output[str]


@dataclass(frozen=True, kw_only=True)
class ReservedIpArgs:
    """A public IPv4 address that outlives its instance. ``adopt``: id of an existing one."""

    scope: Scope
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReservedIp:
    id: Output[str]
    address: Output[str]


@dataclass(frozen=True, kw_only=True)
class ReverseDnsArgs:
    """The name an address resolves back to; the forward record must exist first."""

    scope: Scope
    ip: ReservedIp
    hostname: str


# ---------------------------------------------------------------- instance


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a new host is entered: made by ``components/host/access.py``, cloud-neutral.

    ``cloud_init`` carries the admin user, the public keys and the host key (secret: it holds the host's
    private key). ``host_key`` is the public half, pinned in every connection.
    """

    user: str
    cloud_init: Output[str]
    private_key: Output[str]
    host_key: Output[str]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Everything needed to reach a host over SSH; turned into pulumi-command's by components/remote."""

    host: Output[str]
    user: str
    private_key: Output[str]
    host_key: Output[str]
    port: int = 22


@dataclass(frozen=True, kw_only=True)
class InstanceArgs:
    """A host. ``stateful``: it holds data, so it is protected and never replaced by a new image.

    ``disk_gb``: root disk where the cloud sells it apart from the size, None for what suits the size.
    """

    scope: Scope
    size: str
    image: Literal["debian-12", "debian-13"]
    access: Access
    network: Network
    firewall: Firewall
    reserved_ip: ReservedIp | None = None
    volumes: Sequence[Volume] = ()
    disk_gb: int | None = None
    stateful: bool = False


@dataclass(frozen=True, kw_only=True)
class Instance:
    """``resource`` is what commands are tied to with ``deleted_with`` and ``replace_with``."""

    id: Output[str]
    public_ip: Output[str]
    private_ip: Output[str]
    connection: Connection
    resource: pulumi.Resource


# ---------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class VolumeArgs:
    """Block storage that survives its instance. ``iops`` as the cloud sells it, None for its default."""

    scope: Scope
    size_gb: int
    iops: int | None = None
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Volume:
    id: Output[str]


@dataclass(frozen=True, kw_only=True)
class PostgresArgs:
    """Managed PostgreSQL on the private network only. ``databases`` maps database to owner's name.

    ``adopt``: id of an existing instance; ``existing_databases`` and ``existing_users`` are those of
    ``databases`` it holds already, which are taken over with it. Its administrator and those users get new
    passwords, and the rules of who may connect become those of here.
    """

    scope: Scope
    version: int
    size: str
    network: Network
    databases: Mapping[str, str]
    volume_gb: int | None = None
    high_availability: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    backup_every_hours: int = 24
    backup_keep_days: int = 30
    adopt: str | None = None
    existing_databases: Collection[str] = ()
    existing_users: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class DatabaseLogin:
    user: str
    password: Output[str]


@dataclass(frozen=True, kw_only=True)
class DatabaseAdmin:
    """Makes extensions and grants; for steps that prepare a database, never for an application."""

    user: Output[str]
    password: Output[str]


@dataclass(frozen=True, kw_only=True)
class Postgres:
    host: Output[str]
    port: Output[int]
    admin: DatabaseAdmin
    databases: Mapping[str, DatabaseLogin]
    ca_certificate: Output[str]

    def url(self, name: str) -> Output[str]:
        """``postgresql://…`` of one database, TLS verified; secret. KeyError for an unknown name."""
        login = self.databases[name]
        return Output.secret(
            Output.all(self.host, self.port, login.password).apply(
                lambda v: (
                    f"postgresql://{quote(login.user)}:{quote(v[2], safe='')}@{v[0]}:{int(v[1])}/{name}"
                    "?sslmode=verify-full"
                )
            )
        )


@dataclass(frozen=True, kw_only=True)
class RedisArgs:
    """Managed Redis (Valkey where the cloud sells that) with TLS, on the private network only.

    ``adopt``: id of an existing one, with TLS; its login and its password become those made here.
    """

    scope: Scope
    version: str
    size: str
    network: Network
    nodes: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Redis:
    host: Output[str]
    port: Output[int]
    user: str
    password: Output[str]
    tls: bool
    ca_certificate: Output[str]

    def url(self, db: int = 0) -> Output[str]:
        """``rediss://…/<db>``; secret."""
        scheme = "rediss" if self.tls else "redis"
        return Output.secret(
            Output.all(self.host, self.port, self.password).apply(
                lambda v: f"{scheme}://{quote(self.user)}:{quote(v[2], safe='')}@{v[0]}:{int(v[1])}/{db}"
            )
        )


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """Objects under ``prefix`` are deleted after ``days``."""

    prefix: str
    days: int


@dataclass(frozen=True, kw_only=True)
class BucketArgs:
    """A private bucket with a key of its own that opens nothing else.

    ``managers``: the cloud's identities that keep full access besides that key, first of all the one this
    program runs as. Scaleway: ``application_id:<uuid>`` or ``user_id:<uuid>``, at least one.
    """

    scope: Scope
    bucket: str
    managers: Sequence[str] = ()
    versioning: bool = True
    expire: Sequence[Expiry] = ()
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bucket:
    name: Output[str]
    endpoint: Output[str]
    region: str
    access_key: Output[str]
    secret_key: Output[str]


# ---------------------------------------------------------------- names, balancer, mail


@dataclass(frozen=True, kw_only=True)
class DnsRecord:
    """``name`` is relative to the zone, "" for the apex; one value per record."""

    name: str
    type: Literal["A", "AAAA", "CNAME", "TXT", "MX", "CAA", "SRV", "NS"]
    value: Input[str]
    ttl: int = 300
    priority: int | None = None


@dataclass(frozen=True, kw_only=True)
class DnsArgs:
    """Records of one zone. ``manage``: this stack also owns the zone itself (protected)."""

    scope: Scope
    zone: str
    records: Sequence[DnsRecord]
    manage: bool = False
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dns:
    """``resource`` is what to wait for (``depends_on``) where the names must stand first.

    ``owned`` is the zone alone, where this stack makes it: who only puts records of its own into it waits for
    that, and one record that fails does not hold it back.
    """

    zone: str
    name_servers: Output[Sequence[str]]
    resource: pulumi.Resource
    owned: pulumi.Resource | None = None


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a balancer asks a target before it sends it traffic."""

    path: str = "/health"
    port: int = 80
    interval_seconds: int = 10
    timeout_seconds: int = 5
    retries: int = 3


@dataclass(frozen=True, kw_only=True)
class LoadBalancerArgs:
    """Terminates TLS for ``names``, sends plain HTTP to the targets' private addresses, redirects port 80.

    The names' A records are made in ``zone`` by the balancer itself: its certificate is issued only once they
    point at it, so they stand between its address and its certificate.
    """

    scope: Scope
    size: str
    network: Network
    targets: Sequence[Output[str]]
    names: Sequence[str]
    zone: str
    target_port: int = 80
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    address: Output[str]


@dataclass(frozen=True, kw_only=True)
class EmailArgs:
    """A sending domain; its SPF, DKIM, DMARC and MX records are made in ``zone``.

    ``adopt``: id of one that sends already: its records stand, and are left as they are.
    """

    scope: Scope
    domain: str
    zone: str
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Email:
    host: Output[str]
    port: Output[int]
    user: Output[str]
    password: Output[str]


class Cloud(Protocol):
    """One cloud: each method makes one component named ``name`` and returns its neutral outputs."""

    name: str

    def network(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> Network: ...
    def firewall(self, name: str, args: FirewallArgs, opts: ResourceOptions | None = None) -> Firewall: ...
    def reserved_ip(
        self, name: str, args: ReservedIpArgs, opts: ResourceOptions | None = None
    ) -> ReservedIp: ...
    def reverse_dns(self, name: str, args: ReverseDnsArgs, opts: ResourceOptions | None = None) -> None: ...
    def instance(self, name: str, args: InstanceArgs, opts: ResourceOptions | None = None) -> Instance: ...
    def volume(self, name: str, args: VolumeArgs, opts: ResourceOptions | None = None) -> Volume: ...
    def postgres(self, name: str, args: PostgresArgs, opts: ResourceOptions | None = None) -> Postgres: ...
    def redis(self, name: str, args: RedisArgs, opts: ResourceOptions | None = None) -> Redis: ...
    def bucket(self, name: str, args: BucketArgs, opts: ResourceOptions | None = None) -> Bucket: ...
    def dns(self, name: str, args: DnsArgs, opts: ResourceOptions | None = None) -> Dns: ...
    def load_balancer(
        self, name: str, args: LoadBalancerArgs, opts: ResourceOptions | None = None
    ) -> LoadBalancer: ...
    def email(self, name: str, args: EmailArgs, opts: ResourceOptions | None = None) -> Email: ...
