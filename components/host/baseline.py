"""The Debian baseline: what every host gets, whatever runs on it, in one step and one package transaction."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pulumi import Input, Output, ResourceOptions

from components.cloud import Instance, Scope
from components.remote.files import File, render
from components.remote.runner import Step, StepArgs

FILES = Path(__file__).parent / "files"

PACKAGES = (
    "ca-certificates",
    "fail2ban",
    "logrotate",
    "nftables",
    "python3-systemd",  # fail2ban reads the journal with it
    "systemd-timesyncd",
    "tzdata",
    "unattended-upgrades",
)

METADATA = ("169.254.169.254", "169.254.42.42")
METADATA_V6 = ("fd00:42::42",)
"""Where clouds answer with a host's own user-data, private key included; the latter two are Scaleway's."""


@dataclass(frozen=True, kw_only=True)
class PrivateRule:
    """Traffic let in from the private network; ``port`` is a port or a range ``8000-8010``."""

    source: str
    protocol: Literal["tcp", "udp"]
    port: str


@dataclass(frozen=True, kw_only=True)
class BaselineArgs:
    """``packages``: what the roles of this host need, beyond :data:`PACKAGES`.

    ``private_ranges``: the ranges of the networks the host is in; from there only ``private`` gets in.
    ``public_ports``: open to everyone. Sizes are in GB and MB of 2^30 and 2^20 bytes, ``reboot_time`` is
    HH:MM in ``timezone``.
    """

    scope: Scope
    instance: Instance
    host: str
    user: str
    keys: Input[Sequence[str]]
    admin_cidrs: Sequence[str]
    packages: Sequence[str] = ()
    public_ports: Sequence[int] = ()
    private_ranges: Sequence[str] = ()
    private: Sequence[PrivateRule] = ()
    timezone: str = "UTC"
    swap_gb: int = 2
    upgrades: bool = True
    reboot: bool = True
    reboot_time: str = "04:30"
    max_retry: int = 5
    find_minutes: int = 10
    ban_minutes: int = 60
    journal_mb: int = 500
    keep_days: int = 14


def baseline(name: str, args: BaselineArgs, opts: ResourceOptions | None = None) -> Step:
    """The first step on a host. Everything it changes is converged, so a later run takes a second."""
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step="bootstrap",
            host=args.host,
            script=Path(__file__).parent / "bootstrap.sh",
            files=files(args),
            environment={
                "ADMIN_USER": args.user,
                "PACKAGES": " ".join(sorted({*PACKAGES, *args.packages})),
                "SWAP_GB": str(args.swap_gb),
                "TIMEZONE": args.timezone,
            },
            timeout=1200,
        ),
        opts,
    )


def files(args: BaselineArgs) -> Sequence[File]:
    """Every file of the baseline, filled in."""

    def filled(path: str, **values: object) -> File:
        return File(path=path, content=render(FILES / f"{path}.j2", **values))

    return (
        File(
            path="authorized_keys",
            content=Output.from_input(args.keys).apply(lambda keys: "".join(f"{key}\n" for key in keys)),
        ),
        filled("sudoers", user=args.user),
        filled("sshd.conf", user=args.user),
        File(path="policy-rc.d", content=(FILES / "policy-rc.d").read_text(encoding="utf-8")),
        File(path="sysctl.conf", content=(FILES / "sysctl.conf").read_text(encoding="utf-8")),
        filled("journald.conf", journal_mb=args.journal_mb, keep_days=args.keep_days),
        filled("logrotate.conf", keep_days=args.keep_days),
        filled(
            "unattended-upgrades.conf",
            enabled=args.upgrades,
            reboot=args.reboot,
            reboot_time=args.reboot_time,
        ),
        filled(
            "fail2ban.conf",
            max_retry=args.max_retry,
            find_minutes=args.find_minutes,
            ban_minutes=args.ban_minutes,
        ),
        filled(
            "firewall.nft",
            # nft refuses ranges that overlap
            admin_cidrs=ipaddress.collapse_addresses(map(ipaddress.IPv4Network, args.admin_cidrs)),
            public_ports=args.public_ports,
            private_ranges=args.private_ranges,
            private=args.private,
            metadata=METADATA,
            metadata_v6=METADATA_V6,
        ),
    )
