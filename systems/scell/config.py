"""What a stack file says of Scell.io, and the rules between its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from config.model import Finding, Secret, Section, Size, System, World
from config.types import (
    AdoptId,
    BucketName,
    CertifiedName,
    Days,
    EmailAddress,
    EnvName,
    Fqdn,
    GitUrl,
    HttpsUrl,
    Items,
    Line,
    Locale,
    ObjectPrefix,
    Principal,
    PrivateCidr,
    Region,
    Release,
    SettingName,
    Siret,
    SqlName,
    TimeOfDay,
    Timezone,
    ViteName,
    Word,
    Zone,
    closest,
    is_ssh,
    one_cloud_of,
)
from systems.scell.variables import VARIABLES


class NetworkConfig(Section):
    """The private network of the system."""

    cidr: PrivateCidr = Field(description="Its IPv4 range.", examples=["10.20.0.0/24"])


class InstanceConfig(Section):
    """The host."""

    size: str = Field(description="Size by the cloud's own name, offered in the zone.", examples=["DEV1-M"])
    image: Literal["debian-12", "debian-13"] = Field(
        "debian-12", description="Debian release. A change replaces the host."
    )


class ReservedIpConfig(Section):
    """The public address; it outlives the host."""

    adopt: AdoptId | None = Field(None, description="Id of an existing reserved address to take over.")


class DnsConfig(Section):
    """Where the names are."""

    zone: Fqdn = Field(description="The DNS zone all names are in.", examples=["scell.io"])
    manage: bool = Field(
        False,
        description="Whether this stack owns the zone itself (then protected) or only its records in it. "
        "At most one stack manages a zone.",
    )
    adopt: AdoptId | None = Field(
        None,
        description="Id of the existing zone to take over; only with `manage: true`.",
        examples=["scell.io"],
    )
    point: bool = Field(
        True,
        description="Whether the names point at the host. false while they are live elsewhere: neither A "
        "records nor the reverse name are made. docs/cutover.md.",
    )
    names: Items[Fqdn] = Field(
        (),
        description="Further names that point at the host, with nothing served at them yet.",
        examples=[["api.scell.io"]],
    )


class SiteConfig(Section):
    """The public names of the site."""

    name: CertifiedName = Field(description="The name visitors use.", examples=["scell.io"])
    aliases: Items[CertifiedName] = Field(
        (), description="Further names that serve the same site.", examples=[["www.scell.io"]]
    )

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the site, the main one first."""
        return (self.name, *self.aliases)


LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class CertificatesConfig(Section):
    """Certificates come over ACME, one per name, renewed by the host."""

    email: EmailAddress = Field(
        description="Where the certificate authority writes to.", examples=["ops@scell.io"]
    )
    directory: HttpsUrl = Field(
        LETSENCRYPT,
        description="ACME directory. A staging directory (its certificates are trusted by nobody) is refused "
        "in production.",
    )


class FrontendConfig(Section):
    """The site: a Node project in Git whose `npm run build` fills `dist/`."""

    repository: GitUrl = Field(
        description="Git repository; the ssh form needs the secret `deploy_key`.",
        examples=["https://github.com/scell-io/frontend.git"],
    )
    release: Release = Field(
        description="What is live: a tag or a full commit. A change releases, the previous value rolls back.",
        examples=["v1.4.2"],
    )
    node: Literal["20", "22"] = Field("20", description="Major version of Node the site is built with.")
    variables: Mapping[ViteName, Line] = Field(
        default_factory=dict,
        description="Variables of the build. They are published to every visitor.",
        examples=[{"VITE_API_URL": "https://api.scell.io/api/v1"}],
    )


class BackupConfig(Section):
    """The cloud's own backups of every database of the instance."""

    every_hours: int = Field(24, ge=1, le=168, description="Hours between two backups.")
    keep_days: int = Field(30, ge=1, le=365, description="Days a backup is kept.")


class DatabasesConfig(Section):
    """The application's two databases: its own, and the one it shows to people who try it out."""

    production: SqlName = Field("scell_production", description="Its own; holds what must not be lost.")
    sandbox: SqlName = Field("scell_sandbox", description="For requests in test mode.")


class DatabaseUsersConfig(Section):
    """Who logs in to each database; neither sees the other's."""

    production: SqlName = Field("scell", description="User of the database `production`.", examples=["scell"])
    sandbox: SqlName = Field(
        "scell_sandbox", description="User of the database `sandbox`.", examples=["scell_sandbox"]
    )


