"""What a stack file says of Scell.io, and the rules between its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from config.model import Finding, Secret, Section, Size, System, World
from config.types import (
    AdoptId,
    CertifiedName,
    Days,
    EmailAddress,
    Fqdn,
    GitUrl,
    HttpsUrl,
    Items,
    Line,
    PrivateCidr,
    Region,
    Release,
    TimeOfDay,
    Timezone,
    ViteName,
    Zone,
    closest,
    is_ssh,
    one_cloud_of,
)


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


class ScellConfig(System):
    """Scell.io: the site at its public names."""

    SECRETS: ClassVar[Mapping[str, Secret]] = {
        "deploy_key": Secret(
            "Private key that may read the front end's repository; only with an ssh repository.",
            kind="ssh-private-key",
        )
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
    host: HostConfig = Field(default_factory=HostConfig, description="The Debian baseline of the host.")

    def needed_secrets(self) -> Iterable[str]:
        """A deploy key where the repository is fetched over SSH."""
        return ("deploy_key",) if is_ssh(self.frontend.repository) else ()

    def networks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Its one private network."""
        yield ("network", "cidr"), self.network.cidr

    def names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The site's names and the further ones."""
        yield ("site", "name"), self.site.name
        yield from ((("site", "aliases", i), name) for i, name in enumerate(self.site.aliases))
        yield from ((("dns", "names", i), name) for i, name in enumerate(self.dns.names))

    def managed_zones(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The zone, where this stack owns it."""
        if self.dns.manage:
            yield ("dns", "manage"), self.dns.zone

    def checks(self, world: World) -> Iterable[Iterator[Finding]]:
        """Place and size are sold, names are in the zone, certificates are real in production."""
        return (
            self._place(world),
            self._size(world),
            self._site_in_zone(),
            self._aliases_in_zone(),
            self._names_in_zone(),
            self._adoption(),
            self._directory(world),
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
