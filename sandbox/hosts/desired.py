"""What should stand, computed from the whole inventory: stations, their addresses and cables, firewall.

A station is where something has network interfaces of its own: a host, or a managed service (see
:mod:`sandbox.services`), which is a server of this machine in a network namespace.

Scaleway's resources only, for now. Everything here is pure: it reads rows and returns data.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.effects.protocol import EffectError, Inventory, Row

SERVER = "scaleway:instance/server:Server"
NIC = "scaleway:instance/privateNic:PrivateNic"
IP = "scaleway:instance/ip:Ip"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"
GROUP_RULES = "scaleway:instance/securityGroupRules:SecurityGroupRules"
NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
IPAM_IP = "scaleway:ipam/ip:Ip"
POSTGRES = "scaleway:databases/instance:Instance"
REDIS = "scaleway:redis/cluster:Cluster"
BALANCER = "scaleway:loadbalancers/loadBalancer:LoadBalancer"
USER_DATA = "scaleway:instance/userData:UserData"
VOLUME = "scaleway:block/volume:Volume"

# vCPU and memory by commercial type.
SERVERS = Path(__file__).resolve().parent.parent / "schemas" / "data" / "scaleway-servers.json"
SIZES: Mapping[str, Mapping[str, Any]] = json.loads(SERVERS.read_text())


@dataclass(frozen=True)
class Rule:
    """First match decides. ``ports``: ``22``, ``8000-8010``, None for all. ``protocol`` ANY matches all."""

    accept: bool
    protocol: str
    ports: str | None
    network: str


@dataclass(frozen=True)
class Group:
    """A security group as Scaleway enforces it, outside the host."""

    stateful: bool = True
    accept_in: bool = True
    accept_out: bool = True
    block_smtp: bool = True
    rules_in: tuple[Rule, ...] = ()
    rules_out: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Nic:
    """A cable into a private network. ``key``: eight hex digits; ``addresses`` with their prefix length."""

    key: str
    network: str
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Station:
    """``key``: eight hex digits; ``addresses`` are public ones, routed, the first is its own."""

    key: str
    id: str
    addresses: tuple[str, ...]
    nics: tuple[Nic, ...]

    @property
    def cable(self) -> str:
        """The namespace's end of the public interface."""
        return f"v{self.key}"

    @property
    def mac(self) -> str:
        return mac(self.id)


@dataclass(frozen=True, kw_only=True)
class Host(Station):
    """An instance."""

    hostname: str
    image: str
    cpus: float
    memory: int  # bytes
    started: bool
    user_data: str
    group: Group
    volumes: tuple[str, ...] = ()  # bare ids

    def admits(self, port: int) -> tuple[ipaddress.IPv4Network, ...] | None:
        """From where its security group lets in TCP on ``port``, before it refuses; None for everywhere."""
        sources: list[ipaddress.IPv4Network] = []
        for rule in self.group.rules_in:
            network = ipaddress.ip_network(rule.network, strict=False)
            first, _, last = (rule.ports or f"{port}").partition("-")
            if rule.protocol not in ("TCP", "ANY") or not int(first) <= port <= int(last or first):
                continue
            if isinstance(network, ipaddress.IPv4Network):
                if not rule.accept:
                    return tuple(sources)
                sources.append(network)
        return None if self.group.accept_in else tuple(sources)


@dataclass(frozen=True)
class Desired:
    """``networks``: keys of the private networks; ``services``: the stations that are no hosts."""

    hosts: tuple[Host, ...]
    networks: tuple[str, ...]
    services: tuple[Station, ...] = ()

    @property
    def stations(self) -> tuple[Station, ...]:
        return (*self.hosts, *self.services)

    def service(self, id: str) -> Station | None:
        return next((station for station in self.services if bare(station.id) == bare(id)), None)

    def host(self, id: str) -> Host | None:
        return next((host for host in self.hosts if bare(host.id) == bare(id)), None)


def bare(id: str | None) -> str:
    """An identifier without its zone or region."""
    return (id or "").rpartition("/")[2]


def key(id: str) -> str:
    """Eight hex digits that name a resource on this machine, where names are short."""
    return hashlib.sha256(bare(id).encode()).hexdigest()[:8]


def mac(seed: str) -> str:
    """A fixed, locally administered address."""
    digest = hashlib.sha256(bare(seed).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, 0, *digest[:4]))


