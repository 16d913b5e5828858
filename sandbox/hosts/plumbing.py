"""Cables, bridges and routes: what connects the hosts, brought to what the inventory says.

A host's interfaces live in a namespace of its own that outlives its container, so a reboot inside keeps them.
The public one is a routed cable without a bridge, as a routed address is at the provider; a private network
is a bridge on which the checkout's namespace itself has no address.
"""

from __future__ import annotations

from pathlib import Path

from sandbox import paths
from sandbox.hosts import net
from sandbox.hosts.desired import Desired, Host


def namespace(root: Path, key: str) -> str:
    """The network namespace of one host."""
    return f"{paths.netns(root)}-{key}"


def bridge(network: str) -> str:
    """The bridge of a private network."""
    return f"n{network}"


def converge(root: Path, desired: Desired) -> None:
    """Make and remove cables, bridges and routes. The caller is in the namespace and holds its lock."""
    links = {link["ifname"]: link for link in net.show("link", "show")}
    batch: list[str] = []
    for network in desired.networks:
        if bridge(network) not in links:
            batch.append(f"link add {bridge(network)} type bridge forward_delay 0 stp_state 0")
            batch.append(f"link set {bridge(network)} up")
    net.batch(batch)
    for host in desired.hosts:
        _host(root, host, links)
    _routes(desired)
    keep = {bridge(network) for network in desired.networks} | {host.cable for host in desired.hosts}
    keep |= {f"p{nic.key}" for host in desired.hosts for nic in host.nics}
    gone = [name for name in links if _ours(name, "vpn") and name not in keep]
    net.batch(f"link del {name}" for name in sorted(gone, reverse=True))  # cables before their bridge
    alive = {namespace(root, host.key) for host in desired.hosts}
    for path in net.NETNS.glob(namespace(root, "*")):
        if path.name not in alive:
            net.drop(path.name)


def interfaces(root: Path, host: Host) -> dict[str, str]:
    """Names of the host's interfaces by hardware address."""
    found = net.show("link", "show", namespace=namespace(root, host.key))
    return {link["address"]: link["ifname"] for link in found if link["ifname"] != "lo"}


def _host(root: Path, host: Host, links: dict[str, dict[str, object]]) -> None:
    name = namespace(root, host.key)
    if not net.exists(name):
        net.make(name)
        # Neighbours keep the hardware address of a dead one for half a minute unless told.
        net.announce(name)
    batch = []
    if host.cable not in links:
        batch.append(
            f"link add {host.cable} type veth peer name eth0 address {host.mac} netns {name}",
        )
        batch.append(f"link set {host.cable} up")
    have = interfaces(root, host)
    free = (f"eth{number}" for number in range(1, 100) if f"eth{number}" not in have.values())
    for nic in host.nics:
        cable = f"p{nic.key}"
        if cable not in links:
            batch.append(f"link add {cable} type veth peer name {next(free)} address {nic.mac} netns {name}")
            batch.append(f"link set {cable} master {bridge(nic.network)} up")
    net.batch(batch)


def _routes(desired: Desired) -> None:
    wanted = {address: host.cable for host in desired.hosts for address in host.addresses}
    have = {
        route["dst"]: route["dev"]
        for route in net.show("-4", "route", "show")
        if route.get("dev") and _ours(route["dev"], "v")
    }
    net.batch(f"route del {address} dev {dev}" for address, dev in have.items() if address not in wanted)
    net.batch(
        f"route replace {address}/32 dev {dev} src {net.ADMIN}"
        for address, dev in wanted.items()
        if have.get(address) != dev
    )


def _ours(name: str, letters: str) -> bool:
    return len(name) == 9 and name[0] in letters and all(digit in "0123456789abcdef" for digit in name[1:])
