"""Cross checks of a whole stack, and remarks on what is allowed but cannot work.

Each check is an iterator of :class:`config.model.Finding`; reading a part of the stack that is itself faulty
raises AttributeError, which ends that check alone (see ``config.loader``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_address
from typing import TypeVar

from config.model import Finding, Stack, System, World
from config.report import dotted

Item = TypeVar("Item")

_PLACEHOLDER = re.compile(
    r"""(?<![a-z])(change|replace)[-_ ]?me(?![a-z])
      | ^(todo|tbd|fixme|placeholder|x{3,}|\.{3,}|…)$ | ^<[^<>]*>$ | ^your[-_ ]\w+([-_ ]here)?$
      | \b(your|my)[-_](domain|company|project|org)\b""",
    re.VERBOSE | re.IGNORECASE,
)

DOCUMENTATION = tuple(IPv4Network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
"""Ranges reserved for examples (RFC 5737): nobody connects from them."""


def is_placeholder(text: str) -> bool:
    """Whether a value was left as its template had it."""
    return bool(_PLACEHOLDER.search(text.strip()))


def stack_checks(
    stack: Stack, systems: Mapping[str, System], *, name: str, caller: str | None, world: World, sound: bool
) -> list[tuple[tuple[str, ...], Iterator[Finding]]]:
    """All checks to run, each with the path its findings start from; ``sound``: no field is faulty."""
    checks: list[tuple[tuple[str, ...], Iterator[Finding]]] = [
        ((), _ending(stack, name)),
        ((), _administered(stack)),
        ((), _reachable(stack, caller)),
        ((), _overlaps(systems, sound)),
        ((), _same_names(systems, sound)),
        ((), _one_manager(systems, sound)),
    ]
    for key, system in systems.items():
        checks += [(("systems", key), check) for check in system.checks(world)]
    return checks


def _ending(stack: Stack, name: str) -> Iterator[Finding]:
    confirmed = stack.confirm_delete
    if stack.data == "keep":
        if confirmed is not None:
            yield Finding(
                ("confirm_delete",),
                "confirms a deletion that `data: keep` forbids",
                "delete this line, or write data: delete if this stack is to end",
            )
    elif stack.environment == "production" and confirmed is None:
        yield Finding(
            ("data",),
            "production keeps its data",
            f"write data: keep; only if this stack is to end for good, add berth:confirm_delete: {name}",
        )
    elif confirmed is not None and confirmed != name:
        yield Finding(
            ("confirm_delete",),
            "confirms the end of another stack",
            f"write {name} if this stack is to end for good",
        )


def _administered(stack: Stack) -> Iterator[Finding]:
    if stack.environment == "production" and not stack.admin.keys:
        yield Finding(
            ("admin", "keys"),
            "in production at least one person can log in",
            "add the line of your public key, such as ~/.ssh/id_ed25519.pub",
        )


def _reachable(stack: Stack, caller: str | None) -> Iterator[Finding]:
    if caller is None:
        return
    try:
        address = ip_address(caller)
    except ValueError:
        yield Finding(
            ("admin", "cidrs"),
            "the environment variable BERTH_CALLER_IP is not an address",
            "set it to the public address this machine connects from, or unset it",
        )
        return
    if not any(address in IPv4Network(cidr) for cidr in stack.admin.cidrs):
        yield Finding(
            ("admin", "cidrs"),
            f"{address}, where this machine connects from, is in none of these ranges: hosts would refuse it",
            f"add {address}/32; if this machine connects from elsewhere, set BERTH_CALLER_IP to that address",
        )


def _overlaps(systems: Mapping[str, System], sound: bool) -> Iterator[Finding]:
    seen: list[tuple[str, IPv4Network]] = []
    for key, system in systems.items():
        for path, cidr in _readable(system.networks(), sound=sound):
            network = IPv4Network(cidr)
            for other, taken in seen:
                if network.overlaps(taken):
                    yield Finding(
                        ("systems", key, *path),
                        f"{network} overlaps {taken}, the range of {other}",
                        "give every private network a range of its own",
                    )
            seen.append((key, network))


def _same_names(systems: Mapping[str, System], sound: bool) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for key, system in systems.items():
        for path, name in _readable(system.names(), sound=sound):
            here = dotted(("systems", key, *path))
            if name in seen:
                yield Finding(
                    ("systems", key, *path), f"{name} is already the name at {seen[name]}", "name it once"
                )
            seen.setdefault(name, here)


def _one_manager(systems: Mapping[str, System], sound: bool) -> Iterator[Finding]:
    managed: dict[str, str] = {}
    for key, system in systems.items():
        for path, zone in _readable(system.managed_zones(), sound=sound):
            if zone in managed:
                yield Finding(
                    ("systems", key, *path),
                    f"{managed[zone]} manages the zone {zone} already",
                    "write manage: false here: one system owns the zone, the others put records in it",
                )
            managed.setdefault(zone, key)


def _readable(items: Iterator[Item], *, sound: bool) -> Iterator[Item]:
    """The items up to the first that cannot be read because its field is faulty itself."""
    try:
        yield from items
    except AttributeError:
        if sound:  # then it is a defect of the system's own code
            raise


def remarks(stack: Stack) -> list[tuple[tuple[str | int, ...], str]]:
    """What is allowed but will not work as it stands: path and advice."""
    found: list[tuple[tuple[str | int, ...], str]] = [
        (
            ("admin", "cidrs", index),
            f"{cidr} is a range for documentation: nobody can log in from it. "
            "Write the range you connect from before `pulumi up` on a real account.",
        )
        for index, cidr in enumerate(stack.admin.cidrs)
        if any(IPv4Network(cidr).subnet_of(documented) for documented in DOCUMENTATION)
    ]
    for name, system in stack.systems.items():
        found += [(("systems", name, *path), advice) for path, advice in system.remarks(stack.environment)]
    return found