class AdoptedPostgresConfig(Section):
    """What an instance that is taken over holds already; the rest is made in it."""

    databases: Items[SqlName] = Field(
        (), description="Databases that exist there, of those named above.", examples=[["scell_production"]]
    )
    users: Items[SqlName] = Field(
        (),
        description="Users that exist there, of those named above. They get a new password: see "
        "docs/cutover.md.",
        examples=[["scell"]],
    )


class PostgresConfig(Section):
    """Managed PostgreSQL, reachable over the private network only, with TLS."""

    version: int = Field(
        ge=9,
        le=99,
        description="Major version. Another one is not an edit: docs/operations.md.",
        examples=[17],
    )
    size: str = Field(description="Node type by the cloud's own name.", examples=["DB-DEV-S"])
    volume_gb: int = Field(
        10, ge=5, le=10000, description="Size of its volume in GB, a multiple of 5. It grows, never shrinks."
    )
    high_availability: bool = Field(
        False, description="Whether a second node stands by. Once there it cannot be taken away."
    )
    databases: DatabasesConfig = Field(
        default_factory=DatabasesConfig, description="Names of the databases. A new name is a new database."
    )
    users: DatabaseUsersConfig = Field(
        default_factory=DatabaseUsersConfig, description="Users of the databases."
    )
    settings: Mapping[SettingName, Line] = Field(
        default_factory=dict,
        description="Settings of the server, beyond the cloud's own choice.",
        examples=[{"log_min_duration_statement": "500"}],
    )
    backup: BackupConfig = Field(default_factory=BackupConfig, description="The cloud's own backups.")
    adopt: AdoptId | None = Field(
        None,
        description="Id of an existing instance to take over, with what `existing` names in it.",
        examples=["fr-par/11111111-2222-4333-8444-555555555555"],
    )
    existing: AdoptedPostgresConfig | None = Field(
        None,
        description="What the adopted instance holds already; without this, all databases and users above.",
    )


class RedisConfig(Section):
    """Managed Redis for cache, sessions and queue, reachable over the private network only, with TLS."""

    version: str = Field(
        description="Version by the cloud's own name; the account knows what is offered today. It can go up "
        "only.",
        examples=["7.2.11"],
    )
    size: str = Field(
        description="Node type by the cloud's own name. It can go up only.", examples=["RED1-MICRO"]
    )
    high_availability: bool = Field(
        False,
        description="Whether a second node stands by. Decided at the beginning: a change would replace it.",
    )
    settings: Mapping[SettingName, Line] = Field(
        default_factory=dict,
        description="Settings of the server.",
        examples=[{"maxclients": "1000"}],
    )
    adopt: AdoptId | None = Field(
        None,
        description="Id of an existing one to take over. It must speak TLS already.",
        examples=["fr-par-1/11111111-2222-4333-8444-555555555555"],
    )


class ExpiryConfig(Section):
    """Objects that are thrown away after a time."""

    prefix: ObjectPrefix = Field(description="Beginning of their names.", examples=["tmp/"])
    days: Days = Field(description="After how many days.", examples=[7])


class BucketConfig(Section):
    """The private bucket of the application's files, with a key that opens no other."""

    name: BucketName = Field(
        description="Its name, unique in the whole cloud. Another name is another bucket.",
        examples=["scell-storage"],
    )
    managers: Items[Principal] = Field(
        min_length=1,
        description="Who keeps full access besides the application, first of all the identity this program "
        "runs as: everybody else is shut out.",
        examples=[["application_id:3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e90"]],
    )
    versioning: bool = Field(True, description="Whether what is overwritten or deleted can be had back.")
    expire: Items[ExpiryConfig] = Field(
        (), description="What is thrown away after a time.", examples=[[{"prefix": "tmp/", "days": 7}]]
    )
    adopt: AdoptId | None = Field(
        None,
        description="Name of the existing bucket to take over, the same as `name`.",
        examples=["fr-par/scell-storage"],
    )


class MailConfig(Section):
    """The sending domain; its SPF, DKIM, DMARC and MX records are made in the zone."""

    domain: Fqdn = Field(description="The domain mail comes from, in the zone.", examples=["scell.io"])
    from_: EmailAddress = Field(
        alias="from", description="Address of the sender, in that domain.", examples=["noreply@scell.io"]
    )
    adopt: AdoptId | None = Field(
        None,
        description="Id of the existing domain to take over; its records in the zone stay as they are.",
        examples=["fr-par/11111111-2222-4333-8444-555555555555"],
    )


