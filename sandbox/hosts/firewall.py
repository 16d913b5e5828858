"""Security groups as nft rules, enforced outside the hosts, where a provider enforces them too.

One table for all hosts, rendered as a whole and swapped in one transaction. A group filters what leaves and
what enters a host's public interface; private networks are not filtered, as on Scaleway.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable, Iterator

from sandbox.errors import SandboxError
from sandbox.hosts.desired import Host, Rule

TABLE = "berth_hosts"
SMTP = "{ 25, 465, 587 }"


def render(hosts: Iterable[Host]) -> str:
    """The ruleset: replaces the table of before."""
    hosts = sorted(hosts, key=lambda host: host.key)
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for host in hosts:
        lines += _chain(f"{host.cable}_out", _outbound(host))
        lines += _chain(f"{host.cable}_in", _inbound(host))
    away = ", ".join(f'"{host.cable}" : jump {host.cable}_out' for host in hosts)
    back = ", ".join(f'"{host.cable}" : jump {host.cable}_in' for host in hosts)
    leaving = [f"iifname vmap {{ {away} }}"] if hosts else []
    entering = [f"oifname vmap {{ {back} }}"] if hosts else []
    # The namespace answers for its addresses on private networks too: nothing is taken from there, or a host
    # would get around its security group. What a bridge itself carries has a bridge on both sides.
    lines += _chain(
        "forward",
        [
            "type filter hook forward priority filter; policy accept;",
            'meta iifkind "bridge" meta oifkind "veth" drop',
            *leaving,
            *entering,
        ],
    )
    closed = 'meta iifkind "bridge" drop'
    lines += _chain("input", ["type filter hook input priority filter; policy accept;", closed, *leaving])
    lines += _chain("output", ["type filter hook output priority filter; policy accept;", *entering])
    return "\n".join([*lines, "}", ""])


def apply(hosts: Iterable[Host]) -> None:
    """Enforce the groups of exactly these hosts in the namespace we are in."""
    text = render(hosts)
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"firewall of the sandbox: {done.stderr.strip()}")


def _chain(name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"  chain {name} {{"
    for rule in rules:
        yield f"    {rule}"
    yield "  }"


def _outbound(host: Host) -> Iterator[str]:
    yield "meta nfproto ipv6 drop"
    # A provider lets nobody send from an address that is not theirs.
    yield f"ip saddr != {{ {', '.join(host.addresses)} }} drop" if host.addresses else "drop"
    group = host.group
    if group.stateful:
        yield "ct state established,related return"
    if group.block_smtp:
        yield f"tcp dport {SMTP} drop"
    yield from _rules(group.rules_out, "daddr")
    if not group.accept_out:
        yield "drop"


def _inbound(host: Host) -> Iterator[str]:
    group = host.group
    if group.stateful:
        yield "ct state established,related return"
    yield from _rules(group.rules_in, "saddr")
    if not group.accept_in:
        yield "drop"


def _rules(rules: Iterable[Rule], side: str) -> Iterator[str]:
    for rule in rules:
        network = ipaddress.ip_network(rule.network, strict=False)
        if network.version == 6:
            continue  # there is no IPv6 in the sandbox's internet
        match = [f"ip {side} {network}"] if network.prefixlen else []
        if rule.protocol == "ICMP":
            match.append("meta l4proto icmp")
        elif rule.protocol in ("TCP", "UDP"):
            protocol = rule.protocol.lower()
            match.append(f"{protocol} dport {rule.ports}" if rule.ports else f"meta l4proto {protocol}")
        yield " ".join([*match, "return" if rule.accept else "drop"])
