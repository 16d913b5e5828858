"""One full set of arguments for every noun, shared by the contracts: every field is given a value of its own.

``build`` runs a noun the way ``systems/`` does, through the Cloud protocol, so that a cloud which registers
itself in ``components.clouds`` is under every contract without another line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pulumi

from components import cloud
from components.base import Seal, SealArgs
from components.clouds import CLOUDS

PROJECT = "11111111-2222-4333-8444-555555555555"
MANAGER = "application_id:66666666-7777-4888-9999-aaaaaaaaaaaa"

PLACES: Mapping[str, tuple[str, str]] = {"scaleway": ("fr-par", "fr-par-1")}
"""Region and zone the samples stand in, by cloud."""

SIZES: Mapping[str, Mapping[str, str]] = {
    "scaleway": {"server": "DEV1-M", "database": "DB-DEV-S", "cache": "RED1-MICRO", "load-balancer": "LB-S"}
}


def scope(of: str, *, keep_data: bool = True, system: str = "scell") -> cloud.Scope:
    """The scope of the samples on one cloud."""
    region, zone = PLACES[of]
    return cloud.Scope(
        system=system,
        environment="production",
        region=region,
        zone=zone,
        keep_data=keep_data,
        project_id=PROJECT,
    )


def access(prefix: str = "") -> cloud.Access:
    """How the sample host is entered."""
    return cloud.Access(
        user="ops",
        cloud_init=pulumi.Output.secret(f"#cloud-config\n# {prefix}"),
        private_key=pulumi.Output.secret("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
        host_key=pulumi.Output.from_input("ssh-ed25519 AAAAC3Nza"),
    )


def network() -> cloud.Network:
    """A network made elsewhere."""
    return cloud.Network(
        id=pulumi.Output.from_input("fr-par/aaaaaaaa-0000-4000-8000-000000000001"),
        cidr=pulumi.Output.from_input("10.20.0.0/24"),
    )


def firewall() -> cloud.Firewall:
    """A firewall made elsewhere."""
    return cloud.Firewall(id=pulumi.Output.from_input("fr-par-1/aaaaaaaa-0000-4000-8000-000000000002"))


def reserved_ip() -> cloud.ReservedIp:
    """An address made elsewhere."""
    return cloud.ReservedIp(
        id=pulumi.Output.from_input("fr-par-1/aaaaaaaa-0000-4000-8000-000000000003"),
        address=pulumi.Output.from_input("198.18.16.9"),
    )


def volume() -> cloud.Volume:
    """A volume made elsewhere."""
    return cloud.Volume(id=pulumi.Output.from_input("fr-par-1/aaaaaaaa-0000-4000-8000-000000000004"))


RULES = (
    cloud.Rule(protocol="tcp", port="22", sources=("203.0.113.0/29",), description="SSH of the admins"),
    cloud.Rule(protocol="tcp", port="80", sources=("0.0.0.0/0",), description="HTTP"),
    cloud.Rule(protocol="tcp", port="8000-8010", sources=("0.0.0.0/0", "::/0"), description="applications"),
    cloud.Rule(protocol="icmp", port=None, sources=("0.0.0.0/0",), description="ping"),
)


def arguments(noun: str, where: cloud.Scope, of: str) -> Any:
    """Arguments of one noun, made inside a program because they hold outputs. KeyError if unknown."""
    sizes = SIZES[of]
    makers: dict[str, Callable[[], Any]] = {
        "network": lambda: cloud.NetworkArgs(scope=where, cidr="10.20.0.0/24"),
        "firewall": lambda: cloud.FirewallArgs(scope=where, inbound=RULES, smtp=True),
        "reserved_ip": lambda: cloud.ReservedIpArgs(scope=where),
        "reverse_dns": lambda: cloud.ReverseDnsArgs(scope=where, ip=reserved_ip(), hostname="scell.io"),
        "instance": lambda: cloud.InstanceArgs(
            scope=where,
            size=sizes["server"],
            image="debian-12",
            access=access(),
            network=network(),
            firewall=firewall(),
            reserved_ip=reserved_ip(),
            volumes=(volume(),),
            disk_gb=50,
            stateful=True,
        ),
        "volume": lambda: cloud.VolumeArgs(scope=where, size_gb=25, iops=15000),
        "postgres": lambda: cloud.PostgresArgs(
            scope=where,
            version=17,
            size=sizes["database"],
            network=network(),
            databases={"scell_production": "scell", "scell_sandbox": "scell_sandbox"},
            volume_gb=25,
            high_availability=True,
            settings={"work_mem": "8"},
            backup_every_hours=12,
            backup_keep_days=14,
        ),
        "redis": lambda: cloud.RedisArgs(
            scope=where,
            version="7.2.5",
            size=sizes["cache"],
            network=network(),
            nodes=2,
            settings={"maxmemory-policy": "noeviction"},
        ),
        "bucket": lambda: cloud.BucketArgs(
            scope=where,
            bucket="scell-storage",
            managers=(MANAGER,),
            versioning=True,
            expire=(cloud.Expiry(prefix="tmp/", days=7),),
        ),
        "dns": lambda: cloud.DnsArgs(
            scope=where,
            zone="scell.io",
            manage=True,
            records=(
                cloud.DnsRecord(name="", type="A", value="198.18.16.9", ttl=300),
                cloud.DnsRecord(name="www", type="CNAME", value="scell.io.", ttl=600),
                cloud.DnsRecord(name="", type="TXT", value="v=one"),
                cloud.DnsRecord(name="", type="TXT", value="v=two"),
                cloud.DnsRecord(name="", type="MX", value="mx.scell.io.", priority=10),
            ),
        ),
        "load_balancer": lambda: cloud.LoadBalancerArgs(
            scope=where,
            size=sizes["load-balancer"],
            network=network(),
            targets=(pulumi.Output.from_input("10.20.0.11"), pulumi.Output.from_input("10.20.0.12")),
            names=("scell.io", "www.scell.io"),
            zone="scell.io",
            target_port=8080,
            health=cloud.Health(path="/up", port=8081, interval_seconds=11, timeout_seconds=6, retries=4),
        ),
        "email": lambda: cloud.EmailArgs(scope=where, domain="mail.scell.io", zone="scell.io"),
    }
    return makers[noun]()


NOUNS = (
    "network",
    "firewall",
    "reserved_ip",
    "reverse_dns",
    "instance",
    "volume",
    "postgres",
    "redis",
    "bucket",
    "dns",
    "load_balancer",
    "email",
)


def build(of: str, noun: str, name: str = "scell", **where: Any) -> Callable[[], Any]:
    """A program that makes one noun on one cloud; for ``mocks.run``."""

    def program() -> Any:
        return getattr(CLOUDS[of], noun)(name, arguments(noun, scope(of, **where), of))

    return program


def whole(of: str, system: str = "scell", *, keep_data: bool = True) -> Callable[[], Any]:
    """A program that makes every noun on one cloud, each out of what the ones before it returned."""

    def program() -> Any:
        clouds, sizes = CLOUDS[of], SIZES[of]
        where = scope(of, keep_data=keep_data, system=system)
        inside = clouds.network(system, arguments("network", where, of))
        wall = clouds.firewall(system, arguments("firewall", where, of))
        address = clouds.reserved_ip(system, arguments("reserved_ip", where, of))
        disk = clouds.volume(system, arguments("volume", where, of))
        host = clouds.instance(
            system,
            cloud.InstanceArgs(
                scope=where,
                size=sizes["server"],
                image="debian-13",
                access=access(),
                network=inside,
                firewall=wall,
                reserved_ip=address,
                volumes=(disk,),
            ),
        )
        names = clouds.dns(
            system,
            cloud.DnsArgs(
                scope=where,
                zone="scell.io",
                records=(cloud.DnsRecord(name="", type="A", value=address.address),),
            ),
        )
        clouds.reverse_dns(
            system,
            cloud.ReverseDnsArgs(scope=where, ip=address, hostname="scell.io"),
            pulumi.ResourceOptions(depends_on=[names.resource]),
        )
        data = clouds.postgres(system, replace(arguments("postgres", where, of), network=inside))
        cache = clouds.redis(system, replace(arguments("redis", where, of), network=inside))
        bucket = clouds.bucket(system, arguments("bucket", where, of))
        edge = clouds.load_balancer(
            system,
            replace(arguments("load_balancer", where, of), network=inside, targets=(host.private_ip,)),
        )
        mail = clouds.email(system, arguments("email", where, of))
        Seal(system, SealArgs(scope=where))
        return {
            "host": host,
            "address": address,
            "names": names,
            "data": data,
            "urls": [data.url("scell_production"), cache.url()],
            "cache": cache,
            "bucket": bucket,
            "edge": edge,
            "mail": mail,
        }

    return program