class PhpConfig(Section):
    """PHP under the API. How many processes there are follows from the memory of the host."""

    memory_mb: int = Field(256, ge=64, le=4096, description="Memory one request may take, in MB.")
    upload_mb: int = Field(20, ge=1, le=1024, description="Largest upload, in MB.")
    request_seconds: int = Field(120, ge=5, le=900, description="Longest a request may take, in seconds.")
    stream_seconds: int = Field(
        3600, ge=60, le=86400, description="Longest a stream under `/mcp/stream` may stay open, in seconds."
    )


class AppConfig(Section):
    """The application itself: `APP_*` and `LOG_LEVEL`."""

    name: Line = Field("Scell.io", min_length=1, description="`APP_NAME`.")
    environment: Literal["production", "staging", "local"] = Field(
        "production",
        description="`APP_ENV`. The application has workers for those its config/horizon.php knows.",
    )
    debug: bool = Field(False, description="`APP_DEBUG`: shows visitors what went wrong, variables included.")
    timezone: Timezone = Field("Europe/Paris", description="`APP_TIMEZONE`.", examples=["Europe/Paris"])
    locale: Locale = Field("fr", description="`APP_LOCALE`.")
    log_level: Literal["debug", "info", "notice", "warning", "error"] = Field(
        "info", description="`LOG_LEVEL`: the least important message that is kept."
    )


class CacheConfig(Section):
    """Names of keys in Redis; the drivers of cache, queue and sessions are always Redis."""

    prefix: Word = Field("scell_", description="`CACHE_PREFIX`.")
    horizon_prefix: Word = Field("scell_horizon:", description="`HORIZON_PREFIX`.")


class GoogleConfig(Section):
    """Login with Google: `GOOGLE_*`. Its secret is `google_client_secret`."""

    SECRETS: ClassVar[Sequence[str]] = ("google_client_secret",)

    enabled: bool = Field(True, description="Whether the application has it.")
    client_id: Word | None = Field(
        None, description="`GOOGLE_CLIENT_ID`.", examples=["1234-abcd.apps.googleusercontent.com"]
    )


class OpenapiConfig(Section):
    """Electronic signatures: `OPENAPI_*`. Its secret is `openapi_bearer_token`."""

    SECRETS: ClassVar[Sequence[str]] = ("openapi_bearer_token",)

    enabled: bool = Field(True, description="Whether the application has it.")
    base_url: HttpsUrl = Field("https://esignature.openapi.com", description="`OPENAPI_BASE_URL`.")
    sandbox_url: HttpsUrl = Field("https://test.esignature.openapi.com", description="`OPENAPI_SANDBOX_URL`.")


class SuperpdpConfig(Section):
    """Electronic invoices: `SUPERPDP_*`. Its secrets are `superpdp_api_key` and `superpdp_webhook_secret`."""

    SECRETS: ClassVar[Sequence[str]] = ("superpdp_api_key", "superpdp_webhook_secret")

    enabled: bool = Field(True, description="Whether the application has it.")
    api_url: HttpsUrl = Field("https://api.superpdp.tech", description="`SUPERPDP_API_URL`.")
    sandbox: bool = Field(False, description="`SUPERPDP_SANDBOX`: whether nothing is really sent.")


class BulkgateConfig(Section):
    """Text messages: `BULKGATE_*`, which are the secrets `bulkgate_application_id` and `…_token`."""

    SECRETS: ClassVar[Sequence[str]] = ("bulkgate_application_id", "bulkgate_application_token")

    enabled: bool = Field(True, description="Whether the application has it.")


class InseeConfig(Section):
    """Look-up of companies, with a client certificate: `INSEE_*`.

    Its secrets are `insee_client_id`, `insee_certificate` and `insee_key`.
    """

    SECRETS: ClassVar[Sequence[str]] = ("insee_client_id", "insee_certificate", "insee_key")

    enabled: bool = Field(True, description="Whether the application has it.")
    api_url: HttpsUrl = Field("https://api.insee.fr/entreprises/sirene/V3.11", description="`INSEE_API_URL`.")


class McpConfig(Section):
    """The MCP server for agents: `MCP_*`. Its sessions are in Redis."""

    enabled: bool = Field(True, description="`MCP_ENABLED`.")
    session_ttl: int = Field(
        3600, ge=60, le=86400, description="`MCP_SESSION_TTL`: seconds a session lives without a request."
    )
    rate_limit: int = Field(60, ge=1, le=100000, description="`MCP_RATE_LIMIT`: requests a minute.")


