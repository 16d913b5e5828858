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
    "needrestart",  # else an updated library is used from the next reboot on
    "nftables",
    "python3-systemd",  # fail2ban reads the journal with it
    "systemd-timesyncd",
    "tzdata",
    "unattended-upgrades",
)

METADATA = ("169.254.169.254", "169.254.42.42")
METADATA_V6 = ("fd00:42::42",)
"""Where clouds answer with a host's own user-data, private key included; the latter two are Scaleway's."""

BUILDER = "berth-build"
"""Runs other people's code, see components/app/release.sh."""

OUTSIDERS = (BUILDER, "www-data")
"""Users with no business in the private network, where the data is: who builds, and who serves files."""

OWN_RANGE = 28
"""Admin ranges this small are the admins' own and never banned: one wrong tool behind their address would
shut out everybody else there, berth included. In a wider one, a provider's, there are strangers."""


@dataclass(frozen=True, kw_only=True)
class PrivateRule:
    """Traffic let in from the private network; ``port`` is a port or a range ``8000-8010``."""

    source: str
    protocol: Literal["tcp", "udp"]
    port: str


@dataclass(frozen=True, kw_only=True)
class BaselineArgs:
    """``packages``: what the roles of this host need, beyond :data:`PACKAGES`.

    ``user`` is the people's login, with exactly ``keys``; ``deploy_key`` is the public key of the login of
    the instance's connection. ``private_ranges``: the ranges of the networks the host is in; from there only
    ``private`` gets in.
    ``public_ports``: open to everyone. Sizes are in GB and MB of 2^30 and 2^20 bytes, ``reboot_time`` is
    HH:MM in ``timezone``.
    """

    scope: Scope
    instance: Instance
    host: str
    user: str
    keys: Sequence[str]
    deploy_key: Input[str]
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
                "LOGIN": args.instance.connection.user,
                "PACKAGES": " ".join(sorted({*PACKAGES, *args.packages})),
                "BUILDER": BUILDER,
                "SWAP_GB": str(args.swap_gb),
                "TIMEZONE": args.timezone,
            },
            timeout=1200,
        ),
        opts,
    )


def files(args: BaselineArgs) -> Sequence[File]:
    """Every file of the baseline, filled in."""
    users = (args.user, args.instance.connection.user)
    ranges = [ipaddress.IPv4Network(cidr) for cidr in args.admin_cidrs]

    def filled(path: str, **values: object) -> File:
        return File(path=path, content=render(FILES / f"{path}.j2", **values))

    return (
        File(path="admin_keys", content="".join(f"{key}\n" for key in args.keys)),
        File(path="login_keys", content=Output.from_input(args.deploy_key).apply(lambda key: f"{key}\n")),
        filled("sudoers", users=users),
        filled("sshd.conf", users=users),
        *(
            File(path=path, content=(FILES / path).read_text(encoding="utf-8"))
            for path in ("policy-rc.d", "sysctl.conf", "needrestart.conf")
        ),
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
            never=[cidr for cidr in ranges if cidr.prefixlen >= OWN_RANGE],
        ),
        filled(
            "firewall.nft",
            admin_cidrs=ipaddress.collapse_addresses(ranges),  # nft refuses ranges that overlap
            public_ports=args.public_ports,
            private_ranges=args.private_ranges,
            private=args.private,
            metadata=METADATA,
            metadata_v6=METADATA_V6,
            outsiders=OUTSIDERS,
        ),
    )
