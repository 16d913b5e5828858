"""Cables, bridges and routes: what connects hosts and services, brought to what the inventory says.

A station's interfaces live in a namespace of its own that outlives its container or server, so a reboot
inside keeps them. The public one is a routed cable without a bridge, as a routed address is at the provider;
a private network is a bridge on which the checkout's namespace itself has no address. A host gives its
interfaces their addresses itself, as its system does at the provider; a service's are given here.
"""

from __future__ import annotations

from pathlib import Path

from sandbox import paths
from sandbox.hosts import net
from sandbox.hosts.desired import Desired, Host, Station
from sandbox.internet.layout import GATEWAY


def namespace(root: Path, key: str) -> str:
    """The network namespace of one station."""
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
    for station in desired.stations:
        _station(root, station, links)
    for service in desired.services:
        _addresses(root, service)
    _routes(desired)
    keep = {bridge(network) for network in desired.networks} | {one.cable for one in desired.stations}
    keep |= {f"p{nic.key}" for one in desired.stations for nic in one.nics}
    gone = [name for name in links if _ours(name, "vpn") and name not in keep]
    net.batch(f"link del {name}" for name in sorted(gone, reverse=True))  # cables before their bridge
    alive = {namespace(root, one.key) for one in desired.stations}
    for path in net.NETNS.glob(namespace(root, "*")):
        if path.name not in alive:
            net.drop(path.name)


def interfaces(root: Path, station: Station) -> dict[str, str]:
    """Names of the station's interfaces by hardware address."""
    found = net.show("link", "show", namespace=namespace(root, station.key))
    return {link["address"]: link["ifname"] for link in found if link["ifname"] != "lo"}


def _station(root: Path, station: Station, links: dict[str, dict[str, object]]) -> None:
    name = namespace(root, station.key)
    if not net.exists(name):
        net.make(name)
        # Neighbours keep the hardware address of a dead one for half a minute unless told.
        net.announce(name)
    batch = []
    # A host has a public interface also without an address.
    if station.cable not in links and (station.addresses or isinstance(station, Host)):
        batch.append(f"link add {station.cable} type veth peer name eth0 address {station.mac} netns {name}")
        batch.append(f"link set {station.cable} up")
    have = interfaces(root, station)
    free = (f"eth{number}" for number in range(1, 100) if f"eth{number}" not in have.values())
    for nic in station.nics:
        cable = f"p{nic.key}"
        if cable not in links:
            batch.append(f"link add {cable} type veth peer name {next(free)} address {nic.mac} netns {name}")
            batch.append(f"link set {cable} master {bridge(nic.network)} up")
    net.batch(batch)


def _addresses(root: Path, service: Station) -> None:
    """Give a service's interfaces their addresses, and its public one the way out."""
    name = namespace(root, service.key)
    names = interfaces(root, service)
    wanted = {(address, names[nic.mac]) for nic in service.nics for address in nic.addresses}
    wanted |= {(f"{address}/32", "eth0") for address in service.addresses}
    have = {
        (f"{entry['local']}/{entry['prefixlen']}", link["ifname"])
        for link in net.show("-4", "addr", "show", namespace=name)
        for entry in link["addr_info"]
        if link["ifname"] != "lo"
    }
    if wanted == have:
        return
    batch = [f"addr del {address} dev {dev}" for address, dev in sorted(have - wanted)]
    batch += [f"addr add {address} dev {dev}" for address, dev in sorted(wanted - have)]
    batch += [f"link set {dev} up" for dev in sorted({dev for _, dev in wanted})]
    if service.addresses:
        batch += [f"route replace {GATEWAY} dev eth0", f"route replace default via {GATEWAY} dev eth0"]
    net.batch(batch, namespace=name)


def _routes(desired: Desired) -> None:
    """What the operator starts here comes from an address its host lets in."""
    sources = {address: host.admits(22) for host in desired.hosts for address in host.addresses}
    wanted = {
        address: (station.cable, net.operator(sources.get(address)))
        for station in desired.stations
        for address in station.addresses
    }
    have = {
        route["dst"]: (route["dev"], route.get("prefsrc"))
        for route in net.show("-4", "route", "show")
        if route.get("dev") and _ours(route["dev"], "v")
    }
    net.batch(f"route del {address} dev {dev}" for address, (dev, _) in have.items() if address not in wanted)
    net.batch(
        f"route replace {address}/32 dev {dev} src {source}"
        for address, (dev, source) in wanted.items()
        if have.get(address) != (dev, source)
    )


def _ours(name: str, letters: str) -> bool:
    return len(name) == 9 and name[0] in letters and all(digit in "0123456789abcdef" for digit in name[1:])