class FiscalConfig(Section):
    """Fiscal conformity (NF525): `FISCAL_*`."""

    enabled: bool = Field(True, description="`FISCAL_COMPLIANCE_ENABLED`.")
    editor_name: Line | None = Field(
        None,
        description="`FISCAL_EDITOR_NAME`: who publishes the software.",
        examples=["QR Communication SAS"],
    )
    editor_siret: Siret | None = Field(
        None, description="`FISCAL_EDITOR_SIRET`: its SIRET.", examples=["12345678900001"]
    )
    license_number: Word | None = Field(
        None, description="`FISCAL_LICENSE_NUMBER`.", examples=["NF525-2026-001"]
    )
    anchor_provider: Word = Field(
        "rfc3161_tsa", description="`FISCAL_ANCHOR_PROVIDER`: who stamps the closings with the time."
    )
    tsa_url: HttpsUrl = Field("https://freetsa.org/tsr", description="`FISCAL_TSA_URL`.")
    retention_years: int = Field(
        6, ge=6, le=100, description="`FISCAL_RETENTION_YEARS`; the law asks for six at least."
    )


class BackendConfig(Section):
    """The API: a Laravel application in Git, with its queue worker, its scheduler and its `.env`."""

    name: CertifiedName = Field(
        description="Its public name; the A record and the certificate come from it.",
        examples=["api.scell.io"],
    )
    repository: GitUrl = Field(
        description="Git repository; the ssh form needs the secret `backend_deploy_key`.",
        examples=["https://github.com/scell-io/backend.git"],
    )
    release: Release = Field(
        description="What is live: a tag or a full commit. A change releases, the previous value rolls back.",
        examples=["v1.4.2"],
    )
    maintenance: bool = Field(
        False,
        description="Whether this release answers 503 while it migrates: for migrations the old code cannot "
        "live with.",
    )
    workers: bool = Field(
        True,
        description="Whether queue workers and scheduler run. `false` while a move is rehearsed with copied "
        "customers: docs/cutover.md.",
    )
    php: PhpConfig = Field(default_factory=PhpConfig, description="PHP under the API.")
    app: AppConfig = Field(default_factory=AppConfig, description="The application itself.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="Names of keys in Redis.")
    google: GoogleConfig = Field(default_factory=GoogleConfig, description="Login with Google.")
    openapi: OpenapiConfig = Field(default_factory=OpenapiConfig, description="Electronic signatures.")
    superpdp: SuperpdpConfig = Field(default_factory=SuperpdpConfig, description="Electronic invoices.")
    bulkgate: BulkgateConfig = Field(default_factory=BulkgateConfig, description="Text messages.")
    insee: InseeConfig = Field(default_factory=InseeConfig, description="Look-up of companies.")
    mcp: McpConfig = Field(default_factory=McpConfig, description="The MCP server for agents.")
    fiscal: FiscalConfig = Field(default_factory=FiscalConfig, description="Fiscal conformity.")
    extra: Mapping[EnvName, Line] = Field(
        default_factory=dict,
        description="Further plain variables of the `.env`, none that has a setting of its own.",
        examples=[{"APP_FEATURE_X": "beta"}],
    )


class UpgradesConfig(Section):
    """Debian's security updates and point releases, installed every night by the host itself."""

    enabled: bool = Field(True, description="Whether they are installed unattended.")
    reboot: bool = Field(True, description="Whether the host reboots when an update needs it.")
    reboot_time: TimeOfDay = Field("04:30", description="When, in the host's time zone.")


class Fail2banConfig(Section):
    """Addresses that keep failing to log in are shut out for a while."""

    max_retry: int = Field(5, ge=2, le=100, description="Failures before an address is banned.")
    find_minutes: int = Field(10, ge=1, le=1440, description="Minutes within which they are counted.")
    ban_minutes: int = Field(60, ge=1, le=10080, description="Minutes the ban lasts.")


class LogsConfig(Section):
    """How much log a host keeps."""

    journal_mb: int = Field(500, ge=50, le=10000, description="Disk the systemd journal may use, in MB.")
    keep_days: Days = Field(14, description="Days that rotated log files and the journal are kept.")


class HostConfig(Section):
    """The Debian baseline; every default is safe."""

    timezone: Timezone = Field("UTC", description="Time zone of the host.", examples=["Europe/Paris"])
    swap_gb: int = Field(2, ge=0, le=32, description="Swap file in GB; 0 for none.")
    unattended_upgrades: UpgradesConfig = Field(
        default_factory=UpgradesConfig, description="Debian's security updates and point releases."
    )
    fail2ban: Fail2banConfig = Field(default_factory=Fail2banConfig, description="Bans after failed logins.")
    logs: LogsConfig = Field(default_factory=LogsConfig, description="How much log is kept.")


LEAST_MEMORY_GB = 2
"""Below this, building the site on the host runs out of memory."""

ARCHITECTURE = "x86_64"
"""The one whose hosts are tested."""


def _one_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


VOLUME_STEP_GB = 5
"""A volume of managed PostgreSQL is a multiple of this."""

REQUESTS_IN_MEMORY = 4
"""That many requests at the limit of their memory have to fit into the host's."""

PHP_IMAGES = ("debian-12",)
"""Those with PHP 8.2 and wkhtmltopdf; Debian 13 has PHP 8.4 and no wkhtmltopdf."""

DATA = ("postgres", "redis", "bucket", "mail")
"""What the API cannot be without."""

EXAMPLE = "22222222-3333-4444-8555-666666666666"
"""The identity in the committed stack files: nobody's on a real account."""

Path = tuple[str | int, ...]


class ScellConfig(System):
    """Scell.io: the site at its public names, and the API beside it."""

    SECRETS: ClassVar[Mapping[str, Secret]] = {
        "deploy_key": Secret(
            "Private key that may read the front end's repository; only with an ssh repository.",
            kind="ssh-private-key",
            usual=False,
        ),
        "backend_deploy_key": Secret(
            "Private key that may read the API's repository; only with an ssh repository.",
            kind="ssh-private-key",
            usual=False,
        ),
        "app_key": Secret(
            "APP_KEY of an application that moves here with its data, `base64:…`. Given before the first "
            "`up`; without it a new one is made, and later it changes nothing.",
            kind="app-key",
            usual=False,
        ),
        "google_client_secret": Secret("Secret of the login with Google."),
        "openapi_bearer_token": Secret("Token of OpenAPI.com, for electronic signatures."),
        "superpdp_api_key": Secret("Key of SuperPDP, for electronic invoices."),
        "superpdp_webhook_secret": Secret("What SuperPDP signs its webhooks with."),
        "bulkgate_application_id": Secret("Application at BulkGate, for text messages."),
        "bulkgate_application_token": Secret("Token of that application."),
        "insee_client_id": Secret("Client at INSEE, for the look-up of companies."),
        "insee_certificate": Secret("Client certificate for INSEE, PEM.", kind="certificate"),
        "insee_key": Secret("Private key of that certificate, PEM.", kind="certificate-key"),
    }

    cloud: Annotated[Literal["scaleway"], one_cloud_of("scaleway")] = Field(
        description="The cloud it runs on.", examples=["scaleway"]
    )
    region: Region = Field(description="Region of the cloud.", examples=["fr-par"])
    zone: Zone = Field(description="Zone of the region.", examples=["fr-par-1"])
    network: NetworkConfig = Field(description="The private network.")
    instance: InstanceConfig = Field(description="The host.")
    reserved_ip: ReservedIpConfig = Field(
        default_factory=ReservedIpConfig, description="The public address; it outlives the host."
    )
    dns: DnsConfig = Field(description="Where the names are.")
    site: SiteConfig = Field(description="The public names of the site.")
    certificates: CertificatesConfig = Field(description="Certificates, over ACME.")
    frontend: FrontendConfig = Field(description="The site's source and release.")
    postgres: PostgresConfig | None = Field(None, description="Managed PostgreSQL.")
    redis: RedisConfig | None = Field(None, description="Managed Redis.")
    bucket: BucketConfig | None = Field(None, description="The bucket of the application's files.")
    mail: MailConfig | None = Field(None, description="The sending domain.")
    backend: BackendConfig | None = Field(
        None,
        description="The API; it takes postgres, redis, bucket and mail. Without it there is the site only.",
    )
    host: HostConfig = Field(default_factory=HostConfig, description="The Debian baseline of the host.")

    def needed_secrets(self) -> Iterable[str]:
        """Deploy keys where a repository is fetched over SSH, and those of every service that is enabled."""
        if is_ssh(self.frontend.repository):
            yield "deploy_key"
        backend = self.backend
        if backend is None:
            return
        if is_ssh(backend.repository):
            yield "backend_deploy_key"
        for service in (backend.google, backend.openapi, backend.superpdp, backend.bulkgate, backend.insee):
            if service.enabled:
                yield from service.SECRETS

    def networks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Its one private network."""
        yield ("network", "cidr"), self.network.cidr

    def names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The site's names, the API's, and the further ones."""
        yield ("site", "name"), self.site.name
        yield from ((("site", "aliases", i), name) for i, name in enumerate(self.site.aliases))
        if self.backend is not None:
            yield ("backend", "name"), self.backend.name
        yield from ((("dns", "names", i), name) for i, name in enumerate(self.dns.names))

    def managed_zones(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The zone, where this stack owns it."""
        if self.dns.manage:
            yield ("dns", "manage"), self.dns.zone

    def checks(self, world: World) -> Iterable[Iterator[Finding]]:
        """Place and sizes are sold, names are in the zone, the API has what it takes and hides the rest."""
        return (
            self._place(world),
            self._size(world),
            self._site_in_zone(),
            self._aliases_in_zone(),
            self._names_in_zone(),
            self._adoption(),
            self._directory(world),
            self._complete(),
            self._postgres_version(world),
            self._postgres_size(world),
            self._postgres_names(),
            self._postgres_adoption(),
            self._redis_version(world),
            self._redis_size(world),
            self._redis_adoption(),
            self._bucket_adoption(),
            self._mail_domain(),
            self._mail_sender(),
            self._api_in_zone(),
            self._api_image(),
            self._api_memory(world),
            self._api_hidden(world),
            self._google(),
            self._fiscal(),
            self._extra(),
        )

    def remarks(self, environment: str) -> Iterator[tuple[Path, str]]:
        """An identity that is nobody's would lock everybody out of the bucket."""
        for index, manager in enumerate(self.bucket.managers if self.bucket else ()):
            if manager.endswith(EXAMPLE) and environment != "sandbox":
                yield (
                    ("bucket", "managers", index),
                    "this identifier is the one of examples: write that of the identity whose key runs "
                    "`pulumi up` on a real account, or the bucket shuts it out",
                )

    def _place(self, world: World) -> Iterator[Finding]:
        catalogue = world.catalogues[self.cloud]
        zones = catalogue.zones()
        regions = sorted(set(zones.values()))
        if self.region not in regions:
            yield Finding(
                ("region",), f"{self.cloud} has no region {self.region}", f"write one of {', '.join(regions)}"
            )
        if self.zone not in zones:
            rule = f"{self.cloud} sells nothing in {self.zone}"
        elif self.region in regions and zones[self.zone] != self.region:
            rule = f"{self.zone} is not in the region {self.region}"
        elif not catalogue.sizes(self.zone):
            rule = f"no sizes are known in {self.zone}"
        else:
            return
        here = [z for z, region in zones.items() if region == self.region and catalogue.sizes(z)]
        yield Finding(("zone",), rule, f"write {_one_of(here or [z for z in zones if catalogue.sizes(z)])}")

    def _size(self, world: World) -> Iterator[Finding]:
        catalogue, size, path = world.catalogues[self.cloud], self.instance.size, ("instance", "size")
        offered = catalogue.sizes(self.zone)
        if not offered or catalogue.zones()[self.zone] != self.region:
            return  # what can be had there is only known once the place is right
        if size not in offered:
            elsewhere = [zone for zone in catalogue.zones() if size in catalogue.sizes(zone)]
            fitting = [name for name in sorted(offered) if self._fits(offered[name])]
            rule = f"not a size of {self.cloud} in {self.zone}"
            if elsewhere:
                rule = f"{size} is not offered in {self.zone}, only in {', '.join(elsewhere)}"
            near = None if elsewhere else closest(size.upper(), fitting)
            yield Finding(path, rule, f"write {near or _one_of(fitting)}")
        elif offered[size].arch != ARCHITECTURE:
            yield Finding(
                path,
                f"{size} is an {offered[size].arch} machine; hosts are {ARCHITECTURE}",
                "write a size such as DEV1-M",
            )
        elif not self._fits(offered[size]):
            yield Finding(
                path,
                f"{size} has {offered[size].memory_gb} GB of memory; the build takes {LEAST_MEMORY_GB}",
                "write a larger size, such as DEV1-M",
            )

    @staticmethod
    def _fits(size: Size) -> bool:
        return size.arch == ARCHITECTURE and size.memory_gb >= LEAST_MEMORY_GB

    def _outside_zone(self, path: tuple[str | int, ...], name: str) -> Iterator[Finding]:
        if name != self.dns.zone and not name.endswith("." + self.dns.zone):
            yield Finding(
                path,
                f"{name} is not in the zone {self.dns.zone}",
                f"write {self.dns.zone} or a name that ends in .{self.dns.zone}",
            )

    def _site_in_zone(self) -> Iterator[Finding]:
        yield from self._outside_zone(("site", "name"), self.site.name)

    def _aliases_in_zone(self) -> Iterator[Finding]:
        for index, name in enumerate(self.site.aliases):
            yield from self._outside_zone(("site", "aliases", index), name)

    def _names_in_zone(self) -> Iterator[Finding]:
        for index, name in enumerate(self.dns.names):
            yield from self._outside_zone(("dns", "names", index), name)

    def _adoption(self) -> Iterator[Finding]:
        if self.dns.adopt is not None and not self.dns.manage:
            yield Finding(
                ("dns", "adopt"),
                "a zone this stack does not manage is used as it is, not taken over",
                "write manage: true, or delete this line",
            )

    def _directory(self, world: World) -> Iterator[Finding]:
        if world.environment == "production" and "staging" in self.certificates.directory:
            yield Finding(
                ("certificates", "directory"),
                "nobody trusts certificates of a staging directory: not in production",
                f"delete this line, or write {LETSENCRYPT}",
            )

    # ------------------------------------------------------------ what the API stands on

    def _complete(self) -> Iterator[Finding]:
        missing = [name for name in DATA if self.backend is not None and getattr(self, name) is None]
        for name in missing:
            yield Finding((name,), "required with backend, and missing", f"add {name}, or delete backend")

    def _postgres_version(self, world: World) -> Iterator[Finding]:
        if self.postgres is None:
            return
        known = world.catalogues[self.cloud].postgres_versions()
        if self.postgres.version not in known:
            yield Finding(
                ("postgres", "version"),
                f"{self.cloud} offers no PostgreSQL {self.postgres.version}",
                f"write {_one_of([str(version) for version in known])}",
            )

    def _postgres_size(self, world: World) -> Iterator[Finding]:
        if self.postgres is None:
            return
        offered, size = world.catalogues[self.cloud].databases(self.region), self.postgres.size
        volume, path = self.postgres.volume_gb, ("postgres", "volume_gb")
        if offered and size not in offered:
            yield self._not_offered(("postgres", "size"), size, offered, self.region)
            return
        least = max(offered[size].volume_min_gb if offered else 0, VOLUME_STEP_GB)
        if volume % VOLUME_STEP_GB:
            over = volume + VOLUME_STEP_GB - volume % VOLUME_STEP_GB
            yield Finding(path, f"a volume is a multiple of {VOLUME_STEP_GB} GB", f"write {over}")
        elif volume < least:
            yield Finding(path, f"{size} takes volumes from {least} GB on", f"write {least} or more")
        if offered and offered[size].ha_required and not self.postgres.high_availability:
            yield Finding(
                ("postgres", "high_availability"),
                f"{size} is sold in pairs only",
                "write true, or another size",
            )

    def _postgres_names(self) -> Iterator[Finding]:
        if self.postgres is None:
            return
        for part in ("databases", "users"):
            pair = getattr(self.postgres, part)
            if pair.production == pair.sandbox:
                yield Finding(
                    ("postgres", part, "sandbox"),
                    "the same as production: who tries it out would see and change real data",
                    "give each its own name",
                )

    def _postgres_adoption(self) -> Iterator[Finding]:
        if self.postgres is None:
            return
        yield from self._adopted_elsewhere(("postgres", "adopt"), self.postgres.adopt, self.region)
        existing = self.postgres.existing
        if existing is None:
            return
        if self.postgres.adopt is None:
            yield Finding(
                ("postgres", "existing"),
                "a new instance holds nothing yet",
                "delete this, or write the id of the instance to take over at adopt",
            )
        for part in ("databases", "users"):
            pair = getattr(self.postgres, part)
            for index, name in enumerate(getattr(existing, part)):
                if name not in (pair.production, pair.sandbox):
                    yield Finding(
                        ("postgres", "existing", part, index),
                        f"{name} is none of postgres.{part}: only what is named there is taken over",
                        f"write {pair.production} or {pair.sandbox}, or delete it",
                    )

    def _redis_version(self, world: World) -> Iterator[Finding]:
        if self.redis is None:
            return
        known = world.catalogues[self.cloud].redis_versions()
        if self.redis.version not in known:
            begun = [each for each in known if each.startswith(self.redis.version)]
            yield Finding(
                ("redis", "version"),
                "not a version of Redis the cloud is known to offer",
                f"write {_one_of(begun or known)}",
            )

    def _redis_size(self, world: World) -> Iterator[Finding]:
        if self.redis is None:
            return
        offered = world.catalogues[self.cloud].caches(self.zone)
        if offered and self.redis.size not in offered:
            yield self._not_offered(("redis", "size"), self.redis.size, offered, self.zone)

    def _redis_adoption(self) -> Iterator[Finding]:
        if self.redis is not None:
            yield from self._adopted_elsewhere(("redis", "adopt"), self.redis.adopt, self.zone)

    def _bucket_adoption(self) -> Iterator[Finding]:
        if self.bucket is None or self.bucket.adopt is None:
            return
        place, _, name = self.bucket.adopt.rpartition("/")
        if name != self.bucket.name or place not in ("", self.region):
            yield Finding(
                ("bucket", "adopt"),
                "another bucket than the one this system names",
                f"write {self.region}/{self.bucket.name}, or the other one's name at name",
            )

    def _adopted_elsewhere(self, path: Path, adopt: str | None, place: str) -> Iterator[Finding]:
        where = (adopt or "").rpartition("/")[0]
        if where not in ("", place):
            yield Finding(path, f"this one is in {where}, the system in {place}", f"write one of {place}")

    def _not_offered(self, path: Path, size: str, offered: Mapping[str, object], place: str) -> Finding:
        near = closest(size.upper(), sorted(offered))
        return Finding(path, f"not a size of {self.cloud} in {place}", f"write {near or _one_of([*offered])}")

    def _mail_domain(self) -> Iterator[Finding]:
        if self.mail is not None:
            yield from self._outside_zone(("mail", "domain"), self.mail.domain)

    def _mail_sender(self) -> Iterator[Finding]:
        if self.mail is not None and self.mail.from_.partition("@")[2] != self.mail.domain:
            yield Finding(
                ("mail", "from"),
                f"not an address in {self.mail.domain}: nobody vouches for such a sender",
                f"write one that ends in @{self.mail.domain}",
            )

    # ------------------------------------------------------------ the API

    def _api_in_zone(self) -> Iterator[Finding]:
        if self.backend is not None:
            yield from self._outside_zone(("backend", "name"), self.backend.name)

    def _api_image(self) -> Iterator[Finding]:
        if self.backend is not None and self.instance.image not in PHP_IMAGES:
            yield Finding(
                ("instance", "image"),
                f"{self.instance.image} has no PHP 8.2 and no wkhtmltopdf, which the API takes",
                f"write {_one_of(PHP_IMAGES)}",
            )

    def _api_memory(self, world: World) -> Iterator[Finding]:
        size = world.catalogues[self.cloud].sizes(self.zone).get(self.instance.size)
        if self.backend is None or size is None:
            return
        most = int(size.memory_gb * 1000 / REQUESTS_IN_MEMORY)
        if self.backend.php.memory_mb > most:
            yield Finding(
                ("backend", "php", "memory_mb"),
                f"{REQUESTS_IN_MEMORY} such requests do not fit into {size.memory_gb:g} GB of memory",
                f"write {most} or less, or a larger instance.size",
            )

    def _api_hidden(self, world: World) -> Iterator[Finding]:
        if self.backend is None or world.environment != "production":
            return
        app = self.backend.app
        if app.debug:
            yield Finding(
                ("backend", "app", "debug"),
                "in production nobody is shown the inside of the application",
                "write false, or delete the line",
            )
        if app.log_level == "debug":
            yield Finding(
                ("backend", "app", "log_level"),
                "at this level logs fill up, with what people have entered",
                "write info, or delete the line",
            )
        if app.environment != "production":
            yield Finding(
                ("backend", "app", "environment"),
                "a production stack runs the application in production",
                "write production, or delete the line",
            )

    def _google(self) -> Iterator[Finding]:
        if self.backend is not None and self.backend.google.enabled and not self.backend.google.client_id:
            yield Finding(
                ("backend", "google", "client_id"),
                "required while the login with Google is enabled, and missing",
                "add the client id of Google's console, or write google: {enabled: false}",
            )

    def _fiscal(self) -> Iterator[Finding]:
        if self.backend is None or not self.backend.fiscal.enabled:
            return
        for name in ("editor_name", "editor_siret", "license_number"):
            if getattr(self.backend.fiscal, name) is None:
                yield Finding(
                    ("backend", "fiscal", name),
                    "required while fiscal conformity is enabled, and missing",
                    f"add {name}, or write fiscal: {{enabled: false}}",
                )

    def _extra(self) -> Iterator[Finding]:
        for name in self.backend.extra if self.backend is not None else ():
            if name in VARIABLES:
                yield Finding(
                    ("backend", "extra", name),
                    "berth writes this variable itself",
                    "delete it; docs/config.md says which setting it comes from",
                )
