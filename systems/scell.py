"""Scell.io: its config, and its composition.

The front end of https://scell.io on one host: private network, firewall, reserved address, names, nginx with
certificates, and the site built from Git at a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from config.model import Finding, Secret, Section, System, World
from config.types import (
    AdoptId,
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
    is_ssh,
    one_cloud_of,
)

# ---------------------------------------------------------------- config


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
        None, description="Id of the existing zone to take over; only with `manage: true`.", examples=["scell.io"]
    )
    names: Items[Fqdn] = Field(
        (),
        description="Further names that point at the host, with nothing served at them yet.",
        examples=[["api.scell.io"]],
    )


class SiteConfig(Section):
    """The public names of the site."""

    name: Fqdn = Field(description="The name visitors use.", examples=["scell.io"])
    aliases: Items[Fqdn] = Field(
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
        description="What is live: a tag or a full commit. Changing it is a release; its previous value a rollback.",
        examples=["v1.4.2"],
    )
    node: Literal["20", "22"] = Field("20", description="Major version of Node the site is built with.")
    variables: Mapping[ViteName, Line] = Field(
        default_factory=dict,
        description="Variables of the build. They are published to every visitor.",
        examples=[{"VITE_API_URL": "https://api.scell.io/api/v1"}],
    )


class UpgradesConfig(Section):
    """Security updates of Debian, installed every night by the host itself."""

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
        default_factory=UpgradesConfig, description="Security updates of Debian."
    )
    fail2ban: Fail2banConfig = Field(default_factory=Fail2banConfig, description="Bans after failed logins.")
    logs: LogsConfig = Field(default_factory=LogsConfig, description="How much log is kept.")


LEAST_MEMORY_GB = 2
"""Below this, building the site on the host runs out of memory."""


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
