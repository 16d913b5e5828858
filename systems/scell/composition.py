"""Scell.io on one host: network, firewall, reserved address, names, nginx with certificates, the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi import Output, ResourceOptions

from components.app import static_site
from components.base import Seal, SealArgs
from components.cloud import (
    Cloud,
    DnsArgs,
    DnsRecord,
    FirewallArgs,
    Instance,
    InstanceArgs,
    NetworkArgs,
    ReservedIpArgs,
    ReverseDnsArgs,
    Rule,
    Scope,
)
from components.host.access import HostAccess, HostAccessArgs, HostKeys
from components.host.baseline import BaselineArgs, baseline
from components.remote.runner import Step
from components.web import server
from config.model import Admin, Stack
from systems.scell.config import ScellConfig

NAME = "scell"
WORLD = ("0.0.0.0/0",)


def build(stack: Stack, config: ScellConfig, cloud: Cloud) -> Mapping[str, Any]:
    """The whole system on ``cloud``; returns addresses, what is live, and its operators' way in (secret)."""
    scope = Scope(
        system=NAME,
        environment=stack.environment,
        region=config.region,
        zone=config.zone,
        keep_data=stack.keep_data,
    )
    network = cloud.network(NAME, NetworkArgs(scope=scope, cidr=config.network.cidr))
    firewall = cloud.firewall(NAME, FirewallArgs(scope=scope, inbound=_inbound(stack.admin)))
    keys = HostKeys(NAME, HostAccessArgs(scope=scope, user=stack.admin.user, keys=stack.admin.keys)).outputs
    address = cloud.reserved_ip(NAME, ReservedIpArgs(scope=scope, adopt=config.reserved_ip.adopt))
    instance = cloud.instance(
        NAME,
        InstanceArgs(
            scope=scope,
            size=config.instance.size,
            image=config.instance.image,
            access=keys.access,
            network=network,
            firewall=firewall,
            reserved_ip=address,
        ),
    )
    names = cloud.dns(
        NAME,
        DnsArgs(
            scope=scope,
            zone=config.dns.zone,
            records=[
                DnsRecord(name=_within(name, config.dns.zone), type="A", value=address.address)
                for name in (*config.site.names, *config.dns.names)
            ],
            manage=config.dns.manage,
            adopt=config.dns.adopt,
        ),
    )
    cloud.reverse_dns(
        NAME,
        ReverseDnsArgs(scope=scope, ip=address, hostname=config.site.name),
        ResourceOptions(depends_on=[names.resource]),
    )
    release = _host(stack, config, scope, instance, keys)
    Seal(NAME, SealArgs(scope=scope))
    return {
        "urls": [f"https://{name}/" for name in config.site.names],
        "address": address.address,
        "host": instance.public_ip,
        "name_servers": names.name_servers,
        "release": release.outputs.facts,
        "operator": _operator(instance),
    }


def _operator(instance: Instance) -> Output[Mapping[str, Any]]:
    """What `python -m tasks` reads: the program's own way to the host. Secret as a whole."""
    connection = instance.connection
    return Output.secret(
        {
            "host": connection.host,
            "port": connection.port,
            "user": connection.user,
            "private_key": connection.private_key,
            "host_key": connection.host_key,
        }
    )


def _inbound(admin: Admin) -> Sequence[Rule]:
    return (
        Rule(protocol="tcp", port="22", sources=admin.cidrs, description="SSH for administrators"),
        Rule(protocol="tcp", port="80", sources=WORLD, description="HTTP, for certificates and redirects"),
        Rule(protocol="tcp", port="443", sources=WORLD, description="HTTPS"),
        Rule(protocol="icmp", port=None, sources=WORLD, description="ICMP, for path MTU and ping"),
    )


def _within(name: str, zone: str) -> str:
    """The name relative to its zone, "" for the zone itself."""
    return name.removesuffix(zone).removesuffix(".")


def _host(stack: Stack, config: ScellConfig, scope: Scope, instance: Instance, keys: HostAccess) -> Step:
    """What happens on the host; the release builds while the web server is set up."""
    host = config.host
    first = baseline(
        f"{NAME}-bootstrap",
        BaselineArgs(
            scope=scope,
            instance=instance,
            host=NAME,
            user=stack.admin.user,
            keys=stack.admin.keys,
            deploy_key=keys.deploy_key,
            admin_cidrs=stack.admin.cidrs,
            packages=(*server.PACKAGES, *static_site.PACKAGES),
            public_ports=(80, 443),
            private_ranges=(config.network.cidr,),
            timezone=host.timezone,
            swap_gb=host.swap_gb,
            upgrades=host.unattended_upgrades.enabled,
            reboot=host.unattended_upgrades.reboot,
            reboot_time=host.unattended_upgrades.reboot_time,
            max_retry=host.fail2ban.max_retry,
            find_minutes=host.fail2ban.find_minutes,
            ban_minutes=host.fail2ban.ban_minutes,
            journal_mb=host.logs.journal_mb,
            keep_days=host.logs.keep_days,
        ),
    )
    after = ResourceOptions(depends_on=[first])
    server.web_server(
        f"{NAME}-web",
        server.WebServerArgs(
            scope=scope,
            instance=instance,
            host=NAME,
            sites=[server.SinglePageSite(names=config.site.names, root=static_site.site_root(NAME))],
            email=config.certificates.email,
            directory=config.certificates.directory,
            http2_listen=config.instance.image == "debian-12",
            keep_days=host.logs.keep_days,
        ),
        after,
    )
    return static_site.static_site(
        f"{NAME}-release",
        static_site.StaticSiteArgs(
            scope=scope,
            instance=instance,
            host=NAME,
            app=NAME,
            repository=config.frontend.repository,
            release=config.frontend.release,
            node=config.frontend.node,
            variables=config.frontend.variables,
            deploy_key=stack.secrets[NAME].get("deploy_key"),
        ),
        after,
    )