def desired(inventory: Inventory, put: Row | None = None, drop: Row | None = None) -> Desired:
    """Everything that should stand, with ``put`` as it will be and without ``drop``."""
    tables = {token: rows(inventory, token, put, drop) for token in _TOKENS}
    networks = {bare(row.id): row for row in tables[NETWORK]}
    groups = {bare(row.id): _group(row, tables[GROUP_RULES]) for row in tables[GROUP]}
    hosts = []
    for row in tables[SERVER]:
        try:
            hosts.append(_host(row, tables, networks, groups))
        except EffectError:
            if put is not None and put.id == row.id:  # another's refusal is shown to that other
                raise
    services = [_service(row, networks) for token in _SERVICES for row in tables[token]]
    return Desired(tuple(hosts), tuple(key(id) for id in networks), tuple(services))


def rows(inventory: Inventory, token: str, put: Row | None = None, drop: Row | None = None) -> list[Row]:
    """Everything real of one type, with ``put`` as it will be and without ``drop``."""
    found = {row.id: row for row in inventory.all(token)}
    if put is not None and put.token == token:
        found[put.id] = put
    if drop is not None and drop.token == token:
        found.pop(drop.id, None)
    # Stacks that were only recorded share the inventory.
    return [row for row in found.values() if getattr(row, "real", True)]


def _postgres(row: Row) -> Iterable[tuple[str, list[str]]]:
    network = row.outputs.get("privateNetwork")
    return [(network["pnId"], [network["ip"]])] if network else []


def _redis(row: Row) -> Iterable[tuple[str, list[str]]]:
    return [(network["id"], network["ips"]) for network in row.outputs.get("privateNetworks") or ()]


def _balancer(row: Row) -> Iterable[tuple[str, list[str]]]:
    private = [str(ip["address"]).partition("/")[0] for ip in row.outputs.get("privateIps") or ()]
    # Each cable takes those of the addresses that are of its network.
    return [(network["privateNetworkId"], private) for network in row.outputs.get("privateNetworks") or ()]


# Managed services with interfaces of their own: by type, networks with their addresses, and public addresses.
_SERVICES: Mapping[str, Callable[[Row], Iterable[tuple[str, list[str]]]]] = {
    POSTGRES: _postgres,
    REDIS: _redis,
    BALANCER: _balancer,
}
_TOKENS = (SERVER, NIC, IP, GROUP, GROUP_RULES, NETWORK, IPAM_IP, USER_DATA, VOLUME, *_SERVICES)


def _service(row: Row, networks: Mapping[str, Row]) -> Station:
    cables = _SERVICES[row.token](row)
    public = [str(row.outputs.get("ipAddress") or "")] if row.token == BALANCER else []
    return Station(
        key=key(row.id),
        id=row.id,
        addresses=tuple(filter(None, public)),
        nics=tuple(
            _nic(f"{bare(row.id)}-{bare(network)}", networks[bare(network)], None, addresses)
            for network, addresses in cables
            if bare(network) in networks
        ),
    )


def _value(row: Row, name: str, default: Any = None) -> Any:
    """What the program asked for, else what the provider filled in."""
    found = row.inputs.get(name)
    if found is None:
        found = row.outputs.get(name)
    return default if found is None else found


def _host(
    row: Row, tables: Mapping[str, list[Row]], networks: Mapping[str, Row], groups: Mapping[str, Group]
) -> Host:
    size = SIZES.get(str(_value(row, "type")).upper())
    if size is None:
        raise EffectError(f"the sandbox does not know how large a {_value(row, 'type')!r} is")
    user_data = dict(_value(row, "userData", {}))
    for extra in tables[USER_DATA]:
        if bare(extra.inputs.get("serverId")) == bare(row.id):
            user_data[str(extra.inputs.get("key"))] = extra.inputs.get("value")
    return Host(
        key=key(row.id),
        id=row.id,
        hostname=str(_value(row, "name", row.name)),
        image=str(_value(row, "image", "")),
        cpus=float(size["vcpu"]),
        memory=int(size["memory_gb"] * 2**30),
        started=_value(row, "state", "started") == "started",
        user_data=str(_value(row, "cloudInit") or user_data.get("cloud-init") or ""),
        addresses=tuple(_public(row, tables[IP])),
        nics=tuple(_nics(row, tables, networks)),
        group=groups.get(bare(_value(row, "securityGroupId")), Group()),
        volumes=tuple(_volumes(row, tables[VOLUME])),
    )


