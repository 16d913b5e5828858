"""Scell.io on one host, with managed data services beside it in one private network.

What takes minutes is waited for by nobody who can do without: the host is set up and the site built while the
database comes up, and only the release of the API waits for everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import Output, ResourceOptions

from components.app import laravel, static_site
from components.app.key import ApplicationKey, ApplicationKeyArgs
from components.base import Seal, SealArgs
from components.cloud import (
    Bucket,
    BucketArgs,
    Cloud,
    Dns,
    DnsArgs,
    DnsRecord,
    Email,
    EmailArgs,
    Expiry,
    FirewallArgs,
    Instance,
    InstanceArgs,
    Network,
    NetworkArgs,
    Postgres,
    PostgresArgs,
    Redis,
    RedisArgs,
    ReservedIpArgs,
    ReverseDnsArgs,
    Rule,
    Scope,
)
from components.data.database import DatabaseArgs, database
from components.data.postgresql_client import PostgresqlClientArgs, packages, postgresql_client
from components.host.access import HostAccess, HostAccessArgs, HostKeys
from components.host.baseline import BaselineArgs, baseline
from components.remote.runner import Step
from components.web import server
from config.model import Admin, Stack
from systems.scell.config import BackendConfig, ScellConfig
from systems.scell.environment import Environment, Services, environment

NAME = "scell"
WORLD = ("0.0.0.0/0",)


API = f"{NAME}-api"
"""The API's application: its directory below /srv, its user, its services."""

POSTGRES_CA, REDIS_CA = f"{NAME}-postgres", f"{NAME}-redis"
"""Names of the services' certificates on the host."""

STREAMS = "/mcp/stream"
HEALTH = "/health"

CORS_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
CORS_HEADERS = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Tenant-Key",
    "X-Scell-API-Key",
    "mcp-session-id",
)
"""What the site's pages may send to the API from a browser."""