def _volumes(row: Row, volumes: list[Row]) -> Iterable[str]:
    """Block volumes of a server, root disk aside; what else it names is its effect's business."""
    known = {bare(volume.id) for volume in volumes}
    return (id for id in attached(row) if id in known)


def attached(server: Row) -> list[str]:
    """Bare ids of the volumes a server asks for, root disk aside."""
    return list(dict.fromkeys(map(bare, server.inputs.get("additionalVolumeIds") or ())))


def _public(row: Row, ips: list[Row]) -> Iterable[str]:
    """Addresses of the server: the flexible ones attached to it, then a dynamic one."""
    attached = [row.inputs["ipId"]] if row.inputs.get("ipId") else list(row.inputs.get("ipIds") or ())
    by_id = {bare(ip.id): str(ip.outputs["address"]) for ip in ips if ip.outputs.get("address")}
    found = [by_id[bare(id)] for id in attached if bare(id) in by_id]
    if row.inputs.get("enableDynamicIp"):
        flexible = set(by_id.values())
        given = [str(ip["address"]) for ip in row.outputs.get("publicIps") or () if ip.get("address")]
        found += [address for address in given if address not in flexible]
    # Filtering needs IPv4; IPv6 addresses are recorded only.
    return [address for address in dict.fromkeys(found) if ":" not in address]


def _nics(row: Row, tables: Mapping[str, list[Row]], networks: Mapping[str, Row]) -> Iterable[Nic]:
    ipam = {bare(ip.id): str(ip.outputs.get("address") or "") for ip in tables[IPAM_IP]}
    inline = list(row.outputs.get("privateNetworks") or row.inputs.get("privateNetworks") or ())
    own = {bare(nic.get("pnicId")) for nic in inline}
    private = [str(ip["address"]) for ip in row.outputs.get("privateIps") or () if ip.get("address")]
    for nic in inline:
        network = networks.get(bare(nic.get("pnId")))
        if network is not None:
            seed = nic.get("pnicId") or f"{bare(row.id)}-{bare(nic.get('pnId'))}"
            yield _nic(seed, network, nic.get("macAddress"), private)
    for nic_row in tables[NIC]:
        network = networks.get(bare(_value(nic_row, "privateNetworkId")))
        if network is None or bare(_value(nic_row, "serverId")) != bare(row.id) or bare(nic_row.id) in own:
            continue
        given = [str(ip["address"]) for ip in nic_row.outputs.get("privateIps") or () if ip.get("address")]
        given += [ipam.get(bare(id), "") for id in nic_row.inputs.get("ipamIpIds") or ()]
        yield _nic(nic_row.id, network, nic_row.outputs.get("macAddress"), given)


def _nic(seed: str, network: Row, address: str | None, candidates: Iterable[str]) -> Nic:
    subnet = ipaddress.ip_network(
        (network.outputs.get("ipv4Subnet") or network.inputs["ipv4Subnet"])["subnet"]
    )
    mine = dict.fromkeys(ip for ip in candidates if ip and ipaddress.ip_address(ip) in subnet)
    return Nic(
        key=key(seed),
        network=key(network.id),
        mac=(address or mac(seed)).lower(),
        addresses=tuple(f"{ip}/{subnet.prefixlen}" for ip in mine),
    )


def _group(row: Row, external: list[Row]) -> Group:
    source = row
    if _value(row, "externalRules", False):
        source = next(
            (rules for rules in external if bare(_value(rules, "securityGroupId")) == bare(row.id)), row
        )
    return Group(
        stateful=bool(_value(row, "stateful", True)),
        accept_in=_value(row, "inboundDefaultPolicy", "accept") == "accept",
        accept_out=_value(row, "outboundDefaultPolicy", "accept") == "accept",
        block_smtp=bool(_value(row, "enableDefaultSecurity", True)),
        rules_in=tuple(_rule(rule) for rule in _value(source, "inboundRules", ())),
        rules_out=tuple(_rule(rule) for rule in _value(source, "outboundRules", ())),
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    ports = rule.get("portRange") or (str(int(rule["port"])) if rule.get("port") else None)
    return Rule(
        accept=rule["action"] == "accept",
        protocol=str(rule.get("protocol") or "TCP").upper(),
        ports=str(ports) if ports else None,
        network=str(rule.get("ipRange") or rule.get("ip") or "0.0.0.0/0"),
    )