STATISTICS = "pg_stat_statements"
"""The extension that tells slow queries; the server loads it already."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The services that the stack file asks for."""

    postgres: Postgres | None
    redis: Redis | None
    bucket: Bucket | None
    email: Email | None


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host, and all that its steps have in common."""

    scope: Scope
    instance: Instance
    memory_gb: float
    keys: HostAccess


def build(stack: Stack, config: ScellConfig, cloud: Cloud, memory_gb: float) -> Mapping[str, Any]:
    """The whole system on ``cloud``; returns addresses, what is live, and its operators' way in (secret).

    ``memory_gb``: of the host, by its size.
    """
    scope = Scope(
        system=NAME,
        environment=stack.environment,
        region=config.region,
        zone=config.zone,
        keep_data=stack.keep_data,
    )
    network = cloud.network(NAME, NetworkArgs(scope=scope, cidr=config.network.cidr))
    firewall = cloud.firewall(
        NAME, FirewallArgs(scope=scope, inbound=_inbound(stack.admin), smtp=config.mail is not None)
    )
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
    api = (config.backend.name,) if config.backend is not None else ()
    pointed = (*config.site.names, *api, *config.dns.names) if config.dns.point else ()
    names = cloud.dns(
        NAME,
        DnsArgs(
            scope=scope,
            zone=config.dns.zone,
            records=[
                DnsRecord(name=_within(name, config.dns.zone), type="A", value=address.address)
                for name in pointed
            ],
            manage=config.dns.manage,
            adopt=config.dns.adopt,
        ),
    )
    if config.dns.point:  # refused while the name leads elsewhere
        cloud.reverse_dns(
            NAME,
            ReverseDnsArgs(scope=scope, ip=address, hostname=config.site.name),
            ResourceOptions(depends_on=[names.resource]),
        )
    data = _data(config, cloud, scope, network, names)
    host = Host(scope=scope, instance=instance, memory_gb=memory_gb, keys=keys)
    exports = _host(stack, config, host, data)
    Seal(NAME, SealArgs(scope=scope))
    return {
        "urls": [f"https://{name}/" for name in config.site.names],
        "address": address.address,
        "host": instance.public_ip,
        "name_servers": names.name_servers,
        **({"bucket": data.bucket.name} if data.bucket is not None else {}),
        **({"database_host": data.postgres.host} if data.postgres is not None else {}),
        **exports,
    }


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


# ---------------------------------------------------------------- data services


def _data(config: ScellConfig, cloud: Cloud, scope: Scope, network: Network, names: Dns) -> Data:
    return Data(
        postgres=_postgres(config, cloud, scope, network),
        redis=_redis(config, cloud, scope, network),
        bucket=_bucket(config, cloud, scope),
        email=_email(config, cloud, scope, names),
    )


def _postgres(config: ScellConfig, cloud: Cloud, scope: Scope, network: Network) -> Postgres | None:
    wanted = config.postgres
    if wanted is None:
        return None
    databases, users = wanted.databases, wanted.users
    owners = {databases.production: users.production, databases.sandbox: users.sandbox}
    existing = wanted.existing
    return cloud.postgres(
        NAME,
        PostgresArgs(
            scope=scope,
            version=wanted.version,
            size=wanted.size,
            network=network,
            databases=owners,
            volume_gb=wanted.volume_gb,
            high_availability=wanted.high_availability,
            settings=wanted.settings,
            backup_every_hours=wanted.backup.every_hours,
            backup_keep_days=wanted.backup.keep_days,
            adopt=wanted.adopt,
            existing_databases=tuple(owners) if existing is None else existing.databases,
            existing_users=tuple(owners.values()) if existing is None else existing.users,
        ),
    )


def _redis(config: ScellConfig, cloud: Cloud, scope: Scope, network: Network) -> Redis | None:
    wanted = config.redis
    if wanted is None:
        return None
    return cloud.redis(
        NAME,
        RedisArgs(
            scope=scope,
            version=wanted.version,
            size=wanted.size,
            network=network,
            nodes=2 if wanted.high_availability else 1,
            settings=wanted.settings,
            adopt=wanted.adopt,
        ),
    )


def _bucket(config: ScellConfig, cloud: Cloud, scope: Scope) -> Bucket | None:
    wanted = config.bucket
    if wanted is None:
        return None
    return cloud.bucket(
        NAME,
        BucketArgs(
            scope=scope,
            bucket=wanted.name,
            managers=wanted.managers,
            versioning=wanted.versioning,
            expire=[Expiry(prefix=rule.prefix, days=rule.days) for rule in wanted.expire],
            adopt=wanted.adopt,
        ),
    )


def _email(config: ScellConfig, cloud: Cloud, scope: Scope, names: Dns) -> Email | None:
    wanted = config.mail
    if wanted is None:
        return None
    return cloud.email(
        f"{NAME}-mail",
        EmailArgs(scope=scope, domain=wanted.domain, zone=config.dns.zone, adopt=wanted.adopt),
        # Its records need the zone, where this stack makes it, and none of the other records.
        ResourceOptions(depends_on=[names.owned] if names.owned else []),
    )


# ---------------------------------------------------------------- on the host


def _host(stack: Stack, config: ScellConfig, host: Host, data: Data) -> Mapping[str, Any]:
    """What happens on the host; returns what is live and how the host is reached."""
    backend = config.backend
    first = _baseline(stack, config, host)
    after = ResourceOptions(depends_on=[first])
    web = _web(config, host, after)
    site = static_site.static_site(
        f"{NAME}-release",
        static_site.StaticSiteArgs(
            scope=host.scope,
            instance=host.instance,
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
    before_api = [web]
    if data.postgres is not None:
        before_api.append(_databases(config, host, data.postgres, first))
    live = {"release": site.outputs.facts}
    if backend is None:
        return {**live, "operator": _operator(host.instance)}
    services = _services(stack, host.scope, data)
    variables = environment(config, backend, services, stack.secrets[NAME])
    release = _api(stack, config, backend, host, services, variables, first, before_api)
    health = f"https://{backend.name}{HEALTH}"
    return {
        **live,
        "api": {"url": f"https://{backend.name}/", "health": health, "release": release.outputs.facts},
        "operator": _operator(host.instance, app=API, health=health, variables=variables),
    }


def _baseline(stack: Stack, config: ScellConfig, host: Host) -> Step:
    wanted = config.host
    roles = [*server.PACKAGES, *static_site.PACKAGES]
    if config.backend is not None:
        roles += laravel.PACKAGES
    if config.postgres is not None:
        roles += packages(config.instance.image)
    return baseline(
        f"{NAME}-bootstrap",
        BaselineArgs(
            scope=host.scope,
            instance=host.instance,
            host=NAME,
            user=stack.admin.user,
            keys=stack.admin.keys,
            deploy_key=host.keys.deploy_key,
            admin_cidrs=stack.admin.cidrs,
            packages=roles,
            public_ports=(80, 443),
            private_ranges=(config.network.cidr,),
            timezone=wanted.timezone,
            swap_gb=wanted.swap_gb,
            upgrades=wanted.unattended_upgrades.enabled,
            reboot=wanted.unattended_upgrades.reboot,
            reboot_time=wanted.unattended_upgrades.reboot_time,
            max_retry=wanted.fail2ban.max_retry,
            find_minutes=wanted.fail2ban.find_minutes,
            ban_minutes=wanted.fail2ban.ban_minutes,
            journal_mb=wanted.logs.journal_mb,
            keep_days=wanted.logs.keep_days,
        ),
    )


def _web(config: ScellConfig, host: Host, after: ResourceOptions) -> Step:
    sites: list[server.SinglePageSite | server.PhpSite] = [
        server.SinglePageSite(names=config.site.names, root=static_site.site_root(NAME))
    ]
    if config.backend is not None:
        php = config.backend.php
        sites.append(
            server.PhpSite(
                names=(config.backend.name,),
                root=laravel.public_root(API),
                socket=laravel.socket(API),
                streams={STREAMS: laravel.stream_socket(API)},
                cors=server.Cors(
                    origin=f"https://{config.site.name}", methods=CORS_METHODS, headers=CORS_HEADERS
                ),
                maintenance=laravel.maintenance_flag(API),
                body_mb=php.upload_mb,
                request_seconds=php.request_seconds,
                stream_seconds=php.stream_seconds,
            )
        )
    return server.web_server(
        f"{NAME}-web",
        server.WebServerArgs(
            scope=host.scope,
            instance=host.instance,
            host=NAME,
            sites=sites,
            email=config.certificates.email,
            directory=config.certificates.directory,
            http2_listen=config.instance.image == "debian-12",
            keep_days=config.host.logs.keep_days,
        ),
        after,
    )


def _databases(config: ScellConfig, host: Host, postgres: Postgres, first: Step) -> Step:
    client = postgresql_client(
        f"{NAME}-postgresql-client",
        PostgresqlClientArgs(scope=host.scope, instance=host.instance, host=NAME),
        # Beside the baseline's packages, where it brings its own: there is a second core.
        ResourceOptions(depends_on=[first]) if packages(config.instance.image) else None,
    )
    return database(
        f"{NAME}-database",
        DatabaseArgs(
            scope=host.scope,
            instance=host.instance,
            host=NAME,
            postgres=postgres,
            extensions={name: [STATISTICS] for name in postgres.databases},
        ),
        ResourceOptions(depends_on=[first, client]),
    )


def _services(stack: Stack, scope: Scope, data: Data) -> Services:
    key = ApplicationKey(API, ApplicationKeyArgs(scope=scope, given=stack.secrets[NAME].get("app_key")))
    if data.postgres is None or data.redis is None or data.bucket is None or data.email is None:
        raise ValueError("an API without the services it stands on: the config refuses it")
    return Services(
        postgres=data.postgres,
        postgres_ca=laravel.authority(POSTGRES_CA),
        redis=data.redis,
        redis_ca=laravel.authority(REDIS_CA),
        bucket=data.bucket,
        email=data.email,
        app_key=key.outputs.key,
    )


def _api(
    stack: Stack,
    config: ScellConfig,
    backend: BackendConfig,
    host: Host,
    services: Services,
    variables: Environment,
    first: Step,
    before: Sequence[Step],
) -> Step:
    args = laravel.LaravelArgs(
        scope=host.scope,
        instance=host.instance,
        host=NAME,
        app=API,
        repository=backend.repository,
        release=backend.release,
        environment=variables.plain,
        secrets=variables.secret,
        files=variables.files,
        authorities={
            POSTGRES_CA: services.postgres.ca_certificate,
            REDIS_CA: services.redis.ca_certificate,
        },
        health=f"https://{backend.name}{HEALTH}",
        memory_gb=host.memory_gb,
        deploy_key=stack.secrets[NAME].get("backend_deploy_key"),
        maintenance=backend.maintenance,
        workers=backend.workers,
        timezone=backend.app.timezone,
        memory_limit_mb=backend.php.memory_mb,
        upload_mb=backend.php.upload_mb,
        request_seconds=backend.php.request_seconds,
        stream_seconds=backend.php.stream_seconds,
        keep_days=config.host.logs.keep_days,
    )
    runtime = laravel.laravel_runtime(f"{API}-runtime", args, ResourceOptions(depends_on=[first]))
    return laravel.laravel_release(f"{API}-release", args, ResourceOptions(depends_on=[runtime, *before]))


def _operator(
    instance: Instance,
    app: str | None = None,
    health: str | None = None,
    variables: Environment | None = None,
) -> Output[Mapping[str, Any]]:
    """What `python -m tasks` reads: the program's own way to the host. Secret as a whole."""
    connection = instance.connection
    return Output.secret(
        {
            "host": connection.host,
            "port": connection.port,
            "user": connection.user,
            "private_key": connection.private_key,
            "host_key": connection.host_key,
            **({"app": app} if app else {}),
            **({"health": health} if health else {}),
            **({"environment": {**variables.plain, **variables.secret}} if variables else {}),
        }
    )
